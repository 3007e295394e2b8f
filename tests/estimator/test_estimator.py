"""The estimator: scikit-learn's habits over a program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.base import clone
from torch import Tensor

from ppl_vae import InputError, Program, VariationalInference, load
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vae import VAE
from ppl_vae.program import seeded
from tests.helpers import scenarios
from tests.helpers.own_programs import QUICK
from tests.helpers.runs import run_without_figures
from tests.helpers.scenarios import bits, normal

OPTIONS = {"max_epochs": 3, "batch_size": 16, "num_samples": 20}


class Conditional(VAE):
    """A program that receives labels: p(x | y)."""

    def model(self, x: Tensor, y: Tensor) -> None:  # type: ignore[override]
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            shift = 3.0 * (y[..., None].to(x.dtype) - 0.5)
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z) + shift).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor) -> None:  # type: ignore[override]
        super().guide(x)


def test_recovers_the_posterior_and_the_evidence_of_a_conjugate_program() -> None:
    x = normal(300).numpy() * 1.5**0.5
    module = scenarios.Conjugate().double()
    vi = VariationalInference(
        module, max_epochs=200, batch_size=300, learning_rate=0.03, num_samples=1000, patience=None
    ).fit(x)
    np.testing.assert_allclose(vi.transform(x)[:, 0], 2 * x / 3, atol=0.05)
    exact = module.log_evidence(torch.from_numpy(x)).numpy()
    evidence = vi.evidence(x)
    assert vi.score(x) == pytest.approx(exact.mean(), abs=3 * evidence.mcse.square().sum().sqrt().item() / 300 + 1e-4)
    np.testing.assert_allclose(vi.score_samples(x), exact, atol=0.02)
    np.testing.assert_allclose(vi.reconstruct(x), 2 * x / 3, atol=0.06 + 4 * (1 / 3 / 64) ** 0.5)
    draws = vi.sample(20000)
    assert abs(draws.mean()) < 4 * (1.5 / 20000) ** 0.5
    assert draws.var() == pytest.approx(1.5, abs=4 * 1.5 * (2 / 20000) ** 0.5)
    rows = vi.evaluate(x).rows
    assert rows["iwae"].se == pytest.approx(vi.score_samples(x).std(ddof=1) / 300**0.5)
    assert rows["elbo"].log_evidence <= rows["iwae"].log_evidence
    assert rows["exact"].log_evidence == pytest.approx(exact.mean())


def test_everything_is_repeatable_and_leaves_the_global_state_alone() -> None:
    x = bits(50, 8).numpy()
    numbers = []
    for noise in (1, 2):
        with seeded(0):
            module = VAE(data_dim=8)
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        vi = VariationalInference(module, **OPTIONS).fit(x)
        numbers.append([vi.transform(x), vi.score_samples(x), vi.sample(3), vi.reconstruct(x), vi.score_samples(x)])
        assert torch.equal(torch.get_rng_state(), state)
        assert len(pyro.get_param_store()) == 0
    for first, second in zip(*numbers, strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(numbers[0][1], numbers[0][4])


def test_scikit_learns_habits() -> None:
    vi = VariationalInference(VAE(data_dim=8), **OPTIONS)
    copy = clone(vi).set_params(max_epochs=7)
    assert copy.get_params(deep=False)["max_epochs"] == 7
    assert copy.program is not vi.program
    x = bits(30, 8).numpy()
    before = vi.program.decoder[0].weight.clone()
    copy.fit(x, None)  # as a Pipeline calls it
    assert torch.equal(vi.program.decoder[0].weight, before)
    assert not torch.equal(copy.program.decoder[0].weight, before)
    assert "VariationalInference" in repr(vi)


def test_a_conditional_program_takes_its_conditions() -> None:
    x, y = bits(40, 8).numpy(), np.arange(40) % 2
    vi = VariationalInference(Conditional(data_dim=8), **OPTIONS).fit(x, y, validation=(x, y))
    assert vi.transform({"x": x, "y": y}).shape == (40, 10)
    ones, zeros = (vi.sample(500, y=np.full(500, label)) for label in (1, 0))
    assert ones.mean() > 0.6 > 0.4 > zeros.mean()
    assert vi.sample(5, mean=True, y=1).shape == (5, 8)
    with pytest.raises(InputError, match="needs an array 'y'"):
        vi.fit(x)
    with pytest.raises(InputError, match="3 arrays given, the model takes 2: x, y"):
        vi.fit(x, y, y)


def test_programs_of_every_shape_are_used_alike() -> None:
    images = normal(12, 1, 4, 4).numpy()
    vi = VariationalInference(scenarios.Images().double(), **OPTIONS).fit(images)
    assert vi.reconstruct(images).shape == (12, 1, 4, 4)
    assert vi.sample(3).shape == (3, 1, 4, 4)
    x = normal(12, 4).abs().numpy()
    vi = VariationalInference(scenarios.TwoLatents().double(), **OPTIONS).fit(x)
    assert vi.transform(x).shape == (12, 4)
    lengths = np.arange(12) % 5 + 1
    vi = VariationalInference(scenarios.Sequences().double(), **OPTIONS).fit(normal(12, 5).numpy(), lengths)
    assert set(vi.reconstruct(normal(12, 5).numpy(), lengths)) == {f"x_{t}" for t in range(5)}
    posterior = vi.posterior(normal(12, 5).numpy(), lengths, num_samples=6)
    assert posterior.latents["z_3"].shape == (6, 12)
    assert posterior.data["x_3"].shape == (12,)


def test_functions_are_a_program_too() -> None:
    module = scenarios.Conjugate().double()
    x = normal(30).numpy()
    for program in ((module.model, module.guide), Program(module.model, module.guide)):
        assert VariationalInference(program, **OPTIONS).fit(x).transform(x).shape == (30, 1)


def test_evaluation_in_parts_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the data and the draws are cut, the estimates agree within their errors."""
    x = normal(40, 6).numpy()
    with seeded(0):
        vi = VariationalInference(FactorAnalysis(6, 2).double(), max_epochs=30, num_samples=3000).fit(x)
    whole = vi.evidence(x)
    monkeypatch.setattr("ppl_vae.evaluation.passes.ROWS_PER_PASS", 7)
    monkeypatch.setattr("ppl_vae.evaluation.passes.NUMBERS_PER_PASS", 40_000)
    parts = vi.evidence(x)
    error = (whole.mcse**2 + parts.mcse**2).sqrt()
    assert ((whole.log_evidence - parts.log_evidence).abs() < 4 * error).all()
    assert not torch.equal(whole.log_evidence, parts.log_evidence)


def test_save_and_load_with_a_program_of_ones_own(tmp_path: Path) -> None:
    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, scale), obs=x)

    def guide(x: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.3))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(slope * x, 0.7))

    x = normal(60).numpy()
    vi = VariationalInference((model, guide), max_epochs=20, num_samples=50).fit(x)
    vi.save_checkpoint(tmp_path / "checkpoint.safetensors")
    other = VariationalInference((model, guide), num_samples=50).load_parameters(tmp_path / "checkpoint.safetensors")
    assert other.evaluate(x).score() == vi.evaluate(x).score()
    assert (
        VariationalInference((model, guide), max_epochs=1, num_samples=50).fit(x).evaluate(x).score()
        != vi.evaluate(x).score()
    )


def test_whole_numbers_are_data_too_whatever_the_argument_is_called() -> None:
    def model(images: Tensor) -> None:
        with pyro.plate("data", len(images)):
            z = pyro.sample("z", dist.Normal(images.new_zeros(()), 1.0))
            pyro.sample("x", dist.Bernoulli(logits=z[..., None].expand(*z.shape, 4)).to_event(1), obs=images)

    def guide(images: Tensor) -> None:
        slope = pyro.param("slope", torch.tensor(0.5))
        with pyro.plate("data", len(images)):
            pyro.sample("z", dist.Normal(slope * images.mean(-1), 1.0))

    x = bits(30, 4).numpy().astype(int)
    assert VariationalInference((model, guide), **OPTIONS).fit(x).transform(x).shape == (30, 1)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda vi: vi.sample(2.5), "num_data is 2.5"),
        (lambda vi: vi.sample(0), "num_data is 0"),
        (lambda vi: vi.sample(4, label=1), "no condition 'label'"),
        (lambda vi: vi.sample(4, y="a"), "the condition 'y' is 'a': expected finite numbers"),
        (lambda vi: vi.sample(4, y=None), "the condition 'y' is None"),
        (lambda vi: vi.sample(4, y=1.5), "the condition 'y' is 1.5: expected whole numbers"),
        (lambda vi: vi.sample(4, y=np.ones(3)), r"'y' has shape \(3,\): expected \(4,\)"),
        (lambda vi: vi.evidence(bits(4, 8).numpy(), np.ones(4), num_samples=0), "num_samples is 0"),
        (lambda vi: vi.transform(bits(4, 7).numpy(), np.ones(4)), r"a datum of 'x' has shape \(7,\): expected \(8,\)"),
    ],
)
def test_bad_use_of_a_fitted_object(call: Callable[[VariationalInference], object], match: str) -> None:
    x, y = bits(20, 8).numpy(), np.arange(20) % 2
    vi = VariationalInference(Conditional(data_dim=8), **OPTIONS).fit(x, y)
    with pytest.raises(InputError, match=match):
        call(vi)


def test_load_leaves_the_random_state_alone(tmp_path: Path) -> None:
    with seeded(0):
        assert run_without_figures("fit", [*QUICK, "--output", str(tmp_path / "run")]) == 0
    state = torch.get_rng_state()
    load(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"guide": "amortised"}, "guide='amortised' is unknown"),
        ({"batch_size": 0}, "batch_size is 0: expected a whole number, 1 or more"),
        ({"max_epochs": -1}, "max_epochs is -1"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan: expected a positive number"),
        ({"patience": 0}, "patience is 0"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
        ({"accelerator": "tpu"}, "accelerator='tpu' is unknown"),
    ],
)
def test_bad_options(options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        VariationalInference(VAE(data_dim=8), **options).fit(bits(20, 8).numpy())


def test_bad_data() -> None:
    vi, x = VariationalInference(VAE(data_dim=8), **OPTIONS), bits(20, 8).numpy()
    for bad, match in {
        "infinite": "inf in row 3",
        "grey": r"observes 0.5 \(row \d+\) under a Bernoulli",
        "wide": r"observes data of shape \(7, 9\) under a distribution of shape \(7, 8\)",
    }.items():
        y = np.concatenate([x, x[:, :1]], 1) if bad == "wide" else x.copy()
        if bad != "wide":
            y[3, 2] = {"infinite": np.inf, "grey": 0.5}[bad]
        with pytest.raises(InputError, match=match):
            vi.fit(y)


def test_load_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        load(tmp_path)
