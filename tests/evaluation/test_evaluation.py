"""Evaluations of fitted programs: estimates, warnings and diagnostics, also where there are few draws or few data."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.errors import Diverged, InputError
from ppl_vae.evaluation import diagnose
from ppl_vae.evaluation.estimators import ESTIMATORS
from ppl_vae.evaluation.evaluation import Diagnostics
from ppl_vae.evaluation.passes import _Sizes, numbers_per_draw
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vae import VAE
from ppl_vae.program import Program, seeded
from tests.helpers.batches import as_batches
from tests.helpers.chains import shorten_pilot
from tests.helpers.laws import traced
from tests.helpers.scenarios import Mixture, Sequences, bits, normal


def fitted(module: nn.Module, x: np.ndarray, **options: int) -> VariationalInference:
    return VariationalInference(module, max_epochs=2, validation_fraction=0, **options).fit(x)


@pytest.fixture(scope="module")
def small() -> VariationalInference:
    """Return a fit that no test changes."""
    return fitted(VAE(data_dim=8, latent_dim=2, hidden=(16,)), bits(30, 8).float().numpy())


def test_numbers_do_not_depend_on_what_else_is_asked_for(
    small: VariationalInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_pilot(monkeypatch)
    vi = small
    x = bits(20, 8, seed=1).numpy().astype("float32")
    settings = {"num_samples": 50, "num_temperatures": 4, "num_chains": 3, "num_simulated": 5}
    names = [name for name, estimator in ESTIMATORS.items() if estimator.needs not in ("steps", "closed form")]
    together = vi.evaluate(x, estimators=names, diagnostics=True, **settings)
    for name in names:
        alone = vi.evidence(x, estimator=name, **settings)
        assert torch.equal(alone.log_evidence, together.evidence[name].log_evidence), name


def test_exact_where_it_is_known_is_taken_by_default() -> None:
    x = normal(30, 6).numpy()
    with seeded(0):
        module = FactorAnalysis(6, 2).double()
    vi = VariationalInference(module, max_epochs=100, learning_rate=0.02, validation_fraction=0, num_samples=500).fit(x)
    rows = vi.evaluate(x).rows
    assert list(rows) == ["elbo", "iwae", "exact"]
    assert (rows["exact"].mcse, rows["exact"].bound, rows["exact"].doubtful) == (0, "exact", 0)
    assert rows["iwae"].log_evidence == pytest.approx(rows["exact"].log_evidence, abs=4 * rows["iwae"].mcse)


def test_a_program_of_discrete_latents_needs_no_guide() -> None:
    x = normal(60, 2).numpy()
    module = Mixture().double()
    before = module.closed_form(torch.from_numpy(x)).mean().item()
    vi = VariationalInference(module, max_epochs=30, learning_rate=0.05, validation_fraction=0).fit(x)
    evaluation = vi.evaluate(x, diagnostics=True)
    assert list(evaluation.rows) == ["exact"]
    assert evaluation.diagnostics is None
    assert evaluation.rows["exact"].log_evidence > before + 0.1  # it was trained by maximum likelihood
    assert vi.sample(5).shape == (5, 2)
    assert vi.reconstruct(x).shape == (60, 2)
    with pytest.raises(InputError, match="no continuous latent to anneal"):
        vi.evidence(x, estimator="ais")
    with pytest.raises(InputError, match="no latents to transform to"):
        vi.transform(x)


def test_bits_per_dimension_count_what_is_observed() -> None:
    """Masked steps of a sequence are not observed."""
    x, lengths = normal(9, 5).numpy(), np.array([5, 1, 3, 2, 5, 4, 5, 1, 1])
    vi = VariationalInference(Sequences().double(), max_epochs=1, num_samples=30, validation_fraction=0).fit(x, lengths)
    assert vi.evaluate(x, lengths).numbers_per_datum == pytest.approx(lengths.mean())


@pytest.mark.parametrize("num_samples", [1, 2, 30])
@pytest.mark.parametrize("num_data", [1, 3])
def test_few_draws_and_one_datum_give_a_clear_answer(
    num_samples: int, num_data: int, small: VariationalInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_pilot(monkeypatch)
    x, vi = bits(30, 8).float().numpy(), small
    names = ("prior", "iwae", "cubo", "ais", "bdmc")
    few = {"num_samples": num_samples, "num_temperatures": 2, "num_chains": num_samples, "num_simulated": 1}
    evaluation = vi.evaluate(x[:num_data], estimators=names, diagnostics=True, **few)
    text = evaluation.table("test") + json.dumps(evaluation.numbers(), default=str) + " ".join(evaluation.warnings())
    assert "nan" not in text.lower()
    for name, row in evaluation.rows.items():
        assert math.isfinite(row.log_evidence)
        assert (row.se == math.inf) == (num_data == 1 or name == "bdmc")
        if num_samples == 1:
            assert row.mcse == math.inf
            assert row.doubtful == (name != "elbo")
    if num_samples <= 20:
        assert any("too few for an error" in sentence for sentence in evaluation.warnings())


class Impossible(nn.Module):
    """Some data have no density under any latent: they lie outside the likelihood's interval."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, 1)

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            inside = torch.where(x.abs() < 1, 0.0, -math.inf)
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)
            pyro.factor("inside", inside)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x[..., None])[..., 0], 1.0))


def test_weights_that_are_all_zero() -> None:
    inside, outside = np.linspace(-0.9, 0.9, 8), np.array([0.5, 3.0])
    vi = VariationalInference(Impossible().double(), max_epochs=1, validation_fraction=0).fit(inside)
    few = {"num_samples": 50, "num_temperatures": 3, "num_chains": 4}
    evaluation = vi.evaluate(outside, estimators=("prior", "iwae", "cubo", "ais"), diagnostics=True, **few)
    for name, evidence in evaluation.evidence.items():
        assert math.isfinite(evidence.log_evidence[0]), name
        assert evidence.log_evidence[1] == -math.inf
        assert evidence.ess[1] == 0
        assert bool(evidence.doubtful[1])
        assert evaluation.rows[name].log_evidence == -math.inf
        assert f"{name}: log evidence -inf of 1 datum" in " ".join(evaluation.warnings())
    assert "nan" not in (evaluation.table("test") + json.dumps(evaluation.numbers(), default=str)).lower()


@pytest.mark.parametrize("estimator", ["prior", "iwae", "ais", "bdmc"])
def test_nan_in_the_decoder_names_the_datum(estimator: str) -> None:
    x = bits(30, 8).numpy().astype("float32")
    vi = fitted(VAE(data_dim=8, latent_dim=2), x)
    with torch.no_grad():
        vi.program.decoder[-1].bias.fill_(math.nan)
    with pytest.raises((Diverged, InputError), match=r"datum \d+ are nan|data cannot be simulated"):
        vi.evidence(x, estimator=estimator, num_samples=20, num_temperatures=2, num_chains=2)


def test_a_guide_that_is_too_narrow_is_reported_and_a_wider_proposal_mends_it() -> None:
    x = normal(60, 6).numpy()
    with seeded(0):
        vi = VariationalInference(FactorAnalysis(6, 2).double(), max_epochs=60, learning_rate=0.02).fit(x)
    with torch.no_grad():
        vi.program.encoder.net[0].bias[2:] -= 2.5
    narrow = vi.evaluate(x, num_samples=2000)
    assert narrow.rows["iwae"].doubtful > 0.5
    assert any("should not be trusted" in sentence for sentence in narrow.warnings())
    wide = vi.evaluate(x, num_samples=2000, proposal_scale=8.0, proposal_df=5.0)
    assert wide.rows["iwae"].doubtful < 0.1
    assert wide.rows["iwae"].log_evidence > narrow.rows["iwae"].log_evidence
    assert wide.rows["iwae"].log_evidence == pytest.approx(
        wide.rows["exact"].log_evidence, abs=4 * wide.rows["iwae"].mcse
    )
    annealed = vi.evaluate(x, estimators=("iwae", "ais"), num_samples=30, num_temperatures=50)
    assert any("nats below ais, also a lower bound" in sentence for sentence in annealed.warnings())
    assert any("nats below exact, the evidence itself" in sentence for sentence in narrow.warnings())


def test_the_error_of_a_mean_has_its_bias() -> None:
    """Over 60 repetitions the interval around the mean of 300 data holds the exact mean, as few draws bias it."""
    x = normal(300, 6, seed=3).numpy()
    with seeded(0):
        vi = VariationalInference(FactorAnalysis(6, 2).double(), max_epochs=60, learning_rate=0.02).fit(x)
    exact = vi.evidence(x, estimator="exact").log_evidence.mean().item()
    inside = []
    for seed in range(60):
        row = vi.set_params(seed=seed).evaluate(x, estimators=("iwae",), num_samples=40).rows["iwae"]
        inside.append(abs(row.log_evidence - exact) < 1.96 * row.mcse)
    assert np.mean(inside) >= 0.95 - 3 * (0.95 * 0.05 / 60) ** 0.5


def test_the_widest_tensor_is_measured() -> None:
    x = bits(8, 20)
    program = VAE(data_dim=20, latent_dim=2, hidden=(300,)).double()
    vi = VariationalInference(program, max_epochs=1, validation_fraction=0).fit(x.numpy())
    with torch.no_grad():
        assert numbers_per_draw(lambda k: vi.program_.log_weights((x,), k)) == 8 * 300  # the hidden layer


def test_diagnostics_of_few_data_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single datum has all the draws from the prior, in several passes, and the average of several is the average."""
    x = bits(1, 6).float().numpy()
    vi = VariationalInference(VAE(data_dim=6, latent_dim=2, hidden=[32]), max_epochs=1, validation_fraction=0).fit(x)
    program = vi.program_

    def diagnosed(numbers: int) -> tuple[Diagnostics, int]:
        monkeypatch.setattr("ppl_vae.evaluation.passes.NUMBERS_PER_PASS", numbers)
        with program.running(training=False), _Sizes() as mode:
            look = diagnose.look_at_latents(program, vi.fitted.batches({"x": x}), seed=0)
        assert look is not None
        return diagnose.summarise_latents(program, [look], seed=0), max(mode.sizes)

    (many, size), (few, _) = diagnosed(2**14), diagnosed(2**21)
    assert size <= 2**14
    assert many.prior_draws.shape == few.prior_draws.shape == (diagnose.PRIOR_DRAWS, 2)
    assert many.reconstruction == pytest.approx(few.reconstruction, abs=0.1)
    torch.testing.assert_close(many.divergence_by_dimension, few.divergence_by_dimension)  # a closed form


class Scaled(nn.Module):
    """A latent of this scale, half of whose variance an observation tells, and another that nothing looks at."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale), requires_grad=False)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), self.scale).to_event(1))
            pyro.sample("x", dist.Normal(z[..., :1], self.scale).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            spread = torch.stack([self.scale / 2**0.5, self.scale])
            pyro.sample("z", dist.Normal(torch.cat([x / 2, 0 * x], -1), spread).to_event(1))


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_that_a_dimension_is_active_does_not_depend_on_the_scale_of_its_prior(scale: float) -> None:
    x = scale * 2**0.5 * normal(200, 1).float()
    program = Program(Scaled(scale)).bind((x,))
    with program.running(training=False):
        look = diagnose.look_at_latents(program, as_batches((x,)), seed=0)
        assert look is not None
        found = diagnose.summarise_latents(program, [look], seed=0)
    assert found.active.tolist() == [True, False]


def test_bdmc_simulates_the_same_data_whatever_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number that is annealed at once makes no difference: the bounds of two settings are of the same data."""
    x = normal(40, 3).float().numpy()
    vi = VariationalInference(FactorAnalysis(data_dim=3, latent_dim=1), max_epochs=1, validation_fraction=0).fit(x)
    together = vi.evidence(x, estimator="bdmc", num_temperatures=8, num_simulated=30)
    monkeypatch.setattr("ppl_vae.evaluation.passes.NUMBERS_PER_PASS", 2**10)
    count = Mock(wraps=ESTIMATORS["bdmc"].function)
    monkeypatch.setitem(ESTIMATORS, "bdmc", ESTIMATORS["bdmc"]._replace(function=count))
    apart = vi.evidence(x, estimator="bdmc", num_temperatures=8, num_chains=32, num_simulated=30)
    assert count.call_count > 1
    difference = (apart.log_evidence - together.log_evidence).abs()
    assert (difference < 6 * torch.hypot(apart.mcse, together.mcse) + 0.01).all()


# ------------------------------------------------------------------------------------------------------------ compiled


@pytest.fixture(params=[torch.double, pytest.param(torch.float, marks=pytest.mark.slow)], ids=["double", "single"])
def in_passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[VariationalInference, Any]:
    """A fit and eleven data, evaluated at most six at once, in passes of at most twenty draws."""
    x = bits(30, 8, seed=1).to(request.param).numpy()
    with seeded(0):
        module = VAE(data_dim=8, latent_dim=2, hidden=(5,)).to(request.param)
    vi = VariationalInference(module, max_epochs=2, validation_fraction=0, compile="off").fit(x)
    monkeypatch.setattr("ppl_vae.evaluation.passes.ROWS_PER_PASS", 6)
    monkeypatch.setattr("ppl_vae.evaluation.passes.NUMBERS_PER_PASS", 6 * 20 * 8)
    return vi, x[:11]


def assert_compiled_agrees(
    vi: VariationalInference, x: np.ndarray, names: Sequence[str], caplog: pytest.LogCaptureFixture, chains: int = 8
) -> None:
    """Compare every estimate, compiled and run in Python, datum by datum."""
    settings = {"num_samples": 90, "num_temperatures": 4, "num_chains": chains, "num_simulated": len(x)}
    expected, found = (
        vi.set_params(compile=mode).evaluate(x, estimators=names, diagnostics=False, **settings).evidence
        for mode in ("off", "on")
    )
    assert [record for record in caplog.records if record.name == "ppl_vae"] == []
    tolerance = 1e-9 if x.dtype == np.float64 else 1e-4
    for name in names:
        away = (found[name].log_evidence - expected[name].log_evidence).abs()
        turned = away > tolerance  # rounding has decided whether a chain moves, which singles leave to it now and then
        assert turned.sum() <= (2 if x.dtype == np.float32 and name in ("ais", "bdmc") else 0)
        assert (away < 3 * expected[name].mcse + tolerance).all()
        assert found[name].columns.keys() == expected[name].columns.keys()
        assert torch.equal(found[name].doubtful, expected[name].doubtful)
    (compiler,) = (c for (mode, _), c in vi.fitted._compilers.items() if mode == "on")
    graphs = {"the log weights of VAE"} if "iwae" in names else set()
    assert compiler.graphs == graphs | ({"a transition"} if {"ais", "bdmc"} & {*names} else set())


@pytest.mark.slow
def test_draws_of_the_guide_compiled_by_inductor(in_passes: Any, caplog: pytest.LogCaptureFixture) -> None:
    vi, x = in_passes
    assert_compiled_agrees(vi, x[:6], ["iwae"], caplog)


@pytest.mark.slow
def test_chains_compiled_by_inductor(in_passes: Any, caplog: pytest.LogCaptureFixture) -> None:
    """In a single batch with as many chains as the pilot run, all transitions have one graph."""
    vi, x = in_passes
    assert_compiled_agrees(vi, x[:6], ["ais"], caplog, chains=2)


def test_compiled_estimators_do_not_disturb_each_other(
    in_passes: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation of other parameters has the graphs of an earlier one, and its own numbers."""
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", traced)
    shorten_pilot(monkeypatch)
    (vi, x), names = in_passes, ["iwae", "cubo", "prior", "bdmc"]
    x = x[:6]  # one batch, which has one graph
    assert_compiled_agrees(vi, x, names, caplog, chains=2)
    with torch.no_grad():
        for parameter in vi.program.parameters():
            parameter.mul_(1.3)
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", lambda *_: pytest.fail("the graphs are there"))
    assert_compiled_agrees(vi, x, names, caplog, chains=2)


@pytest.mark.parametrize(("program", "discrete"), [(VAE(data_dim=6, hidden=(5,)), True), (FactorAnalysis(6, 2), False)])
def test_an_evidence_that_discrete_data_cannot_have_is_reported(program: nn.Module, discrete: bool) -> None:
    x = bits(20, 6).float()
    vi = VariationalInference(program, max_epochs=1).fit(x)
    evaluation = vi.evaluate(x, estimators=["iwae"], num_samples=100)
    assert evaluation.discrete == discrete
    evidence = evaluation.evidence["iwae"]
    raised = evidence.log_evidence.clone()
    raised[:3] = torch.tensor([40.0, 1e12, 0.5])  # the last within its error
    wrong = evidence._replace(log_evidence=raised, mcse=torch.full((20,), 0.2).double())
    reported = [line for line in evaluation._replace(evidence={"iwae": wrong}).warnings() if "cannot have" in line]
    line = (
        "iwae: 2 of 20 data have a log evidence above 0, which discrete data cannot have: the estimate is wrong there"
    )
    assert reported == ([line] if discrete else [])
    assert not [line for line in evaluation.warnings() if "cannot have" in line]
