"""Readable forms of results: a line for each field, with shapes and ranges in place of all numbers."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, TypeVar

Result = TypeVar("Result", bound=type)
MOST_TEXT, MOST_ITEMS = 60, 6
"""The most characters of a text, and the most items of a list or a mapping, that are shown."""


def readable(cls: Result) -> Result:
    """Give a named tuple a short ``repr``, and a table in notebooks; both have a line for each field.

    Example:
        >>> from typing import NamedTuple
        >>> import numpy as np
        >>> @readable
        ... class Moments(NamedTuple):
        ...     mean: np.ndarray
        ...     names: tuple[str, ...]
        >>> Moments(np.arange(6.0).reshape(2, 3), ("z[0]", "z[1]", "z[2]"))
        Moments:
          mean   float64 (2, 3), from 0 to 5, mean 2.5
          names  z[0], z[1], z[2]
    """
    cls.__repr__ = _repr  # type: ignore[method-assign,assignment]
    if "_repr_html_" not in vars(cls):
        cls._repr_html_ = _repr_html  # type: ignore[attr-defined]
    return cls


def _repr(self: Any) -> str:
    rows = _rows(self)
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join([f"{type(self).__name__}:", *(f"  {name:<{width}}  {text}" for name, text in rows)])


def _repr_html(self: Any) -> str:
    cells = "".join(f"<tr><td>{html.escape(n)}</td><td>{html.escape(text)}</td></tr>" for n, text in _rows(self))
    return f"<table><caption>{html.escape(type(self).__name__)}</caption>{cells}</table>"


def _rows(result: Any) -> list[tuple[str, str]]:
    """Return the names of the fields, and their values in words; those that are None or empty are left out."""
    rows = []
    for name, value in result._asdict().items():
        if isinstance(value, Mapping) and value and all(hasattr(part, "shape") for part in value.values()):
            rows += [(f"{name}[{key!r}]", summarize(part)) for key, part in value.items()]
        elif value is not None and not (isinstance(value, Mapping | tuple | list) and not len(value)):
            rows.append((name, summarize(value)))
    return rows


def summarize(value: Any) -> str:
    """Return a value in a few words: of an array or a tensor, the type, the shape, and the range.

    Example:
        >>> import numpy as np
        >>> summarize(np.array([True, False])), summarize([1, 2]), summarize({"a": 0.25}), summarize(np.zeros(0))
        ('bool (2,), 1 true', '1, 2', 'a: 0.25', 'float64 (0,)')
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _summarize_array(value)
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, str):
        return value if len(value) <= MOST_TEXT else f"{value[: MOST_TEXT - 3]}..."
    if isinstance(value, Mapping):
        return _listed([f"{key}: {summarize(part)}" for key, part in list(value.items())[: MOST_ITEMS + 1]])
    if hasattr(value, "_asdict"):
        return type(value).__name__
    if is_dataclass(value) and isinstance(name := getattr(value, "name", None), str):
        return name
    if isinstance(value, Sequence):
        return _listed([summarize(part) for part in value[: MOST_ITEMS + 1]])
    text = repr(value)
    return text if len(text) <= MOST_TEXT else type(value).__name__


def _listed(parts: list[str]) -> str:
    return ", ".join(parts if len(parts) <= MOST_ITEMS else [*parts[:MOST_ITEMS], "..."])


def _summarize_array(value: Any) -> str:
    array = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    head = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if not array.size or array.dtype.kind not in "biuf":
        return head
    if array.dtype.kind == "b":
        return f"{head}, {int(array.sum())} true"
    known = array[~(array != array)]  # without NaN
    if not known.size:
        return f"{head}, all missing"
    holes = f", {array.size - known.size} missing" if known.size < array.size else ""
    return f"{head}, from {known.min():.4g} to {known.max():.4g}, mean {known.mean():.4g}{holes}"
