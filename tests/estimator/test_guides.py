"""The methods that ``guide=`` chooses, from end to end: what they reach, for any program, and that they go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis as ByEM
from torch import Tensor, nn

from ppl_vae import InputError, VariationalInference, load
from ppl_vae.cli.command import run_verb
from ppl_vae.inference import FamilyName
from ppl_vae.program import seeded
from tests.helpers import scenarios
from tests.helpers.chains import shorten_pilot
from tests.helpers.known import Narrow, exact_posterior, small_factor_analysis
from tests.helpers.laws import traced
from tests.helpers.own_programs import MODEL_ONLY, PER_SAMPLE, QUICK_MODEL_ONLY
from tests.helpers.runs import run_without_figures
from tests.helpers.scenarios import bare, normal, switch_evidence, two_latents_evidence

# ------------------------------------------------------------------------------------- a model whose fit is known


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """From a factor analysis of two factors."""
    loading = torch.tensor([[1.5, 0.3], [-1.0, 0.8], [0.4, -1.2], [0.2, 1.0], [1.0, 0.0]]).double()
    return (normal(300, 2) @ loading.T + 0.5 * normal(300, 5, seed=1) + 1).numpy()


@pytest.fixture(scope="module")
def per_sample(drawn: np.ndarray) -> dict[str, VariationalInference]:
    options: dict[str, Any] = {"warm_start": True, "local_steps": 3, "num_particles": 4, "learning_rate": 0.2}
    options |= {"batch_size": 300, "compile": "off"}
    epochs: dict[FamilyName, int] = {"diagonal": 20, "full": 150}
    return {
        family: VariationalInference(
            small_factor_analysis(), "per-sample", family=family, max_epochs=number, validation_fraction=0, **options
        ).fit(drawn)
        for family, number in epochs.items()
    }


def test_a_full_posterior_reaches_the_highest_likelihood(
    per_sample: dict[str, VariationalInference], drawn: np.ndarray
) -> None:
    """That of scikit-learn's EM."""
    best = ByEM(2, tol=1e-9, max_iter=5000, svd_method="lapack").fit(drawn).score(drawn)
    exact = per_sample["full"].evidence(drawn, estimator="exact").log_evidence.mean()
    assert best - 0.003 < exact < best


@pytest.mark.parametrize("family", [pytest.param("diagonal", marks=pytest.mark.slow), "full"])
def test_what_is_found_for_new_data_is_the_posterior(
    family: str, per_sample: dict[str, VariationalInference], drawn: np.ndarray
) -> None:
    """Means and ELBO in closed form; the best diagonal Gaussian has the mean too, and the precision's diagonal."""
    vi, x = per_sample[family], drawn[:40] + 0.3
    mean, precision = exact_posterior(vi.program, x)
    np.testing.assert_allclose(vi.transform(x), mean, atol=0.05)
    rows = vi.evaluate(x, num_samples=500).rows
    short = rows["exact"].log_evidence - rows["elbo"].log_evidence
    best = 0 if family == "full" else 0.5 * (precision.diagonal().log().sum() - precision.logdet()).item()
    assert short == pytest.approx(best, abs=4 * rows["elbo"].mcse + 2e-3)
    assert rows["iwae"].log_evidence == pytest.approx(rows["exact"].log_evidence, abs=4 * rows["iwae"].mcse + 1e-3)
    draws = vi.posterior(x, num_samples=1000).latents["z"]
    covariance = np.cov((draws - draws.mean(0)).reshape(-1, 2).T)
    expected = torch.linalg.inv(precision if family == "full" else precision.diagonal().diag()).numpy()
    np.testing.assert_allclose(covariance, expected, atol=0.02)
    assert set(vi.inference_.tables) == {"train"}


# ------------------------------------------------------------------------------------------ programs of every shape

N = 60
_rng = np.random.default_rng(0)


def own(program: Any, *batch: Tensor) -> Tensor:
    return program.closed_form(*batch)


def predictive(program: Any, x: Tensor, posterior: Any) -> Tensor:
    loc, scale = posterior.loc["w"], posterior.log_scale["w"].exp()
    return torch.distributions.Normal(loc, (scale**2 + 1.49).sqrt()).log_prob(x)


Case = tuple[Callable[[], nn.Module], tuple[np.ndarray, ...], Callable[..., Tensor], int]
# The program, data that lie where the program does not expect them yet, log p(x), and how many numbers transform gives.
PROGRAMS: dict[str, Case] = {
    "log-normal": (scenarios.Rates, (_rng.poisson(9.0, size=N).astype(float),), own, 1),
    "dirichlet": (scenarios.Shares, (_rng.multinomial(8, [0.8, 0.1, 0.1], size=N).astype(float),), own, 3),
    "two latents": (scenarios.TwoLatents, (np.abs(_rng.normal(size=(N, 4))),), two_latents_evidence, 4),
    "mask": (
        scenarios.Walks,
        (2 * _rng.normal(size=(N, 4)).cumsum(1), _rng.integers(1, 5, size=N)),
        own,
        4,
    ),
    "inner plate": (scenarios.Sets, (_rng.normal(size=(N, 3)) + 2,), own, 4),
    "discrete beside": (scenarios.SummedSwitch, (_rng.normal(size=N) + 4,), switch_evidence, 1),
    "images": (scenarios.Pictures, (_rng.normal(size=(N, 1, 8, 8)),), own, 2),
    "global latent": (scenarios.SharedMean, (_rng.normal(size=N) + 3,), predictive, 1),
}
GUIDES: dict[str, dict[str, Any]] = {
    "amortized": {"guide": "amortized", "family": "full", "max_epochs": 8, "learning_rate": 0.005},
    "per-sample": {"guide": "per-sample"},
    "initial": {"guide": "semi-amortized"},
    "refined": {"guide": "semi-amortized", "encoder_objective": "refined"},
}
OWN_GUIDE = ("two latents", "discrete beside")


def make_module(name: str, own_guide: bool = False) -> nn.Module:
    with seeded(0):
        module = PROGRAMS[name][0]().double()
    return module if own_guide else bare(module)


CASES = [(name, guide, False) for name in PROGRAMS for guide in ("amortized", "per-sample")]
CASES += [(name, guide, True) for name in OWN_GUIDE for guide in ("initial", "refined")]
CASES += [("dirichlet", "initial", False), ("mask", "initial", False), ("global latent", "initial", False)]
CASES += [("mask", "refined", False), ("images", "refined", False), ("global latent", "refined", False)]
QUICK_CASES = {  # every program once, and every method with programs of several shapes
    *(("log-normal", "per-sample", False), ("dirichlet", "amortized", False), ("two latents", "refined", True)),
    *(("mask", "initial", False), ("inner plate", "per-sample", False), ("discrete beside", "amortized", False)),
    *(("images", "refined", False), ("global latent", "per-sample", False), ("global latent", "amortized", False)),
    ("discrete beside", "initial", True),
}


@pytest.mark.parametrize(
    ("name", "guide", "own_guide"),
    [pytest.param(*case, marks=() if case in QUICK_CASES else pytest.mark.slow) for case in CASES],
)
def test_any_program(name: str, guide: str, own_guide: bool, tmp_path: Path) -> None:
    """The ELBO rises, the evidence agrees with the closed form, and every other method of the fit works."""
    module, (_, arrays, closed_form, size) = make_module(name, own_guide), PROGRAMS[name]
    options = {"max_epochs": 4, "learning_rate": 0.01} | GUIDES[guide] | {"batch_size": 10, "num_particles": 4}
    options |= {"local_steps": 3, "inference_steps": 30, "num_samples": 300, "patience": None}
    vi = VariationalInference(module, **options)
    data = dict(zip(vi.argument_names, arrays, strict=True))
    train, few = ({k: v[rows] for k, v in data.items()} for rows in (slice(40), slice(40, 46)))
    vi.prepare(train, {k: v[40:] for k, v in data.items()})
    elbos = [epoch.elbo_valid for epoch in vi.epochs()]
    assert elbos[-1] > elbos[0] + 0.1
    assert vi.training_.best_elbo == max(elbos)

    extra = () if (shared := vi.program_.global_posterior) is None else (shared,)
    with torch.no_grad():
        exact = closed_form(module, *(torch.from_numpy(array) for array in few.values()), *extra)
    results = vi.evaluate(few, diagnostics=guide == "per-sample")
    above = results.evidence["iwae"].log_evidence - exact
    assert (above < 5 * results.evidence["iwae"].mcse + 1e-3).all()
    if guide in ("amortized", "per-sample"):  # and not far below, once every datum has a posterior of its own
        best = vi.set_params(inference_steps=100).evidence(few, proposal="per-sample", proposal_family="full")
        near = (best.log_evidence - exact).abs() < 5 * best.mcse + 1e-3
        assert near[~best.doubtful].all()
        assert near.sum() >= 4
        vi.set_params(inference_steps=options["inference_steps"])
    assert results.rows["elbo"].log_evidence < exact.mean() + 4 * results.rows["elbo"].mcse

    means, score = vi.transform(few), vi.evidence(few, num_samples=5).log_evidence
    assert means.shape == (6, size)
    draws = vi.posterior(few, num_samples=3)
    assert {z.shape[:2] for z in draws.latents.values()} == {(3, 6)}
    rebuilt, samples = vi.reconstruct(few), vi.sample(7)
    for array in (means, *draws.latents.values(), *draws.means.values()):
        assert np.isfinite(array).all()
    if not isinstance(samples, dict):
        assert samples.shape == (7, *arrays[0].shape[1:])
        assert rebuilt.shape == (6, *arrays[0].shape[1:])

    vi.save_checkpoint(tmp_path / "checkpoint.safetensors")
    with seeded(9):
        other = PROGRAMS[name][0]().double()
    again = VariationalInference(other if own_guide else bare(other), **options)
    again.load_parameters(tmp_path / "checkpoint.safetensors")
    np.testing.assert_array_equal(again.transform(few), means)
    assert torch.equal(again.evidence(few, num_samples=5).log_evidence, score)


QUICK_CASE = ("log-normal", "per-sample", False)


@pytest.mark.parametrize(
    ("name", "guide", "own_guide"),
    [pytest.param(*case, marks=() if case == QUICK_CASE else pytest.mark.slow) for case in CASES],
)
def test_compiled_a_fit_is_that_of_python(
    name: str, guide: str, own_guide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs that run PyTorch's own kernels give the same epochs and the same results for new data, in double."""
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", traced)
    fits = []
    for mode in ("off", "on"):
        module, options = (
            make_module(name, own_guide),
            GUIDES[guide] | {"num_particles": 2, "local_steps": 3, "max_epochs": 3},
        )
        options |= {"batch_size": 20, "inference_steps": 30, "num_samples": 50, "precision": "64-true", "compile": mode}
        vi = VariationalInference(module, **options)
        data = dict(zip(vi.argument_names, PROGRAMS[name][1], strict=True))
        vi.prepare({k: v[:40] for k, v in data.items()}, {k: v[40:] for k, v in data.items()})
        rows = [(epoch.elbo_train, epoch.elbo_valid) for epoch in vi.epochs()]
        few = {k: v[40:] for k, v in data.items()}  # batches of one size have one graph
        fits.append([np.array(rows), vi.transform(few), vi.evidence(few).log_evidence.numpy()])
        assert bool(vi.inference_.compiler.graphs) == (mode == "on")
    for own, expected in zip(*fits, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("guide", ["per-sample", "semi-amortized"])
def test_a_program_without_continuous_latents_is_refused_with_a_reason(guide: Any) -> None:
    with pytest.raises(InputError, match=r"no latent of Mixture is continuous .* fit it with --guide amortized"):
        VariationalInference(scenarios.Mixture().double(), guide).fit(normal(30, 2).numpy())


def test_a_model_without_parameters_is_refused_with_what_would_be_trained() -> None:
    with pytest.raises(InputError, match="Sequences has no parameters to train: guide='per-sample' trains those of"):
        VariationalInference(scenarios.Sequences(), "per-sample").fit(np.ones((30, 5)), np.full(30, 3))


def test_the_posterior_of_a_datum_does_not_depend_on_the_others() -> None:
    x = normal(5, 5).numpy()
    vi = VariationalInference(small_factor_analysis(), "per-sample", max_epochs=1, inference_steps=30).fit(
        normal(30, 5).numpy()
    )
    np.testing.assert_allclose(vi.transform(x[2:4]), vi.transform(x)[2:4], atol=1e-12)


def test_a_proposal_for_every_datum_repairs_a_bad_guide() -> None:
    """The guide is N(0.6 x + 0.1, 0.02^2) instead of N(2 x / 3, 1 / 3): its IWAE with few draws is nats too low."""
    x = normal(60).numpy()
    vi = VariationalInference(Narrow().double(), max_epochs=1, learning_rate=1e-9, validation_fraction=0).fit(x)
    exact = scenarios.Conjugate.log_evidence(vi.program, torch.from_numpy(x)).mean().item()
    bad, good = (vi.evaluate(x, proposal=proposal, num_samples=200) for proposal in ("guide", "per-sample"))
    assert bad.rows["iwae"].log_evidence < exact - 0.5
    assert good.rows["iwae"].log_evidence == pytest.approx(exact, abs=4 * good.rows["iwae"].mcse + 1e-3)
    assert good.rows["elbo"].log_evidence == pytest.approx(exact, abs=1e-2)
    assert (bad.label("iwae"), good.label("iwae")) == ("iwae, 200 draws", "iwae, 200 draws, full per-sample")
    assert bad.inference_seconds is None
    assert good.inference_seconds > 0
    with pytest.raises(InputError, match=r"proposal='guid' is unknown; did you mean 'guide'"):
        vi.evaluate(x, proposal="guid")


# ----------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("my.npz", x=normal(80, 5).numpy())
    Path("mine.py").write_text(MODEL_ONLY)
    return tmp_path


def test_every_verb_takes_runs_of_a_program_without_a_guide(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model alone is fitted; the runs are evaluated, compared and loaded."""
    shorten_pilot(monkeypatch)
    for guide, options in {"amortized": QUICK_MODEL_ONLY, "per-sample": PER_SAMPLE}.items():
        options = [*options, "--guide", guide, "--max-epochs", "2", "--output", guide]
        assert run_without_figures("fit", options) == 0
        table = capsys.readouterr().out.split("\n\n")[1]
        assert ("the posterior of each datum was found in" in table) == (guide == "per-sample")
        vi = load(guide)
        assert vi.guide == guide
        assert vi.transform(np.load("my.npz")["x"].astype("float32")).shape == (80, 2)
    asked = ["--num-samples", "10", "--estimators", "iwae,ais,bdmc", "--num-chains", "2", "--num-temperatures", "3"]
    assert run_without_figures("evaluate", ["per-sample", *asked]) == 0
    assert "written to per-sample: evidence.json" in capsys.readouterr().out
    asked = ["--num-samples", "10", "--num-data", "6", "--proposal", "per-sample", "--proposal-family", "full"]
    assert run_without_figures("evaluate", ["amortized", *asked]) == 0
    assert "iwae, 10 draws, full per-sample" in capsys.readouterr().out
    assert json.loads(Path("amortized/evidence.json").read_text())["settings"]["proposal"] == "per-sample"
    assert run_verb("compare", ["amortized", "per-sample", "--num-samples", "10"]) == 0
    for option, part in {
        "--proposal": "expected one of guide, per-sample, got nonsense",
        "--proposal-family": "expected one of diagonal, full, flow, got nonsense",
    }.items():
        capsys.readouterr()
        assert run_verb("evaluate", ["amortized", option, "nonsense"]) == 2
        assert capsys.readouterr().err == f"error: option {option}: {part}\n"
