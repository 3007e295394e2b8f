"""The table of every datum's variational parameters: what an epoch reads is what the one before has left."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppl_vae.errors import InputError
from ppl_vae.inference import Rows, Table
from ppl_vae.inference import table as module
from tests.helpers.scenarios import normal


@pytest.fixture(params=["memory", "file"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        monkeypatch.setattr(module, "IN_MEMORY", 0)
    return request.param


def rows(count: int, width: int = 3, seed: int = 0) -> Rows:
    lam, mean, square, taken = (normal(count, width, seed=seed + i) for i in range(4))
    return Rows(lam, mean, square.abs(), taken[:, :1].abs().round())


def same(one: Rows, other: Rows) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_lies_where_it_has_room(where: str) -> None:
    left = Table(5, 3).after(0)
    assert left.shape == (5, 10)
    assert left.dtype == np.float32
    assert isinstance(left, np.memmap) == (where == "file")


def test_an_epoch_reads_what_the_one_before_has_written(where: str) -> None:
    """Whatever the batches and their order; all of a datum's state, and nobody else's."""
    table, start, left = Table(7, 3, torch.double), rows(7, seed=90), rows(7)
    for epoch in range(1, 5):
        order = torch.randperm(7, generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(3):
            given = Rows(*(tensor[batch] for tensor in start))
            expected = given if epoch == 1 else Rows(*(tensor[batch] for tensor in left))
            assert same(table.epoch(epoch).read(batch, given), expected)
        left = rows(7, seed=10 * epoch)
        for batch in order.split(2):
            table.epoch(epoch).write(batch, Rows(*(tensor[batch] for tensor in left)))
    assert np.array_equal(table.after(4), left.joined().numpy())


def test_an_epoch_that_is_broken_off_has_changed_nothing_that_is_read(where: str) -> None:
    table, first = Table(4, 3, torch.double), rows(4)
    table.epoch(1).write(torch.arange(4), first)
    table.epoch(2).write(torch.tensor([2, 0]), rows(2, seed=50))  # and no more
    assert same(table.epoch(2).read(torch.arange(4), rows(4, seed=70)), first)
    assert np.array_equal(table.after(1), first.joined().numpy())


def test_data_that_have_not_been_visited_are_where_they_start() -> None:
    table, start = Table(4, 3, torch.double), rows(4, seed=20)
    table.epoch(1).write(torch.tensor([1, 3]), rows(2))
    found = table.epoch(2).read(torch.arange(4), start)
    assert same(Rows(*(t[[0, 2]] for t in found)), Rows(*(t[[0, 2]] for t in start)))
    assert same(Rows(*(t[[1, 3]] for t in found)), rows(2))


@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_it_is_taken_up_where_it_was_left(epoch: int, where: str) -> None:
    table = Table(4, 3, torch.double)
    for number in range(1, epoch + 1):
        table.epoch(number).write(torch.arange(4), rows(4, seed=10 * number))
    other = Table(4, 3, torch.double)
    other.restore(epoch, table.after(epoch).copy())
    start = rows(4, seed=80)
    assert same(other.epoch(epoch + 1).read(torch.arange(4), start), rows(4, seed=10 * epoch) if epoch else start)


@pytest.mark.parametrize(
    "other", [np.zeros((5, 10)), np.zeros((4, 7)), np.zeros((4, 10), "float32"), np.zeros(40)], ids=str
)
def test_that_of_other_data_or_another_family_is_refused(other: np.ndarray) -> None:
    table = Table(4, 3, torch.double)
    with pytest.raises(InputError, match=r"of shape .* expected \(4, 10\), float64; it belongs to other data or ano"):
        table.restore(2, other)
    assert np.isnan(table.after(2)[:, -1]).all()
