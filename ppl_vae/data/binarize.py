"""Bits from grey values, by a threshold, by one draw that is kept, or by a new draw every epoch.

References:
    Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks: one draw that is
    kept ("static"). Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders: a new draw every
    epoch ("dynamic"). Log likelihoods of data binarised in different ways are not comparable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from ppl_vae.data.source import NamedArrays
from ppl_vae.data.split import PARTS, generator
from ppl_vae.data.stored import StoredRows
from ppl_vae.data.survey import survey
from ppl_vae.data.transformed import Transformed
from ppl_vae.errors import InputError, nearest

Binarize = Literal["none", "threshold", "static", "dynamic"]
BINARIZE: tuple[str, ...] = get_args(Binarize)


def check_binarize(how: str) -> None:
    """Raise ``InputError`` if the way to binarise is unknown."""
    if how not in BINARIZE:
        raise InputError(f"unknown binarize {how!r}: {nearest(str(how), BINARIZE)}")


def binarize_parts(name: str, parts: Mapping[str, Any], how: str, seed: int) -> dict[str, Any]:
    r"""Replace the grey x of every part by bits; the other arrays stay.

    ``threshold``: :math:`b = 1[x \ge 1/2]`. ``static``: :math:`b \sim \mathrm{Bernoulli}(x)`, one draw, from
    a separate stream for each part. ``dynamic``: as static in valid and test; train stays grey, and
    ``Batches`` draws it anew every epoch. What is missing stays so.

    Args:
        name: name of the data set, for messages.
        parts: arrays by part and name; x has the shape ``(N, ...)`` and values in ``[0, 1]``. Those of a source on disk
            are changed when they are read, to the same bits as in memory.
        how: one of ``BINARIZE``.
        seed: seed of the draws.

    Raises:
        InputError: if ``how`` is unknown or a value lies outside ``[0, 1]``.

    Example:
        >>> parts = {part: {"x": np.array([[0.2, 0.5, 0.9]], dtype=np.float32)} for part in PARTS}
        >>> binarize_parts("toy", parts, "threshold", seed=0)["test"]["x"]
        array([[0., 1., 1.]], dtype=float32)
    """
    check_binarize(how)
    if how == "none":
        return dict(parts)
    for part in PARTS:
        where, rows = f"{name}: x of {part}", parts[part]
        if isinstance(rows, StoredRows):
            values = survey(f"{name}, {part}", rows)["x"]
            check_unit_range(where, values.low, values.high)
        else:
            check_unit_interval(where, rows["x"])
    bits: dict[str, Any] = {}
    for stream, part in enumerate(PARTS):
        rows, way = parts[part], "none" if how == "dynamic" and part == "train" else how
        if isinstance(rows, StoredRows):
            change = partial(_change, way, seed, stream)
            bits[part] = StoredRows(Transformed(rows, change, f"binarize {way} {seed} {stream}"))
        else:
            bits[part] = NamedArrays(_change(way, seed, stream, NamedArrays(rows), 0), NamedArrays(rows).columns)
    return bits


def _change(how: str, seed: int, stream: int, block: NamedArrays, first: int) -> dict[str, np.ndarray]:
    """Return a block with bits; the draws of a row are the same in every block that it is in."""
    x = block["x"]
    hole = np.isnan(x) if x.dtype.kind == "f" else None
    if how == "none":
        x = x.astype(np.float32, copy=False)
    elif how == "threshold":
        x = (x >= 0.5).astype(np.float32)
    else:
        draws = generator(seed, stream)
        skipped = first * math.prod(x.shape[1:])  # two numbers in single precision are one step of the generator
        draws.bit_generator.advance(skipped // 2)  # type: ignore[attr-defined]
        draws.random(skipped % 2, dtype=np.float32)
        x = (draws.random(x.shape, dtype=np.float32) < x).astype(np.float32)
    if hole is not None and hole.any():  # what is missing stays missing
        x[hole] = np.nan
    return {**block, "x": x}


def check_unit_interval(where: str, values: np.ndarray) -> None:
    """Raise ``InputError`` if a value is not a probability."""
    check_unit_range(where, np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None))


def check_unit_range(where: str, low: float, high: float) -> None:
    """Raise ``InputError`` if the smallest and the largest value are not both probabilities."""
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"{where} ranges from {low:g} to {high:g}: making bits needs values in [0, 1]; "
            "rescale it, or use binarize='none'"
        )
