"""Files that are broken: one line for each, no traceback, and nothing that the file does not hold."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ppl_vae.data import load_dataset
from ppl_vae.errors import InputError
from tests.helpers.messages import refusal

X = np.random.default_rng(0).normal(size=(30, 3))


def npy(header: str | bytes, content: bytes = X.tobytes(), version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + content


def header(descr: object = "<f8", order: object = False, shape: object = (30, 3)) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}}}\n"


def zipped(method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members.items():
            file.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


SOUND = npy(header())
ENCRYPTED = bytearray(zipped(x_npy=SOUND))
ENCRYPTED[6] |= 1
ENCRYPTED[ENCRYPTED.index(b"PK\x01\x02") + 8] |= 1
LZMA = bytearray(zipped(zipfile.ZIP_LZMA, x_npy=SOUND))
LZMA[60:90] = bytes(30)
OTHER_METHOD = bytearray(zipped(x_npy=SOUND))
OTHER_METHOD[8] = OTHER_METHOD[OTHER_METHOD.index(b"PK\x01\x02") + 10] = 99

BROKEN: dict[str, bytes] = {
    "empty.npy": b"",
    "empty.npz": b"",
    "text.npy": b"1,2,3\n",
    "shape of 2^64.npy": npy(header(shape=(2**64, 3))),
    "shape of 2^63.npy": npy(header(shape=(2**62, 2**62))),
    "large.npy": npy(header(shape=(10**12, 3))),
    "negative shape.npy": npy(header(shape=(-30, 3))),
    "shape of text.npy": npy(header(shape="ab")),
    "shape of reals.npy": npy(header(shape=(30.0, 3))),
    "no order.npy": npy("{'descr': '<f8', 'shape': (30, 3)}\n"),
    "no literal.npy": npy("{'descr': __import__('os'), 'fortran_order': False, 'shape': (30, 3)}\n"),
    "deep.npy": npy("(" * 20000),
    "not closed.npy": npy("{'descr': '<f8'"),
    "not latin.npy": npy(bytes(range(256))),
    "unknown type.npy": npy(header("<q9")),
    "objects.npy": npy(header("|O")),
    "version.npy": npy(header(), version=b"\x09\x09"),
    "more.npy": SOUND + b"12345678",
    "less.npy": SOUND[:-1],
    "other width.npy": npy(header("<f4")),
    "bits.npy": npy(header("|b1", shape=(720,)), bytes(range(240)) * 3),
    "encrypted.npz": bytes(ENCRYPTED),
    "lzma.npz": bytes(LZMA),
    "method.npz": bytes(OTHER_METHOD),
    "member.npz": zipped(x_txt=b"1,2"),
    "short member.npz": zipped(x_npy=SOUND[:-9]),
    "one array.npz": SOUND,
    "several arrays.npy": zipped(x_npy=SOUND),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(BROKEN[name])
    assert "cannot read" in refusal(load_dataset, tmp_path / name)


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    for name, content in {
        "a.npy": SOUND,
        "f.npy": npy(header(order=True), X.tobytes("F")),
        "b.npz": zipped(x_npy=SOUND),
        "c.npz": zipped(zipfile.ZIP_LZMA, x_npy=SOUND),
    }.items():
        (tmp_path / name).write_bytes(content)
        data = load_dataset(tmp_path / name)
        rows = np.concatenate([data.part(part)["x"] for part in ("train", "valid", "test")])
        assert np.array_equal(np.sort(rows, 0), np.sort(X, 0))


def test_places_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    assert "cannot read" in refusal(load_dataset, tmp_path / "folder.npy")
    assert "cannot read" in refusal(load_dataset, Path(f"{'long' * 100}.npy"))
    assert "there is no file" in refusal(load_dataset, tmp_path / "a.npy" / "b.npy")
    locked = tmp_path / "locked.npy"
    locked.write_bytes(SOUND)
    locked.chmod(0)
    try:
        locked.open("rb").close()
    except PermissionError:
        assert "Permission denied" in refusal(load_dataset, locked)


def test_mutated_files_are_read_as_they_are_or_refused(tmp_path: Path) -> None:
    """The checksums of a zip file find every change of its arrays; an .npy file has none, but a header."""
    source, refused = random.Random(0), 0
    sound = {"a.npz": zipped(zipfile.ZIP_DEFLATED, x_npy=SOUND), "b.npy": SOUND, "c.csv": b"a,b\n" + b"1.5,2\n" * 30}
    for _ in range(150):
        name = source.choice(sorted(sound))
        content = bytearray(sound[name])
        for _ in range(source.choice([1, 2, 9])):
            content[source.randrange(min(len(content), 200))] = source.randrange(256)
        (tmp_path / name).write_bytes(content)
        try:
            data = load_dataset(tmp_path / name)
        except InputError as error:
            refused += len(str(error).splitlines()) == 1
            continue
        if name == "a.npz":
            rows = np.concatenate([data.part(part)["x"] for part in ("train", "valid", "test")])
            assert np.array_equal(np.sort(rows, 0), np.sort(X, 0))
    assert refused > 50
