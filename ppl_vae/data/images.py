"""Data as images: their shapes, and arrays ready to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal, get_args

import numpy as np

from ppl_vae.errors import InputError, nearest

Grey = Literal["ink", "light"]
"""A way to draw grey images: high values are dark, as ink on paper, or light, as on a screen."""


def as_images(x: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Return data as images, channels last, ready for matplotlib's ``imshow``.

    ``image_shape`` is the shape in which a datum is drawn, not the shape in which it is stored: ``(H, W)`` grey or
    ``(H, W, 3)`` colour. If a datum is stored channel-first, with shape ``(3, H, W)``, its channels are moved to the
    end; any other datum, such as a vector of pixels, is only reshaped. A shape ``(3, 3, 3)`` is channel-first.

    Args:
        x: data of shape ``(N, ...)``.
        image_shape: ``(H, W)`` or ``(H, W, 3)``, the ``image_shape`` of a ``Dataset``.

    Returns:
        An array of shape ``(N, H, W)`` or ``(N, H, W, 3)``.

    Example:
        >>> as_images(np.zeros((5, 64)), (8, 8)).shape
        (5, 8, 8)
        >>> as_images(np.zeros((5, 3, 8, 6)), (8, 6, 3)).shape
        (5, 8, 6, 3)
    """
    if _is_channel_first(x.shape[1:]) and tuple(image_shape) == (*x.shape[2:], 3):
        return np.moveaxis(x, 1, -1)
    return x.reshape(len(x), *image_shape)


def infer_image_shape(datum_shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the image shape of data stored as images, None for any other data.

    Shapes ``(H, W)``, ``(1, H, W)`` and ``(H, W, 1)`` give ``(H, W)``; ``(3, H, W)`` and ``(H, W, 3)`` give
    ``(H, W, 3)``.
    """
    match datum_shape:
        case (int(), int()):
            return datum_shape
        case (1, height, width) | (height, width, 1):
            return height, width
        case (3, height, width) | (height, width, 3):
            return height, width, 3
    return None


def check_grey(grey: str | None) -> None:
    """Check a way to draw grey images; None is the data set's own.

    Raises:
        InputError: if there is no such way.
    """
    if grey is not None and grey not in get_args(Grey):
        raise InputError(f"grey={grey!r} is unknown; {nearest(str(grey), get_args(Grey))}")


def check_image_shape(name: str, image_shape: Sequence[int], datum_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Check an image shape and return it with the channels last.

    Raises:
        InputError: if it is not the shape of an image, does not have the size of a datum, or puts the channels of
            a vector of pixels first.
    """
    asked = tuple(int(size) for size in image_shape)
    shape = infer_image_shape(asked)
    if shape is None or min(asked) < 1:
        raise InputError(f"{name}: image_shape {asked}: expected (H, W), (H, W, 3) or (3, H, W)")
    sides = [size for size in datum_shape if size > 1]
    layouts = [[size for size in layout if size > 1] for layout in (asked, shape, shape[2:] + shape[:2])]
    if prod(asked) == prod(datum_shape) and len(sides) > 1 and sides not in layouts:
        raise InputError(
            f"{name}: image_shape {asked} and a datum of x of shape {datum_shape} have the same number of values, but "
            f"are other images: give the height and width with which x was saved, or save x as vectors"
        )
    if prod(asked) != prod(datum_shape):
        raise InputError(
            f"{name}: image_shape {asked} has {prod(asked)} values and a datum of x has {prod(datum_shape)}: "
            "give the height and width of the images"
        )
    if _is_channel_first(asked) and asked != datum_shape:
        raise InputError(
            f"{name}: image_shape {asked} is channel-first and a datum of x has shape {datum_shape}: "
            f"save x with shape (N, {asked[0]}, {asked[1]}, {asked[2]}), or order its pixels as {shape}"
        )
    return shape


def _is_channel_first(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] == 3
