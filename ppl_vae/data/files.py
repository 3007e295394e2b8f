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

from ppl_vae.errors import InputError

SUFFIXES = (".npz", ".npy")
ENCRYPTED = 0x1
"""The bit of a zip member's flags that says that it is encrypted."""


def read_file(path: Path) -> dict[str, np.ndarray]:
    """Read every array of an ``.npz`` or ``.npy`` (called x) file.

    Raises:
        InputError: if the file is missing, of another format, broken, or holds pickled objects.
    """
    with guarded(path, SUFFIXES):
        return _read_numpy(path)


@contextmanager
def guarded(path: Path, suffixes: Collection[str]) -> Iterator[None]:
    """Check that there is a file with one of these suffixes, and turn every error of its reader into one line.

    Raises:
        InputError: whatever was raised inside, but for interrupts and the end of the process.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old headers, and of numbers that overflow, which the checks report
            if not path.exists():
                raise InputError(f"there is no file {path}: check the path (from {Path.cwd()})")
            if path.suffix.lower() not in suffixes or not path.is_file():
                raise InputError(f"cannot read {path}: expected a file that ends in {', '.join(suffixes)}")
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
        start = file.read(4)
    is_zip, is_npz = start == b"PK\x03\x04" or start == b"PK\x05\x06", path.suffix.lower() == ".npz"
    if is_zip != is_npz and (is_zip or start == b"\x93NUM"):
        holds, ends = ("several arrays", ".npz") if is_zip else ("one array", ".npy")
        raise InputError(f"cannot read {path}: it holds {holds}, so its name should end in {ends}")
    if not is_zip and start != b"\x93NUM":
        raise InputError(f"cannot read {path} (it is no NumPy file, or holds pickled objects): save it again")
    if not is_npz:
        with path.open("rb") as file:
            return {"x": _read_array(f"cannot read {path}", file, path.stat().st_size)}
    arrays: dict[str, np.ndarray] = {}
    with ZipFile(path) as members:
        for member in members.infolist():
            name = member.filename.removesuffix(".npy")
            if member.flag_bits & ENCRYPTED:
                raise InputError(f"cannot read {path} ({name!r} is encrypted): save it without a password")
            if name in arrays:
                raise InputError(f"cannot read {path} (two arrays are called {name!r}): rename one of them")
            if not member.filename.endswith(".npy"):
                raise InputError(f"cannot read {path} ({member.filename!r} is no array): save it with numpy.savez")
            with members.open(member) as file:
                arrays[name] = _read_array(f"cannot read {path}, array {name!r}", file, member.file_size)  # type: ignore[arg-type]
    return arrays


def _read_array(where: str, file: BinaryIO, size: int) -> np.ndarray:
    """Return the array of an ``.npy`` file, after its header has been compared with the size of the file."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{where} (format {version}): save it again with numpy.save")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise InputError(f"{where}: it holds pickled objects, which are not run; save it again, as plain numbers")
    if min(shape, default=0) < 0:
        raise InputError(f"{where} (its shape is {shape}): save it again")
    count, left = math.prod(shape), size - file.tell()
    if count * dtype.itemsize != left:
        raise InputError(
            f"{where} (broken or truncated: its shape is {_short(shape)} of {dtype}, and it has {left} bytes): save it "
            f"again"
        )
    content = bytearray(left)
    unread = memoryview(content)
    while unread and (number := file.readinto(unread)):  # type: ignore[attr-defined]
        unread = unread[number:]
    if unread or file.read(1):  # at the end, a zip file compares the checksum
        raise InputError(f"{where} (broken or truncated: it does not have {left} bytes): save it again")
    array = np.frombuffer(content, dtype, count).reshape(shape, order="F" if is_fortran else "C")
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise InputError(f"{where} (broken: true and false are 1 and 0): save it again")
    return array


def _short(shape: tuple[int, ...]) -> str:
    text = str(shape)
    return text if len(text) < 60 else f"{text[:60]}..."
