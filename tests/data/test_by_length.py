"""Batches of sequences of similar length: every row once, in batches of the same sizes, with less padding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from ppl_vae.data import Batches, StreamedBatches
from ppl_vae.data.by_length import order_by_length
from ppl_vae.errors import InputError

N, BATCH_SIZE = 403, 8
DRAWS = np.random.default_rng(0)
DATA = {"lengths": DRAWS.geometric(0.05, N), "row": np.arange(N)}
NAMES = ["lengths", "row"]


def batches(kind: str, together: int | None = 10) -> Batches:
    if kind == "memory":
        return Batches(DATA, NAMES, BATCH_SIZE, group_by_length=together)
    return StreamedBatches(DATA, NAMES, BATCH_SIZE, group_by_length=together, buffer_bytes=16 * 150)


def padding(kind: str, together: int | None) -> float:
    """Return the share of steps that are padding, if each batch is trimmed to its longest sequence."""
    epoch = [lengths for lengths, _ in batches(kind, together).shuffled(0)]
    return 1 - sum(int(b.sum()) for b in epoch) / sum(len(b) * int(b.max()) for b in epoch)


@pytest.mark.parametrize("kind", ["memory", "streamed"])
def test_every_row_once_in_an_order_of_the_seed_alone_and_resumed_anywhere(kind: str) -> None:
    epoch = [row.tolist() for _, row in batches(kind).shuffled(3)]
    assert sorted(row for rows in epoch for row in rows) == list(range(N))
    assert [len(rows) for rows in epoch] == [BATCH_SIZE] * (N // BATCH_SIZE) + [N % BATCH_SIZE]
    assert epoch != [row.tolist() for _, row in batches(kind).shuffled(4)]
    for skip in (1, 17, 23, len(epoch)):
        assert [row.tolist() for _, row in batches(kind).shuffled(3, skip)] == epoch[skip:]


@pytest.mark.parametrize("kind", ["memory", "streamed"])
def test_padding_shrinks_with_the_number_of_batches_that_are_sorted_together(kind: str) -> None:
    shares = [padding(kind, together) for together in (None, 4, 16)]
    assert shares[0] > 0.55
    assert shares[2] < shares[1] < shares[0]
    assert shares[2] < 0.3


def test_a_pool_is_cut_into_strata_of_its_lengths() -> None:
    lengths, sizes = torch.from_numpy(DATA["lengths"]), [BATCH_SIZE] * 50 + [3]
    order = order_by_length(lengths, sizes, together=10, seed=1)
    for start in range(0, len(sizes), 10):
        rows = slice(start * BATCH_SIZE, (start + 10) * BATCH_SIZE)
        assert sorted(order[rows].tolist()) == list(range(N))[rows]
        strata = sorted((int(p.min()), int(p.max())) for p in lengths[order[rows]].split(BATCH_SIZE))
        assert all(high <= low for (_, high), (low, _) in pairwise(strata))
    assert order_by_length(lengths, sizes, together=1, seed=1).tolist() != order.tolist()


def test_each_stratum_comes_at_each_place_equally_often() -> None:
    """The mean of a batch is that of all rows over seeds; its variance is the one that is documented."""
    lengths = torch.arange(40.0)
    first = torch.stack([lengths[order_by_length(lengths, [4] * 10, 10, seed)[:4]].mean() for seed in range(2000)])
    explained = torch.arange(40.0).view(10, 4).mean(1).var(unbiased=False).item()
    assert first.mean().item() == pytest.approx(lengths.mean().item(), abs=4 * (explained / 2000) ** 0.5)
    assert first.var().item() == pytest.approx(explained, rel=4 * (2 / 2000) ** 0.5)


def test_processes_with_one_common_seed_have_batches_of_similar_length() -> None:
    both = [Batches(DATA, NAMES, BATCH_SIZE, group_by_length=51).shuffled(seed, common_seed=7) for seed in (1, 2)]
    longest = torch.tensor([[int(lengths.max()) for lengths, _ in epoch] for epoch in both])
    assert (longest[0] - longest[1]).abs().sum() < 0.1 * longest[0].sum()


def test_data_without_lengths_are_refused() -> None:
    with pytest.raises(InputError, match=r"^group_by_length is 5, and no array 'lengths' is an argument of the model"):
        Batches(DATA, ["row"], BATCH_SIZE, group_by_length=5)
