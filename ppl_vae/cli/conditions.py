"""Conditions of a command line: ``--y 3``, ``--y 1,4,7``, ``--y all``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ppl_vae.data import Dataset
from ppl_vae.errors import InputError, nearest
from ppl_vae.estimator import VariationalInference
from ppl_vae.uses import listed_values

MOST_ROWS = 50


def condition_rows(vi: VariationalInference, data: Dataset, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Conditions for each row of a sheet: one row, or one for each value of the condition that has several.

    Args:
        vi: the fitted program.
        data: in which ``all`` finds the labels.
        given: texts by name.

    Raises:
        InputError: a condition that the program does not have, values that are no numbers, two with several values.
    """
    values = {name: _values(vi, data, name, str(text)) for name, text in given.items()}
    several = [name for name, each in values.items() if len(each) > 1]
    if len(several) > 1:
        raise InputError(f"--{several[0]} and --{several[1]} both have several values: give one of them a single value")
    single = {name: each[0] for name, each in values.items()}
    return [{**single, name: value} for name in several for value in values[name]] or [single]


def _values(vi: VariationalInference, data: Dataset, name: str, text: str) -> list[float | int]:
    if name not in vi.conditions:
        if name in vi.arguments_:
            vi.fitted.conditioned(1, {name: 0})  # which says why not
        raise InputError(f"unknown option or condition --{name}; {nearest(name, vi.conditions)}; --help lists options")
    if text != "all":
        try:
            return [float(part) if set(part) & set(".eE") else int(part) for part in text.split(",")]
        except ValueError:
            raise InputError(f"--{name} {text!r}: expected a number, several such as 1,4,7, or all") from None
    if name not in vi.arguments_:
        return listed_values(vi, name)
    labels = data.train[name]
    found = np.unique(labels[labels >= 0] if labels.dtype.kind == "i" else labels)  # -1 is unknown
    if labels.ndim > 1 or len(found) > MOST_ROWS:
        raise InputError(
            f"--{name} all: the data have {len(found)} values of it; name some, such as --{name} {found[0]}"
        )
    return found.tolist()
