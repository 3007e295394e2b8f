"""Bits from grey values, by a threshold, by one draw that is kept, or by a new draw every epoch.

References:
    Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks: one draw that is
    kept ("static"). Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders: a new draw every
    epoch ("dynamic"). Log likelihoods of data binarised in different ways are not comparable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from ppl_vae.data.source import NamedArrays
from ppl_vae.data.split import PARTS, generator
from ppl_vae.errors import InputError, nearest

Binarize = Literal["none", "threshold", "static", "dynamic"]
BINARIZE: tuple[str, ...] = get_args(Binarize)


def check_binarize(how: str) -> None:
    """Raise ``InputError`` if the way to binarise is unknown."""
    if how not in BINARIZE:
        raise InputError(f"unknown binarize {how!r}: {nearest(str(how), BINARIZE)}")


def binarize_parts(
    name: str, parts: Mapping[str, dict[str, np.ndarray]], how: str, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    r"""Replace the grey x of every part by bits; the other arrays stay.

    ``threshold``: :math:`b = 1[x \ge 1/2]`. ``static``: :math:`b \sim \mathrm{Bernoulli}(x)`, one draw, from
    a separate stream for each part. ``dynamic``: as static in valid and test; train stays grey, and
    ``Batches`` draws it anew every epoch.

    Args:
        name: name of the data set, for messages.
        parts: arrays by part and name; x has the shape ``(N, ...)`` and values in ``[0, 1]``.
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
        check_unit_interval(f"{name}: x of {part}", parts[part]["x"])
    bits: dict[str, dict[str, np.ndarray]] = {}
    for stream, part in enumerate(PARTS):
        x = parts[part]["x"]
        if how == "dynamic" and part == "train":
            x = x.astype(np.float32, copy=False)
        elif how == "threshold":
            x = (x >= 0.5).astype(np.float32)
        else:
            x = (generator(seed, stream).random(x.shape, dtype=np.float32) < x).astype(np.float32)
        bits[part] = NamedArrays({**parts[part], "x": x}, NamedArrays(parts[part]).columns)
    return bits


def check_unit_interval(where: str, values: np.ndarray) -> None:
    """Raise ``InputError`` if a value is not a probability."""
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"{where} ranges from {low:g} to {high:g}: making bits needs values in [0, 1]; "
            "rescale it, or use binarize='none'"
        )
