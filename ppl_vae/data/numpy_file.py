"""Files of NumPy that are read in place: ``.npy``, and ``.npz`` whose arrays are stored and not compressed."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from ppl_vae.errors import InputError

NPY, ZIP, EMPTY_ZIP = b"\x93NUM", b"PK\x03\x04", b"PK\x05\x06"
"""The first bytes of files."""
PIECE_BYTES, GAP_BYTES = 2**22, 2**14
"""The size of the pieces in which chosen rows are read, and of a gap between two rows that is read with them."""
ENCRYPTED = 0x1
"""The bit of a zip member's flags that says that it is encrypted."""
ZIP_HEADER = 30
"""The length of the header of a zip member before its name."""


class FileArray:
    """An array of a file, of which a slice is read by its position: the file is not mapped into memory.

    So the memory that a process takes does not grow with the file, a file that was cut short is an error and not a
    broken process, and threads read at once.

    Args:
        path: path of the file.
        shape: shape of the array.
        dtype: type of its numbers.
        offset: position of the first number in the file.
        is_fortran: True if the first index varies fastest, so that a slice lies in pieces.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "x.npy"
        >>> np.save(path, np.arange(12).reshape(6, 2))
        >>> open_npy(path)["x"][1:3].tolist()
        [[2, 3], [4, 5]]
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: np.dtype, offset: int, *, is_fortran: bool = False
    ) -> None:
        self.path, self.shape, self.dtype, self.offset, self.is_fortran = path, shape, dtype, offset, is_fortran

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        count, size = max(0, stop - start), math.prod(self.shape[1:])
        if not self.is_fortran:
            array = np.empty((count, *self.shape[1:]), self.dtype)
            self._fill(array.reshape(-1), [start * size])
        else:
            turned = np.empty((*self.shape[:0:-1], count), self.dtype)
            self._fill(turned.reshape(size, count), [start + column * self.shape[0] for column in range(size)])
            array = turned.transpose()
        return self._checked(array)

    def take_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return rows in ascending order; rows that lie close together are read at once."""
        size = math.prod(self.shape[1:])
        bytes_of_row = max(1, size * self.dtype.itemsize)
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        gaps, near = np.diff(rows, prepend=-1), max(1, GAP_BYTES // bytes_of_row)
        starts_span = gaps > near
        starts_span[:1] = True
        read_rows = np.cumsum(np.where(starts_span, 1, gaps))  # with those of the gaps
        cuts = np.flatnonzero(np.diff(read_rows // max(1, PIECE_BYTES // bytes_of_row))) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
            piece = rows[start:stop]
            spans = np.flatnonzero(starts_span[start:stop])
            if len(piece) and (len(spans) == 0 or spans[0] > 0):
                spans = np.append(0, spans)
            self._take(piece, spans, taken[start:stop])
        return self._checked(taken)

    def _take(self, rows: np.ndarray, spans: np.ndarray, out: np.ndarray) -> None:
        """Read ascending rows, which form spans from these places on."""
        firsts, places = rows[spans], np.append(spans, len(rows))
        counts = rows[places[1:] - 1] - firsts + 1
        ends = np.cumsum(counts)
        if self.is_fortran:
            blocks = [self[first : first + count] for first, count in zip(firsts, counts, strict=True)]
            read = np.concatenate(blocks or [self[:0]])
        else:
            size = math.prod(self.shape[1:])
            read = np.empty((int(counts.sum()), *self.shape[1:]), self.dtype)
            flat = read.reshape(-1)
            with self.path.open("rb", buffering=0) as file:
                for first, count, end in zip(firsts.tolist(), counts.tolist(), ends.tolist(), strict=True):
                    self._read_piece(file, flat[(end - count) * size : end * size], first * size)
        np.take(read, rows + np.repeat(ends - counts - firsts, np.diff(places)), axis=0, out=out, mode="clip")

    def _checked(self, array: np.ndarray) -> np.ndarray:
        if self.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
            raise InputError(f"cannot read {self.path} (broken: true and false are 1 and 0): save it again")
        return array

    def _fill(self, pieces: np.ndarray, positions: list[int]) -> None:
        """Read a piece of the file for each position, counted in numbers."""
        if pieces.size == 0:
            return
        with self.path.open("rb", buffering=0) as file:
            for piece, position in zip(pieces.reshape(len(positions), -1), positions, strict=True):
                self._read_piece(file, piece, position)

    def _read_piece(self, file: BinaryIO, piece: np.ndarray, position: int) -> None:
        at, unread = self.offset + position * self.dtype.itemsize, piece.view(np.uint8).data
        while len(unread):
            number = os.preadv(file.fileno(), [unread], at)
            if number == 0:
                raise InputError(f"cannot read {self.path}: it has been cut short since it was opened")
            at, unread = at + number, unread[number:]


def open_npy(path: Path) -> dict[str, FileArray]:
    """Return the array of an ``.npy`` file, called x, unread."""
    with path.open("rb") as file:
        check_start(path, file.read(4))
        file.seek(0)
        return {"x": _open_array(f"cannot read {path}", path, file, 0, path.stat().st_size)}


def open_npz(path: Path) -> dict[str, FileArray] | None:
    """Return the arrays of an ``.npz`` file unread, or None if one is compressed, so that it cannot be read in place.

    A compressed file is checked by its sum when it is read; that of stored arrays is not, as it needs all their bytes.
    """
    with path.open("rb") as file:
        check_start(path, file.read(4))
        arrays = {}
        for name, member in members_of(path):
            if member.compress_type != ZIP_STORED:
                return None
            file.seek(member.header_offset)
            header = file.read(ZIP_HEADER)
            if header[:4] != ZIP or len(header) < ZIP_HEADER:
                raise InputError(f"cannot read {path}, array {name!r} (broken or truncated): save it again")
            file.seek(sum(struct.unpack("<HH", header[26:30])), os.SEEK_CUR)
            where = f"cannot read {path}, array {name!r}"
            arrays[name] = _open_array(where, path, file, file.tell(), member.file_size)
        return arrays


def members_of(path: Path) -> Iterator[tuple[str, ZipInfo]]:
    """Yield the name of each array of an ``.npz`` file, and its place in the file.

    Raises:
        InputError: an array is encrypted, two have one name, or something is no array.
    """
    names = set()
    with ZipFile(path) as members:
        for member in members.infolist():
            name = member.filename.removesuffix(".npy")
            if member.flag_bits & ENCRYPTED:
                raise InputError(f"cannot read {path} ({name!r} is encrypted): save it without a password")
            if name in names:
                raise InputError(f"cannot read {path} (two arrays are called {name!r}): rename one of them")
            if not member.filename.endswith(".npy"):
                raise InputError(f"cannot read {path} ({member.filename!r} is no array): save it with numpy.savez")
            names.add(name)
            yield name, member


def check_start(path: Path, start: bytes) -> None:
    """Check by its first bytes that a file is what its name promises.

    Raises:
        InputError: it is the other kind of file of NumPy, or none.
    """
    is_zip, is_npz = start in (ZIP, EMPTY_ZIP), path.suffix.lower() == ".npz"
    if is_zip != is_npz and (is_zip or start == NPY):
        holds, ends = ("several arrays", ".npz") if is_zip else ("one array", ".npy")
        raise InputError(f"cannot read {path}: it holds {holds}, so its name should end in {ends}")
    if not is_zip and start != NPY:
        raise InputError(f"cannot read {path} (it is no NumPy file, or holds pickled objects): save it again")


def read_header(where: str, file: BinaryIO, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, order and type of an array in the format of ``.npy``, compared with its size.

    Args:
        where: beginning of a message.
        file: the file, at the beginning of the array; it is left at its first number.
        size: number of bytes of the array with its header.

    Raises:
        InputError: the array is truncated, of a newer format, or holds pickled objects.
    """
    start = file.tell()
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{where} (format {version}): save it again with numpy.save")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise InputError(f"{where}: it holds pickled objects, which are not run; save it again, as plain numbers")
    if min(shape, default=0) < 0:
        raise InputError(f"{where} (its shape is {shape}): save it again")
    left = size - (file.tell() - start)
    if math.prod(shape) * dtype.itemsize != left:
        raise InputError(
            f"{where} (broken or truncated: its shape is {_short(shape)} of {dtype}, and it has {left} bytes): save it "
            f"again"
        )
    return shape, is_fortran, dtype


def _open_array(where: str, path: Path, file: BinaryIO, start: int, size: int) -> FileArray:
    file.seek(start)
    shape, is_fortran, dtype = read_header(where, file, size)
    if start + size > path.stat().st_size:
        raise InputError(f"{where} (broken or truncated): save it again")
    return FileArray(path, shape, dtype, file.tell(), is_fortran=is_fortran and len(shape) > 1)


def _short(shape: tuple[int, ...]) -> str:
    text = str(shape)
    return text if len(text) < 60 else f"{text[:60]}..."
