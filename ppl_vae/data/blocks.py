"""The blocks of rows in which a source is read and shuffled."""

from __future__ import annotations

import numpy as np

from ppl_vae.data.source import NamedArrays, Source, ends_of_blocks

BLOCK_BYTES = 2**16
"""The size of a block of a source whose rows cost the same one by one or together."""


def cut_blocks(source: Source, row_bytes: int, batch_size: int, buffer_bytes: int) -> np.ndarray:
    """Return the ends of the blocks in which a source is shuffled.

    A block is a natural block of the source, or several of them if they are smaller than 64 KiB, so that each is
    decoded once an epoch. One that is larger than half of a buffer is cut, because two fit in memory. A source without
    natural blocks has blocks of 64 KiB, and smaller ones for a small buffer.

    Args:
        source: the source.
        row_bytes: the number of bytes of a row on the device.
        batch_size: the number of rows in a batch.
        buffer_bytes: the size of a buffer.

    Returns:
        The ends in ascending order, ``(K,)``; the last one is the number of rows.

    Example:
        >>> cut_blocks(NamedArrays({"y": np.arange(10)}), row_bytes=8, batch_size=2, buffer_bytes=64)
        array([ 4,  8, 10])
    """
    most = max(1, int(buffer_bytes / 2 / row_bytes))
    wanted = min(BLOCK_BYTES, buffer_bytes / max(1, batch_size)) / row_bytes  # small buffers have small blocks
    ends = ends_of_blocks(source)
    if ends is None:
        natural = min(most, natural_rows(source))
        rows = natural * max(1, int(wanted / natural))
        return np.minimum(np.arange(1, -(-source.num_rows // rows) + 1) * rows, source.num_rows)
    joined = max(1, int(wanted * len(ends) / source.num_rows))
    ends = np.append(ends[joined - 1 : -1 : joined], ends[-1])
    sizes = np.diff(ends, prepend=0)
    if sizes.max() <= most:
        return ends
    pieces = -(-sizes // most)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces) + 1
    return np.repeat(ends - sizes, pieces) + np.repeat(sizes, pieces) * number // np.repeat(pieces, pieces)


def natural_rows(source: Source) -> int:
    """Return the number of rows that cost the least to read together; one in memory, where rows cost the same."""
    return 1 if isinstance(source, NamedArrays) else max(1, source.block_rows)
