"""The gaps of inference, against closed forms if the posterior is a Gaussian."""

from __future__ import annotations

import json
import math
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_vae import InputError, VariationalInference
from ppl_vae.evaluation.gap import Gap
from ppl_vae.evaluation.measure_gap import GapSettings, measure_gap
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded
from tests.helpers import scenarios
from tests.helpers.known import Narrow, exact_posterior, small_factor_analysis
from tests.helpers.laws import traced
from tests.helpers.scenarios import normal

X = normal(20, 5).numpy()
FAST: dict[str, Any] = {"local_steps": 100, "num_samples": 300}


def barely(program: Any, x: np.ndarray, guide: Any = "amortized", **options: Any) -> VariationalInference:
    """Fit a program so little that it stays as it was made."""
    common = {"max_epochs": 1, "learning_rate": 1e-9, "validation_fraction": 0}
    return VariationalInference(program, guide, **(common | options)).fit(x)


@pytest.fixture(scope="module")
def known() -> tuple[FactorAnalysis, Gap]:
    """Return a factor analysis whose factors are alike and whose encoder is untrained, and its gaps."""
    program = small_factor_analysis()
    with torch.no_grad():
        program.decoder.linear.weight[:, 1] = program.decoder.linear.weight[:, 0] + 0.3
    settings = GapSettings(families="flow, full,diagonal", local_steps=120, num_samples=400)
    return program, measure_gap(barely(program, X).fitted, {"x": X}, settings)


def divergence(mean: Tensor, scale: Tensor, exact: Tensor, precision: Tensor) -> Tensor:
    """Return the KL of diagonal Gaussians from the posterior, ``(N,)``, in closed form."""
    away = ((exact - mean) @ precision * (exact - mean)).sum(-1)
    spread = (precision.diagonal() * scale**2).sum(-1)
    return 0.5 * (spread + away - 2 - precision.logdet()) - scale.log().sum(-1)


def test_gaps_of_a_gaussian_posterior_are_divergences(known: tuple[FactorAnalysis, Gap]) -> None:
    program, found = known
    exact, precision = exact_posterior(program, X)
    with torch.no_grad():
        loc, scale = program.encoder(torch.from_numpy(X))
        log_evidence = program.log_evidence(torch.from_numpy(X))
    assert (found.by, found.mcse, found.num_data) == ("exact", 0.0, 20)
    torch.testing.assert_close(found.log_evidence, log_evidence)

    # Datum by datum: the full Gaussian is the posterior, the best diagonal one has the precision's diagonal.
    apart = divergence(torch.from_numpy(exact), precision.diagonal().rsqrt(), torch.from_numpy(exact), precision)
    expected = {"diagonal": apart.expand(20), "full": torch.zeros(20), "flow": torch.zeros(20)}
    assert list(found.families) == ["diagonal", "full", "flow"]
    for name, each in found.families.items():
        assert (
            (log_evidence - each.elbo - expected[name]).abs() < 5 * each.evidence.columns["elbo_mcse"] + 0.01
        ).all(), name
        evidence = each.evidence
        assert ((evidence.log_evidence - log_evidence).abs() < 5 * evidence.mcse + 0.01)[~evidence.doubtful].all()
        assert 0 < each.steps <= 120
        assert each.seconds_per_datum > 0

    assert found.amortized is not None
    assert found.encoder is not None
    encoder = divergence(loc, scale, torch.from_numpy(exact), precision)
    mcse = found.encoder.columns["elbo_mcse"].double()
    assert encoder.mean() > 1
    assert ((log_evidence - found.amortized - encoder).abs() < 5 * mcse).all()
    gaps, error = found.gaps("diagonal"), mcse.square().sum().sqrt().item() / 20
    assert gaps["amortization"][0] == pytest.approx((encoder - apart).mean().item(), abs=4 * error)
    assert gaps["amortization"][1] == pytest.approx((encoder - apart).std().item() / 20**0.5, rel=0.2)


def test_a_gap_is_the_sum_of_two_and_the_ladder_rises(known: tuple[FactorAnalysis, Gap]) -> None:
    _, found = known
    for name in found.families:
        gaps = {gap: mean for gap, (mean, _) in found.gaps(name).items()}
        assert gaps["inference"] == pytest.approx(gaps["approximation"] + gaps["amortization"], abs=1e-12)
    assert found.amortized is not None
    ladder = [found.amortized, *(each.elbo for each in found.families.values()), found.log_evidence]
    means = [rung.mean().item() for rung in ladder]
    assert means[0] + 0.5 < means[1]
    assert means[1] + 0.01 < means[2]
    assert means[2] == pytest.approx(means[3], abs=2e-3)  # a flow has nothing to add to a Gaussian
    assert means[3] == pytest.approx(means[4], abs=2e-3)
    (sentence,) = found.warnings()
    assert sentence.startswith("importance sampling with the encoder understates the evidence by ")


def test_numbers_have_the_keys_that_others_read(known: tuple[FactorAnalysis, Gap]) -> None:
    numbers = known[1].numbers()
    assert {
        "num_data",
        "log_evidence",
        "elbo_amortized",
        "families",
        "approximation_gap",
        "amortization_gap",
        "inference_gap",
    } <= numbers.keys()
    for each in numbers["families"].values():
        assert {"elbo", "se", "seconds_per_datum"} <= each.keys()
    diagonal = numbers["families"]["diagonal"]
    assert numbers["approximation_gap"] == diagonal["approximation_gap"]
    assert numbers["log_evidence"] - numbers["elbo_amortized"] == pytest.approx(numbers["inference_gap"])
    assert numbers["log_evidence"] - diagonal["elbo"] == pytest.approx(numbers["approximation_gap"])
    assert json.loads(json.dumps(numbers)) == numbers


def test_without_an_encoder_there_is_no_amortization() -> None:
    vi = barely(small_factor_analysis(), X, "per-sample", inference_steps=20)
    found = measure_gap(vi.fitted, {"x": X}, GapSettings(families="full", **FAST))
    numbers = found.numbers()
    assert found.gaps("full").keys() == {"approximation"}
    assert abs(numbers["approximation_gap"]) < 0.02
    for name in ("elbo_amortized", "elbo_amortized_se", "iwae_amortized", "amortization_gap", "inference_gap"):
        assert numbers[name] is None
    assert "amortization_gap" not in numbers["families"]["full"]
    table = found.table("test").splitlines()
    assert [line.split()[0] for line in table[1:4]] == ["posterior", "full", "evidence"]
    assert "encoder =" not in "".join(table)
    assert found.warnings() == []


def test_an_encoder_that_is_too_narrow_understates_the_evidence() -> None:
    """If the evidence is not known, the best estimate replaces it: the one with the optimum as the proposal."""
    x = normal(40).numpy()
    vi = barely(Narrow().double(), x)
    found = measure_gap(vi.fitted, {"x": x}, GapSettings(families="full", **FAST))
    exact = scenarios.Conjugate.log_evidence(vi.program, torch.from_numpy(x))
    assert found.by == "iwae with full"
    torch.testing.assert_close(found.log_evidence, exact, rtol=0, atol=0.01)
    assert found.encoder is not None
    short = (found.log_evidence - found.encoder.log_evidence).mean().item()
    assert short > 0.3
    (sentence,) = found.warnings()
    assert sentence == (
        f"importance sampling with the encoder understates the evidence by {short:.2f} nats per datum: iwae with full "
        f"finds more"
    )
    for part in ("40 data; evidence by iwae with full", "encoder", "full", "evidence"):
        assert part in found.table("test")


@pytest.mark.parametrize("name", ["semi-amortized", "two latents", "global latent", "discrete beside"])
def test_gaps_of_any_program(name: str) -> None:
    """Encoders that are derived, guides that do not factorise and latents that all data share have gaps too."""
    programs = {
        "semi-amortized": (lambda: scenarios.bare(scenarios.PPCA()), X, "semi-amortized"),
        "two latents": (scenarios.TwoLatents, np.abs(X[:, :4]), "amortized"),
        "global latent": (scenarios.SharedMean, X[:, 0], "amortized"),
        "discrete beside": (scenarios.Switch, X[:, 0], "amortized"),
    }
    make, x, guide = programs[name]
    with seeded(0):
        program = make().double()
    vi = barely(program, x, guide, family="full")
    found = measure_gap(vi.fitted, {"x": x}, GapSettings(families="diagonal", **FAST))
    gaps = {gap: mean for gap, (mean, _) in found.gaps("diagonal").items()}
    assert gaps["amortization"] > 0.05
    assert gaps["approximation"] > -0.01
    assert math.isfinite(gaps["inference"])
    assert all(isinstance(sentence, str) for sentence in found.warnings())
    shared = name == "global latent"
    assert (found.numbers().get("of") == "predictive") == ("predictive given the fit" in found.table("test")) == shared


def test_compiled_it_is_the_same(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """There are graphs of the steps in lambda and of the log weights; of sixteen data, eight are at once."""
    made = Mock(side_effect=traced)
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", made)
    monkeypatch.setattr("ppl_vae.evaluation.passes.ROWS_PER_PASS", 8)
    vi, found = barely(small_factor_analysis(), X), []
    for mode in ("off", "on"):
        settings = GapSettings(families="full", local_steps=60, num_samples=30)
        found.append(measure_gap(vi.set_params(compile=mode).fitted, {"x": X[:16]}, settings))
        assert made.called == (mode == "on")
    assert [record for record in caplog.records if record.name == "ppl_vae"] == []
    for name, each in found[1].families.items():
        assert each.steps == found[0].families[name].steps
        torch.testing.assert_close(each.elbo, found[0].families[name].elbo, rtol=0, atol=1e-8)
    assert {len(call.args[1][-1]) for call in made.call_args_list} == {8}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"families": "ful"}, "--families: 'ful' is unknown; did you mean 'full'"),
        ({"families": " ,"}, "--families is empty: name one or more of diagonal, full, flow"),
        ({"local_steps": 0}, "local_steps is 0: expected a whole number, 1 or more"),
        ({"num_particles": -1}, "num_particles is -1"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"local_learning_rate": -0.1}, "local_learning_rate is -0.1: expected a positive number"),
        ({"local_learning_rate": math.nan}, "local_learning_rate is nan"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_gap(None, {}, GapSettings(**settings))  # type: ignore[arg-type]


def test_a_program_that_sums_its_latents_out_has_no_gap() -> None:
    x = normal(20, 2).numpy()
    vi = barely(scenarios.Mixture().double(), x)
    with pytest.raises(InputError, match="Mixture has no latents that a guide samples: its ELBO is the evidence"):
        measure_gap(vi.fitted, {"x": x}, GapSettings())
