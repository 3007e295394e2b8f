"""Columns of a table and their kinds: real, positive, count, binary, categorical, ordinal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml

from ppl_vae.display.lists import split_list
from ppl_vae.errors import InputError, nearest

Kind = Literal["real", "positive", "count", "binary", "categorical", "ordinal"]
KINDS: tuple[str, ...] = get_args(Kind)
CODED = ("binary", "categorical", "ordinal")
"""The kinds whose values are codes: the positions of categories."""
MOST_CATEGORIES = 100
"""The largest number of different texts that are taken for categories."""
NEEDED: Mapping[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "positive": (lambda values: values <= 0, "a positive number"),
    "count": (lambda values: (values != np.round(values)) | (values < 0), "a whole number, 0 or larger"),
}
"""For some kinds, a function that is true for numbers that are not of the kind, and what is expected instead."""
BOOLEAN_WORDS = tuple(
    frozenset(pair.split()) for pair in ("false true", "no yes", "n y", "f t", "nein ja", "non oui", "off on")
)


@dataclass(frozen=True)
class Variable:
    """A variable: a column of a table, with its name and its kind.

    Attributes:
        name: the name of the column.
        kind: one of ``KINDS``; it was inferred from the values, or given. None stands for what is not known yet.
        categories: what the codes 0, 1, ... stand for, if the kind has codes and the values were no such codes.
        missing: the number of values that are missing.
        low, high: the smallest and the largest value, NaN if none is known.
    """

    name: str
    kind: str | None
    categories: tuple[Any, ...] = ()
    missing: int = 0
    low: float = np.nan
    high: float = np.nan

    @property
    def is_text(self) -> bool:
        """True if the codes stand for texts that are no words for true and false."""
        texts = [category for category in self.categories if isinstance(category, str)]
        return bool(texts) and frozenset(text.lower() for text in texts) not in BOOLEAN_WORDS

    def as_plain(self) -> dict[str, Any]:
        """Return the name, the kind and the categories as YAML can hold them."""
        return {"name": self.name, "kind": self.kind, "categories": list(self.categories)}

    def describe(self) -> tuple[str, str, str, str]:
        """Return the name, the kind, the number of missing values, and the range or the categories, as texts."""
        if self.categories:
            shown = ", ".join(map(str, self.categories[:6])) + (", ..." if len(self.categories) > 6 else "")
            values = f"{len(self.categories)}: {shown}"
        else:
            values = "" if np.isnan(self.low) else f"{self.low:.6g} to {self.high:.6g}"
        return self.name, self.kind or "", str(self.missing or ""), values


def parse_kinds(text: str | Mapping[str, str] | None) -> dict[str, str]:
    """Return kinds by column from ``"age=count,income=positive"``, a YAML file of such pairs, or a mapping.

    Raises:
        InputError: if the text has no such form, or a kind is unknown.

    Example:
        >>> parse_kinds("age=count, income=positive")
        {'age': 'count', 'income': 'positive'}
    """
    if text is None:
        return {}
    if isinstance(text, Mapping):
        kinds = {str(name): str(kind) for name, kind in text.items()}
    elif "=" in text:
        pairs = [part.rpartition("=") for part in split_list(text)]
        kinds = {name.strip(): kind.strip() for name, _, kind in pairs}
    else:
        kinds = _read_kinds(Path(text).expanduser())
    for name, kind in kinds.items():
        if kind not in KINDS or not name:
            raise InputError(f"kinds: {name}={kind} is unknown; {nearest(kind, KINDS)}")
    return kinds


def _read_kinds(path: Path) -> dict[str, str]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"kinds {str(path)!r}: expected age=count,income=positive, or a YAML file of pairs") from error
    if not isinstance(content, dict):
        raise InputError(f"kinds: {path} is no YAML mapping: expected lines such as age: count")
    return {str(name): str(kind) for name, kind in content.items()}


def code_numbers(
    values: np.ndarray, missing: np.ndarray, like: Variable, place: Callable[[int], str]
) -> tuple[Variable, np.ndarray]:
    """Return a column of numbers with its kind, and its numbers or codes, NaN where they are missing.

    Args:
        values: Booleans, whole or real numbers, ``(N,)``; what stands where they are missing does not matter.
        missing: true where a value is missing, ``(N,)``.
        like: the name of the column; its kind, None infers it; its categories, if they are known.
        place: a function from the number of a row to its place in words, for messages.

    Raises:
        InputError: if a value does not belong to the kind.

    Example:
        >>> missing = np.array([False, False, True])
        >>> column, codes = code_numbers(np.array([30, 7, 0]), missing, Variable("age", None), str)
        >>> column.kind, column.missing, column.low, codes.tolist()
        ('count', 1, 7.0, [30.0, 7.0, nan])
    """
    name, known = like.name, values[~missing]
    values = np.where(missing, values.dtype.type(0), values) if missing.any() else values
    kind = like.kind or infer_kind(known)
    column = Variable(name, kind, missing=int(missing.sum()))
    if len(known) == 0:
        return column, np.full(len(values), np.nan)
    if kind in NEEDED:
        is_wrong, expected = NEEDED[kind]
        if (wrong := is_wrong(values) & ~missing).any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{place(row)}, column {name!r} has {values[row]}: kind {kind} needs {expected}; give the column "
                f"another kind, such as {name}=real, or correct the value"
            )
    column = replace(column, low=float(known.min()), high=float(known.max()))
    is_bits = kind == "binary" and np.isin(known, (0, 1)).all()  # their values are their codes
    if kind in CODED and (like.categories or not is_bits):
        distinct = np.array(like.categories) if like.categories else np.unique(known)
        if not np.isin(known, distinct).all():
            row = int(np.argmax(~np.isin(values, distinct) & ~missing))
            raise InputError(f"{place(row)}, column {name!r} has {values[row]}, which the fit did not have")
        if kind == "binary" and len(distinct) > 2:
            raise InputError(f"column {name!r} has {len(distinct)} different values: kind binary needs two")
        column = replace(column, categories=tuple(_plain(distinct)))
        values = np.searchsorted(distinct, np.where(missing, distinct[0], values))
    if kind == "count":
        values = values.astype(np.int64) if values.dtype.kind == "f" and np.abs(known).max() < 2**53 else values
    return column, _with_holes(name, values, missing)


def code_texts(
    texts: Sequence[Any],
    missing: np.ndarray,
    like: Variable,
    place: Callable[[int], str],
    ordered: Sequence[Any] = (),
) -> tuple[Variable, np.ndarray]:
    """Return a column of texts as categories, and their codes.

    Args:
        texts: the texts, ``(N,)``.
        missing: true where a text is missing, ``(N,)``.
        like: the name of the column; its kind, None infers it; its categories, if they are known.
        place: a function from the number of a row to its place in words, for messages.
        ordered: the categories in their order, if they have one.

    Raises:
        InputError: if there are too many different texts, or the kind needs numbers.

    Example:
        >>> column, codes = code_texts(["Rome", "Oslo", "Rome"], np.zeros(3, bool), Variable("city", None), str)
        >>> column.kind, column.categories, codes.tolist()
        ('binary', ('Oslo', 'Rome'), [1, 0, 1])
    """
    name, kind = like.name, like.kind
    some, texts = missing.any(), list(texts)
    if some:
        holey = np.array([*texts, None], object)[:-1]  # an array of objects, whatever they are
        holey[missing] = None
        texts = holey.tolist()
    known = [text for text in texts if text is not None] if some else texts
    distinct = set(known)
    categories = list(like.categories or ordered) or sorted(distinct, key=str)
    for row, text in enumerate(texts) if not distinct <= set(categories) else ():
        if not missing[row] and text not in categories:
            raise InputError(
                f"{place(row)}, column {name!r} has {str(text)[:40]!r}, which the fit did not have; "
                f"{nearest(str(text), map(str, categories))}"
            )
    if kind not in (None, *CODED):
        raise InputError(
            f"column {name!r} has {str(known[0])[:40]!r}: kind {kind} needs numbers; leave it out: drop it"
        )
    if kind is None and len(distinct) > min(MOST_CATEGORIES, max(2, len(known) // 2)):
        raise InputError(
            f"column {name!r} is free text, {len(distinct)} different values such as {str(known[0])[:40]!r}: leave it "
            f"out, --drop {name}, or take them for categories, --kinds {name}=categorical"
        )
    if not kind:
        kind = "ordinal" if ordered else "binary" if len(categories) == 2 else "categorical"
    if kind == "binary" and len(categories) > 2:
        raise InputError(f"column {name!r} has {len(categories)} different values: kind binary needs two")
    position = {**{category: code for code, category in enumerate(categories)}, None: 0}
    codes = np.fromiter(map(position.__getitem__, texts), np.int64, len(texts))
    column = Variable(name, kind, tuple(_plain(categories)), int(missing.sum()))
    return column, _with_holes(name, codes, missing)


def infer_kind(known: np.ndarray) -> str:
    """Return the kind of numbers.

    Example:
        >>> [infer_kind(np.array(values)) for values in ([0, 1], [0, 7], [-1, 2], [0.5, 2.0], [-0.5, 2.0], [3.0, 4.0])]
        ['binary', 'count', 'real', 'positive', 'real', 'count']
    """
    if known.dtype.kind == "b":
        return "binary"
    if len(known) == 0 or not np.isfinite(known).all() or (low := known.min()) < 0:
        return "real"
    if known.dtype.kind in "iu" or (known == np.round(known)).all():
        return "binary" if known.max() <= 1 else "count"
    return "positive" if low > 0 else "real"


def _with_holes(name: str, values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return the values, as real numbers with NaN if some are missing."""
    if not missing.any():
        return values
    if values.dtype.kind in "iu" and np.abs(values[~missing]).max(initial=0) > 2**53:
        raise InputError(
            f"column {name!r} has missing values and whole numbers above 2^53: fill them in, or rescale it"
        )
    return np.where(missing, np.nan, values.astype(np.float64))


def _plain(values: Any) -> list[Any]:
    """Return values as numbers and texts of Python."""
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in plain]
