"""Test latents that all data share: their posterior against conjugate closed forms, and its effect elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError
from ppl_vae.program import BoundProgram, LatentSpace, Program, SharedDraws, seeded, without_guide
from ppl_vae.program.global_posterior import AtMean, GuidedLatents
from ppl_vae.runs.posterior import import_arviz, write_posterior
from tests.helpers.scenarios import Shared, SharedMean, normal

X = normal(20) + 1.5
VARIANCE = 1.49  # of x given w


def fit(program: Any, guide: Any = "amortized", x: Tensor = X, **options: Any) -> VariationalInference:
    common = {"max_epochs": 250, "batch_size": 20, "learning_rate": 0.05, "num_particles": 16}
    common |= {"validation_fraction": 0, "local_steps": 3, "inference_steps": 60}
    return VariationalInference(program, guide, **(common | options)).fit(x.numpy())


def q_of(vi: VariationalInference) -> tuple[float, float]:
    shared = vi.program_.global_posterior
    return shared.loc["w"].item(), shared.log_scale["w"].exp().item()


def predictive_log_prob(vi: VariationalInference, x: Tensor) -> Tensor:
    loc, scale = q_of(vi)
    return dist.Normal(loc, (scale**2 + VARIANCE) ** 0.5).log_prob(x)


def test_the_fit_reaches_the_exact_posterior() -> None:
    """Without local latents: N(m, v), 1 / v = 1 / 9 + N / 1.49, m = v sum(x) / 1.49."""
    vi = fit(SharedMean(local=False).double())
    variance = 1 / (1 / 9 + 20 / VARIANCE)
    loc, scale = q_of(vi)
    assert loc == pytest.approx(variance * X.sum().item() / VARIANCE, abs=0.1 * variance**0.5)
    assert scale == pytest.approx(variance**0.5, rel=0.1)
    evidence = vi.evidence(X.numpy(), num_samples=2000)
    assert ((evidence.log_evidence - predictive_log_prob(vi, X)).abs() < 5 * evidence.mcse + 1e-4).all()
    assert vi.sample(4000).var() == pytest.approx(VARIANCE + scale**2, rel=5 * (2 / 4000) ** 0.5)
    assert not vi.has_latents


def test_the_posterior_has_draws_of_what_all_data_share(tmp_path: Path) -> None:
    vi = fit(SharedMean(local=False).double(), max_epochs=1)
    draws = vi.posterior(X.numpy(), num_samples=2000)
    w, (loc, scale) = draws.shared["w"], q_of(vi)
    assert w.shape == (2000,)
    assert w.mean() == pytest.approx(loc, abs=5 * scale / 2000**0.5)
    assert w.std() == pytest.approx(scale, rel=5 / 4000**0.5)
    path = tmp_path / "posterior.nc"
    write_posterior(path, draws.latents, draws.observed, draws.data, rows=np.arange(20), shared=draws.shared)
    assert dict(import_arviz().from_netcdf(path).posterior["w"].sizes) == {"chain": 1, "draw": 2000}
    both = VariationalInference(Shared().double(), "per-sample", max_epochs=1, inference_steps=5).fit(
        normal(9, 3).numpy()
    )
    assert both.posterior(normal(9, 3).numpy(), num_samples=5).shared["slope"].shape == (5, 3)


class Scaled(nn.Module):
    """w ~ N(0, prior^2), x ~ N(w, noise^2): the posterior and the evidence are known."""

    def __init__(self, prior: float, noise: float) -> None:
        super().__init__()
        self.prior, self.noise = prior, noise

    def model(self, x: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(x.new_zeros(()), self.prior))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(w, self.noise), obs=x)


def test_a_posterior_starts_as_auto_normal_does_unless_its_prior_is_narrower() -> None:
    """From a tenth of the scale of a wide prior, N(0, 1000), a fit did not come down."""
    for prior, start in ((1000.0, 0.1), (3.0, 0.1), (1.0, 0.1), (0.01, 0.001)):
        vi = fit(Scaled(prior, 1.0).double(), max_epochs=1, learning_rate=1e-9)
        assert q_of(vi) == pytest.approx((0.0, start), abs=1e-6)


@pytest.mark.parametrize(("noise", "level"), [(0.0045, 0.3), (45.0, 8.0)], ids=["narrower", "wider"])
def test_a_posterior_a_hundred_times_narrower_or_wider_than_its_start_is_reached(noise: float, level: float) -> None:
    """Mean, scale and joint evidence are exact, under a prior N(0, 1000); the scale is 0.001 or 10 after 20 data."""
    x = level + noise * (X - X.mean())
    vi = fit(Scaled(1000.0, noise).double(), max_epochs=400, schedule="cosine", num_particles=4, x=x)
    variance = 1 / (1e-6 + 20 / noise**2)
    loc, scale = q_of(vi)
    assert loc == pytest.approx(variance * x.sum().item() / noise**2, abs=0.3 * variance**0.5)
    assert scale == pytest.approx(variance**0.5, rel=0.15)
    covariance = 1e6 * torch.ones(20, 20).double() + noise**2 * torch.eye(20).double()
    exact = dist.MultivariateNormal(torch.zeros(20).double(), covariance).log_prob(x).item() / 20
    row = vi.evaluate(x.numpy(), num_samples=1000).rows["elbo_joint"]
    assert row.log_evidence == pytest.approx(exact, abs=5 * row.mcse + 0.01)


class Encoded(SharedMean):
    """A program whose guide leaves w out."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, 2)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x[..., None]).unbind(-1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()))


@pytest.mark.parametrize("guide", ["amortized", "per-sample", pytest.param("semi-amortized", marks=pytest.mark.slow)])
def test_the_fit_beside_local_latents_reaches_the_best_independent_posterior(guide: str) -> None:
    """The exact mean; with z and w independent, the variance is that of w given all z, 1 / v = 1 / 9 + N."""
    with seeded(0):
        program = (SharedMean if guide == "per-sample" else Encoded)().double()
    vi = fit(program, guide, warm_start=True, max_epochs=120 if guide == "per-sample" else 250)
    exact, best = 1 / (1 / 9 + 20 / VARIANCE), 1 / (1 / 9 + 20)
    loc, scale = q_of(vi)
    assert loc == pytest.approx(exact * X.sum().item() / VARIANCE, abs=0.3 * exact**0.5)
    assert scale == pytest.approx(best**0.5, rel=0.15)
    evidence = vi.evidence(X.numpy(), num_samples=1000)
    assert ((evidence.log_evidence - predictive_log_prob(vi, X)).abs() < 5 * evidence.mcse + 1e-3)[
        ~evidence.doubtful
    ].all()
    mean = loc + (X - loc) / VARIANCE
    np.testing.assert_allclose(vi.transform(X.numpy())[:, 0], mean, atol=0.3)


class Level(nn.Module):
    """x ~ N(z + w, 0.5^2 I), two numbers a datum: w is a scalar beside an event, where several draws do not fit."""

    def __init__(self, event: bool) -> None:
        super().__init__()
        self.scale, self.event = nn.Parameter(torch.tensor(1.0)), event

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        w = pyro.sample("w", dist.Normal(x.new_zeros(()), 3.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), self.scale).to_event(1))
            pyro.sample("x", dist.Normal(z + (w[..., None] if self.event else w), 0.5).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.8 * x, 0.8).to_event(1))


@pytest.mark.parametrize("event", [True, False])
def test_every_draw_has_its_own_global_latent(event: bool) -> None:
    """Otherwise the evidence would be conditional on a single w."""
    x = normal(5, 2)
    vi = VariationalInference(Level(event).double(), max_epochs=1, learning_rate=1e-9, validation_fraction=0).fit(
        x.numpy()
    )
    shared = vi.program_.global_posterior
    with torch.no_grad():
        shared.loc["w"].fill_(0.5)
        shared.log_scale["w"].fill_(-0.5)
    assert vi.program_.structure.draws_by == "plate"
    assert vi.program_.structure.shared_by == ("draws" if event else "runs")
    covariance = torch.exp(torch.tensor(-1.0)) * torch.ones(2, 2).double() + 1.25 * torch.eye(2).double()
    exact = dist.MultivariateNormal(torch.full((2,), 0.5).double(), covariance).log_prob(x)
    evidence = vi.evidence(x.numpy(), num_samples=400)
    assert ((evidence.log_evidence - exact).abs() < 5 * evidence.mcse + 1e-3).all()


def model(x: Tensor) -> None:
    """A model with global latents of every kind of support, one of which the guide samples."""
    scale = pyro.sample("scale", dist.LogNormal(x.new_zeros(()), 0.5))
    shares = pyro.sample("all.shares", dist.Dirichlet(x.new_tensor([2.0, 3.0, 1.0])))
    offset = pyro.sample("offset", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(offset[..., 0], scale))
        pyro.sample("x", dist.Normal(z + shares[..., 1] + offset[..., 1], 0.5), obs=x)


def globals_of(num_data: int) -> BoundProgram:
    return Program(model).bind((X,), num_data=num_data)


def test_the_divergence_is_computed_in_unconstrained_space() -> None:
    """log p(w) - log q(w) of each draw, from the pieces, with torch's own transforms; the model sees the values."""
    program = globals_of(20)
    shared = program.global_posterior
    assert shared.names == ("scale", "all.shares", "offset")
    seen: dict[str, Tensor] = {}
    with torch.no_grad(), seeded(0):
        for parameter in shared.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    with torch.no_grad(), seeded(1):
        points = {name: shared.draw(name, (7, 1), torch.randn) for name in shared.names}
    priors = {
        "scale": dist.LogNormal(torch.tensor(0.0).double(), 0.5),
        "all.shares": dist.Dirichlet(torch.tensor([2.0, 3.0, 1.0]).double()),
        "offset": dist.Normal(torch.zeros(2).double(), 1.0).to_event(1),
    }

    def sample_all() -> None:
        seen.update({name: pyro.sample(name, fn) for name, fn in priors.items()})

    with torch.no_grad(), program.running(seed=1), SharedDraws(shared) as term, pyro.plate("_draws", 7, dim=-2):
        shared.conditioned(sample_all)()
    (s, q_s), (p, q_p), (o, q_o) = points.values()
    assert torch.equal(seen["scale"], s.exp())
    assert torch.equal(seen["offset"], o)
    stick = torch.distributions.StickBreakingTransform()
    torch.testing.assert_close(seen["all.shares"], stick(p))
    expected = dist.Normal(0.0, 0.5).log_prob(s) - q_s
    expected = expected + (dist.Normal(0.0, 1.0).log_prob(o) - q_o).sum(-1) - q_p.sum(-1)
    prior = dist.Dirichlet(torch.tensor([2.0, 3.0, 1.0]).double()).log_prob(stick(p))
    expected = expected + prior + stick.log_abs_det_jacobian(p, stick(p))
    torch.testing.assert_close(term.log_ratio, expected[:, 0])
    torch.testing.assert_close(term.value, expected.mean() / 20)


def test_global_latents_are_hidden_from_the_program() -> None:
    program = globals_of(20)
    assert program.structure.latents == ("z",)
    assert {name for name in program.parameters() if name.startswith("globals")} == {
        f"globals.{part}.{name}" for part in ("loc", "log_scale") for name in ("scale", "all_shares", "offset")
    }
    space = LatentSpace(without_guide(program))
    assert space.size == 1
    with seeded(0):
        draws = space.log_joint((X,), torch.zeros(4, 20, 1).double())
    assert draws.shape == (4, 20)
    assert len(draws[:, 0].unique()) == 4
    with AtMean():
        draws = space.log_joint((X,), torch.zeros(4, 20, 1).double())
        assert len(draws[:, 0].unique()) == 1
    assert len(space.log_joint((X,), torch.zeros(4, 20, 1).double())[:, 0].unique()) == 4


def test_latents_of_the_guide_are_its_own_and_programs_without_global_latents_do_not_change() -> None:
    def local(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    assert Program(local).bind((X,), num_data=20).model is local
    program = Program(SharedMean().model, lambda x: pyro.sample("w", dist.Normal(0.0, 1.0)))
    assert isinstance(program.bind((X,), num_data=20).global_posterior, GuidedLatents)


def test_a_second_fit_counts_its_own_data_and_a_checkpoint_keeps_them(tmp_path: Any) -> None:
    vi = VariationalInference(SharedMean(), max_epochs=1, validation_fraction=0)
    for size in (5, 20):
        vi.fit(X[:size].numpy())
        assert vi.program_.global_posterior.num_data == size
    vi.save_checkpoint(tmp_path / "it.safetensors")
    again = VariationalInference(SharedMean(), max_epochs=1).load_parameters(tmp_path / "it.safetensors")
    assert again.program_.global_posterior.num_data == 20
    assert q_of(again) == q_of(vi)


def test_unsupported_uses_are_reported_in_one_sentence() -> None:
    vi = VariationalInference(SharedMean().double(), max_epochs=1, validation_fraction=0).fit(X.numpy())
    for estimator in ("ais", "bdmc", "exact"):
        with pytest.raises(InputError, match=r"the latent 'w' of SharedMean is shared by all data, and .* by iwae"):
            vi.evaluate(X.numpy(), estimators=[estimator])

    def discrete(x: Tensor) -> None:
        c = pyro.sample("c", dist.Bernoulli(0.5))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(c, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def rotated(x: Tensor) -> None:
        w = pyro.sample("w", dist.ProjectedNormal(torch.ones(2)))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(w[..., 0], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    for guide in ("amortized", "per-sample", "semi-amortized"):
        with pytest.raises(
            InputError, match="the latent 'c' of discrete lies outside the data plate 'data' and is dis"
        ):
            VariationalInference((discrete,), guide).fit(X.numpy())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the latent 'w' lies outside the data plate, and nothing maps unconstrained"):
        VariationalInference((rotated,)).fit(X.numpy())


def test_a_factor_of_a_global_latent_counts_once_whatever_the_number_of_draws() -> None:
    """It was added for each of the draws of a latent that a run has."""

    def with_factor(x: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(x.new_zeros(()), 1.0))
        pyro.factor("prior", -2 * w**2)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    program = Program(with_factor).bind((X,), num_data=20)
    with torch.no_grad(), program.running(seed=1), SharedDraws(program.global_posterior) as shared:
        draws = program.weighted_draws((X,), 5)
    expected = (shared.log_ratio - 2 * shared.values["w"] ** 2) / 20
    torch.testing.assert_close(draws.shared, expected)
