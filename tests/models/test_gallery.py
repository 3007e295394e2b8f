"""Laws that hold for every program of the gallery; a new one adds a line to ``GALLERY``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyro
import pytest
import torch
from gallery import GALLERY
from laws import How, assert_equals_pyro
from sklearn.decomposition import FactorAnalysis as SklearnFactorAnalysis
from torch import nn

from ppl_vae import VariationalInference
from ppl_vae.evidence import iwae, weigh
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vae import VAE
from ppl_vae.program import Batch, Program, check, seeded
from ppl_vae.runs import known_models, program_class


@pytest.fixture(params=GALLERY)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, Batch]]:
    make, batch = GALLERY[request.param]
    with seeded(0):
        module = make().double()
    yield module, batch
    assert len(pyro.get_param_store()) == 0


def test_every_model_is_here() -> None:
    assert sorted(GALLERY) == known_models()


@pytest.mark.parametrize("name", known_models())
def test_is_short_and_found_by_its_name(name: str) -> None:
    cls = program_class(name)
    assert cls.__module__ == f"ppl_vae.models.{name}"
    assert ".. math::" in cls.__doc__
    assert "Source:" in cls.__doc__


@pytest.mark.parametrize(
    ("dtype", "how"),
    [
        (torch.float64, "eager"),
        (torch.float64, "traced"),
        (torch.float32, "eager"),
        (torch.float32, "compiled"),
        pytest.param(torch.float64, "compiled", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", GALLERY)
def test_value_and_gradients_are_trace_elbos(name: str, dtype: torch.dtype, how: How) -> None:
    make, batch = GALLERY[name]
    assert_equals_pyro(make, batch, dtype, [how])


def test_runs_under_plain_pyro_svi(case: tuple[nn.Module, Batch]) -> None:
    module, batch = case
    pyro.clear_param_store()
    with seeded(0):
        svi = pyro.infer.SVI(module.model, module.guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
        losses = [svi.step(*batch) for _ in range(200)]
    pyro.clear_param_store()
    assert np.mean(losses[-20:]) < np.mean(losses[:20])


def test_passes_the_check_in_both_precisions(case: tuple[nn.Module, Batch]) -> None:
    module, batch = case
    check(Program(module), batch)
    check(Program(module.float()), tuple(t.float() if t.is_floating_point() else t for t in batch))


def test_log_weights_do_not_depend_on_the_rest_of_the_batch(case: tuple[nn.Module, Batch]) -> None:
    module, batch = case
    program = Program(module.eval())
    with torch.no_grad(), seeded(0):
        single = tuple(t[:1] for t in batch)
        alone = program.log_weights(single, 20000)[:, 0]
    with torch.no_grad(), seeded(1):
        together = program.log_weights(batch, 20000)[:, 0]
    error = ((alone.var() + together.var()) / 20000).sqrt()
    assert abs(alone.mean() - together.mean()) < 4 * error
    assert program.log_weights(batch, 3).shape == (3, 21)  # a ragged size, whatever the structure was found on


def test_the_elbo_rises_and_a_saved_fit_gives_the_same_numbers(
    case: tuple[nn.Module, Batch], tmp_path_factory: pytest.TempPathFactory
) -> None:
    module, batch = case
    arrays = {name: t.numpy() for name, t in zip(Program(module).argument_names(), batch, strict=True)}
    options = {"batch_size": 8, "learning_rate": 0.02, "num_samples": 50, "validation_fraction": 0}
    vi = VariationalInference(module, max_epochs=40, **options)
    vi.prepare(arrays)
    epochs = list(vi.epochs())
    assert np.mean([e.elbo_train for e in epochs[-5:]]) > np.mean([e.elbo_train for e in epochs[:5]])
    path = tmp_path_factory.mktemp("run") / "checkpoint.safetensors"
    vi.save(path)
    with seeded(99):
        other = type(module)(**_arguments(module)).double()
    loaded = VariationalInference(other, **options).load_parameters(path)
    assert loaded.evaluate(arrays).score() == vi.evaluate(arrays).score()


def _arguments(module: nn.Module) -> dict[str, object]:
    sizes = {"data_dim": 6, "latent_dim": 2}
    return sizes | ({"hidden": (8, 7)} if isinstance(module, VAE) else {})


def test_prior_draws_have_the_observations_shape_and_support(case: tuple[nn.Module, Batch]) -> None:
    module, batch = case
    draws = Program(module).prior(batch)
    assert draws.observed["x"].shape[1:] == batch[0].flatten(1).shape
    if isinstance(module, VAE):
        assert set(draws.observed["x"].unique().tolist()) <= {0.0, 1.0}


class TestFactorAnalysis:
    @pytest.fixture
    def fitted(self) -> tuple[FactorAnalysis, np.ndarray, np.ndarray]:
        """A program with the parameters that scikit-learn fits, and scikit-learn's log evidence."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 12)) + rng.normal(size=(200, 12)) * rng.uniform(0.3, 1, 12)
        sklearn = SklearnFactorAnalysis(n_components=3, tol=1e-8).fit(x)
        program = FactorAnalysis(data_dim=12, latent_dim=3, min_noise=0.0).double()
        loading = torch.from_numpy(sklearn.components_.T.copy())
        noise = torch.from_numpy(sklearn.noise_variance_)
        precision = torch.eye(3, dtype=torch.double) + loading.T @ (loading / noise[:, None])
        gain = torch.linalg.solve(precision, loading.T / noise)
        mean = torch.from_numpy(sklearn.mean_)
        with torch.no_grad():
            program.decoder.linear.weight.copy_(loading)
            program.decoder.linear.bias.copy_(mean)
            program.decoder.raw_scale.copy_((noise.sqrt().exp() - 1).log())  # the inverse of softplus
            # The exact posterior mean; the scale is a little wide, which importance weights forgive.
            linear = program.encoder.net[0]
            linear.weight.zero_()
            linear.weight[:3] = gain
            linear.bias[:3] = -gain @ mean
            linear.bias[3:] = 1.1 * torch.linalg.inv(precision).diagonal().sqrt().expm1().log()
        return program, x, sklearn.score_samples(x)

    def test_closed_form_equals_scikit_learn(self, fitted: tuple[FactorAnalysis, np.ndarray, np.ndarray]) -> None:
        program, x, expected = fitted
        with torch.no_grad():
            evidence = program.log_evidence(torch.from_numpy(x))
        np.testing.assert_allclose(evidence.numpy(), expected, atol=1e-6, rtol=0)

    def test_importance_sampling_agrees(self, fitted: tuple[FactorAnalysis, np.ndarray, np.ndarray]) -> None:
        program, x, expected = fitted
        run, batch = Program(program), (torch.from_numpy(x),)
        with seeded(0):
            estimate = iwae(weigh(lambda k: run.log_weights(batch, k), 5000, 500))
        error = estimate.log_evidence.numpy() - expected
        standardised = np.abs(error) / estimate.mcse.numpy()
        assert (standardised < 3).mean() >= 0.98  # 0.9973 is expected of 200 data
        mean_error = np.sqrt((estimate.mcse.numpy() ** 2).sum()) / 200
        assert abs(error.mean()) < 3 * mean_error
        assert abs(error.mean()) < 0.02
        assert estimate.mcse.max() < 0.05
