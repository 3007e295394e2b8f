from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ppl_vae.cli.command import run_verb
from ppl_vae.evidence import iwae, weigh
from ppl_vae.models.deep_markov_model import DeepMarkovModel
from ppl_vae.networks import BackwardRNN, Combiner, GatedTransition, RecurrentCell, reversed_within
from ppl_vae.program import Program, check, elbo_terms, observed_numbers, seeded, simulate
from tests.helpers.scenarios import bits

LENGTHS = torch.tensor([3, 1, 2, 3, 2])


SIZES = {"features": 2, "latent_dim": 1, "emission": 4, "transition": 3, "rnn": 5}


def perturbed(**options: int | str) -> DeepMarkovModel:
    with seeded(0):
        module = DeepMarkovModel(**(SIZES | options)).double()
        for parameter in module.parameters():  # away from where anything is zero or the identity
            parameter.data += 0.3 * torch.randn_like(parameter)
    return module


def padded(past: float, steps: int = 3) -> Tensor:
    x = torch.full((5, steps, 2), past, dtype=torch.double)
    for row, length in enumerate(LENGTHS):
        x[row, :length] = bits(5, 3, 2)[row, :length]
    return x


def log_normal(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return -0.5 * ((z - loc) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)


@torch.no_grad()
def filtered(module: DeepMarkovModel, x: Tensor) -> float:
    """Return log p of one sequence, ``(T, 2)``, by the forward recursion over a grid of the one-dimensional latent."""
    grid = torch.linspace(-20, 20, 801, dtype=torch.double)
    step = grid[1] - grid[0]
    p = module.emission(grid[:, None]).sigmoid()
    alpha = None
    for seen in x:
        if alpha is None:
            predicted = log_normal(grid, *(number[0] for number in module.transition(module.start)))
        else:
            loc, scale = module.transition(grid[:, None])  # (from, 1): a density in the columns
            predicted = (alpha[:, None] + log_normal(grid, loc, scale)).logsumexp(0) + step.log()
        alpha = predicted + (seen * p.log() + (1 - seen) * (1 - p).log()).sum(-1)
    return float(alpha.logsumexp(0) + step.log())


@pytest.mark.parametrize("reads", ["future", "all"])
def test_evidence_equals_the_forward_recursion(reads: str) -> None:
    module, x = perturbed(reads=reads), padded(0.0)
    expected = [filtered(module, sequence[:length]) for sequence, length in zip(x, LENGTHS, strict=True)]
    module.combiner.gaussian.bias.data[1] = 2.0  # a wide guide, which importance weights forgive
    program = Program(module).bind((x, LENGTHS))
    with torch.no_grad(), seeded(1):
        estimate = iwae(weigh(lambda k: program.log_weights((x, LENGTHS), k), 20000, 20000))
    error = np.abs(estimate.log_evidence.numpy() - expected) / estimate.mcse.numpy()
    assert error.max() < 4
    assert estimate.mcse.max() < 0.03


@pytest.mark.parametrize("option", [{"cell": "rnn"}, {"cell": "gru"}, {"reads": "all"}])
def test_padding_changes_nothing(option: dict[str, str]) -> None:
    """The result is equal to the last bit, for any values and any amount of padding."""
    program = Program(perturbed(likelihood="gaussian", **option)).bind((padded(0.0), LENGTHS))

    def log_weights(x: Tensor) -> Tensor:
        with torch.no_grad(), seeded(2):
            return program.log_weights((x, LENGTHS), 4)

    assert torch.equal(log_weights(padded(7.0)), log_weights(padded(0.0)))
    longer = Program(program.module).bind((padded(-3.0, 6), LENGTHS))
    with torch.no_grad(), seeded(2):
        torch.testing.assert_close(
            longer.log_weights((padded(-3.0, 6), LENGTHS), 4), log_weights(padded(0.0)), rtol=1e-12, atol=1e-12
        )


def test_every_step_counts_without_lengths() -> None:
    x = bits(5, 3, 2)
    program = Program(perturbed()).bind((x,))
    with torch.no_grad(), seeded(2):
        whole = program.log_weights((x,), 4)
    with torch.no_grad(), seeded(2):
        batch = (x, torch.full((5,), 3))
        assert torch.equal(whole, Program(program.module).bind(batch).log_weights(batch, 4))


def test_sequences_of_single_numbers_work() -> None:
    module = perturbed(features=1)
    batch = (bits(5, 3), LENGTHS)
    check(Program(module), batch)
    with torch.no_grad(), seeded(2):
        flat = Program(module).bind(batch).log_weights(batch, 4)
    with torch.no_grad(), seeded(2):
        assert torch.equal(
            flat, Program(module).bind((batch[0][..., None], LENGTHS)).log_weights((batch[0][..., None], LENGTHS), 4)
        )


@pytest.mark.parametrize("likelihood", ["gaussian:decoded", "poisson", "categorical:2"])
def test_other_likelihoods_work(likelihood: str) -> None:
    module = perturbed(likelihood=likelihood)
    check(Program(module), (padded(0.0), LENGTHS))
    assert Program(module).bind((padded(0.0), LENGTHS)).log_weights((padded(0.0), LENGTHS), 4).shape == (4, 5)


def test_the_engine_leaves_out_padding() -> None:
    batch = (padded(1.0), LENGTHS)
    program = Program(perturbed()).bind(batch)
    assert observed_numbers(program, batch).tolist() == (2 * LENGTHS).tolist()
    divergence = elbo_terms(program, batch, 3).by_site["z"].reshape(5, 3)
    assert torch.equal(divergence != 0, torch.arange(3) < LENGTHS[:, None])
    with seeded(3):
        drawn = simulate(program, (padded(1.0), LENGTHS)).batch[0]
    past = torch.arange(3) >= LENGTHS[:, None]
    assert (drawn[past] == 1).all()
    assert set(drawn[~past].unique().tolist()) == {0.0, 1.0}


def test_posterior_draws_have_the_data_dimension_in_front() -> None:
    batch = (padded(0.0), LENGTHS)
    program = Program(perturbed()).bind(batch)
    draws = program.posterior(batch, 4)
    assert draws.latents["z"].shape[:2] == (4, 5)
    assert draws.observed["x"].shape == (4, 5, 3, 2)


def test_parts_may_have_different_lengths_in_a_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, arrays = np.random.default_rng(0), {}
    for part, rows, steps in (("train", 12, 4), ("valid", 5, 6), ("test", 5, 3)):
        lengths = rng.integers(1, steps, rows, endpoint=True)
        past = np.arange(steps) >= lengths[:, None]
        arrays[f"lengths_{part}"] = lengths
        arrays[f"x_{part}"] = np.where(past[..., None], np.nan, rng.integers(0, 2, (rows, steps, 2)))
    np.savez(tmp_path / "own.npz", **arrays)
    sizes = [f"--model.{name}={size}" for name, size in SIZES.items()]
    run = ["--data", str(tmp_path / "own.npz"), "--output", str(tmp_path / "run"), "--model", "deep_markov_model"]
    assert run_verb("fit", [*run, *sizes, "--max-epochs", "2", "--batch-size", "5", "--num-samples", "5"]) == 0
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("elbo"))
    nats, per_step, bits_per_dim = float(row[1]), float(row[4]), float(row[-2])
    steps = arrays["lengths_test"].mean()
    assert per_step == pytest.approx(nats / steps, abs=5e-3)
    assert bits_per_dim == pytest.approx(-nats / math.log(2) / (2 * steps), abs=5e-3)


class TestNetworks:
    def test_sequences_are_reversed_up_to_their_length(self) -> None:
        x = torch.arange(5 * 4 * 2).reshape(5, 4, 2)
        lengths = torch.tensor([4, 1, 3, 2, 4])
        expected = torch.tensor([row[:n][::-1] + row[n:] for row, n in zip(x.tolist(), lengths.tolist(), strict=True)])
        assert torch.equal(reversed_within(x, lengths), expected)
        assert torch.equal(reversed_within(expected, lengths), x)
        assert torch.equal(reversed_within(x[..., 0], lengths), expected[..., 0])

    @pytest.mark.parametrize("cell", ["rnn", "gru"])
    def test_a_state_depends_on_its_step_and_on_later_ones(self, cell: str) -> None:
        with seeded(0):
            rnn, x = BackwardRNN(2, 3, cell).double(), torch.randn(5, 3, 2, dtype=torch.double)
        jacobian = torch.autograd.functional.jacobian(lambda x: rnn(x, LENGTHS).sum(-1).sum(0), x)
        seen = (jacobian != 0).any(-1)  # by the state at a step: which data, which steps
        for t in range(3):
            for row, length in enumerate(LENGTHS):
                if t < length:
                    assert seen[t, row].tolist() == [t <= s < length for s in range(3)]

    def test_a_state_of_the_other_rnn_depends_on_its_step_and_on_earlier_ones(self) -> None:
        with seeded(0):
            rnn, x = RecurrentCell(2, 3, "gru").double(), torch.randn(5, 3, 2, dtype=torch.double)
        jacobian = torch.autograd.functional.jacobian(lambda x: rnn.read(x).sum(-1).sum(0), x)
        assert torch.equal((jacobian != 0).any(-1).any(1), torch.ones(3, 3).tril().bool())

    def test_states_equal_a_recursion_from_the_end(self) -> None:
        with seeded(0):
            rnn, x = BackwardRNN(2, 3, "rnn").double(), torch.randn(5, 3, 2, dtype=torch.double)
        states, cell = rnn(x, LENGTHS), nn.RNNCell(2, 3).double()
        cell.load_state_dict({name.removesuffix("_l0"): value for name, value in rnn.rnn.state_dict().items()})
        for row, length in enumerate(LENGTHS):
            h = torch.zeros(1, 3, dtype=torch.double)
            for t in reversed(range(length)):
                h = cell(x[row, t][None], h)
                torch.testing.assert_close(states[row, t], h[0], rtol=1e-12, atol=1e-12)

    def test_a_closed_gate_is_linear_and_an_open_gate_is_the_mlp(self) -> None:
        with seeded(0):
            transition, z = GatedTransition(3, 5).double(), torch.randn(4, 6, 3, dtype=torch.double)
        last = transition.gate[-1]
        assert isinstance(last, nn.Linear)
        proposed = transition.proposed(z)
        for logit, expected in ((-1e4, z), (1e4, proposed), (0.0, (z + proposed) / 2)):
            last.weight.data.zero_()
            last.bias.data.fill_(logit)
            loc, scale = transition(z)
            torch.testing.assert_close(loc, expected)
        raw = torch.relu(proposed) @ transition.scale.weight.T + transition.scale.bias
        torch.testing.assert_close(scale, raw.exp().log1p() + 1e-3)

    def test_combiner_equals_its_formula(self) -> None:
        with seeded(0):
            combiner = Combiner(3, 5).double()
            z, h = torch.randn(2, 4, 3, dtype=torch.double), torch.randn(4, 5, dtype=torch.double)
        w, b = combiner.latent.weight, combiner.latent.bias
        of_z = torch.tanh(z @ w.T + b)
        w, b = combiner.gaussian.weight, combiner.gaussian.bias
        for states, c in (((h,), (of_z + h) / 2), ((h, h.cos()), (of_z + h + h.cos()) / 3)):
            loc, scale = combiner(z, *states)
            torch.testing.assert_close(loc, c @ w[:3].T + b[:3])
            torch.testing.assert_close(scale, (c @ w[3:].T + b[3:]).exp().log1p() + 1e-3)
