"""Test paths to the posterior against integrals, closed forms and plain Pyro."""

from __future__ import annotations

import itertools
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import biject_to

from ppl_vae.errors import InputError
from ppl_vae.program import AnnealingPath, Batch, BoundProgram, Program, Start, annealing_path, seeded, simulate
from tests.helpers import scenarios
from tests.helpers.integrals import (
    PROGRAMS,
    MaskedInside,
    close,
    fitted,
    random_walk,
)
from tests.helpers.scenarios import make_double, normal, switch_evidence

STARTS: tuple[Start, ...] = ("prior", "guide")


def make_program(name: str) -> tuple[Any, BoundProgram, Batch, Tensor]:
    """Return module, program, data and the exact evidence."""
    make, batch, log_evidence, _ = PROGRAMS[name]
    module = make_double(make)
    with torch.no_grad():
        return module, Program(module).bind(batch), batch, log_evidence(module, *batch)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_start_and_target_are_densities_over_unconstrained_space(name: str, start: Start) -> None:
    """The start integrates to one and the target to the evidence, so that both have the Jacobian."""
    _, program, batch, evidence = make_program(name)
    with torch.no_grad(), seeded(11):
        path = annealing_path(program, batch, start)
        u = path.draw(20000)
        assert u.shape == (20000, 3, PROGRAMS[name][3])
        log_start, log_target = path.log_densities(u)
        assert log_start.shape == log_target.shape == (20000, 3)
        log_weight = log_target - log_start
        if (name, start) != ("inner_plate", "guide"):  # whose tails are too light for importance sampling
            assert close(log_weight, evidence, most=0.25)
        assert close(fitted(u, 0.3, 50.0).log_prob(u) - log_start, 0.0)
        proposal = fitted(u, 1.2, 5.0)
        v = proposal.sample((10000,))
        assert close(path.log_densities(v)[0] - proposal.log_prob(v), 0.0)
        posterior = (
            torch.multinomial(log_weight.softmax(0).T, 2000, replacement=True).T[..., None].expand(-1, -1, u.shape[2])
        )
        proposal = fitted(u.gather(0, posterior), 1.5, 5.0)
        v = proposal.sample((10000,))
        assert close(path.log_densities(v)[1] - proposal.log_prob(v), evidence)


def evaluate_plainly(fn: Any, batch: Batch, values: dict[str, Tensor], *, latents_only: bool) -> tuple[Tensor, Tensor]:
    """Return the log density of one datum from plain Pyro, with an explicit sum over a switch, and its log Jacobian."""
    sums, log_det = [], torch.zeros((), dtype=torch.double)
    for c in (0.0, 1.0):
        given = values | ({"c": torch.full_like(values["c"], c)} if "c" in values else {})
        trace = poutine.trace(poutine.condition(fn, data=given)).get_trace(*batch)
        sites = [site for site in trace.nodes.values() if site["type"] == "sample" and site["name"] != "data"]
        latents = [site for site in sites if site["name"] in given]
        sums.append(sum(site["fn"].log_prob(site["value"]).sum() for site in (latents if latents_only else sites)))
        if "c" not in trace.nodes:
            break
    for site in latents:
        support = site["fn"].support
        if isinstance(site["fn"], dist.MixtureSameFamily):
            support = dist.constraints.real_vector
        if not support.is_discrete:
            transform = biject_to(support)
            log_det = log_det + transform.log_abs_det_jacobian(transform.inv(site["value"]), site["value"]).sum()
    return torch.stack(sums).logsumexp(0), log_det


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_points_of_latents_have_the_programs_densities(name: str, start: Start) -> None:
    """The densities are compared with plain Pyro, one datum at a time."""
    _, program, batch, _ = make_program(name)
    with torch.no_grad(), seeded(6):
        path = annealing_path(program, batch, start)
        latents = program.posterior(batch, 2).latents
        u = path.flat(latents)
        log_start, log_target = path.log_densities(u)
        assert u.shape == (2, 3, PROGRAMS[name][3])
        for k, b in itertools.product(range(2), range(3)):
            datum = tuple(tensor[b : b + 1] for tensor in batch)
            values = {name: draws[k, b : b + 1] for name, draws in latents.items()}
            if "level" in values:  # Pyro lays it out with a dimension of one for the inner plate
                values["level"] = values["level"][:, None]
            with program.running():
                log_p, log_det = evaluate_plainly(program.model, datum, values, latents_only=False)
                start_of = program.model if start == "prior" else program.guide
                log_q, _ = evaluate_plainly(start_of, datum, values, latents_only=True)
            torch.testing.assert_close(log_target[k, b], log_p + log_det, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(log_start[k, b], log_q + log_det, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_data_and_draws_do_not_affect_each_other(name: str, start: Start) -> None:
    _, program, batch, _ = make_program(name)
    with torch.no_grad(), seeded(7):
        path = annealing_path(program, batch, start)
        u = path.draw(4)
        log_start, log_target = path.log_densities(u)
        for k, b in ((0, 2), (3, 1)):
            alone = annealing_path(program, tuple(tensor[b : b + 1] for tensor in batch), start)
            assert alone.draw(1).shape == (1, 1, PROGRAMS[name][3])
            assert alone.draw(2).shape == (2, 1, PROGRAMS[name][3])
            one_start, one_target = alone.log_densities(u[k : k + 1, b : b + 1])
            torch.testing.assert_close(one_start, log_start[k : k + 1, b : b + 1], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(one_target, log_target[k : k + 1, b : b + 1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["proportions", "two_latents", "images", "mixture prior", "moving support", "switch"])
def test_gradients_are_finite_differences(name: str) -> None:
    module, program, batch, _ = make_program(name)
    for start in STARTS:
        with seeded(8):
            path = annealing_path(program, batch, start)
            u = path.draw(2)
        assert torch.autograd.gradcheck(path.log_densities, u.requires_grad_())
        assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("start", STARTS)
def test_a_masked_latent_is_a_standard_gaussian(start: Start) -> None:
    """It is one in both densities and in the draws, so that the weights do not depend on it."""
    x, lengths = normal(4, 5), torch.tensor([5, 1, 3, 2])
    with seeded(1):
        module = scenarios.Sequences().double()
    with torch.no_grad(), seeded(9):
        path = annealing_path(Program(module).bind((x, lengths)), (x, lengths), start)
        u = path.draw(20000)
        log_start, log_target = path.log_densities(u)
        hidden = torch.arange(5) >= lengths[:, None]
        elsewhere = torch.where(hidden, 7.0 - u, u)
        change = torch.where(hidden, (u.square() - elsewhere.square()) / 2, 0.0).sum(-1)
        expected = (log_start + change, log_target + change)
        torch.testing.assert_close(path.log_densities(elsewhere), expected, rtol=1e-9, atol=1e-9)
        assert close(fitted(u, 0.3, 50.0).log_prob(u) - log_start, 0.0)
        if start == "prior":
            assert close(log_target - log_start, random_walk(module, x, lengths), most=0.3)
        others = u[..., hidden]
        assert (others.mean(0).abs() < 5 / 20000**0.5).all()
        assert ((others.square().mean(0) - 1).abs() < 5 * (2 / 20000) ** 0.5).all()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("start", STARTS)
def test_a_mask_within_a_distribution_hides_the_jacobian_too(whole: bool, start: Start) -> None:
    """Masked numbers have the gradient of a standard Gaussian, without a term from exp(u)."""
    unmasked = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 1, 1]] if whole else [[1, 0, 1], [0, 0, 0], [0, 1, 1]]).bool()
    program = Program(MaskedInside(whole).double()).bind((normal(3), unmasked))
    path = annealing_path(program, (normal(3), unmasked), start)
    u = path.draw(2).requires_grad_()
    for log_density in path.log_densities(u):
        (gradient,) = torch.autograd.grad(log_density.sum(), u, retain_graph=True)
        torch.testing.assert_close(gradient[:, ~unmasked], -u[:, ~unmasked], rtol=1e-9, atol=1e-9)
        assert ((gradient + u)[:, unmasked].abs() > 1e-6).all()


def test_simulated_latents_are_a_draw_from_the_posterior() -> None:
    """The harmonic mean, E[f0(u) / f1(u)] = 1 / p(x) over the posterior, holds for each x with a narrow f0."""
    module, program, _, _ = make_program("summed switch")
    with torch.no_grad(), seeded(10):
        simulation = simulate(program, (torch.zeros(20000).double(),))
        path = annealing_path(program, simulation.batch, "guide")
        u = path.flat(simulation.latents)
        _, log_target = path.log_densities(u)
        narrow = dist.Normal(simulation.batch[0], 0.3).log_prob(u[0, :, 0])
        evidence = switch_evidence(module, simulation.batch[0])
    assert close(narrow + evidence - log_target[0], 0.0)  # averaged over x ~ p(x) as well


class Poissons(nn.Module):
    """A Gaussian beside a count, which has infinitely many values."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            n = pyro.sample("n", dist.Poisson(z.exp()))
            pyro.sample("x", dist.Normal(n, 1.0), obs=x)


class SwitchedSupport(nn.Module):
    """A latent whose interval depends on a switch that is summed out."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Bernoulli(x.new_tensor(0.4)))
            z = pyro.sample("z", dist.Uniform(c, c + 2.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class OnASphere(nn.Module):
    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.ProjectedNormal(x.new_ones(2)))
            pyro.sample("x", dist.Normal(z[..., 0], 1.0), obs=x)


class UniformMixture(nn.Module):
    """A mixture whose components have different supports."""

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            parts = dist.Uniform(x.new_tensor([0.0, 2.0]), x.new_tensor([1.0, 3.0]))
            z = pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(x.new_ones(2)), parts))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class PlanarGuide(scenarios.PPCA):
    """A normalizing flow that has no inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = dist.transforms.Planar(2)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            base = dist.Normal(x.new_zeros(2), 1.0).expand([len(x), 2]).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))


@pytest.mark.parametrize(
    ("module", "x", "start", "message"),
    [
        (scenarios.Mixture, normal(3, 2), "prior", "Mixture has no continuous latent to anneal"),
        (Poissons, normal(3), "prior", "latent 'n' of Poissons is discrete and cannot be summed out"),
        (SwitchedSupport, normal(3), "prior", "support of the latent 'z' depends on a discrete latent"),
        (OnASphere, normal(3), "prior", "latent 'z' of OnASphere .* support of its ProjectedNormal"),
        (UniformMixture, normal(3), "prior", "latent 'z' of UniformMixture .* support of its MixtureSameFamily"),
        (PlanarGuide, normal(3, 5), "guide", "guide of PlanarGuide has no density but at its own draws"),
        (Poissons, normal(3), "guide", "Poissons has no guide to start from"),
        (scenarios.PPCA, normal(3, 5), "piror", "start 'piror' is unknown; did you mean 'prior'"),
    ],
)
def test_what_cannot_be_annealed_is_reported_in_one_line(
    module: type[nn.Module], x: Tensor, start: Start, message: str
) -> None:
    with seeded(0):
        program = Program(module().double()).bind((x,))

    def anneal() -> None:
        path = annealing_path(program, (x,), start)
        path.log_densities(path.draw(2))

    with pytest.raises(InputError, match=message) as raised:
        anneal()
    assert "\n" not in str(raised.value)


def test_a_guide_that_cannot_be_inverted_does_not_matter_from_the_prior() -> None:
    path: AnnealingPath = annealing_path(Program(PlanarGuide().double()).bind((normal(3, 5),)), (normal(3, 5),))
    assert path.log_densities(path.draw(2))[1].shape == (2, 3)
