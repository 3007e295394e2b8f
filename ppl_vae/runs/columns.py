"""Files of tables with a row for each datum."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppl_vae.errors import InputError
from ppl_vae.runs.files import write_whole, writing_whole


def write_table(
    path: Path, names: Sequence[str], columns: Mapping[str, np.ndarray], label: Mapping[str, np.ndarray]
) -> None:
    """Write columns and their names as ``.npz``, or as ``.csv`` with a line of names.

    Args:
        path: path of the file; its folder is made if it does not exist.
        names: names of D columns.
        columns: arrays by kind, such as mean and sd, ``(N, D)`` each.
        label: further arrays by name, ``(N,)`` each.

    Raises:
        InputError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "z.csv"
        >>> write_table(path, ["z[0]"], {"mean": np.array([[0.5]]), "sd": np.array([[0.1]])}, {"y": np.array([3])})
        >>> path.read_text().split()
        ['mean', 'z[0],sd', 'z[0],y', '0.5,0.1,3']
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow([*(f"{kind} {name}" for kind in columns for name in names), *label])
            table = np.concatenate(list(columns.values()), 1).tolist()
            for row, *others in zip(table, *(array.tolist() for array in label.values()), strict=True):
                writer.writerow([*(repr(value) for value in row), *others])
            write_whole(path, text.getvalue())
        else:
            with writing_whole(path) as file:
                np.savez_compressed(file, names=np.array(names), **dict(columns), **dict(label))  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): name another file") from error
