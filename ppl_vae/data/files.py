"""Reading the arrays of a user's file: one guarded place, which validates what a file holds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile

import numpy as np

from ppl_vae.data.hdf5_file import open_hdf5
from ppl_vae.data.numpy_file import check_start, members_of, read_header
from ppl_vae.data.zarr_file import open_zarr
from ppl_vae.errors import InputError

SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".zarr")


def read_file(path: Path) -> dict[str, np.ndarray]:
    """Read every array of an ``.npz`` file, of an HDF5 file or a zarr store, or of an ``.npy`` file, called x.

    Raises:
        InputError: if the file is missing, of another format, broken, or holds pickled objects.
    """
    suffix = path.suffix.lower()
    if suffix == ".zarr":
        with guarded_open(path):
            return {name: np.asarray(array[:]) for name, array in open_zarr(path).items()}
    with guarded(path, SUFFIXES):
        if suffix in (".h5", ".hdf5"):
            return {name: np.asarray(array[()]) for name, array in open_hdf5(path).items()}
        return _read_numpy(path)


@contextmanager
def guarded(path: Path, suffixes: Collection[str]) -> Iterator[None]:
    """Check that there is a file with one of these suffixes, and turn every error of its reader into one line.

    Raises:
        InputError: whatever was raised inside, but for interrupts and the end of the process.
    """
    with guarded_open(path):
        if path.suffix.lower() not in suffixes or not path.is_file():
            raise InputError(f"cannot read {path}: expected a file that ends in {', '.join(suffixes)}")
        yield


@contextmanager
def guarded_open(path: Path) -> Iterator[None]:
    """Check that there is a file or a folder, and turn every error of its reader into one line.

    Raises:
        InputError: whatever was raised inside, but for interrupts and the end of the process.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old headers, and of numbers that overflow, which the checks report
            if not path.exists():
                raise InputError(f"there is no file {path}: check the path (from {Path.cwd()})")
            yield
    except InputError as error:
        if path.name in str(error):
            raise
        raise InputError(f"{path}: {error}") from error
    except MemoryError as error:
        raise InputError(f"cannot read {path}: it does not fit in memory; give fewer rows, or float32") from error
    except OSError as error:
        raise InputError(
            f"cannot read {path} ({error.strerror or type(error).__name__}): check its permissions"
        ) from error
    except Exception as error:  # NumPy, zipfile, zlib and lzma raise a dozen types for a broken file
        lines = str(error).splitlines() or [type(error).__name__]
        raise InputError(
            f"cannot read {path} (broken or truncated: {lines[0][:80]}): save it again, as plain arrays of numbers"
        ) from error


def _read_numpy(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        check_start(path, file.read(4))
    if path.suffix.lower() != ".npz":
        with path.open("rb") as file:
            return {"x": _read_array(f"cannot read {path}", file, path.stat().st_size)}
    arrays: dict[str, np.ndarray] = {}
    with ZipFile(path) as members:
        for name, member in members_of(path):
            with members.open(member) as file:
                arrays[name] = _read_array(f"cannot read {path}, array {name!r}", file, member.file_size)  # type: ignore[arg-type]
    return arrays


def _read_array(where: str, file: BinaryIO, size: int) -> np.ndarray:
    """Return the array of an ``.npy`` file, after its header has been compared with the size of the file."""
    shape, is_fortran, dtype = read_header(where, file, size)
    count = math.prod(shape)
    content = bytearray(count * dtype.itemsize)
    unread = memoryview(content)
    while unread and (number := file.readinto(unread)):  # type: ignore[attr-defined]
        unread = unread[number:]
    if unread or file.read(1):  # at the end, a zip file compares the checksum
        raise InputError(f"{where} (broken or truncated: it does not have {len(content)} bytes): save it again")
    array = np.frombuffer(content, dtype, count).reshape(shape, order="F" if is_fortran else "C")
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise InputError(f"{where} (broken: true and false are 1 and 0): save it again")
    return array
