"""Data on disk as sources: one file, or the shards of a folder or of a pattern, of any format."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ppl_vae.data.files import guarded_open
from ppl_vae.data.hdf5_file import open_hdf5
from ppl_vae.data.numpy_file import open_npy, open_npz
from ppl_vae.data.parquet_file import open_parquet
from ppl_vae.data.parts import sort_by_part
from ppl_vae.data.shards import join_shards, sort_naturally
from ppl_vae.data.sliced import Sliceable, SlicedArrays
from ppl_vae.data.source import Source
from ppl_vae.data.split import PARTS
from ppl_vae.data.table import TableOptions
from ppl_vae.data.zarr_file import open_zarr
from ppl_vae.errors import InputError

ARRAY_FORMATS: dict[str, Callable[[Path], Mapping[str, Sliceable] | None]] = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
    ".zarr": open_zarr,
}
"""For each ending of a file, a function from its path to its arrays unread; None of a file that is read whole only."""
TABLE_FORMATS = (".parquet",)
"""Endings of tables that can be shards."""


class Files(NamedTuple):
    """The files of a data set.

    Attributes:
        parts: the files of each part by its name, or of all data under the empty name.
        suffix: the ending of all of them.
        is_single: True for one file that was named itself.
    """

    parts: dict[str, list[Path]]
    suffix: str
    is_single: bool

    @property
    def is_table(self) -> bool:
        """True if the files are tables."""
        return self.suffix not in ARRAY_FORMATS


def is_there(path: Path, *, folder: bool = False) -> bool:
    """Return True if a path exists, as a folder if that is asked for; a name that no file can have does not exist."""
    try:
        return path.is_dir() if folder else path.exists()
    except OSError:
        return False


def is_pattern(path: Path) -> bool:
    """Return True for a pattern of paths, such as ``shards/part-*.npy``."""
    return glob.has_magic(str(path)) and not is_there(path)


def find_files(path: Path) -> Files:
    """Return the files that a path stands for: a file, the shards in a folder, or those that fit a pattern.

    A folder with folders train, valid and test has the shards of each part in them. Shards are in the order of their
    names, in which numbers count as numbers.

    Raises:
        InputError: there are no files, or they are of several formats.

    Example:
        >>> import tempfile, numpy
        >>> folder = Path(tempfile.mkdtemp())
        >>> for number in (2, 10):
        ...     numpy.save(folder / f"part-{number}.npy", numpy.eye(3))
        >>> files = find_files(folder)
        >>> [file.name for file in files.parts[""]], files.suffix
        (['part-2.npy', 'part-10.npy'], '.npy')
    """
    if is_pattern(path):
        first = next(index for index, part in enumerate(path.parts) if glob.has_magic(part))
        matched = Path(*path.parts[:first]).glob("/".join(path.parts[first:]))
        return _shards({"": list(matched)}, f"files that fit {path}")
    if not is_there(path, folder=True) or path.suffix.lower() in ARRAY_FORMATS:
        return Files({"": [path]}, path.suffix.lower(), is_single=True)
    parts = {part: list((path / part).iterdir()) for part in PARTS if (path / part).is_dir()}
    return _shards(parts or {"": list(path.iterdir())}, f"shards in {path}")


def open_files(files: Files, options: TableOptions, arguments: Sequence[str]) -> dict[str, Source] | None:
    """Return a source for each part, unread; only train if the files have no parts.

    Args:
        files: the files.
        options: which columns of a table are used.
        arguments: names of the model's arguments, which take the columns of a table of these names.

    Returns:
        The sources, or None if the file can be read as a whole only.

    Raises:
        InputError: a file is missing or broken, differs from the first, or an array belongs to no part.
    """
    parts: dict[str, Source] = {}
    for part, paths in files.parts.items():
        with guarded_open(paths[0]):
            if files.is_table:
                parts[part or "train"] = open_parquet(paths, options, arguments)
            elif files.is_single:
                arrays = ARRAY_FORMATS[files.suffix](paths[0])
                if arrays is None:
                    return None
                for name, keys in sort_by_part(paths[0].name, arrays).items():
                    named = {array: arrays[key] for array, key in keys.items()}
                    parts[name] = SlicedArrays(f"{paths[0].name}, {name}", named, paths)
            else:
                parts[part or "train"] = join_shards(str(paths[0].parent), paths, open_shard)
    return parts


def open_shard(path: Path) -> SlicedArrays:
    """Return the arrays of one shard as a source.

    Raises:
        InputError: the file is broken, compressed, or has parts of its own.
    """
    with guarded_open(path):
        arrays = ARRAY_FORMATS[path.suffix.lower()](path)
        if arrays is None:
            raise InputError(f"{path} is compressed, and cannot be read in place: save it with numpy.savez")
        if list(parts := sort_by_part(path.name, arrays)) != ["train"] or parts["train"].keys() != arrays.keys():
            raise InputError(
                f"{path} has parts of its own ({', '.join(arrays)}): put the shards of each part into a folder train, "
                f"valid or test"
            )
        return SlicedArrays(path.name, arrays, [path])


def _shards(parts: Mapping[str, Sequence[Path]], what: str) -> Files:
    known = {
        part: sort_naturally([p for p in paths if p.suffix.lower() in (*ARRAY_FORMATS, *TABLE_FORMATS)])
        for part, paths in parts.items()
    }
    suffixes = sorted({path.suffix.lower() for paths in known.values() for path in paths})
    for part, paths in known.items():
        if not paths:
            inside = f" in {part}" if part else ""
            raise InputError(
                f"there are no {what}{inside}: expected files that end in {', '.join((*ARRAY_FORMATS, *TABLE_FORMATS))}"
            )
    if len(suffixes) > 1:
        raise InputError(f"the {what} are of several formats, {' and '.join(suffixes)}: keep those of one")
    return Files(known, suffixes[0], is_single=False)
