"""Differences of evidence with paired errors, against NumPy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import InputError, VariationalInference
from ppl_vae.evaluation.comparison import Measured, check_comparable, compare_fits, comparison_table, measure
from ppl_vae.evidence import Evidence
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vae import VAE
from tests.helpers import scenarios
from tests.helpers.arviz_versions import compare_known
from tests.helpers.scenarios import bits, normal

INF = math.inf


def fit_with(values: object, mcse: object = 0.0, bound: str = "lower", **known: object) -> Measured:
    nats = torch.as_tensor(values, dtype=torch.double)
    errors = torch.as_tensor(mcse, dtype=torch.double).expand(nats.shape)
    return Measured(Evidence(nats, errors, torch.ones_like(nats), errors > 0.5, bound), **known)  # type: ignore[arg-type]


def test_the_error_is_that_of_the_paired_differences() -> None:
    rng = np.random.default_rng(0)
    num_data = 500
    difficulty = rng.normal(-90, 20, num_data)  # a hard datum is hard for every fit
    values = {name: difficulty + gain + rng.normal(0, 0.5, num_data) for name, gain in {"a": 0, "b": 3, "c": 1}.items()}
    rows = compare_fits({name: fit_with(nats) for name, nats in values.items()})
    assert [row.name for row in rows] == ["b", "c", "a"]
    for row in rows[1:]:
        paired = values["b"] - values[row.name]
        assert row.difference == pytest.approx(paired.mean(), abs=1e-12)
        assert row.difference_se == pytest.approx(paired.std(ddof=1) / num_data**0.5, rel=1e-12)
        unpaired = math.hypot(rows[0].log_evidence_se, row.log_evidence_se)
        assert unpaired > 20 * row.difference_se  # 20 * sqrt(2) / (0.5 * sqrt(2)) = 40 times in expectation
    assert (rows[0].difference, rows[0].difference_se, rows[0].difference_mcse) == (0, 0, 0)
    assert rows[0].log_evidence == pytest.approx(values["b"].mean())


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # pandas, of ArviZ
def test_the_errors_are_arvizs() -> None:
    """What it knows of each datum under each model is taken as given: here the log evidence."""
    rng = np.random.default_rng(1)
    values = {name: rng.normal(-5, 2, 40) + gain for name, gain in {"a": 0.0, "b": 0.5, "c": 3.0}.items()}
    theirs = compare_known(values)
    rows = compare_fits({name: fit_with(nats) for name, nats in values.items()})
    assert [row.name for row in rows] == list(theirs.index)
    for row in rows:  # sums over data, and divided by N, not N - 1
        assert row.log_evidence == pytest.approx(theirs.elpd[row.name] / 40)
        assert row.difference == pytest.approx(abs(theirs.elpd_diff[row.name]) / 40)  # of another sign in ArviZ 1
        assert row.difference_se == pytest.approx(theirs.dse[row.name] / 40 * (40 / 39) ** 0.5)


def test_the_monte_carlo_error_is_kept_apart() -> None:
    nats = np.linspace(-9, -3, 50)
    best, other = compare_fits({"exact": fit_with(nats + 1, bound="exact"), "noisy": fit_with(nats, 0.2)})
    assert other.difference_se == pytest.approx(0, abs=1e-12)
    # Of the mean: 0.2 / sqrt(50) by chance, and the bias of a logarithm, 0.2^2 / 2, which is of one sign.
    assert other.difference_mcse == pytest.approx(math.hypot(0.2 / 50**0.5, 0.02))
    assert (best.bound, other.doubtful) == ("exact", 0)


@pytest.mark.parametrize(
    ("best", "other", "difference", "se"),
    [
        ((-1.0, -2.0, -3.0), (-2.0, -INF, -4.0), INF, INF),
        ((-5.0, -INF, -3.0), (-6.0, -INF, -7.0), 5 / 3, np.std([1, 0, 4], ddof=1) / 3**0.5),
        ((-5.0, -INF, -3.0), (-6.0, -4.0, -INF), (6 + 4 - 5 - 3) / 3, INF),
        ((-9.0, -INF, -9.0), (-INF, -1.0, -INF), INF, INF),
        ((-INF, -INF, -INF), (-INF, -INF, -INF), 0.0, 0.0),
    ],
)
def test_data_without_any_probability_are_the_limit_of_improbable_ones(
    best: tuple[float, ...], other: tuple[float, ...], difference: float, se: float
) -> None:
    first, second = compare_fits({"other": fit_with(other), "best": fit_with(best)})
    if best != other:
        assert (first.name, second.name) == ("best", "other")
    assert (second.difference, second.difference_se) == (pytest.approx(difference), pytest.approx(se))
    assert not any(math.isnan(value) for value in (first[5:10] + second[5:10]))


def test_one_datum_has_an_infinite_error() -> None:
    _, other = compare_fits({"a": fit_with([-2.0]), "b": fit_with([-1.5])})
    assert (other.name, other.difference, other.difference_se) == ("a", 0.5, INF)


def test_equals_keep_their_order() -> None:
    rows = compare_fits({name: fit_with([-1.0, -2.0]) for name in "bac"})
    assert [(row.name, row.difference, row.difference_se) for row in rows] == [(name, 0, 0) for name in "bac"]


def test_evidence_of_other_data_is_refused() -> None:
    with pytest.raises(InputError, match=r"different numbers of data \(a 2, b 3\)"):
        compare_fits({"a": fit_with([-1.0, -2.0]), "b": fit_with([-1.0, -2.0, -3.0])})


def test_the_table() -> None:
    common = {"train_seconds": 12.34, "evidence_seconds": 0.5}
    rows = compare_fits(
        {
            "vae": fit_with([-3.0, -4.0], 0.9, estimator="iwae", effort="iwae, 9 draws", elbo=-5.0, **common),
            "known": fit_with([-1.0, -3.0], bound="exact", estimator="exact", effort="exact", elbo=-2.5, **common),
        }
    )
    rows[1] = rows[1]._replace(infer_milliseconds=0.00417)
    lines = comparison_table(rows, "valid").splitlines()
    assert lines[0] == "valid, 2 data; log evidence by exact; iwae, 9 draws"
    assert lines[2].split() == ["known", "exact", "-2.00", "0.000", "-2.50", "12.3", "none", "0.5"]
    mcse = math.hypot(0.9 / 2**0.5, 0.81 / 2)
    cells = ["vae", "iwae", "-3.50", "1.500", "0.500", f"{mcse:.3f}", "-5.00", "100.0%", "12.3", "0.0042", "0.5"]
    assert lines[3].split() == cells
    assert len({len(line) for line in lines[1:4]}) == 1  # columns are aligned
    assert "iwae is on average a lower bound" in lines[-1]


class Plain(nn.Module):
    """No latent: independent Bernoullis."""

    def __init__(self, data_dim: int = 6) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(data_dim))

    def model(self, x: Tensor) -> None:
        pyro.module("plain", self)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(logits=self.logits).to_event(1), obs=x)


class Joint(VAE):
    """A program of x and y together."""

    def model(self, x: Tensor, y: Tensor) -> None:  # type: ignore[override]
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)
            pyro.sample("y", dist.Bernoulli(logits=z.sum(-1)), obs=y.to(x.dtype))

    def guide(self, x: Tensor, y: Tensor) -> None:  # type: ignore[override]
        super().guide(x)


def fitted(program: object, *arrays: np.ndarray) -> VariationalInference:
    return VariationalInference(program, max_epochs=2, num_samples=50).fit(*arrays)


def test_what_is_measured_of_a_fit() -> None:
    x = normal(60, 4).float().numpy()
    vi = fitted(FactorAnalysis(4, 2), x)
    measured = measure(vi.fitted, {"x": x})
    assert (measured.estimator, measured.effort, measured.warnings) == ("exact", "exact", ())
    exact = vi.program.log_evidence(torch.from_numpy(x))
    np.testing.assert_allclose(measured.evidence.log_evidence, exact.detach(), rtol=1e-5)
    assert measured.elbo == vi.evaluate(x).rows["elbo"].log_evidence
    assert measured.train_seconds == vi.train_seconds_ > 0
    assert measured.infer_milliseconds is not None
    assert measured.infer_milliseconds > 0
    asked = measure(vi.fitted, {"x": x}, "iwae", num_samples=30)
    assert (asked.estimator, asked.effort) == ("iwae", "iwae, 30 draws")
    assert torch.equal(asked.evidence.log_evidence, vi.evidence(x, num_samples=30).log_evidence)
    annealed = measure(vi.fitted, {"x": x}, "ais", num_samples=30, num_temperatures=3, num_chains=2)
    assert annealed.effort == "ais, 2 chains of 3"
    assert annealed.elbo == asked.elbo
    assert not any(sentence.startswith("iwae") for sentence in annealed.warnings)  # its draws are the ELBO's only


def test_evidence_of_simulated_data_is_none_of_the_data() -> None:
    x = bits(40, 6).float().numpy()
    with pytest.raises(InputError, match="the estimator 'bdmc' has no evidence of the data"):
        measure(fitted(Plain(), x).fitted, {"x": x}, "bdmc")  # type: ignore[arg-type]


def test_a_program_without_latents_has_exact_evidence_and_nothing_to_infer() -> None:
    x = bits(40, 6).float().numpy()
    measured = measure(fitted(Plain(), x).fitted, {"x": x}, "iwae")
    assert (measured.estimator, measured.infer_milliseconds) == ("exact", None)
    assert measured.elbo == pytest.approx(measured.evidence.log_evidence.mean().item())


def test_evidence_in_other_units_is_refused() -> None:
    x, y = bits(40, 6).float().numpy(), bits(40).float().numpy()
    vae, plain = fitted(VAE(6), x), fitted(Plain(), x)
    check_comparable({"vae": vae.fitted, "plain": plain.fitted})
    with pytest.raises(InputError, match=r"fa has a density of 6 real numbers .* vae has a probability of 6 whole"):
        check_comparable({"vae": vae.fitted, "fa": fitted(FactorAnalysis(6, 2), x).fitted})
    with pytest.raises(InputError, match=r"joint has a probability of 7 whole numbers .* vae has a probability of 6"):
        check_comparable({"vae": vae.fitted, "joint": fitted(Joint(6), x, y).fitted})


def test_programs_of_several_sites_and_kinds_are_told_apart() -> None:
    lengths = np.arange(12) % 5 + 1
    walk = VariationalInference(scenarios.Sequences().double(), max_epochs=2, batch_size=16, num_samples=5)
    walk.fit(normal(12, 5).numpy(), lengths)
    with pytest.raises(InputError, match="walk has a density of 5 real numbers for each datum, vae has a prob"):
        check_comparable({"vae": fitted(VAE(5), bits(20, 5).float().numpy()).fitted, "walk": walk.fitted})
