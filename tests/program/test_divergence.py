"""Test the two terms of the ELBO: their sum against the ELBO of the same draws, each against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from ppl_vae.program import Batch, BoundProgram, Program, elbo_terms, seeded
from tests.helpers import scenarios
from tests.helpers.scenarios import make_double, normal


class Covariances(nn.Module):
    """Gaussian latents of a plate within the data's and of a matrix, with covariances in model, guide or both."""

    def __init__(self, in_model: bool, in_guide: bool) -> None:
        super().__init__()
        self.in_model, self.in_guide = in_model, in_guide
        self.loading = nn.Parameter(torch.tensor([[0.8, 0.0], [-0.5, 0.6]]))

    def prior(self, x: Tensor) -> Any:
        if self.in_model:
            return dist.MultivariateNormal(x.new_tensor([0.5, -0.2]), scale_tril=x.new_tensor([[1.0, 0.0], [0.4, 0.7]]))
        return dist.Normal(x.new_tensor([0.5, -0.2]), x.new_tensor([1.0, 0.7])).to_event(1)

    def posterior(self, x: Tensor) -> Any:
        if self.in_guide:
            return dist.MultivariateNormal(x / 2, scale_tril=self.loading.tril())
        return dist.Normal(x / 2, self.loading.diagonal()).to_event(1)

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x), dim=-2):
            with pyro.plate("values", x.shape[1], dim=-1):
                z = pyro.sample("z", self.prior(x))
                pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)
            w = pyro.sample("w", dist.Normal(x.new_zeros(2, 3), 1.0).to_event(2))
            pyro.sample("y", dist.Normal(w[..., 0], 1.0).to_event(1), obs=x[:, :1])

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            with pyro.plate("values", x.shape[1], dim=-1):
                pyro.sample("z", self.posterior(x))
            pyro.sample("w", dist.Normal(x[:, :1, :, None].expand(-1, 1, 2, 3), 0.6).to_event(2))


class MaskedInside(nn.Module):
    """Distributions with masks of their own, over entries of an event."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.6))

    def model(self, x: Tensor, there: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0).mask(there).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.5).mask(there).to_event(1), obs=x)

    def guide(self, x: Tensor, there: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.7 * x, self.scale).mask(there).to_event(1))


class Rates(nn.Module):
    """A guide and a prior of different families, without a closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(x.new_tensor([2.0, 3.0]), x.new_tensor([1.0, 0.5])).to_event(1))
            pyro.sample("x", dist.Poisson(z).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.LogNormal((0.7 * x + 0.5).log(), self.scale).to_event(1))


LENGTHS = torch.tensor([5, 1, 3])
THERE = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]]).bool()
COUNTS = torch.tensor([[2.0, 1.0], [0.0, 0.0], [1.0, 4.0]], dtype=torch.double)
PROGRAMS: dict[str, tuple[Callable[[], Any], Batch, dict[str, tuple[int, ...]]]] = {
    "ppca": (scenarios.PPCA, (normal(3, 5),), {"z": (2,)}),
    "two_latents": (scenarios.TwoLatents, (normal(3, 4).abs(),), {"a": (3,), "s": ()}),
    "inner_plate": (scenarios.InnerPlate, (normal(3, 4),), {"level": (), "z": (4,)}),
    "sequences": (scenarios.Sequences, (normal(3, 5), LENGTHS), {f"z_{t}": () for t in range(5)}),
    "images": (scenarios.Images, (normal(3, 1, 4, 4),), {"z": (2,)}),
    "softmax": (scenarios.SoftmaxDecoder, (normal(3, 3),), {"z": (2,)}),
    "subsampled": (scenarios.Subsampled, (normal(3),), {"z": ()}),
    "switch": (scenarios.Switch, (normal(3),), {"c": (), "z": ()}),
    "proportions": (
        scenarios.Proportions,
        (torch.full((3, 3), 2.0).double(), torch.tensor([3.0, 0.0, 8.0]).double()),
        {"p": (), "rate": ()},
    ),
    "independent": (lambda: Covariances(False, False), (normal(3, 4, 2),), {"z": (4, 2), "w": (2, 3)}),
    "covariance": (lambda: Covariances(False, True), (normal(3, 4, 2),), {"z": (4,), "w": (2, 3)}),
    "prior covariance": (lambda: Covariances(True, False), (normal(3, 4, 2),), {"z": (4,), "w": (2, 3)}),
    "both covariances": (lambda: Covariances(True, True), (normal(3, 4, 2),), {"z": (4,), "w": (2, 3)}),
    "masked inside": (MaskedInside, (normal(3, 3), THERE), {"z": (3,)}),
    "rates": (Rates, (COUNTS,), {"z": (2,)}),
}


def make_program(name: str) -> tuple[Any, BoundProgram, Batch]:
    make, batch, _ = PROGRAMS[name]
    module = make_double(make)
    program = Program(module).bind(batch)
    return module, program, batch


@pytest.mark.parametrize("num_samples", [1, 7])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_terms_are_the_elbo_of_the_same_draws(name: str, num_samples: int) -> None:
    _, program, batch = make_program(name)
    with seeded(2):
        terms = elbo_terms(program, batch, num_samples)
    with torch.no_grad(), seeded(2):
        elbo = program.weighted_draws(batch, num_samples).log_weight.mean(0)
    torch.testing.assert_close(terms.reconstruction - terms.divergence, elbo)
    assert terms.reconstruction.shape == terms.divergence.shape == (3,)
    assert {name: divergence.shape[1:] for name, divergence in terms.by_site.items()} == PROGRAMS[name][2]
    assert not terms.reconstruction.requires_grad


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_divergences_of_sites_add_up(name: str) -> None:
    """They add up on average: each is a closed form if there is one, and their sum is estimated from the draws."""
    _, program, batch = make_program(name)
    differences = []
    with seeded(3):
        for _ in range(60):
            terms = elbo_terms(program, batch, 100)
            differences.append(sum(d.flatten(1).sum(1) if d.dim() > 1 else d for d in terms.by_site.values()))
            differences[-1] = differences[-1] - terms.divergence
    difference = torch.stack(differences)
    # 15 programs of 3 data: with a Student-t of 59 degrees of freedom, 4.5 hold for all with probability 0.998
    assert (difference.mean(0).abs() < 4.5 * difference.std(0) / 60**0.5 + 1e-9).all()


def gaussian_divergence(
    loc: Tensor, scale: Tensor | float, prior_loc: Tensor | float = 0.0, prior_scale: float = 1.0
) -> Tensor:
    """Return KL of two Gaussians."""
    ratio = torch.as_tensor(scale).to(loc) / prior_scale
    return 0.5 * (ratio**2 + ((loc - prior_loc) / prior_scale) ** 2 - 1) - ratio.log()


def test_gaussians_by_dimension_and_reconstruction() -> None:
    module, program, (x,) = make_program("ppca")
    with seeded(4):
        terms = elbo_terms(program, (x,), 20000)
    with torch.no_grad():
        precision = torch.eye(2).double() + module.loading.T @ module.loading / 0.36
        loc = x @ module.loading @ torch.linalg.inv(precision) / 0.36
        scale = torch.linalg.inv(precision).diagonal().sqrt()
        torch.testing.assert_close(terms.by_site["z"], gaussian_divergence(loc, scale))
        expected = dist.Normal(loc @ module.loading.T, 0.6).log_prob(x).sum(-1)
        expected = expected - 0.5 * (module.loading**2 @ scale**2).sum() / 0.36
    # the errors of 20000 draws: log densities of five variables vary by a few nats
    torch.testing.assert_close(terms.reconstruction, expected, rtol=0, atol=4.5 * 3 / 20000**0.5)
    torch.testing.assert_close(
        terms.divergence, gaussian_divergence(loc, scale).sum(-1), rtol=0, atol=4.5 * 3 / 20000**0.5
    )


def test_the_divergence_of_a_latent_given_another() -> None:
    """A LogNormal whose prior depends on draws: the average over them of a closed form."""
    module, program, (x,) = make_program("two_latents")
    with seeded(5):
        terms = elbo_terms(program, (x,), 11)
    with torch.no_grad(), program.running(seed=5):  # a PyroModule asks for the store
        a = program.posterior((x,), 11).latents["a"]
        out = module.encoder(x)
        expected = gaussian_divergence(out[:, 6] + a.mean(-1), out[:, 7].exp(), a.sum(-1), 0.3).mean(0)
    torch.testing.assert_close(terms.by_site["s"], expected)
    torch.testing.assert_close(terms.by_site["a"], gaussian_divergence(out[:, :3], out[:, 3:6].exp()).detach())


def test_the_divergence_in_plates_within_a_datum() -> None:
    module, program, (x,) = make_program("inner_plate")
    with seeded(6):
        terms = elbo_terms(program, (x,), 11)
    with torch.no_grad(), seeded(6):
        level = program.posterior((x,), 11).latents["level"]
        expected = gaussian_divergence(module.encoder(x), 0.5, level[..., None], 0.5).mean(0)
    torch.testing.assert_close(terms.by_site["z"], expected)
    torch.testing.assert_close(terms.by_site["level"], gaussian_divergence(x.mean(-1), 0.5))


def test_the_divergence_of_a_switch_and_of_a_latent_that_depends_on_it() -> None:
    module, program, (x,) = make_program("switch")
    with seeded(7):
        terms = elbo_terms(program, (x,), 11)
    with torch.no_grad(), seeded(7):
        c = program.posterior((x,), 11).latents["c"]
        logit, loc, log_scale = module.encoder(x[..., None]).unbind(-1)
        q = logit.sigmoid()
        torch.testing.assert_close(terms.by_site["c"], q * (q / 0.4).log() + (1 - q) * ((1 - q) / 0.6).log())
        expected = gaussian_divergence(loc + c, log_scale.exp(), module.means[c.long()]).mean(0)
    torch.testing.assert_close(terms.by_site["z"], expected)


@pytest.mark.parametrize("name", ["covariance", "prior covariance", "both covariances"])
def test_the_divergence_of_gaussians_with_covariances(name: str) -> None:
    """One number for a latent whose dimensions depend on each other; a closed form with a covariance in the prior."""
    module, program, (x,) = make_program(name)
    with seeded(8):
        terms = elbo_terms(program, (x,), 20000)
    with torch.no_grad():
        full = []
        for fn in (module.posterior(x), module.prior(x).expand([3, 4])):
            is_full = isinstance(fn, dist.MultivariateNormal)
            full.append(fn if is_full else dist.MultivariateNormal(fn.mean, torch.diag_embed(fn.variance)))
        expected = kl_divergence(*full)
        atol = 1e-9 if module.in_model else 4.5 * 3 / 20000**0.5  # log densities vary by about three nats
    torch.testing.assert_close(terms.by_site["z"], expected, rtol=0, atol=atol)


def test_masked_latents_have_no_divergence() -> None:
    module, program, (x, lengths) = make_program("sequences")
    terms = elbo_terms(program, (x, lengths), 5)
    for t in range(5):
        assert torch.equal(terms.by_site[f"z_{t}"] != 0, t < lengths)
    torch.testing.assert_close(terms.by_site["z_0"], gaussian_divergence(module.encoder(x)[:, 0], 0.8).detach())
    _, program, batch = make_program("masked inside")
    assert torch.equal(elbo_terms(program, batch).by_site["z"] != 0, THERE)


def test_latents_masked_because_of_nan_have_no_divergence() -> None:
    with torch.no_grad(), pyro.validation_enabled(False):
        module, program, (x, lengths) = make_program("sequences")
        module.encoder.bias[4] = torch.nan  # where only the first datum has a value
        terms = elbo_terms(program, (x, lengths), 5)
    assert terms.divergence.isnan().tolist() == [True, False, False]
    assert terms.by_site["z_4"].isnan().tolist() == [True, False, False]
    assert torch.equal(terms.by_site["z_4"][1:], torch.zeros(2).double())


@pytest.mark.parametrize("cls", [scenarios.PPCA, scenarios.SummedSwitch, scenarios.Switch, scenarios.SoftmaxDecoder])
def test_weights_of_the_prior_average_to_the_evidence(cls: type[nn.Module]) -> None:
    """p(x | z) averages over the prior; a discrete latent is summed out."""
    x = {scenarios.PPCA: normal(3, 5), scenarios.SoftmaxDecoder: normal(3, 3) / 3}.get(cls, normal(3))
    with torch.no_grad(), seeded(9):
        module = cls().double()
        weights = Program(module).bind((x,)).log_prior_weights((x,), 30000)
    assert weights.shape == (30000, 3)
    if cls is scenarios.SoftmaxDecoder:
        z = normal(30000, 2)
        other = dist.Normal(module.decoder(z), 0.3).to_event(1).log_prob(x[:, None]).T.detach()
        expected, of_other = other.exp().mean(0).log(), (other - other.logsumexp(0)).exp().std(0) * 30000**0.5
    else:
        expected = (module.log_evidence(x) if cls is scenarios.PPCA else scenarios.switch_evidence(module, x)).detach()
        of_other = torch.zeros(3)
    estimate = weights.exp().mean(0).log()
    error = (weights - estimate).exp().std(0) / 30000**0.5
    assert (error < 0.1).all()
    assert ((estimate - expected).abs() < 4.5 * (error**2 + of_other**2).sqrt()).all()


def test_weights_of_the_prior_with_masks_and_constraints() -> None:
    with seeded(0):
        sequences, proportions = scenarios.Sequences().double(), scenarios.Proportions().double()
    batch = (torch.tensor([[3.0, 4.0, 1.0], [1.0, 6.0, 1.0]]).double(), torch.tensor([3.0, 0.0]).double())
    x, lengths = normal(3, 5), torch.tensor([1, 2, 1])
    steps = torch.arange(1.0, 3.0).double()
    covariance = torch.minimum(steps, steps[:, None]) + 0.25 * torch.eye(2).double()
    walks = [
        dist.MultivariateNormal(torch.zeros(n).double(), covariance[:n, :n]).log_prob(row[:n])
        for row, n in zip(x, lengths.tolist(), strict=True)
    ]
    for program, data, expected in (
        (Program(proportions).bind(batch), batch, proportions.log_evidence(*batch)),
        (Program(sequences).bind((x, lengths)), (x, lengths), torch.stack(walks)),
    ):
        with torch.no_grad(), seeded(1):
            weights = program.log_prior_weights(data, 30000)
        estimate = weights.exp().mean(0).log()
        error = (weights - estimate).exp().std(0) / 30000**0.5
        assert (error < 0.1).all()
        assert ((estimate - expected).abs() < 4.5 * error).all()
