"""Reading the arrays of a user's file, as they are."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np

from ppl_vae.data.csv_file import read_csv
from ppl_vae.errors import InputError

SUFFIXES = (".npz", ".npy", ".csv")


def read_file(path: Path, *, holes: bool = False) -> dict[str, np.ndarray]:
    """Read every array of an ``.npz``, ``.npy`` (called x) or ``.csv`` file; with ``holes``, its empty fields are NaN.

    Raises:
        InputError: if the file is missing, of another format, broken, or holds pickled objects.
    """
    if not path.exists():
        raise InputError(f"there is no file {path}: check the path (from {Path.cwd()})")
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise InputError(f"cannot read {path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".csv":
        return read_csv(path, holes=holes)
    try:
        with path.open("rb") as file:
            return _read_numpy(path, file)
    except (ValueError, TypeError, OSError, EOFError, MemoryError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        if "allow_pickle" in str(error):
            reason = "it is no NumPy file, or holds pickled objects"
        else:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
    except (BadZipFile, zlib.error) as error:
        reason = f"broken or truncated: {error}"
    raise InputError(f"cannot read {path} ({reason}): save it again, as plain arrays of numbers")


def _read_numpy(path: Path, file: BinaryIO) -> dict[str, np.ndarray]:
    loaded = np.load(file, allow_pickle=False)
    is_npz = path.suffix.lower() == ".npz"
    if isinstance(loaded, np.ndarray):
        if is_npz:
            raise InputError(f"cannot read {path}: it holds one array, so its name should end in .npy")
        return {"x": loaded}
    with loaded:
        if not is_npz:
            raise InputError(f"cannot read {path}: it holds several arrays, so its name should end in .npz")
        return {name: loaded[name] for name in loaded.files}
