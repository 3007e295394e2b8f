"""A data set: three parts, each a dictionary of named arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ppl_vae.data.binarize import check_binarize
from ppl_vae.data.checks import check_parts
from ppl_vae.data.sequences import clear_padding
from ppl_vae.data.split import PARTS
from ppl_vae.errors import InputError, nearest


@dataclass(frozen=True, eq=False)
class Dataset:
    """Named arrays for training, validation and test, checked when the object is made.

    The names of the arrays are the names of the arguments of a program's ``model``. An array has one row
    a datum: "x" is float32 of shape ``(N, ...)``, the labels "y" are int64 of shape ``(N,)``; a data set
    may have others. With "lengths", int64 of shape ``(N,)``, x is sequences, ``(N, T, ...)``, of so many steps each;
    what lies past their ends is set to zero.

    Attributes:
        name: what messages and figures call the data set.
        train: the arrays that parameters are fitted to.
        valid: the arrays that decide when to stop and which setting to keep.
        test: the arrays that are reported on.
        image_shape: how a datum of x is drawn: ``(H, W)`` grey or ``(H, W, 3)`` colour, None where it is no
            image. :func:`ppl_vae.data.as_images` has the convention.
        binarize: how x became bits; after "dynamic" the train part is still grey and ``Batches`` draws it
            anew every epoch.

    Raises:
        InputError: for an empty part, an array that is not numeric, NaN or infinity, arrays of unequal
            length, an array missing from a part, data whose shape differs between parts, a label out of
            range, lengths that x cannot have, or an unknown way to binarise.

    Example:
        >>> x = np.eye(4, dtype=np.float32)
        >>> data = Dataset("toy", train={"x": x}, valid={"x": x[:2]}, test={"x": x[2:]})
        >>> data.describe()
        'toy: 4 train, 2 valid, 2 test; x 4'
        >>> data.part("valid")["x"].shape
        (2, 4)
    """

    name: str
    train: dict[str, np.ndarray] = field(repr=False)
    valid: dict[str, np.ndarray] = field(repr=False)
    test: dict[str, np.ndarray] = field(repr=False)
    image_shape: tuple[int, ...] | None = None
    binarize: str = "none"

    def __post_init__(self) -> None:
        check_binarize(self.binarize)
        for part in PARTS:
            object.__setattr__(self, part, clear_padding(self.name, part, self.part(part)))
        check_parts(self.name, {part: self.part(part) for part in PARTS})

    def part(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of "train", "valid" or "test".

        Raises:
            InputError: if there is no such part.
        """
        if name not in PARTS:
            raise InputError(f"{self.name}: no part {name!r}: {nearest(str(name), PARTS)}")
        return getattr(self, name)

    def describe(self) -> str:
        """One line: the size of each part, the shape of each array, how x became bits."""
        sizes = ", ".join(f"{len(next(iter(self.part(part).values())))} {part}" for part in PARTS)
        shapes = ", ".join(
            f"{array} {'x'.join(map(str, values.shape[1:]))}".rstrip() for array, values in self.train.items()
        )
        bits = "" if self.binarize == "none" else f"; x binarised ({self.binarize})"
        return f"{self.name}: {sizes}; {shapes}{bits}"
