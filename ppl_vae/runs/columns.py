"""Files of tables with a row for each datum, which are written part by part."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ppl_vae.errors import InputError
from ppl_vae.runs.files import writing_whole


def write_table(
    path: Path, names: Sequence[str], parts: Iterable[Mapping[str, np.ndarray]], kinds: Collection[str]
) -> None:
    """Write columns and their names as ``.npz``, or as ``.csv`` with a line of names.

    One part is in memory at a time. Several are stored in ``.npz`` as they are, a single one is compressed.

    Args:
        path: path of the file; its folder is made if it does not exist.
        names: names of D columns; they are read after the first part has come.
        parts: arrays of some rows after the others, by name.
        kinds: names of the arrays ``(N, D)``, such as mean and sd, whose columns have the names; the other arrays,
            ``(N,)`` each, have their own.

    Raises:
        InputError: if the file cannot be written.

    Example:
        >>> path, part = Path(tempfile.mkdtemp()) / "z.csv", {"mean": np.array([[0.5]]), "sd": np.array([[0.1]])}
        >>> write_table(path, ["z[0]"], [{**part, "y": np.array([3])}] * 2, ("mean", "sd"))
        >>> path.read_text().split()
        ['mean', 'z[0],sd', 'z[0],y', '0.5,0.1,3', '0.5,0.1,3']
    """
    rest = iter(parts)
    first = list(islice(rest, 2))  # to know if there is a second one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing_whole(path) as file:
            if path.suffix == ".csv":
                _write_csv(file, names, chain(first, rest), kinds)
            elif len(first) == 1:
                np.savez_compressed(file, names=np.array(names), **first[0])  # type: ignore[arg-type]
            else:
                _write_npz(file, names, chain(first, rest), path.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): name another file") from error


def _write_csv(
    file: BinaryIO, names: Sequence[str], parts: Iterator[Mapping[str, np.ndarray]], kinds: Collection[str]
) -> None:
    text, is_first = io.TextIOWrapper(file, "utf-8", newline=""), True
    writer = csv.writer(text, lineterminator="\n")
    for part in parts:
        labels = [name for name in part if name not in kinds]
        if is_first:
            writer.writerow([*(f"{kind} {name}" for kind in kinds for name in names), *labels])
            is_first = False
        table = np.concatenate([part[kind] for kind in kinds], 1).tolist()
        for row, *others in zip(table, *(part[name].tolist() for name in labels), strict=True):
            writer.writerow([*(repr(value) for value in row), *others])
    text.flush()
    text.detach()


def _write_npz(file: BinaryIO, names: Sequence[str], parts: Iterator[Mapping[str, np.ndarray]], folder: Path) -> None:
    """Write each array to a file of its own, and then these files into one archive."""
    with ExitStack() as opened, zipfile.ZipFile(file, "w") as archive:
        files: dict[str, BinaryIO] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        types: dict[str, np.dtype] = {}
        texts: dict[str, list[np.ndarray]] = {}  # whose type depends on the longest one
        for part in parts:
            for name, array in part.items():
                if array.dtype.kind == "U":
                    texts.setdefault(name, []).append(array)
                    continue
                if name not in files:
                    files[name] = opened.enter_context(tempfile.TemporaryFile(dir=folder))
                    types[name] = array.dtype
                shapes[name] = (shapes.get(name, (0,))[0] + len(array), *array.shape[1:])
                np.ascontiguousarray(array, types[name]).tofile(files[name])
        for name, array in {"names": np.array(names), **{k: np.concatenate(v) for k, v in texts.items()}}.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        for name, source in files.items():
            source.seek(0)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {"descr": types[name].str, "fortran_order": False, "shape": shapes[name]}
                np.lib.format.write_array_header_2_0(member, header)
                shutil.copyfileobj(source, member, 2**20)
