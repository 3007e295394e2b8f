"""Test the latents of a datum as one vector: densities, and the places of prior and guide."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.distributions import biject_to

from ppl_vae.errors import InputError
from ppl_vae.program import Batch, LatentSpace, Program, seeded
from ppl_vae.program.handlers import Unconstrained
from ppl_vae.program.traces import sample_sites
from tests.helpers import scenarios
from tests.helpers.integrals import (
    CASES,
    MORE,
    close,
    fitted,
    gaussian,
    make_space,
)
from tests.helpers.scenarios import normal


def points(space: LatentSpace, num_samples: int, num_data: int = 3) -> Tensor:
    return 1.5 * normal(num_samples, num_data, space.size, seed=2)


class At(Messenger):
    """A handler that reads the latents of one datum from its vector with torch's maps, and sums the log densities."""

    def __init__(self, u: Tensor, c: float) -> None:
        super().__init__()
        self.left, self.c, self.total = u, c, torch.zeros((), dtype=torch.double)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["name"] in ("data", "items", "values"):
            return
        if msg["fn"].support.is_discrete:
            msg["value"] = torch.full(msg["fn"].shape(), self.c, dtype=torch.double)
            return
        fn, mask = msg["fn"], msg["mask"]
        support = dist.constraints.real_vector if isinstance(fn, dist.MixtureSameFamily) else fn.support
        transform = biject_to(support)
        shape = transform.inverse_shape(fn.shape())
        point, self.left = self.left[: shape.numel()].reshape(shape), self.left[shape.numel() :]
        msg["value"] = transform(point)
        hidden = torch.zeros(shape, dtype=torch.bool) if mask is None else (~mask).expand(shape)
        if isinstance(fn.base_dist if isinstance(fn, dist.Independent) else fn, dist.MaskedDistribution):
            hidden = ~fn.base_dist._mask
            log_det = torch.where(hidden, 0.0, point)  # of a LogNormal
        else:
            log_det = transform.log_abs_det_jacobian(point, msg["value"])
            log_det = log_det * (1.0 if mask is None else mask)
        gaussian = -0.5 * point.square() - 0.5 * math.log(2 * math.pi)
        self.total = self.total + log_det.sum() + (gaussian * hidden).sum()


def evaluate_plainly(module: Any, datum: Batch, u: Tensor) -> Tensor:
    """Return log p(x, u) of one datum and point from plain Pyro: masks count, scales do not, switches are summed."""
    sums = []
    for c in (0.0, 1.0):
        with pyro.get_param_store().scope(), At(u, c) as unmasked:
            trace = poutine.trace(module.model).get_trace(*datum)
        total = unmasked.total
        for _, site in sample_sites(trace).items():
            mask = torch.ones(()) if site["mask"] is None else site["mask"]
            total = total + (site["fn"].log_prob(site["value"]) * mask).sum()
        sums.append(total)
        if "c" not in trace.nodes:
            break
    assert not unmasked.left.numel()
    return torch.stack(sums).logsumexp(0)


@pytest.mark.parametrize("name", CASES)
def test_log_joint_equals_plain_pyro(name: str) -> None:
    """The densities are compared for each datum by itself, with one draw and with several."""
    module, space, batch, _ = make_space(name)
    u = points(space, 3)
    assert space.size == CASES[name][3]
    with torch.no_grad():
        actual = space.log_joint(batch, u)
        assert actual.shape == (3, 3)
        for b in range(3):
            datum = tuple(tensor[b : b + 1] for tensor in batch)
            for k in range(3):
                expected = evaluate_plainly(module, datum, u[k, b])
                torch.testing.assert_close(actual[k, b], expected, rtol=1e-9, atol=1e-9)
            alone = space.log_joint(datum, u[:, b : b + 1])
            torch.testing.assert_close(alone, actual[:, b : b + 1], rtol=1e-9, atol=1e-9)
        for k in range(3):
            torch.testing.assert_close(space.log_joint(batch, u[k : k + 1])[0], actual[k], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MORE)
def test_the_integral_is_the_evidence(name: str) -> None:
    """Programs without a test of annealing are integrated over a Student-t with the moments of the posterior."""
    _, space, batch, evidence = make_space(name)
    with torch.no_grad(), seeded(5):
        loc, scale = space.start(batch)
        wide = dist.StudentT(5.0, loc, 1.5 * scale).to_event(1)
        u = wide.sample((10000,))
        log_weight = space.log_joint(batch, u) - wide.log_prob(u)
        posterior = torch.multinomial(log_weight.softmax(0).T, 3000, replacement=True).T[..., None]
        proposal = fitted(u.gather(0, posterior.expand(-1, -1, space.size)), 1.5, 5.0)
        v = proposal.sample((10000,))
        assert close(space.log_joint(batch, v) - proposal.log_prob(v), evidence)


@pytest.mark.parametrize("name", ["proportions", "two_latents", "switch", "ragged sequences", "masked rates"])
def test_gradients_are_finite_differences(name: str) -> None:
    _, space, batch, _ = make_space(name)
    assert torch.autograd.gradcheck(lambda u: space.log_joint(batch, u), points(space, 2).requires_grad_())


def test_log_joint_is_differentiable_in_theta() -> None:
    module, space, batch, _ = make_space("ppca")
    space.log_joint(batch, points(space, 2)).sum().backward()
    z, loading = points(space, 2), module.loading.detach()
    residual = (batch[0] - z @ loading.T) / module.noise**2
    torch.testing.assert_close(module.loading.grad, torch.einsum("kbi,kbj->ij", residual, z))


@pytest.mark.parametrize("name", CASES)
def test_flat_inverts_the_map_from_points_to_latents(name: str) -> None:
    """Masked numbers are not inverted but drawn."""
    module, space, batch, _ = make_space(name)
    for num_samples in (1, 3):
        u, structure = points(space, num_samples), space.program.structure
        with torch.no_grad(), space.program.running(), Unconstrained(space.laid_out(batch, u)):
            sites = sample_sites(space.program.run(module.model, batch, num_samples))
        latents = {name: structure.value(sites[name], num_samples) for name in space.names}
        actual = space.flat(batch, latents)
        assert actual.shape == u.shape
        unmasked = torch.ones(3, space.size, dtype=torch.bool)
        if name in ("ragged sequences", "masked rates"):
            unmasked = torch.arange(space.size) < batch[1][:, None]
        if name == "masked inside":
            unmasked = batch[1]
        torch.testing.assert_close(actual[:, unmasked], u[:, unmasked])
        assert (actual[:, ~unmasked] != u[:, ~unmasked]).all()


def test_masked_numbers_are_drawn_from_a_standard_gaussian() -> None:
    _, space, _, _ = make_space("masked rates")
    batch = (torch.ones(1, 3).double(), torch.tensor([1]))
    with seeded(3):
        u = space.points(batch, {}, 20000)[:, 0]
    assert (u[:, 1:].mean(0).abs() < 5 / 20000**0.5).all()
    assert ((u[:, 1:].square().mean(0) - 1).abs() < 5 * (2 / 20000) ** 0.5).all()
    assert abs(u[:, 0].exp().mean() - 4.0) < 5 * (8 / 20000) ** 0.5


class Priors(nn.Module):
    """Latents of many kinds, one of them on an interval that another one moves."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(0.7))

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            normal = pyro.sample("normal", dist.Normal(x[:, None] + self.loc.expand(2), 0.3).to_event(1))
            pyro.sample("log_normal", dist.LogNormal(normal.sum(-1), 0.4))
            pyro.sample("gamma", dist.Gamma(x.new_tensor([2.0, 3.0]), 0.5).to_event(1))
            pyro.sample("beta", dist.Beta(x.new_tensor(2.0), 5.0))
            pyro.sample("dirichlet", dist.Dirichlet(x.new_tensor([1.5, 2.0, 3.0])))
            pyro.sample("uniform", dist.Uniform(normal[:, 0], normal[:, 0] + 3.0))
            pyro.sample("half_cauchy", dist.HalfCauchy(x.new_ones(())))
            covariance = x.new_tensor([[2.0, 0.5], [0.5, 1.0]])
            pyro.sample("vector", dist.MultivariateNormal(x.new_tensor([1.0, 2.0]), covariance))
            pyro.sample("x", dist.Normal(normal.sum(-1), 1.0), obs=x)


def test_the_start_has_the_moments_of_the_prior() -> None:
    x = normal(3)
    program = Program(Priors().double()).bind((x,))
    space = LatentSpace(program)
    loc, scale = space.start((x,))
    shares = torch.tensor([1.5, 2.0, 3.0]).double() / 6.5
    simplex = biject_to(dist.constraints.simplex).inv(shares)
    expected = {
        "normal": ([x + 0.7, x + 0.7], [0.3, 0.3]),
        "log_normal": ([2 * x + 1.4], [0.4]),
        "gamma": ([math.log(4.0), math.log(6.0)], [2**-0.5, 3**-0.5]),
        "beta": ([math.log(2 / 5)], [(10 / 49 / 8) ** 0.5 / (10 / 49)]),
        "dirichlet": (simplex.tolist(), [1.0, 1.0]),
        "uniform": ([0.0], [4 / 12**0.5]),
        "half_cauchy": ([0.0], [1.0]),
        "vector": ([1.0, 2.0], [2**0.5, 1.0]),
    }
    assert space.names == tuple(expected)
    columns = [torch.as_tensor(v).expand(3) for part in expected.values() for v in part[0]]
    torch.testing.assert_close(loc, torch.stack(columns, -1).double(), rtol=1e-6, atol=1e-6)
    scales = torch.tensor([v for part in expected.values() for v in part[1]]).double()
    torch.testing.assert_close(scale, scales.expand(3, -1), rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(loc.sum(), program.module.loc)
    assert gradient == 3 * (2 + 2)


def test_nothing_is_random_in_the_start() -> None:
    with seeded(0):
        before = torch.get_rng_state()
        _, space, batch, _ = make_space("proportions")
        space.start(batch)
        assert torch.equal(torch.get_rng_state(), before)


def test_the_start_of_a_guide_has_its_mean_and_scale() -> None:
    _, space, batch, _ = make_space("two_latents")
    program = Program(space.program.module).bind(batch)
    loc, scale = space.start(batch, program.guide)
    with program.running():  # its module tells Pyro's parameter store when it is called
        out = program.module.encoder(batch[0])
    torch.testing.assert_close(loc, torch.cat([out[:, :3], out[:, 6:7] + out[:, :3].mean(-1, keepdim=True)], -1))
    torch.testing.assert_close(scale, torch.cat([out[:, 3:6], out[:, 7:]], -1).exp())
    gradients = torch.autograd.grad(loc.sum() + scale.sum(), program.module.encoder.weight)
    assert (gradients[0].abs().sum(-1) > 0).all()


def test_the_start_of_a_constrained_guide_follows_its_parameters() -> None:
    """Gamma(a, b) has its mean at log(a / b) and, by the delta method, a width of 1 / sqrt(a)."""
    module, space, (x, n), _ = make_space("proportions")
    loc, scale = space.start((x, n), module.guide)
    torch.testing.assert_close(loc[:, -1], ((2 + n) / 1.5).log())
    torch.testing.assert_close(scale[:, -1], (module.widen / (2 + n)).sqrt())
    torch.testing.assert_close(biject_to(dist.constraints.simplex)(loc[:, :2]), (module.prior + x) / (6.5 + 8))
    (gradient,) = torch.autograd.grad(scale[:, -1].sum(), module.widen)
    torch.testing.assert_close(gradient, (0.5 / (module.widen * (2 + n)).sqrt()).sum())


def test_a_switch_that_is_summed_out_widens_the_start() -> None:
    """Both values of the switch have the same weight."""
    module, space, batch, _ = make_space("summed switch")
    loc, scale = space.start(batch)
    torch.testing.assert_close(loc, module.means.mean().expand(3, 1))
    torch.testing.assert_close(scale, (1 + module.means.var(correction=0)).sqrt().expand(3, 1))


class NotThere(nn.Module):
    """A latent that only some batches have."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            if x.sum() > 0:
                z = z + pyro.sample("more", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0))


def test_a_latent_that_is_not_in_every_batch_is_reported() -> None:
    unmasked, space = torch.ones(3), LatentSpace(Program(NotThere()).bind((torch.ones(3),), guided=False))
    assert space.log_joint((unmasked,), torch.zeros(2, 3, 2)).shape == (2, 3)
    with pytest.raises(InputError, match="'more' of NotThere is in some batches and not in others: loop over a fixed"):
        space.log_joint((-unmasked,), torch.zeros(2, 3, 2))
    with pytest.raises(InputError, match="the guide of NotThere does not sample 'more': sample it there too"):
        space.start((unmasked,), NotThere().guide)


def test_without_a_continuous_latent_there_is_no_space() -> None:
    program = Program(scenarios.Mixture().double()).bind((normal(3, 2),))
    with pytest.raises(
        InputError, match="Mixture has no continuous latent: sample it in a guide, and fit with --guide"
    ):
        LatentSpace(program)


def test_images_are_repeated_instead_of_drawn_under_a_plate() -> None:
    actual = {name: make_space(name)[1].program.structure.draws_by for name in CASES}
    assert {name for name, draws_by in actual.items() if draws_by == "repeat"} == {"images", "softmax"}


def test_the_log_joint_of_a_linear_gaussian_program_is_quadratic() -> None:
    """log p(x, u) of a linear Gaussian program is quadratic, with the posterior's precision as its Hessian."""
    module, space, (x,), evidence = make_space("ppca")
    with torch.no_grad():
        precision = torch.eye(2).double() + module.loading.T @ module.loading / module.noise**2
        mean = x @ module.loading @ torch.linalg.inv(precision) / module.noise**2
        u = mean + points(space, 4)
        actual = space.log_joint((x,), u) - evidence
        torch.testing.assert_close(actual, gaussian(u - mean, torch.linalg.inv(precision)))
