"""Checks of programs of all kinds: what cannot be judged has a reason in a line, and nothing else goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.check import CHECKS
from ppl_vae.program import seeded
from tests.helpers import scenarios
from tests.helpers.gallery import GALLERY


class Schools(nn.Module):
    """Eight schools, each a datum; mean and spread are latents that all share."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def model(self, y: Tensor, error: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(y.new_zeros(()), 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(y.new_tensor(5.0)))
        with pyro.plate("schools", len(y)):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, error), obs=y)


def of_gallery(name: str) -> tuple[Callable[[], nn.Module], tuple[np.ndarray, ...]]:
    case = GALLERY[name]
    return case.make, tuple(np.asarray(tensor) for tensor in case.batch)


def table_with_holes() -> tuple[Callable[[], nn.Module], tuple[np.ndarray, ...]]:
    make, (rows,) = of_gallery("table_vae")
    return make, (np.where(np.random.default_rng(0).uniform(size=rows.shape) < 0.2, np.nan, rows),)


EFFECTS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
PROGRAMS: dict[str, tuple[Any, str, set[str]]] = {
    "global latents": ((Schools, EFFECTS), "per-sample", {"encoder", "annealing", "calibration", "surprise"}),
    "a sum over classes": (of_gallery("mixture"), "amortized", {"lambdas", "encoder", "weights", "annealing"}),
    "a sum over states, lengths": (of_gallery("hmm"), "amortized", {"lambdas", "encoder", "weights", "annealing"}),
    "lengths": (of_gallery("deep_markov_model"), "amortized", {"lambdas"}),
    "holes": (table_with_holes(), "amortized", {"lambdas"}),
    "an inner plate": (
        (scenarios.InnerPlate, (np.random.default_rng(0).normal(size=(21, 4)),)), "amortized", {"lambdas"},
    ),
    "semi-amortized": (of_gallery("vae"), "semi-amortized", {"encoder"}),
    "no latents": (of_gallery("normal"), "amortized", {"lambdas", "encoder", "weights", "annealing", "calibration"}),
    "no generation": (of_gallery("autoencoder"), "amortized", {*CHECKS} - {"training"}),
}  # fmt: skip
"""The program and its data, the guide, and checks that cannot judge it."""


@pytest.mark.usefixtures("short_chains")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_check_judges_every_program_or_says_why_not(name: str) -> None:
    (make, batch), guide, unknown = PROGRAMS[name]
    with seeded(0):
        program = make()
    vi = VariationalInference(
        program, guide=guide, max_epochs=2, local_steps=2, inference_steps=3, batch_size=8, compile="off"
    )
    data = dict(zip(vi.argument_names, batch, strict=False))
    page = vi.fit(data).check(data, train=data, num_data=12, num_simulations=12, num_samples=20)
    assert list(page.verdicts) == list(CHECKS)
    whole = {check for check, verdicts in page.verdicts.items() if all(v.status == "not judged" for v in verdicts)}
    assert unknown <= whole
    assert all(verdict.meaning and "\n" not in verdict.meaning for _, verdict in page.unknown)
    assert "not judged" in page.text()
    for check in ("predictions", "two_samples"):
        assert (check in whole) == (name == "no generation")
