"""The rows of each rank."""

from __future__ import annotations

import itertools

import pytest

from ppl_vae.errors import InputError
from ppl_vae.parallel import part_of, portion_of


def test_ranks_share_every_batch_and_own_every_row_once() -> None:
    """By enumeration: the ranges cover all rows, every batch has rows of every rank, their sizes differ by one."""
    for num_rows, batch_size, size in itertools.product(range(1, 40), range(1, 14), range(1, 7)):
        if min(num_rows, batch_size) < size:
            with pytest.raises(InputError, match=f"there are {size} processes"):
                portion_of(num_rows, batch_size, 0, size)
            continue
        shares = [portion_of(num_rows, batch_size, rank, size) for rank in range(size)]
        assert [row for share in shares for row in range(num_rows)[share.rows]] == list(range(num_rows))
        (num_batches,) = {share.num_batches for share in shares}
        own = [share.rows.stop - share.rows.start for share in shares]
        last = [rows - (num_batches - 1) * share.batch_size for rows, share in zip(own, shares, strict=True)]
        assert min(last) >= 1
        assert max(last) - min(last) <= 1
        if num_batches > 1:
            assert sum(share.batch_size for share in shares) == batch_size
            assert sum(last) < batch_size + size
        if size == 1:
            assert num_batches == -(-num_rows // batch_size), "one rank has the batches of a fit without ranks"


def test_parts_cover_all_rows_even_if_there_are_fewer_than_ranks() -> None:
    for num_rows, size in itertools.product(range(12), range(1, 7)):
        parts = [range(num_rows)[part_of(num_rows, rank, size)] for rank in range(size)]
        assert [row for part in parts for row in part] == list(range(num_rows))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
