"""The pictures of data: an image, a sequence as a roll, or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ppl_vae.data import Dataset, as_images
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.evaluation.results import PosteriorDraws
from ppl_vae.program import names_of


class Picture(NamedTuple):
    """The picture of data, as images, rolls or numbers."""

    array: np.ndarray
    """``(N, ...)``."""
    shape: tuple[int, ...] | None
    """The shape of a datum that is an image or a sequence."""
    roll: bool
    """True for a sequence, with time from left to right and the first feature at the bottom."""
    light: bool
    """True if high values of a grey image are light."""
    names: tuple[str, ...]
    """The names of the numbers of a datum that is neither."""


def picture_reconstructions(
    fitted: Fitted, draws: PosteriorDraws, data: Dataset, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return data ``(N, ...)``, their posterior-predictive means, and how a figure draws them.

    In place of a mean, data that are classes have the most probable class.
    """
    means = fitted.most_probable(draws.average)
    picture = picture_sites(draws.data, data, lengths)
    return (
        picture.array,
        picture_sites(means, data, lengths).array,
        {"image_shape": picture.shape, "light": picture.light},
    )


def picture_sites(sites: Mapping[str, np.ndarray], data: Dataset, lengths: np.ndarray | None = None) -> Picture:
    """Return what is drawn of observed sites.

    This is the one site that is an image, or a sequence as a roll, with nothing past its end, or else all sites as one
    vector, which is no image.

    Args:
        sites: arrays ``(N, ...)`` by site.
        data: the data set, which has the shape of an image, and that in which a datum is stored. A site that observes
            a vector of the numbers of x has them in the order in which x is stored.
        lengths: lengths of sequences, ``(N,)``.
    """
    stored = data.train["x"].shape[1:] if "x" in data.train else ()
    for x in sites.values():
        if (shape := data.image_shape) is not None and x[0].size == np.prod(shape):
            x = x.reshape(len(x), *stored) if x.ndim == 2 and x[0].size == np.prod(stored) else x
            return Picture(as_images(x, shape), shape, False, data.grey == "light", ())
    arrays = list(sites.values())
    if lengths is not None:
        steps = arrays[0] if len(arrays) == 1 else np.stack(arrays, 1)  # one site, or one for each step
        if steps.ndim == 3 and steps.shape[2] > 1:
            steps = np.where(np.arange(steps.shape[1])[:, None] < lengths[:, None, None], steps, 0)
            roll = steps[:, : lengths.max(), ::-1].swapaxes(1, 2)
            return Picture(roll, roll.shape[1:], True, False, ())
    joined = arrays[0] if len(arrays) == 1 else np.concatenate([x.reshape(len(x), -1) for x in arrays], 1)
    columns = {name: [column.name for column in named] for name, named in data.arrays_columns.items()}
    names = tuple(
        name
        for site, x in sites.items()
        for name in (columns[site] if x[0].size == len(columns.get(site, ())) else names_of(site, x.shape[1:]))
    )
    return Picture(joined, None, False, False, names)
