"""The labels of categories in place of their codes, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.data.kinds import Variable
from ppl_vae.errors import InputError, nearest


def code_labels(column: Variable, given: Any) -> Any:
    """Return the codes of labels of a column; what is given stays as it is if the column has no labels.

    A number is a code unless the labels are numbers.

    Args:
        column: the column, with its categories.
        given: a label, a list or an array of them, or codes.

    Raises:
        InputError: there is no such label.

    Example:
        >>> region = Variable("region", "categorical", ("Nord", "Ost"))
        >>> code_labels(region, "Ost"), code_labels(region, ["Nord", "Ost"]).tolist(), code_labels(region, 1)
        (1, [0, 1], 1)
        >>> code_labels(Variable("size", "ordinal", (10, 20)), 20)
        1
    """
    if not column.categories:
        return given
    labels = np.asarray(given, dtype=object)
    if all(isinstance(label, str) for label in column.categories) and not any(
        isinstance(label, str) for label in labels.ravel().tolist()
    ):
        return given
    codes = np.array([_code_of(column, label) for label in labels.ravel().tolist()], np.int64)
    return codes.reshape(labels.shape) if labels.ndim else int(codes[0])


def find_label(column: Variable, text: str) -> Any:
    """Return the label that a text of the command line stands for, or the code if it is one.

    Raises:
        InputError: there is no such label.

    Example:
        >>> find_label(Variable("size", "ordinal", (10, 20)), "20")
        20
        >>> find_label(Variable("region", "categorical", ("Nord", "Ost")), "1")
        'Ost'
    """
    for label in column.categories:
        if str(label) == text:
            return label
    is_code = text.isdecimal() and int(text) < len(column.categories)
    if is_code and all(isinstance(label, str) for label in column.categories):
        return column.categories[int(text)]
    raise _unknown(column, text)


def label_codes(column: Variable, codes: np.ndarray) -> np.ndarray:
    """Return the labels of codes; None stands for a code that is missing. A column without labels stays as it is.

    Example:
        >>> label_codes(Variable("region", "categorical", ("Nord", "Ost")), np.array([1.0, np.nan])).tolist()
        ['Ost', None]
    """
    if not column.categories:
        return codes
    labels = np.empty(len(column.categories) + 1, dtype=object)
    labels[:-1], labels[-1] = column.categories, None
    known = np.isfinite(codes)
    return labels[np.where(known, codes, len(column.categories)).astype(np.int64)]


def _code_of(column: Variable, label: Any) -> int:
    for code, category in enumerate(column.categories):
        if category == label and isinstance(category, str) == isinstance(label, str):
            return code
    raise _unknown(column, label)


def _unknown(column: Variable, label: Any) -> InputError:
    return InputError(f"{column.name!r} has no category {label!r}; {nearest(str(label), map(str, column.categories))}")


def read_columns(path: Path, plain: Any) -> dict[str, tuple[Variable, ...]]:
    """Return the columns of arrays that a file holds as ``Variable.as_plain`` writes them.

    Args:
        path: the file, for messages.
        plain: a list of columns for each array by name.

    Raises:
        InputError: the file holds something else.
    """
    try:
        return {
            str(name): tuple(
                Variable(str(column["name"]), column["kind"], tuple(column["categories"])) for column in columns
            )
            for name, columns in plain.items()
        }
    except (AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged, for its columns are no such: restore it or fit anew") from error
