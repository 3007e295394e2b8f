"""The page of checks: what is not there is not judged, and what is bad input is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ppl_vae import VariationalInference
from ppl_vae.check import CHECKS, Check, CheckedFit, CheckSettings, Findings, Verdict, check_fit, holm
from ppl_vae.errors import InputError
from ppl_vae.models.factor_analysis import FactorAnalysis

FEW = CheckSettings(num_data=20, num_simulations=20, num_samples=50)


@pytest.fixture(scope="module")
def fitted() -> VariationalInference:
    x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    return VariationalInference(
        FactorAnalysis(data_dim=4, latent_dim=2), max_epochs=200, learning_rate=0.05, compile="off"
    ).fit(x)


def data(rows: int = 30) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(rows, 4)).astype("float32")


@pytest.mark.usefixtures("short_chains")
def test_every_check_has_a_verdict_and_the_page_its_numbers(fitted: VariationalInference) -> None:
    page = check_fit(fitted.fitted, (data(),), settings=FEW)
    assert list(page.verdicts) == list(CHECKS)
    assert all(page.verdicts.values())
    assert page.holds == (not page.failures)
    assert max(map(len, page.text().splitlines())) <= 80
    assert len(page.numbers()["verdicts"]) == sum(map(len, page.verdicts.values()))


def test_simulated_data_come_with_their_latents_and_draws(fitted: VariationalInference) -> None:
    found: list[CheckedFit] = []

    def look(fit: CheckedFit) -> Findings:
        """Keep the fit."""
        found.append(fit)
        return Findings([Verdict.not_judged("nothing", "this is a test")])

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHECKS, "look", Check(look))
        check_fit(fitted.fitted, (data(),), settings=FEW, only=["look"])
    simulated = found[0].simulated
    assert simulated.arrays["x"].shape == (20, 4)
    assert simulated.latents["z"].shape == (20, 2)
    assert simulated.draws.latents["z"].shape == (50, 20, 2)
    assert simulated.draws.log_weight.shape == (50, 20)
    assert len(found[0].train) == 0
    assert len(found[0].test) == 20
    exact = fitted.fitted.evaluate(simulated.arrays["x"], estimators=["exact"]).evidence["exact"].log_evidence
    assert (simulated.draws.log_weight.mean(0) <= simulated.evidence.log_evidence).all()
    ratio = (simulated.draws.log_weight - exact).exp()  # its mean over draws is one
    assert abs(ratio.mean() - 1) < 4 * ratio.mean(0).std() / 20**0.5


def test_an_unknown_check_is_refused(fitted: VariationalInference) -> None:
    with pytest.raises(InputError, match="no check 'ranks'"):
        check_fit(fitted.fitted, (data(),), only=["ranks"])
    with pytest.raises(InputError, match="leaves no check"):
        check_fit(fitted.fitted, (data(),), skip=list(CHECKS))


def test_holm_is_the_step_down_of_bonferroni() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []
    assert holm([math.nan, 0.01, 0.03]) == pytest.approx([math.nan, 0.02, 0.03], nan_ok=True)
