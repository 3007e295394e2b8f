"""Test guides that are derived from a model: densities, draws, and all that can be done to a guide."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

from ppl_vae.errors import InputError, InputWarning
from ppl_vae.evaluation.diagnose import look_at_latents, summarise_latents
from ppl_vae.inference.families import Family, FamilyName, make_family
from ppl_vae.program import (
    Batch,
    BoundProgram,
    LatentSpace,
    Program,
    annealing_path,
    check,
    elbo_terms,
    posterior_moments,
    seeded,
    widened,
    with_encoder,
    with_lambda,
    without_guide,
)
from ppl_vae.program.traces import sample_sites
from tests.helpers import scenarios
from tests.helpers.batches import as_batches
from tests.helpers.integrals import CASES, close, make_space
from tests.helpers.scenarios import normal

FAMILIES: tuple[FamilyName, ...] = ("diagonal", "full", "flow")
REPEATED = ("images", "softmax")
FLOWS = ("proportions", "switch", "two_latents")
"""Models whose guide is also a flow by default. Other flows differ from full Gaussians in their transform alone."""


def by_kind(names: Iterable[str]) -> list[Any]:
    """Return models with families."""
    pairs = [(name, kind) for name in names for kind in FAMILIES]
    slow = [kind == "flow" and name not in FLOWS for name, kind in pairs]
    return [pytest.param(*pair, marks=pytest.mark.slow if late else ()) for pair, late in zip(pairs, slow, strict=True)]


def derive_near_prior(name: str, kind: FamilyName) -> tuple[LatentSpace, Family, BoundProgram, Batch]:
    """Return the space of a model, a family, the program with lambda near the prior, and its batch."""
    _, space, batch, _ = make_space(name)
    family = make_family(kind, space.size)
    with torch.no_grad():
        lam = family.start(*space.start(batch))
        lam = lam + 0.2 * normal(*lam.shape, seed=3)
    return space, family, with_lambda(space, family.distribution, lam), (*batch, lam)


def derive_near_posterior(name: str, kind: FamilyName) -> tuple[LatentSpace, Family, BoundProgram, Batch, Tensor]:
    """Return the same with lambda a little wider than the posterior, and the exact evidence."""
    _, space, batch, evidence = make_space(name)
    family = make_family(kind, space.size)
    with torch.no_grad(), seeded(4):
        loc, scale = space.start(batch)
        wide = dist.StudentT(5.0, loc, 1.5 * scale).to_event(1)
        u = wide.sample((10000,))
        weight = (space.log_joint(batch, u) - wide.log_prob(u)).softmax(0)[..., None]
        mean = (weight * u).sum(0)
        lam = family.start(mean, 1.3 * (weight * (u - mean).square()).sum(0).sqrt())
        if kind != "diagonal":
            lam[:, 2 * space.size :] += 0.1 * normal(*lam.shape, seed=5)[:, 2 * space.size :]
    return space, family, with_lambda(space, family.distribution, lam), (*batch, lam), evidence


class Encoder(nn.Module):
    """A linear map from the first array of a batch to lambda."""

    def __init__(self, size: int, family: Family) -> None:
        super().__init__()
        self.linear = nn.Linear(size, family.width)

    def forward(self, *batch: Tensor) -> Tensor:
        return 0.3 * self.linear(batch[0].double().reshape(len(batch[0]), -1))


def derive_with_encoder(name: str, kind: FamilyName) -> tuple[LatentSpace, Family, BoundProgram, Batch]:
    _, space, batch, _ = make_space(name)
    family = make_family(kind, space.size)
    with seeded(6):
        encoder = Encoder(batch[0][0].numel(), family).double()
    return space, family, with_encoder(space, family.distribution, encoder), batch


@pytest.mark.parametrize(("name", "kind"), by_kind(CASES))
def test_weights_equal_the_weights_of_the_points(name: str, kind: FamilyName) -> None:
    """log p(x, z) - log q(z) at the draws is log p(x, u) - log q(u): Jacobians and masks cancel."""
    space, family, program, everything = derive_near_prior(name, kind)
    for num_samples, num_data in ((1, 3), (3, 3), (2, 1)):
        batch = tuple(tensor[:num_data] for tensor in everything)
        with torch.no_grad(), program.running(), seeded(0):
            structure = program.structure
            guide = program.traces(batch, num_samples).guide
            sites = sample_sites(guide)
            latents = {n: structure.value(sites[n], num_samples) for n in space.names}
            u = space.flat(batch[:-1], latents)
            if "_u" in sites:  # what is masked cannot be told from the latents
                u = structure.value(sites["_u"], num_samples).reshape(num_samples, num_data, -1)
        with torch.no_grad(), seeded(0):
            actual = program.log_weights(batch, num_samples)
            expected = space.log_joint(batch[:-1], u) - family.distribution(batch[-1]).log_prob(u)
        assert actual.shape == (num_samples, num_data)
        torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-7)  # a spline's inverse loses digits
        assert set(sites) - {"_u"} == set(space.names)
        assert structure.draws_by == ("repeat" if name in REPEATED else "plate")


@pytest.mark.parametrize("name", ["ppca", "two_latents", "proportions"])
def test_a_diagonal_guide_has_the_sites_of_a_guide_written_by_hand(name: str) -> None:
    """It has a distribution for each latent, and no other site."""
    _, _, program, batch = derive_near_prior(name, "diagonal")
    with program.running():
        sites = sample_sites(program.traces(batch, 1)[0])
    loc, log_scale = batch[-1].chunk(2, -1)
    if name == "ppca":
        base = sites["z"]["fn"].base_dist
        assert isinstance(base, dist.Normal)
        assert torch.equal(base.loc, loc)
        assert torch.equal(base.scale, log_scale.exp())
    if name == "two_latents":
        s, expected = torch.tensor([0.3, 1.0, 4.0]).double(), dist.LogNormal(loc[:, 3], log_scale[:, 3].exp())
        torch.testing.assert_close(sites["s"]["fn"].log_prob(s), expected.log_prob(s))
    assert all(torch.isfinite(site["fn"].log_prob(site["value"])).all() for site in sites.values())
    assert "_u" not in sites


@pytest.mark.parametrize(
    ("name", "kind"),
    by_kind(["proportions", "two_latents", "masked rates", "ragged sequences", "images", "switch", "moving support"]),
)
def test_weights_average_to_the_evidence(name: str, kind: FamilyName) -> None:
    _, _, program, batch, evidence = derive_near_posterior(name, kind)
    with torch.no_grad(), seeded(7):
        assert close(program.log_weights(batch, 5000), evidence, most=0.1)


@pytest.mark.parametrize(("name", "kind"), by_kind(CASES))
def test_the_check_passes(name: str, kind: FamilyName) -> None:
    """The user's own guide is left out, so that an untrained encoder is no fault."""
    _, _, program, batch = derive_near_prior(name, kind)
    check(program, batch)
    _, _, program, batch = derive_with_encoder(name, kind)
    check(program, batch)
    trained = program.parameters()
    assert {"encoder.linear.weight", "encoder.linear.bias"} <= trained.keys()


class OwnDecoder(nn.Module):
    """A program whose faults do not depend on its guide."""

    def __init__(self, where: str, registered: bool = True) -> None:
        super().__init__()
        self.where, self.decoder, self.encoder = where, nn.Linear(2, 3), nn.Linear(3, 2)
        self.idle = nn.Linear(2, 2)
        self.registered = registered

    def model(self, x: Tensor) -> None:
        if self.where == "model":
            pyro.module("decoder", self.decoder)
        if self.where == "all":
            pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        if self.where == "guide":
            pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))


def with_own_decoder(where: str) -> tuple[BoundProgram, Batch]:
    with seeded(0):
        program = Program(OwnDecoder(where).double())
    space = LatentSpace(program.bind((normal(3, 3),), guided=False))
    lam = torch.zeros(3, 5).double()
    return with_lambda(space, make_family("full", 2).distribution, lam), (normal(3, 3), lam)


def test_a_decoder_that_would_not_be_trained_is_reported() -> None:
    """Parameters of the guide alone are left out, and modules that no run registers or calls are no fault."""
    check(*with_own_decoder("model"))
    posterior, batch = with_own_decoder("guide")
    with pytest.raises(InputError, match=r"the parameter 'decoder.weight' of OwnDecoder would never be trained"):
        check(posterior, batch)


def test_a_part_of_the_model_that_is_not_trained_is_reported() -> None:
    posterior, batch = with_own_decoder("all")
    with pytest.warns(InputWarning, match=r"such as 'program.idle.weight', of OwnDecoder get no gradient"):
        check(posterior, batch)


@pytest.mark.parametrize(
    ("name", "kind"), by_kind(["ppca", "proportions", "ragged sequences", "images", "summed switch", "inner_plate"])
)
def test_a_derived_guide_can_be_used_as_any_guide(name: str, kind: FamilyName) -> None:
    space, _, program, batch = derive_near_prior(name, kind)
    latents = set(program.structure.latents)
    draws, means = program.posterior(batch, 3), posterior_moments(program, batch).mean
    assert draws.latents.keys() == latents
    assert means.keys() == set(space.names)
    for site in space.names:
        assert draws.latents[site].shape[:2] == (3, 3)
        assert means[site].shape == draws.latents[site].shape[1:]
    with seeded(8):
        terms = elbo_terms(program, batch, 2000)
    with torch.no_grad(), seeded(8):
        elbo = program.log_weights(batch, 2000).mean(0)
    torch.testing.assert_close(terms.reconstruction - terms.divergence, elbo)
    assert (terms.divergence > 0).all()
    assert terms.by_site.keys() <= latents
    if kind == "diagonal" and name in ("ppca", "images", "inner_plate"):
        by_site = sum(part.reshape(3, -1).sum(-1) for part in terms.by_site.values())
        assert ((by_site - terms.divergence).abs() < 0.05 * terms.divergence + 0.1).all()
    look = look_at_latents(program, as_batches(batch), seed=0)
    assert look is not None
    actual = summarise_latents(program, [look], seed=0)
    assert actual.draws.shape[1] == actual.prior_draws.shape[1] == actual.divergence_by_dimension.numel()
    assert torch.isfinite(actual.draws).all()


def test_a_divergence_is_known_by_site_where_latents_factorise() -> None:
    for kind in FAMILIES:
        _, _, program, batch = derive_near_prior("ppca", kind)
        assert elbo_terms(program, batch, 2).by_site.keys() == ({"z"} if kind == "diagonal" else set())
    loc, log_scale = derive_near_prior("ppca", "diagonal")[3][-1].chunk(2, -1)
    q, p = dist.Normal(loc, log_scale.exp()), dist.Normal(0.0, 1.0)
    actual = elbo_terms(*derive_near_prior("ppca", "diagonal")[2:], 2).by_site["z"]
    torch.testing.assert_close(actual, torch.distributions.kl_divergence(q, p))


@pytest.mark.parametrize("name", ["ppca", "inner_plate", "ragged sequences", "images"])
@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_the_mean_of_an_unconstrained_gaussian_is_exact(name: str, kind: FamilyName) -> None:
    space, _, program, batch = derive_near_prior(name, kind)
    means = posterior_moments(program, batch, 7).mean
    actual = torch.cat([means[site].reshape(3, -1) for site in space.names], -1)
    torch.testing.assert_close(actual, batch[-1][:, : space.size])


@pytest.mark.parametrize("kind", FAMILIES)
def test_unknown_means_are_averages(kind: FamilyName) -> None:
    _, family, program, batch = derive_near_prior("proportions", kind)
    with seeded(9):
        means = posterior_moments(program, batch, 20000).mean
        u = family.distribution(batch[-1]).sample((20000,))
    rate = u[..., -1].exp()
    assert ((means["rate"] - rate.mean(0)).abs() < 4 * (2 / 20000) ** 0.5 * rate.std(0)).all()
    torch.testing.assert_close(means["p"].sum(-1), torch.ones(3).double())


@pytest.mark.parametrize(("name", "kind"), by_kind(["proportions", "ragged sequences", "moving support", "images"]))
@pytest.mark.parametrize(("scale", "df"), [(1.4, None), (1.1, 6.0)])
def test_weights_of_a_widened_guide_average_to_the_evidence(
    name: str, kind: FamilyName, scale: float, df: float | None
) -> None:
    _, _, program, batch, evidence = derive_near_posterior(name, kind)
    wider = widened(program, scale, df)
    with torch.no_grad(), seeded(10):
        log_weights = wider.log_weights(batch, 5000)
        assert close(log_weights, evidence, most=0.15)
    with torch.no_grad(), seeded(10):
        assert not torch.allclose(log_weights, program.log_weights(batch, 5000))


@pytest.mark.parametrize(
    ("name", "kind"), by_kind(["ppca", "proportions", "ragged sequences", "masked rates", "images", "summed switch"])
)
def test_annealing_starts_from_a_derived_guide(name: str, kind: FamilyName) -> None:
    space, family, program, batch, evidence = derive_near_posterior(name, kind)
    path = annealing_path(program, batch, "guide")
    with torch.no_grad(), seeded(11):
        u = path.draw(5000)
        log_start, log_target = path.log_densities(u)
        assert close(log_target - log_start, evidence, most=0.1)
    torch.testing.assert_close(log_start, family.distribution(batch[-1]).log_prob(u))
    torch.testing.assert_close(log_target, space.log_joint(batch[:-1], u).detach())
    if kind == "diagonal" and name in ("ppca", "proportions", "images"):  # with Pyro, site by site, it is the same
        by_site, _ = LatentSpace(program).log_densities(batch, u[:3], "guide")
        torch.testing.assert_close(log_start[:3], by_site)


def test_annealing_from_a_widened_guide_is_refused_unless_it_factorises() -> None:
    _, _, program, batch, evidence = derive_near_posterior("ppca", "diagonal")
    path = annealing_path(widened(program, 1.2), batch, "guide")
    with torch.no_grad(), seeded(12):
        log_start, log_target = path.log_densities(path.draw(5000))
        assert close(log_target - log_start, evidence)
    _, _, program, batch, _ = derive_near_posterior("ppca", "full")
    with pytest.raises(
        InputError, match=r"the guide of PPCA draws its latents by way of '_u', .* anneal from the prior"
    ):
        annealing_path(widened(program, 1.2), batch, "guide")


@pytest.mark.parametrize(
    ("name", "kind"), by_kind(["ppca", "proportions", "ragged sequences", "moving support", "images", "subsampled"])
)
def test_a_derived_guide_runs_under_plain_pyro(name: str, kind: FamilyName) -> None:
    """The loss under Pyro is minus the mean of the program's weights, and a step moves the encoder."""
    _, _, program, batch = derive_with_encoder(name, kind)
    with seeded(13):
        expected = -program.weighted_draws(batch, tempered=True).log_weight.sum()
    with program.running():
        with seeded(13):
            loss = Trace_ELBO().differentiable_loss(program.model, program.guide, *batch)
        size = 1000 / 3 if name == "subsampled" else 1.0
        if name != "subsampled":  # whose plate has 1000 data there
            torch.testing.assert_close(torch.as_tensor(loss).detach(), expected.detach() * size)
        before = program.module["encoder"].linear.weight.detach().clone()
        svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO(num_particles=2))
        svi.step(*batch)
    assert not torch.equal(before, program.module["encoder"].linear.weight)


@pytest.mark.parametrize("kind", FAMILIES)
def test_lambda_has_the_pathwise_gradient(kind: FamilyName) -> None:
    """The gradient of the objective equals the gradient of the densities at each point."""
    space, family, program, batch = derive_near_prior("two_latents", kind)
    *data, lam = batch
    lam = lam.requires_grad_()
    with seeded(14):
        actual = torch.autograd.grad(program.log_weights((*data, lam), 1).sum(), lam)[0]
    with seeded(14):
        u = family.distribution(lam).rsample((1,))
    if kind == "diagonal":  # Pyro draws site by site: the noise is in the same order, the sites are columns
        with seeded(14):
            noise = torch.cat([torch.randn(3, 3).double(), torch.randn(3, 1).double()], -1)
        loc, log_scale = lam.chunk(2, -1)
        u = (loc + log_scale.exp() * noise)[None]
    weight = space.log_joint(tuple(data), u) - family.distribution(lam).log_prob(u)
    expected = torch.autograd.grad(weight.sum(), lam)[0]
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


def test_the_original_program_does_not_change() -> None:
    module = scenarios.Conjugate().double()
    x = normal(3)
    program = Program(module).bind((x,))
    bare = without_guide(program)
    assert without_guide(bare) is bare
    space = LatentSpace(bare)
    posterior = with_lambda(space, make_family("diagonal", 1).distribution, torch.zeros(3, 2).double())
    posterior.log_weights((x, torch.zeros(3, 2).double()), 2)
    assert program.guide == module.guide
    assert program.log_weights((x,), 2).shape == (2, 3)
    assert posterior.parameters().keys() == program.parameters().keys()


def test_a_closed_form_is_kept() -> None:
    _, _, program, batch = derive_near_prior("ppca", "full")
    torch.testing.assert_close(program.log_evidence(batch), make_space("ppca")[3])


def test_a_program_without_a_guide_and_without_parameters_can_be_inferred() -> None:
    """Only lambda is fitted."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    x, family = normal(3), make_family("diagonal", 1)
    batch: tuple[Any, ...] = (x, family.start(x[:, None] / 2, torch.full((3, 1), 0.5**0.5).double()))
    program = with_lambda(LatentSpace(Program(model).bind((x,))), family.distribution, batch[1])
    check(program, batch)
    with torch.no_grad():  # it is the posterior
        torch.testing.assert_close(program.log_weights(batch, 4), dist.Normal(0.0, 2**0.5).log_prob(x).expand(4, 3))
