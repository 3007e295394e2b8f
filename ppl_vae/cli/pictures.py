"""The pictures of data: an image, a sequence as a roll, or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

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
    names: tuple[str, ...]
    """The names of the numbers of a datum that is neither."""


def picture_reconstructions(
    fitted: Fitted, draws: PosteriorDraws, data: Dataset, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...] | None]:
    """Return data ``(N, ...)``, their posterior-predictive means, and their shape if they are images or sequences.

    In place of a mean, data that are classes have the most probable class.
    """
    means = fitted.most_probable({name: mean.mean(0) for name, mean in draws.means.items()})
    picture = picture_sites(draws.data, data.image_shape, lengths)
    return picture.array, picture_sites(means, data.image_shape, lengths).array, picture.shape


def picture_sites(
    sites: Mapping[str, np.ndarray], image_shape: tuple[int, ...] | None, lengths: np.ndarray | None = None
) -> Picture:
    """Return what is drawn of observed sites.

    This is the one site that is an image, or a sequence as a roll, with nothing past its end, or else all sites as one
    vector, which is no image.

    Args:
        sites: arrays ``(N, ...)`` by site.
        image_shape: shape of a datum that is an image.
        lengths: lengths of sequences, ``(N,)``.
    """
    for x in sites.values():
        if image_shape is not None and x[0].size == np.prod(image_shape):
            return Picture(as_images(x, image_shape), image_shape, False, ())
    arrays = list(sites.values())
    if lengths is not None:
        steps = arrays[0] if len(arrays) == 1 else np.stack(arrays, 1)  # one site, or one for each step
        if steps.ndim == 3 and steps.shape[2] > 1:
            steps = np.where(np.arange(steps.shape[1])[:, None] < lengths[:, None, None], steps, 0)
            roll = steps[:, : lengths.max(), ::-1].swapaxes(1, 2)
            return Picture(roll, roll.shape[1:], True, ())
    joined = arrays[0] if len(arrays) == 1 else np.concatenate([x.reshape(len(x), -1) for x in arrays], 1)
    names = tuple(name for site, x in sites.items() for name in names_of(site, x.shape[1:]))
    return Picture(joined, None, False, names)
