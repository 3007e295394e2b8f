"""Streamed batches: every datum once an epoch, in an order that depends on the seed alone, within bounded memory."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from ppl_vae.data import Batches, StoredRows, StreamedBatches, choose_batches, sizes
from ppl_vae.data.blocks import cut_blocks
from ppl_vae.data.sliced import SlicedArrays
from ppl_vae.data.source import NamedArrays
from ppl_vae.errors import InputError

N = 203


class Slow:
    """A source with natural blocks, which counts the rows that are read and takes the time that it is told to take."""

    def __init__(self, block_rows: int = 1, num_rows: int = N, delay: float = 0.0) -> None:
        rows = np.arange(num_rows)
        self.arrays = NamedArrays({"x": np.stack([rows, rows + 0.5], 1), "y": rows, "p": rows / num_rows})
        self.num_rows, self.block_rows, self.delay = num_rows, block_rows, delay
        self.shapes, self.dtypes, self.columns = self.arrays.shapes, self.arrays.dtypes, {}
        self.rows_read, self.fails_at = 0, num_rows + 1

    def read(self, rows: slice) -> NamedArrays:
        if rows.stop >= self.fails_at:
            raise OSError(5, "the disk\nfails")
        if self.delay:
            time.sleep(self.delay * np.random.random())
        self.rows_read += rows.stop - rows.start
        return self.arrays.read(rows)


def rows_of(batches: Batches, seed: int, skip: int = 0) -> list[list[int]]:
    return [y.tolist() for (y,) in batches.shuffled(seed, skip)]


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ppl_vae-reader")]


CASES = [(1, 7, 8 * 20), (1, 7, 8 * 500), (10, 7, 8 * 45), (10, 64, 8 * 30), (64, 5, 8 * 40), (500, 20, 8 * 50)]
"""Natural block, batch size, bytes of the buffer; a row of y is eight bytes."""


@pytest.mark.parametrize(("natural", "batch_size", "buffer"), CASES)
def test_every_datum_once_an_epoch_in_an_order_of_the_seed_alone(natural: int, batch_size: int, buffer: int) -> None:
    batches = StreamedBatches(Slow(natural), ["y"], batch_size, buffer_bytes=buffer)
    epoch = rows_of(batches, 3)
    assert [len(rows) for rows in epoch] == [batch_size] * (N // batch_size) + [N % batch_size] * (N % batch_size > 0)
    assert len(epoch) == len(batches)
    assert batches.sizes() == sizes(N, batch_size)
    assert sorted(row for rows in epoch for row in rows) == list(range(N))
    assert epoch != rows_of(batches, 4)
    torch.manual_seed(0)
    slow = StreamedBatches(Slow(natural, delay=2e-3), ["y"], batch_size, buffer_bytes=buffer)
    again = []
    for (y,) in slow.shuffled(3):  # another timing of the reader and of the one who is served
        time.sleep(1e-3 * np.random.random())
        again.append(y.tolist())
    assert again == epoch
    for skip in (1, len(epoch) // 2, len(epoch) - 1, len(epoch)):
        assert rows_of(batches, 3, skip) == epoch[skip:]


@pytest.mark.parametrize(("natural", "batch_size", "buffer"), CASES)
def test_rows_in_order_are_those_of_batches_in_memory(natural: int, batch_size: int, buffer: int) -> None:
    source, names = Slow(natural), ["p", "x", "y"]
    streamed = StreamedBatches(source, names, batch_size, dynamic=["p"], buffer_bytes=4 * buffer)
    whole = Batches(source.arrays, names, batch_size, dynamic=["p"])
    for size in (None, 3, N):
        pairs = zip(streamed.in_order(5, batch_size=size), whole.in_order(5, batch_size=size), strict=True)
        assert all(torch.equal(a, b) and a.dtype == b.dtype for pair in pairs for a, b in zip(*pair, strict=True))


def test_the_draws_of_a_batch_depend_on_the_seed_and_on_its_number() -> None:
    batches = StreamedBatches(Slow(), ["p", "y"], 16, dynamic=["p"], buffer_bytes=600)
    epoch = list(batches.shuffled(1))
    bits, rows = (torch.cat(column) for column in zip(*epoch, strict=True))
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    assert bits[rows.argsort()][-N // 4 :].mean() > 0.7
    for a, b in zip(epoch[5:], batches.shuffled(1, skip=5), strict=True):
        assert torch.equal(a[0], b[0])


def test_no_more_than_two_buffers_are_read_ahead() -> None:
    source = Slow()
    batches = StreamedBatches(source, ["y"], 4, buffer_bytes=8 * 20)
    for number, _ in enumerate(batches.shuffled(0)):
        assert source.rows_read <= 4 * number + 3 * 20
        time.sleep(1e-3)
    assert not readers()


def test_a_consumer_that_stops_early_leaves_no_thread() -> None:
    batches = StreamedBatches(Slow(delay=1e-3), ["y"], 4, buffer_bytes=8 * 20)
    for stream in (batches.shuffled(0), batches.in_order()):
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert not readers()
    stream = batches.shuffled(0)
    next(stream)
    del stream
    assert not readers()


def test_an_error_of_the_reader_is_one_line() -> None:
    source = Slow()
    source.fails_at = 150
    for stream in (
        StreamedBatches(source, ["y"], 4, buffer_bytes=160).shuffled(0),
        StreamedBatches(source, ["y"], 4).in_order(),
    ):
        with pytest.raises(
            InputError, match=r"^the data cannot be read \(OSError: .*the disk\): restore the file"
        ) as caught:
            list(stream)
        assert "\n" not in str(caught.value)
        assert not readers()
    with pytest.raises(InputError, match="the whole number 16777217, which single precision cannot hold"):
        list(StreamedBatches({"x": np.full(9, 2**24 + 1)}, ["x"], 4).shuffled(0))
    with pytest.raises(InputError, match="'x' ranges from"):
        list(StreamedBatches({"x": np.full(9, 1.5)}, ["x"], 4, dynamic=["x"]).shuffled(0))


@pytest.mark.parametrize(
    ("options", "fact"), [({"names": ["z"]}, "no array 'z'"), ({"batch_size": 0}, "batch_size is 0")]
)
def test_bad_requests_are_refused(options: dict[str, Any], fact: str) -> None:
    with pytest.raises(InputError, match=fact):
        StreamedBatches(Slow(), **{"names": ["x"], "batch_size": 4} | options)


@pytest.mark.parametrize(("block_rows", "at_once"), [(5, 4), (10, 10)])
def test_the_distance_from_a_full_shuffle_is_the_one_that_is_documented(block_rows: int, at_once: int) -> None:
    """Every block has one value, which is the worst case; the variance of the mean of a batch is compared."""
    num_blocks, batch_size, epochs = 50, 20, 360
    values = np.repeat(np.random.default_rng(0).normal(size=num_blocks), block_rows)
    source = Slow(block_rows, len(values))
    source.arrays = NamedArrays({"x": values})
    source.shapes, source.dtypes = source.arrays.shapes, source.arrays.dtypes
    batches = StreamedBatches(source, ["x"], batch_size, buffer_bytes=4 * block_rows * at_once)
    assert (batches.block_rows, batches.blocks_at_once) == (block_rows, at_once)
    first = [next(batches.shuffled(seed))[0].double().mean().item() for seed in range(epochs)]
    full = values.var() / batch_size * (1 - (batch_size - 1) / (len(values) - 1))
    measured = np.square(np.array(first) - values.mean()).mean() / full
    assert measured == pytest.approx(batches.excess, rel=4 * (2 / len(first)) ** 0.5)
    assert batches.excess > 1.5
    assert StreamedBatches(source, ["x"], batch_size).excess == pytest.approx(1)


def test_what_fits_in_memory_stays_there() -> None:
    x = np.zeros((60_000, 5))
    for memory, streamed in ((None, False), ("1200kB", False), ("1199kB", True)):
        assert isinstance(choose_batches({"x": x}, ["x"], 8, memory=memory), StreamedBatches) == streamed
    assert choose_batches({"x": x}, ["x"], 8, memory="1MiB").describe() == (  # type: ignore[attr-defined]
        "60,000 data (1.1 MiB) are streamed: 8 of 37 blocks at a time are shuffled in a buffer of 255.9 KiB; the mean "
        "of a batch may have 1.7 times the variance of a full shuffle: take more --memory, or write the file in "
        "smaller blocks"
    )


def test_natural_blocks_are_read_once_an_epoch_whichever_rows_a_part_has(tmp_path: Path) -> None:
    """A tenth of the rows, dealt one by one, are left out, so that a part's rows are no multiple of a block."""
    path, rows = tmp_path / "x.h5", np.sort(np.random.default_rng(0).permutation(1000)[:900])
    with h5py.File(path, "w") as file:
        file.create_dataset("y", data=np.arange(1000), chunks=(100,))
    with h5py.File(path) as file:
        source, reads = SlicedArrays("toy", {"y": file["y"]}), list[slice]()
        read, source.read = source.read, lambda at: (reads.append(at), read(at))[1]  # type: ignore[method-assign]
        part = StoredRows(source, np.stack([rows, rows + 1], 1))
        batches = StreamedBatches(part, ["y"], 16, buffer_bytes=8 * 250)
        assert batches.num_blocks == 10
        assert sorted(row for epoch in rows_of(batches, 0) for row in epoch) == rows.tolist()
    blocks = [number for at in reads for number in range(at.start // 100, (at.stop - 1) // 100 + 1)]
    assert sorted(blocks) == list(range(10))


def test_ends_of_blocks() -> None:
    source = Slow(10, 95)
    source.block_ends = np.array([40, 50, 90, 95])  # type: ignore[attr-defined]
    part = StoredRows(source, np.array([[5, 6], [7, 48], [49, 50], [92, 95]]))
    assert part.block_ends is not None
    assert part.block_ends.tolist() == [34, 43, 46]
    assert cut_blocks(part, 8, 1, 8 * 1000).tolist() == [46]  # joined
    assert cut_blocks(part, 2**16, 1, 2**30).tolist() == [34, 43, 46]
    assert cut_blocks(part, 2**16, 1, 2**16 * 40).tolist() == [17, 34, 43, 46]  # and cut
