"""Recurrences and chains against plain loops: of autograd, and of Pyro with a site a step."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from ppl_vae.models.deep_markov_model import DeepMarkovModel
from ppl_vae.networks import Combiner, GatedTransition, GaussianChain, RecurrentCell, recur, recurrence, unrolled
from ppl_vae.program import Program, elbo_terms, seeded

STEPS = recurrence.SHORT + 1
"""The least number of steps that are not those of a plain loop."""


class Mixed(nn.Module):
    """A cell of several kinds of operations, with a buffer and an input of two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 5), nn.ELU(), nn.Linear(5, 3))
        self.register_buffer("shift", torch.linspace(0, 1, 3))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        moved = torch.where(h > x.mean(1), self.inner(h), h + self.shift)
        return torch.lerp(h, moved, x[:, 0].sigmoid()) + x.flatten(1).square().sum(-1, keepdim=True).sqrt()


CELLS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...], bool]] = {
    "gru": (lambda: RecurrentCell(2, 3, "gru"), ((9,),), False),
    "tanh": (lambda: RecurrentCell(2, 3, "rnn"), ((3,),), False),
    "combiner": (lambda: Combiner(3, 4), ((4,),), True),
    "gated transition": (lambda: GatedTransition(3, 4), (), True),
    "mixed": (Mixed, ((2, 3),), False),
}
"""Cells with a state of three numbers, the shapes of their inputs, and True if they return a mean and a deviation."""


@pytest.mark.parametrize("name", CELLS)
def test_states_and_gradients_equal_a_plain_loop(name: str) -> None:
    make, shapes, has_noise = CELLS[name]
    with seeded(0):
        cell = make().double()
        state = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
        inputs = [torch.randn(STEPS, 4, *shape, dtype=torch.double, requires_grad=True) for shape in shapes]
        noise = torch.randn(STEPS, 4, 3, dtype=torch.double) if has_noise else None
        above = torch.randn(STEPS, 4, 3, dtype=torch.double)
    leaves = [state, *inputs, *cell.parameters()]
    fast, plain = (function(cell, state, *inputs, noise=noise) for function in (recur, unrolled))
    torch.testing.assert_close(fast, plain, rtol=1e-12, atol=1e-12)
    assert fast.grad_fn is not None
    assert fast.grad_fn.name() == "_RecurrenceBackward"
    ours, theirs = (
        torch.autograd.grad(states, leaves, above, allow_unused=True, materialize_grads=True, retain_graph=True)
        for states in (fast, plain)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    second = []
    for states in (fast, plain):
        (first,) = torch.autograd.grad(states.square().sum(), state, create_graph=True)
        second.append(torch.autograd.grad(first.sum(), state)[0])
    torch.testing.assert_close(second[0], second[1], rtol=1e-10, atol=1e-10)


class Noisy(nn.Module):
    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        return h + x * torch.randn_like(x)


class Shared(nn.Module):
    """A cell that depends on the number of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        return (h * (self.weight / len(h))).tanh() + x


class Forgetful(nn.Module):
    """A cell whose next state does not depend on its state."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        return (self.weight * x).tanh()


@pytest.mark.parametrize("cell", [Noisy(), Shared(), Forgetful(), lambda h, x: (h + x).tanh()])
def test_other_cells_run_in_a_plain_loop(cell: Callable[..., Tensor]) -> None:
    state, x = torch.linspace(-1, 1, 6).reshape(2, 3), torch.linspace(-2, 2, STEPS * 6).reshape(STEPS, 2, 3)
    with seeded(1):
        fast = recur(cell, state.requires_grad_(), x)
    with seeded(1):
        plain = unrolled(cell, state, x)
    assert torch.equal(fast, plain)
    assert fast.grad_fn is not None
    assert fast.grad_fn.name() == "StackBackward0"


LENGTHS = torch.tensor([STEPS, 3, 1, 7, STEPS, 2, 9, 4])


class SiteByStep(DeepMarkovModel):
    """The deep Markov model as a loop with a site a step, in plain Pyro."""

    def model(self, x: Tensor, lengths: Tensor) -> None:
        pyro.module("dmm", self)
        z, path, within = self.start, [], torch.arange(x.shape[1]) < lengths[:, None]
        with pyro.plate("data", len(x), dim=-2):
            for t in range(x.shape[1]):
                with poutine.mask(mask=within[:, t : t + 1]):
                    z = pyro.sample(f"z_{t}", dist.Normal(*self.transition(z)).to_event(1))
                path.append(z)
            out = self.emission(torch.cat(path, -2))
            with pyro.plate("steps", x.shape[1], dim=-1), poutine.mask(mask=within):
                pyro.sample("x", self.likelihood(out).to_event(1), obs=x)

    def guide(self, x: Tensor, lengths: Tensor) -> None:
        pyro.module("dmm", self)
        z, h = self.guide_start, self.rnn(x, lengths)
        with pyro.plate("data", len(x), dim=-2):
            for t in range(x.shape[1]):
                with poutine.mask(mask=t < lengths[:, None]):
                    z = pyro.sample(f"z_{t}", dist.Normal(*self.combiner(z, h[:, t : t + 1])).to_event(1))


@pytest.mark.parametrize("steps", [5, STEPS])
def test_a_chain_in_plain_pyro_has_value_and_gradients_of_a_site_a_step(steps: int) -> None:
    """Under a seed both draw the same numbers, since PyTorch draws 16 at once, as many as a vector has."""
    batch = (torch.bernoulli(torch.full((8, steps, 3), 0.4, dtype=torch.double)), LENGTHS.clamp(max=steps))
    results = []
    for cls in (DeepMarkovModel, SiteByStep):
        with seeded(0):
            module = cls(features=3, latent_dim=16, emission=5, transition=4, rnn=6).double()
            for parameter in module.parameters():
                parameter.data += 0.2 * torch.randn_like(parameter)
        pyro.clear_param_store()
        with seeded(1):
            loss = Trace_ELBO().differentiable_loss(module.model, module.guide, *batch)
        pyro.clear_param_store()
        results.append([loss, *torch.autograd.grad(loss, list(module.parameters()))])
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_a_chain_has_the_density_of_its_steps_and_counts_those_within_a_sequence() -> None:
    with seeded(0):
        step, start, h = Combiner(2, 3).double(), torch.randn(2).double(), torch.randn(8, STEPS, 3).double()
        chain = GaussianChain(step, start, h, lengths=LENGTHS)
        z = chain.expand((4, 8)).rsample((5,))
    assert z.shape == (5, 4, 8, STEPS, 2)
    expected = torch.zeros(5, 4, 8, dtype=torch.double)
    for row, length in enumerate(LENGTHS):
        before = start
        for t in range(int(length)):
            expected[..., row] += dist.Normal(*step(before, h[row, t])).to_event(1).log_prob(z[..., row, t, :])
            before = z[..., row, t, :]
    torch.testing.assert_close(chain.log_prob(z), expected, rtol=1e-12, atol=1e-12)
    path, scale = chain.central_path()
    before = start
    for t in range(STEPS):
        before, deviation = step(before, h[3, t])
        torch.testing.assert_close((path[3, t], scale[3, t]), (before, deviation), rtol=1e-12, atol=1e-12)


def test_the_divergence_of_a_step_is_that_of_a_site_a_step() -> None:
    """It is in closed form, given the draws of the steps before."""
    batch, terms = (torch.ones(8, 5, 3).double(), LENGTHS.clamp(max=5)), []
    for cls in (DeepMarkovModel, SiteByStep):
        with seeded(0):
            module = cls(features=3, latent_dim=16, emission=5, transition=4, rnn=6).double()
        program = Program(module).bind(batch)
        with seeded(1):
            terms.append(elbo_terms(program, batch, 2))
    by_step = torch.stack([terms[1].by_site[f"z_{t}"].reshape(8, 16) for t in range(5)], 1)
    torch.testing.assert_close(terms[0].by_site["z"].reshape(8, 5, 16), by_step, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(terms[0][:2], terms[1][:2], rtol=1e-10, atol=1e-10)
