"""Loading a data set that stays on disk, because it is large: parts are ranges of rows, which are read in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.data.checks import check_kinds
from ppl_vae.data.dataset import Dataset
from ppl_vae.data.images import infer_image_shape
from ppl_vae.data.opening import ARRAY_FORMATS, Files, is_there, open_files
from ppl_vae.data.parts import parts_of, scale_bytes, split_parts, split_shares
from ppl_vae.data.sequences import clear_padding, is_padded, pad_parts
from ppl_vae.data.source import MOST_IN_MEMORY, NamedArrays, Source, row_bytes
from ppl_vae.data.split import MOST_BLOCKS, PARTS, split_ranges
from ppl_vae.data.stored import StoredRows
from ppl_vae.data.survey import survey
from ppl_vae.data.table import TableOptions
from ppl_vae.data.transformed import Change, Transformed
from ppl_vae.errors import InputError

MOST_TABLE_IN_MEMORY = 2**30
"""The size of a single table up to which it is read into memory, with texts and all kinds of columns."""
MOST_PACKING = 32
"""The largest ratio of a table in memory to its Parquet file for which its footer is not looked at."""
MOST_BLOCKS_NUMPY = 2**22
"""``MOST_BLOCKS`` for a file of NumPy, of which single rows are read as fast as blocks, and were always dealt."""


def load_sources(
    path: Path, files: Files, options: TableOptions, arguments: Sequence[str], seed: int, *, is_unit: bool
) -> Dataset | None:
    """Load data from files that are read in blocks; data that are small are read into memory.

    What is small depends on the data alone and not on the machine, so that a fit can be repeated anywhere.

    Args:
        path: path of the data.
        files: its files.
        options: which columns of a table are used.
        arguments: names of the model's arguments.
        seed: seed of the split.
        is_unit: True if images of bytes are divided by 255.

    Returns:
        The data set, or None for a small file of NumPy or a small table by itself, which is read as a whole.

    Raises:
        InputError: a file is missing or broken, or differs from the others.
    """
    sources = None if _is_read_whole(path, files) else open_files(files, options, arguments)
    if sources is None:
        return None
    size = sum(row_bytes(source) * source.num_rows for source in sources.values())
    if files.is_single and files.is_table and size <= MOST_TABLE_IN_MEMORY:
        return None
    name, numpy = path.name, files.is_single and files.suffix in (".npy", ".npz")
    if "x" not in sources["train"].shapes and list(sources["train"].shapes) == ["y"]:
        raise InputError(f"{path} has labels only: expected at least one more column, for x")
    if size > MOST_IN_MEMORY:
        parts: dict[str, Any] = _stored(
            name, sources, seed, MOST_BLOCKS_NUMPY if numpy else MOST_BLOCKS, is_unit=is_unit
        )
    else:
        read = {part: NamedArrays(source.read(slice(None)), source.columns) for part, source in sources.items()}
        if files.is_table:
            parts = dict(split_parts(name, read, seed, MOST_BLOCKS))
        else:
            flat = {f"{k}_{part}" if len(read) > 1 else k: v for part, named in read.items() for k, v in named.items()}
            flat = pad_parts(name, flat)
            parts = dict(parts_of(name, scale_bytes(flat) if is_unit else flat, seed, MOST_BLOCKS))
    for part, rows in parts.items():
        check_kinds(name, part, rows)
    x = None if files.is_table or is_padded(parts["train"]) else parts["train"]["x"]
    shape = None if x is None else infer_image_shape(x.shape[1:])
    return Dataset(name, parts["train"], parts["valid"], parts["test"], image_shape=shape)


def _is_read_whole(path: Path, files: Files) -> bool:
    """Return True for a small file of NumPy, a small table, or no file: these are read whole."""
    if not files.is_single or files.suffix in (".h5", ".hdf5", ".zarr"):
        return False
    if not is_there(path) or path.is_dir():
        return True  # which refuses it
    if files.suffix == ".parquet":
        return path.stat().st_size * MOST_PACKING <= MOST_TABLE_IN_MEMORY
    return files.suffix not in ARRAY_FORMATS or path.stat().st_size <= MOST_IN_MEMORY


def _stored(
    name: str, sources: Mapping[str, Source], seed: int, most_blocks: int, *, is_unit: bool
) -> dict[str, StoredRows]:
    """Return the parts of data that stay on disk."""
    parts = {part: StoredRows(source) for part, source in sources.items()}
    steps = max((rows["x"].shape[1] for rows in parts.values() if is_padded(rows) and rows["x"].ndim > 1), default=0)
    for part, rows in parts.items():
        if is_padded(rows):
            parts[part] = _changed(rows, partial(_pad, name, part, steps), f"padding to {steps}")
    is_bytes = is_unit and all(rows["x"].dtype == np.uint8 for rows in parts.values())
    if is_bytes and any(survey(f"{name}, {part}", rows)["x"].high > 1 for part, rows in parts.items()):
        parts = {part: _changed(rows, _scale, "divided by 255") for part, rows in parts.items()}
    return split_stored(name, parts, seed, most_blocks)


def split_stored(name: str, parts: dict[str, StoredRows], seed: int, most_blocks: int) -> dict[str, StoredRows]:
    """Return train, valid and test of data on disk; each that is missing becomes a tenth of the rows of train."""
    if missing := [part for part in PARTS if part not in parts]:
        train = parts["train"]
        ranges = split_ranges(train.num_rows, split_shares(missing), seed, name, most_blocks=most_blocks)
        for part, of_part in zip(("train", *missing), ranges, strict=True):
            parts[part] = StoredRows(train.source, of_part)
    return parts


def _changed(rows: StoredRows, change: Change, name: str) -> StoredRows:
    return StoredRows(Transformed(rows.source, change, name), rows.ranges)


def _pad(name: str, part: str, steps: int, block: NamedArrays, first: int) -> dict[str, np.ndarray]:
    arrays = clear_padding(name, part, block, first)
    x = arrays["x"]
    return {**arrays, "x": np.pad(x, [(0, 0), (0, steps - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])}


def _scale(block: NamedArrays, first: int) -> dict[str, np.ndarray]:
    return {**block, "x": block["x"] / np.float32(255)}
