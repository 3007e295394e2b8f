"""The check of lambda, and the statistics of iterates, against series and posteriors that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppl_vae import VariationalInference
from ppl_vae.check import CheckSettings, check_fit
from ppl_vae.inference.iterates import average_error, split_rhat
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded


@pytest.mark.parametrize(("steps", "status"), [(20, "fails"), (500, "holds")])
def test_lambda_that_was_stopped_early_is_found_and_its_rows_are_named(steps: int, status: str) -> None:
    x = (5 * np.random.default_rng(0).normal(size=(40, 8))).astype("float32")
    with seeded(0):
        program = FactorAnalysis(data_dim=8, latent_dim=2)
    options = {"guide": "per-sample", "max_epochs": 1, "local_steps": 1, "compile": "off"}
    vi = VariationalInference(program, inference_steps=steps, **options).fit(x)  # type: ignore[arg-type]
    page = check_fit(vi.fitted, (x,), settings=CheckSettings(num_data=12, num_samples=10), only=["lambdas"])
    (verdict,) = page.verdicts["lambdas"]
    assert verdict.status == status, verdict
    assert len(verdict.rows) == round((verdict.value or 0) * 12)


def test_split_rhat_and_effective_size_of_a_series_with_known_correlation() -> None:
    """The effective size of T iterates with correlation c from one to the next is T (1 - c) / (1 + c)."""
    generator, correlation = torch.Generator().manual_seed(0), 0.5
    series = [torch.randn(300, generator=generator)]
    for _ in range(1999):
        noise = torch.randn(300, generator=generator)
        series.append(correlation * series[-1] + (1 - correlation**2) ** 0.5 * noise)
    iterates = torch.stack(series)
    mcse, _ = average_error(iterates, num_batches=20)
    assert mcse.square().mean().item() == pytest.approx(3 / 2000, rel=0.1)
    assert (split_rhat(iterates) < 1.02).all()
    assert split_rhat(torch.arange(10.0)) > 1.5
    assert split_rhat(torch.ones(10)) == 1
