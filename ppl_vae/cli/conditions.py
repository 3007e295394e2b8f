"""Conditions of a command line: ``--y 3``, ``--y 1,4,7``, ``--y all``, ``--region Nord``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ppl_vae.data import Dataset, choose_arrays, is_one_hot
from ppl_vae.data.kinds import Variable
from ppl_vae.data.labels import find_label, label_codes
from ppl_vae.errors import InputError, nearest
from ppl_vae.estimator import VariationalInference
from ppl_vae.uses import listed_values

MOST_VALUES = 50
"""The most labels that ``all`` stands for."""


def condition_rows(vi: VariationalInference, data: Dataset, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the conditions of each row of a sheet: one row, or one for each value of the condition that has several.

    Args:
        vi: the fitted program.
        data: the data whose labels ``all`` stands for.
        given: texts of the command line, by name.

    Raises:
        InputError: the program has no such condition, a value is no number, or two conditions have several values.
    """
    values = {name: _parse_values(vi, data, name, str(text)) for name, text in given.items()}
    several = [name for name, numbers in values.items() if len(numbers) > 1]
    if len(several) > 1:
        raise InputError(f"--{several[0]} and --{several[1]} both have several values: give one of them a single value")
    single = {name: numbers[0] for name, numbers in values.items()}
    return [{**single, name: value} for name in several for value in values[name]] or [single]


def _parse_values(vi: VariationalInference, data: Dataset, name: str, text: str) -> list[Any]:
    if name not in vi.conditions:
        if name in vi.arguments_:
            vi.fitted.conditioned(1, {name: 0})  # raises with the reason
        raise InputError(f"unknown option or condition --{name}; {nearest(name, vi.conditions)}; --help lists options")
    columns = vi.fitted.naming.columns.get(name, ())
    if len(columns) == 1 and columns[0].categories:
        return _parse_labels(name, data, columns[0], text)
    if text != "all":
        try:
            return [float(part) if set(part) & set(".eE") else int(part) for part in text.split(",")]
        except ValueError:
            raise InputError(f"--{name} {text!r}: expected a number, several such as 1,4,7, or all") from None
    if name not in vi.arguments_:
        return listed_values(vi, name)
    labels = np.asarray(choose_arrays(data.train, [name])[name])
    if is_one_hot(labels):
        return list(range(labels.shape[1]))
    if labels.ndim > 1:
        raise InputError(f"--{name} all: its rows, of shape {labels.shape[1:]}, are no one-hot vectors of categories")
    values = np.unique(labels[labels >= 0] if labels.dtype.kind == "i" else labels)  # -1 is unknown
    return _checked(name, values.tolist())


def _parse_labels(name: str, data: Dataset, column: Variable, text: str) -> list[Any]:
    """Return labels of categories; a label may contain a comma."""
    if text == "all":
        codes = np.unique(choose_arrays(data.train, [name])[name])
        return _checked(name, label_codes(column, codes[codes >= 0]).tolist())
    parts = [text] if text in map(str, column.categories) else text.split(",")
    return [find_label(column, part.strip()) for part in parts]


def _checked(name: str, values: list[Any]) -> list[Any]:
    if len(values) > MOST_VALUES:
        raise InputError(
            f"--{name} all: the data have {len(values)} values of it; name some, such as --{name} {values[0]}"
        )
    return values
