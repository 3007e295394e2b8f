"""A data set: three parts, each a dictionary of named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ppl_vae.data.binarize import check_binarize
from ppl_vae.data.cells import CellOptions, arrays_of_cells, cells_in_memory, is_cells
from ppl_vae.data.checks import check_parts
from ppl_vae.data.frames import check_no_text
from ppl_vae.data.images import Grey
from ppl_vae.data.kinds import Variable
from ppl_vae.data.missing import count_holes
from ppl_vae.data.sequences import clear_padding
from ppl_vae.data.source import NamedArrays, as_source
from ppl_vae.data.sparse import as_rows
from ppl_vae.data.split import PARTS
from ppl_vae.data.stored import StoredRows
from ppl_vae.data.written import TableForm
from ppl_vae.errors import InputError, nearest


@dataclass(frozen=True, eq=False)
class Dataset:
    """Named arrays for training, validation and test, checked when the object is made.

    The names of the arrays are the names of the arguments of a program's ``model``. An array has one row
    per datum: "x" has the shape ``(N, ...)``, the labels "y" are whole numbers of shape ``(N,)``; a data set may have
    others. A real number that is NaN is missing. Numbers keep the type that they came in; ``Batches`` give them the
    precision of a program. A sparse matrix of SciPy stays sparse until a batch is made. A part may be an AnnData, whose
    X is x. With "lengths", int64 of shape ``(N,)``, x holds padded sequences, ``(N, T, ...)``, of these lengths; the
    values past their ends are set to zero.

    A part of large data is ``StoredRows``, whose arrays stay on disk and are read by slices.

    Attributes:
        name: name of the data set in messages and figures.
        train: arrays to which parameters are fitted.
        valid: arrays that decide when to stop and which setting to keep.
        test: arrays on which results are reported.
        image_shape: shape of x as an image: ``(H, W)`` grey or ``(H, W, 3)`` colour, None if it is not an
            image; see :func:`ppl_vae.data.as_images`.
        grey: way in which grey images are drawn: "light", high values are light, as on a screen; or "ink", high values
            are dark, as on paper.
        binarize: way in which x became bits; after "dynamic" the train part is still grey, and ``Batches`` draws
            it anew every epoch.
        form: the form of the file of a table; None if the data are no table.
        notes: what was guessed about a file of a table, each with the option that decides otherwise.
        cells: the options with which an ``.h5ad`` file was read.

    Raises:
        InputError: if a part is empty, an array is not numeric, infinite or missing from a part, arrays differ in
            length, the shape of a datum differs between parts, a label is out of range, x cannot have the
            lengths, or the way to binarise is unknown.

    Example:
        >>> import numpy as np
        >>> x = np.eye(4, dtype=np.float32)
        >>> data = Dataset("toy", train={"x": x}, valid={"x": x[:2]}, test={"x": x[2:]})
        >>> data.describe()
        'toy: 4 train, 2 valid, 2 test; x 4'
        >>> data.part("valid")["x"].shape
        (2, 4)
    """

    name: str
    train: Mapping[str, Any] = field(repr=False)
    valid: Mapping[str, Any] = field(repr=False)
    test: Mapping[str, Any] = field(repr=False)
    image_shape: tuple[int, ...] | None = None
    binarize: str = "none"
    grey: Grey = "light"
    notes: tuple[str, ...] = ()
    cells: CellOptions = field(default_factory=CellOptions)
    form: TableForm | None = None

    def __post_init__(self) -> None:
        check_binarize(self.binarize)
        for part in PARTS:
            given = self.part(part)
            if isinstance(given, StoredRows):
                continue
            if is_cells(given):
                given, _ = arrays_of_cells(cells_in_memory(given, f"{self.name}: {part}"))
            arrays = NamedArrays(given)
            arrays.update({name: as_rows(array) for name, array in arrays.items()})
            object.__setattr__(self, part, NamedArrays(clear_padding(self.name, part, arrays), arrays.columns))
        check_parts(self.name, {part: self.part(part) for part in PARTS})

    @property
    def columns(self) -> tuple[Variable, ...]:
        """The columns of x, with their names and kinds; empty if the data were no table."""
        return self.arrays_columns.get("x", ())

    @property
    def arrays_columns(self) -> Mapping[str, tuple[Variable, ...]]:
        """The columns of every array that was made of a table, by the name of the array."""
        return as_source(self.train).columns

    def check_numbers(self) -> None:
        """Raise ``InputError`` if a column of x is texts, which only a program that takes ``columns`` can observe."""
        for column in self.columns:
            check_no_text(column)

    def part(self, name: str) -> NamedArrays | StoredRows:
        """Return the arrays of "train", "valid" or "test"; those of large data are on disk.

        Raises:
            InputError: if there is no such part.
        """
        if name not in PARTS:
            raise InputError(f"{self.name}: no part {name!r}: {nearest(str(name), PARTS)}")
        return getattr(self, name)

    def describe(self) -> str:
        """Describe in one line the sizes of the parts, the shapes of arrays, how x became bits, and what is missing."""
        sizes = ", ".join(f"{len(next(iter(self.part(part).values())))} {part}" for part in PARTS)
        shapes = ", ".join(
            f"{array} {'x'.join(map(str, values.shape[1:]))}".rstrip() for array, values in self.train.items()
        )
        bits = "" if self.binarize == "none" else f"; x binarised ({self.binarize})"
        return f"{self.name}: {sizes}; {shapes}{bits}{self._describe_holes()}"

    def _describe_holes(self) -> str:
        """Return the number of missing numbers of each array that has some, as the end of a line."""
        counts = []
        for array in self.train:
            parts = [self.part(part) for part in PARTS]
            if missing := sum(count_holes(part, array) for part in parts):
                counts.append(f"; {missing} of {sum(part[array].size for part in parts)} numbers of {array} missing")
        return "".join(counts)
