"""Tables of local parameters beside a checkpoint, one ``.npy`` file each, which are read in place."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.errors import InputError, reason
from ppl_vae.runs.files import writing_whole

BYTES_AT_ONCE = 2**24
"""The number of bytes of an array that are read at once for its digest."""


@contextmanager
def write_tables(checkpoint: Path, place: int | str, tables: Mapping[str, np.ndarray]) -> Iterator[dict[str, str]]:
    """Write the tables of a checkpoint that is written inside the block, and then remove tables of earlier ones.

    Their names contain its place, so that a checkpoint never lacks its tables, whenever the process is killed.

    Args:
        checkpoint: path of the checkpoint.
        place: number of epochs of the checkpoint, and of further steps, as in ``3`` or ``3.20``.
        tables: tables by part of the data.

    Yields:
        The digests of the tables by part of the data, which belong into the checkpoint.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.safetensors"
        >>> with write_tables(path, 3, {"train": np.ones((4, 2))}) as digests:
        ...     _ = path.write_bytes(b"")
        >>> read_tables(path, 3, ["train"], digests)["train"].shape
        (4, 2)
    """
    written = {_path(checkpoint, place, part) for part in tables}
    for part, rows in tables.items():
        with writing_whole(_path(checkpoint, place, part)) as file:
            np.save(file, rows, allow_pickle=False)
    yield {part: digest_array(rows) for part, rows in tables.items()}
    for hidden in ("", "."):  # a file that was cut short is hidden
        for path in checkpoint.parent.glob(f"{hidden}{checkpoint.stem}.lambda-*.npy*"):
            if path not in written:
                path.unlink()


def read_tables(
    checkpoint: Path, place: int | str, parts: Collection[str], digests: Any = None
) -> dict[str, np.ndarray]:
    """Return the tables that were written with a checkpoint, as memory maps of their files.

    Args:
        checkpoint: path of the checkpoint.
        place: number of epochs of the checkpoint, and of further steps, as in ``3`` or ``3.20``.
        parts: parts of the data.
        digests: digests of the tables by part, as the checkpoint has them; those of earlier versions have none.

    Raises:
        InputError: if a table is missing, cut short, or not the one that was written.
    """
    tables = {}
    for part in parts:
        path = _path(checkpoint, place, part)
        try:
            tables[part] = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # NumPy parses a header that was changed, and may raise anything
            raise _unreadable(path, checkpoint, reason(error)) from error
        if not isinstance(tables[part], np.ndarray):
            raise _unreadable(path, checkpoint, "it is no array")
        if digests is not None and (
            not isinstance(digests, Mapping) or digests.get(part) != digest_array(tables[part])
        ):
            raise _unreadable(path, checkpoint, "its digest is that of other parameters")
    return tables


def digest_array(array: Any) -> str:
    """Return the SHA-256 digest of an array: its type, its shape and its numbers, which are read block by block.

    Args:
        array: an array, or what gives one for a slice of rows, such as sparse rows or an array on disk.

    Example:
        >>> digest_array(np.zeros(3)) == digest_array(np.zeros(3)[::-1])
        True
        >>> digest_array(np.zeros(4)) == digest_array(np.zeros((2, 2)))
        False
    """
    hashed = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    array = array if array.ndim else array[None]
    rows = max(1, BYTES_AT_ONCE * len(array) // max(1, array.size * array.dtype.itemsize))
    for start in range(0, len(array) if array.size else 0, rows):
        block = np.ascontiguousarray(array[start : start + rows])
        hashed.update(block.reshape(-1).view(np.uint8).data)
    return hashed.hexdigest()


def _path(checkpoint: Path, place: int | str, part: str) -> Path:
    return checkpoint.with_name(f"{checkpoint.stem}.lambda-{part}-{place}.npy")


def _unreadable(path: Path, checkpoint: Path, why: str) -> InputError:
    return InputError(
        f"{path}, the local parameters of {checkpoint.name}, cannot be read ({why}): restore it or fit the run anew"
    )
