"""Test discrete latents that are summed out, against closed forms and against explicit sums."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.inference import elbo
from ppl_vae.program import Program, check, elbo_terms, seeded
from tests.helpers.scenarios import HMM, Mixture, SummedSwitch, Switch, normal, switch_evidence


def make_module(cls: type[nn.Module]) -> nn.Module:
    with seeded(0):
        return cls().double()


LENGTHS = torch.tensor([6, 3, 1, 5, 2, 4, 6])


def test_a_mixture_is_exact() -> None:
    module, x = make_module(Mixture), normal(50, 2)
    program = Program(module).bind((x,))
    check(program, (x,))
    torch.testing.assert_close(program.log_evidence((x,)), module.closed_form(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(program.log_weights((x,), 2), module.closed_form(x).expand(2, -1))


@pytest.mark.parametrize("num_data", [1, 7])
def test_an_hmm_is_exact_with_sequences_of_any_length(num_data: int) -> None:
    module, x = make_module(HMM), normal(7, 6)[:num_data]
    lengths = LENGTHS[:num_data]
    program = Program(module).bind((x, lengths))
    expected = module.closed_form(x, lengths)
    torch.testing.assert_close(program.log_evidence((x, lengths)), expected, rtol=1e-10, atol=1e-10)
    assert program.structure.summed == tuple(f"state_{t}" for t in range(6))


def test_the_elbo_has_the_gradient_of_the_exact_evidence() -> None:
    """The ELBO of a program without other latents is its log likelihood."""
    module, x = make_module(HMM), normal(7, 6)
    ours = torch.autograd.grad(
        elbo(Program(module).bind((x, LENGTHS)).weighted_draws((x, LENGTHS))).sum(), module.means
    )
    exact = torch.autograd.grad(module.closed_form(x, LENGTHS).sum(), module.means)
    torch.testing.assert_close(ours, exact)


@pytest.mark.parametrize("cls", [Switch, SummedSwitch])
def test_only_the_continuous_latent_is_random(cls: type[nn.Module]) -> None:
    """Weights given z are sums over c in p and, where the guide draws c, in q."""
    module, x = make_module(cls), normal(9)
    program = Program(module).bind((x,))
    with torch.no_grad(), seeded(4):
        weights = program.log_weights((x,), 5)
    with torch.no_grad(), program.running(seed=4):
        z = program.guide_trace((x,), 5).nodes["z"]["value"]
        logit, loc, log_scale = module.encoder(x[..., None]).unbind(-1)
        log_p, log_q = [], []
        for c, prior in ((0, 0.6), (1, 0.4)):
            log_p.append(dist.Normal(module.means[c], 1.0).log_prob(z) + torch.tensor(prior, dtype=x.dtype).log())
            shift = c if cls is Switch else 0
            log_q.append(dist.Normal(loc + shift, log_scale.exp()).log_prob(z))
        if cls is Switch:
            log_q[0] = log_q[0] + torch.sigmoid(-logit).log()
            log_q[1] = log_q[1] + torch.sigmoid(logit).log()
            q = torch.stack(log_q).logsumexp(0)
        else:
            q = log_q[0]
        expected = torch.stack(log_p).logsumexp(0) + dist.Normal(z, 0.5).log_prob(x) - q
    torch.testing.assert_close(weights, expected.to(weights), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cls", [Switch, SummedSwitch])
def test_estimates_agree_with_the_closed_form(cls: type[nn.Module]) -> None:
    module, x = make_module(cls), normal(50)
    with torch.no_grad(), seeded(1):
        module.encoder.weight.copy_(torch.tensor([[1.0], [0.6], [0.0]]))
        module.encoder.bias.copy_(torch.tensor([-0.5, 0.0, 0.0]))
        weights = Program(module).bind((x,)).log_weights((x,), 20000)
        error = weights.logsumexp(0) - torch.tensor(20000.0).log() - switch_evidence(module, x)
        mcse = (weights - weights.amax(0)).exp().var(0).sqrt() / (weights - weights.amax(0)).exp().mean(0) / 20000**0.5
    assert (error.abs() < 4 * mcse).all()


class InsidePlates(nn.Module):
    """A component for each of four values of a datum, in a plate within the data's, beside a datum's own level."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([-1.0, 2.0]))

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x), dim=-2):
            level = pyro.sample("level", dist.Normal(x.new_zeros(()), 1.0))
            high = pyro.sample("high", dist.Bernoulli(x.new_tensor(0.3)))
            with pyro.plate("values", 4, dim=-1):
                c = pyro.sample("c", dist.Bernoulli(0.2 + 0.5 * high))
                pyro.sample("x", dist.Normal(level + self.means[c.long()], 0.5), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("level", dist.Normal(x.mean(-1, keepdim=True) * self.means[1].exp() / 8, 0.5))


def test_sums_nest_as_plates_do() -> None:
    module, x = make_module(InsidePlates), normal(5, 4)
    program = Program(module).bind((x,))
    check(program, (x,))
    with torch.no_grad(), seeded(3):
        weights = program.log_weights((x,), 3)
    with torch.no_grad(), program.running(seed=3):
        guide = program.guide_trace((x,), 3).nodes["level"]
        level = guide["value"]
        total = []
        for high, prior in ((0, 0.7), (1, 0.3)):
            values = []
            for c in (0, 1):
                p = 0.2 + 0.5 * high
                log_prior = torch.tensor(p if c else 1 - p, dtype=x.dtype).log()
                values.append(dist.Normal(level + module.means[c], 0.5).log_prob(x) + log_prior)
            total.append(torch.stack(values).logsumexp(0).sum(-1) + torch.tensor(prior, dtype=x.dtype).log())
        expected = torch.stack(total).logsumexp(0) + dist.Normal(0.0, 1.0).log_prob(level).squeeze(-1)
        expected = expected - guide["fn"].log_prob(level).squeeze(-1)
    torch.testing.assert_close(weights, expected, rtol=1e-6, atol=1e-6)


class MixesDimensions(SummedSwitch):
    """A model that indexes the first dimension, in which the values of c are enumerated."""

    def model(self, x: Tensor) -> None:
        pyro.module("means", nn.ParameterList([self.means]))
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Bernoulli(x.new_tensor(0.4)))
            z = pyro.sample("z", dist.Normal(self.means[c.long()] - c.cumsum(0), 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def test_a_latent_that_cannot_be_summed_out_is_reported() -> None:
    with pytest.raises(InputError, match="'c' cannot be summed out"):
        Program(make_module(MixesDimensions)).bind((normal(5),)).log_weights((normal(5),), 2)


def test_a_latent_of_the_guide_that_cannot_be_summed_out_is_sampled() -> None:
    class Sampled(Switch):
        model = MixesDimensions.model

    program = Program(make_module(Sampled)).bind((normal(5),))
    assert program.log_weights((normal(5),), 2).shape == (2, 5)
    assert program.structure.collapsed == ()


def test_draws_of_a_summed_latent_are_from_its_posterior() -> None:
    module, x = make_module(Mixture), normal(6, 2)
    draws = Program(module).bind((x,)).posterior((x,), 4000).latents["c"]
    components = dist.Normal(module.means, module.scales[:, None]).to_event(1).log_prob(x[:, None])
    expected = (components + module.weights.log()).softmax(-1)
    seen = torch.stack([(draws == c).double().mean(0) for c in range(3)], -1)
    error = (expected * (1 - expected) / 4000).sqrt() + 1e-9
    assert ((seen - expected).abs() < 4.5 * error).all()


class Clusters(nn.Module):
    """A vector z around the mean of its cluster c, which the guide leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([[2.0, 0.0], [-2.0, 0.5], [0.0, -1.0]]))

    def model(self, x: Tensor) -> None:
        pyro.module("clusters", self)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(x.new_tensor([0.5, 0.2, 0.3])))
            z = pyro.sample("z", dist.Normal(self.means[c], 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))


@pytest.mark.parametrize("num_data", [2, 6])  # 2: as many as z has dimensions
def test_draws_of_a_summed_latent_that_a_vector_depends_on(num_data: int) -> None:
    module, x = make_module(Clusters), normal(num_data, 2)
    draws = Program(module).bind((x,)).posterior((x,), 4000)
    c, z = draws.latents["c"], draws.latents["z"]
    assert (c.shape, z.shape) == ((4000, num_data), (4000, num_data, 2))
    prior = torch.tensor([0.5, 0.2, 0.3], dtype=torch.double)
    components = dist.Normal(module.means, 1.0).to_event(1).log_prob(z[..., None, :])
    expected = (components + prior.log()).softmax(-1).mean(0)
    seen = torch.stack([(c == k).double().mean(0) for k in range(3)], -1)
    torch.testing.assert_close(seen, expected.detach(), atol=4.5 * 0.5 / 4000**0.5, rtol=0)


def test_the_exact_evidence_is_refused_if_it_is_not_known() -> None:
    with pytest.raises(InputError, match="'z' cannot be enumerated"):
        Program(make_module(SummedSwitch)).bind((normal(3),)).log_evidence((normal(3),))


def test_the_terms_of_the_elbo_with_a_summed_latent() -> None:
    x = normal(8)
    program = Program(make_module(SummedSwitch)).bind((x,))
    with seeded(0):
        terms = elbo_terms(program, (x,), 50)
    with torch.no_grad(), seeded(0):
        expected = program.log_weights((x,), 50).mean(0)
    torch.testing.assert_close(terms.reconstruction - terms.divergence, expected)
    assert terms.by_site == {}  # p(z) is a mixture, which depends on c
