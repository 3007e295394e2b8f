"""Padding that is cut off changes no number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.data import Batches, cut_sequences, sort_by_length, trim_rows
from ppl_vae.data.trimming import enough_steps
from ppl_vae.evaluation.passes import LEAST_ROWS, MOST_STEPS
from ppl_vae.inference import Compiler
from ppl_vae.models.deep_markov_model import DeepMarkovModel
from ppl_vae.models.hmm import HMM
from ppl_vae.program import seeded


def sequences(rows: int = 12, steps: int = 40, longest: int = 11) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, longest, rows, endpoint=True)
    within = np.arange(steps) < lengths[:, None]
    return {"x": (rng.random((rows, steps, 2)) < 0.4) * within[..., None] * 1.0, "lengths": lengths}


def test_batches_are_cut_to_about_their_longest_sequence() -> None:
    arrays = sequences()
    batches = Batches(arrays, ["x", "lengths"], 5)
    whole = list(batches.shuffled(seed=3))
    batches.trims = True
    for (x, lengths), (x_whole, lengths_whole) in zip(batches.shuffled(seed=3), whole, strict=True):
        assert torch.equal(lengths, lengths_whole)
        assert x.shape[1] == enough_steps(int(lengths.max()), 40)
        assert x.shape[1] < 2**0.5 * lengths.max() + 1
        assert torch.equal(x, x_whole[:, : x.shape[1]])


def test_pieces_are_loaded_without_the_padding_that_all_of_them_have() -> None:
    """Whole sequences have 40 steps and pieces 7; the batches are those of padded pieces."""
    pieces = cut_sequences("toy", sequences(steps=40, longest=40), longest=7)
    assert pieces["x"].shape[1:] == (40, 2)
    rows = trim_rows(pieces)
    assert rows["x"].shape[1:] == (enough_steps(7, 40), 2)
    assert np.shares_memory(rows["x"], pieces["x"])
    batches, whole = (Batches(arrays, ["x", "lengths"], 5) for arrays in (rows, pieces))
    batches.trims = whole.trims = True
    for batch, expected in zip(batches.shuffled(seed=3), whole.shuffled(seed=3), strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(batch, expected, strict=True))
    assert trim_rows({"x": np.zeros((3, 4))})["x"].shape == (3, 4)


def test_there_are_few_numbers_of_steps() -> None:
    counts = [enough_steps(longest, 1788) for longest in range(1, 1789)]
    assert all(count >= longest for longest, count in enumerate(counts, 1))
    assert len(set(counts)) == 22
    assert counts == sorted(counts)


class Padded(nn.Module):
    """A program that counts its padding: nothing can be cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))

    def model(self, x: Tensor, lengths: Tensor) -> None:
        pyro.module("padded", self)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(logits=self.logits.expand(x.shape)).to_event(2), obs=x)


@pytest.mark.parametrize(
    ("make", "trims"),
    [
        (lambda: DeepMarkovModel(features=2, latent_dim=2, emission=4, transition=3, rnn=5), True),
        (lambda: HMM(features=2, num_states=2), True),
        (Padded, False),
    ],
)
def test_evidence_is_that_of_whole_batches(make: type, trims: bool) -> None:
    """Also per time step, whose error is that of a ratio; with so few steps there is no loop to trace."""
    arrays, evaluations = sequences(steps=20), []
    with seeded(0):
        program = make().double()
    options = {"num_samples": 20, "validation_fraction": 0, "max_epochs": 1, "batch_size": 12, "precision": "64-true"}
    vi = VariationalInference(program, **options).fit(arrays)
    for cut in (True, False):
        assert vi.fitted.trims is trims
        vi.fitted._trims = trims and cut
        evaluations.append(vi.evaluate(arrays))
    (name, row), (_, whole) = (next(reversed(e.rows.items())) for e in evaluations)
    assert row.log_evidence == pytest.approx(whole.log_evidence, abs=1e-9)
    values, lengths = evaluations[0].evidence[name].log_evidence.double().numpy(), arrays["lengths"]
    resampled = np.random.default_rng(1).integers(0, 12, (20000, 12))
    ratios = values[resampled].sum(1) / lengths[resampled].sum(1)
    assert row.per_step == pytest.approx(values.sum() / lengths.sum(), rel=1e-9)
    assert row.per_step_se == pytest.approx(ratios.std(), rel=0.25)
    assert "nats per step" in evaluations[0].table("test")


def test_validation_sees_every_sequence_in_batches_of_similar_length() -> None:
    """The HMM sums out its states, so that its bound is the evidence, whatever the draws."""
    valid = sequences(rows=75, steps=30, longest=30)
    with seeded(0):
        program = HMM(features=2, num_states=2).double()
    vi = VariationalInference(program, max_epochs=1, precision="64-true", compile="off")
    vi.fit(sequences(steps=30), validation=valid)
    row = next(reversed(vi.evaluate(valid).rows.values()))
    assert vi.history_[-1]["elbo_valid"] == pytest.approx(row.log_evidence, abs=1e-9)
    batches = list(Batches(sort_by_length(valid), ["x", "lengths"], 32).in_order())
    assert torch.equal(torch.cat([lengths for _, lengths in batches]), torch.tensor(sorted(valid["lengths"])[::-1]))
    assert sum(x.sum().item() for x, _ in batches) == valid["x"].sum()
    assert sort_by_length({"x": np.arange(3)})["x"].tolist() == [0, 1, 2]


def test_passes_of_a_recurrence_are_larger_and_have_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop takes as long for many rows as for one, and a graph would serve one number of steps."""
    rooms = {}
    for steps in (20, 30):  # in 20 steps there is no loop
        arrays = sequences(rows=4, steps=steps)
        with seeded(0):
            program = DeepMarkovModel(features=2, latent_dim=2, emission=4, transition=3, rnn=5)
        vi = VariationalInference(program, validation_fraction=0, max_epochs=1, num_samples=10).fit(arrays)
        rooms[steps] = vi.fitted.room
    assert {steps: room.steps for steps, room in rooms.items()} == {20: 1, 30: 30}
    short, long = rooms.values()
    assert long.draws(1) == pytest.approx(short.draws(1) * MOST_STEPS * 20 / 30, rel=0.01)
    assert long.draws(1, share=0.5) == pytest.approx(2 * long.draws(1), rel=0.01)
    assert (short.rows_to_weigh(10**6), long.rows_to_weigh(10**6)) == (LEAST_ROWS, 1)
    monkeypatch.setattr(Compiler, "__call__", None)
    assert vi.set_params(compile="on").evaluate(arrays).rows["iwae"].log_evidence < 0


def test_data_without_lengths_have_no_steps(tmp_path: Path) -> None:
    vi = VariationalInference(HMM(features=2, num_states=2), max_epochs=1, validation_fraction=0)
    arrays = sequences()
    vi.fit({"x": arrays["x"]})
    assert "step" not in vi.evaluate({"x": arrays["x"]}).table("test")
