"""The names of the arrays and of their columns in a fit, by which later data are matched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ppl_vae.data import Holes, name_arrays
from ppl_vae.data.frames import match_columns
from ppl_vae.data.kinds import CODED, Variable
from ppl_vae.data.labels import code_labels
from ppl_vae.data.source import NamedArrays
from ppl_vae.data.stored import StoredRows
from ppl_vae.program import names_of


@dataclass
class Naming:
    """The names of arrays and columns in a fit.

    Args:
        columns: the columns of data frames, by array; those of later data are matched by name, and have the codes that
            their categories have in the fit.
        synonyms: names of arrays in the fit by other names: the only argument without a default takes the array x too.
        holes: the arrays that may have holes, and what stands in the place of a missing number.
    """

    columns: Mapping[str, tuple[Variable, ...]] = field(default_factory=dict)
    synonyms: Mapping[str, str] = field(default_factory=dict)
    holes: Holes = field(default_factory=Holes)

    def order(self, argument_names: Sequence[str]) -> list[str]:
        """Return the names of the arrays in the order of the model's arguments."""
        return [self.synonyms.get(name, name) for name in argument_names]

    def rename(self, arrays: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the data of a call with the names that they had in the fit.

        Example:
            >>> Naming(synonyms={"images": "x"}).rename(({"images": [1]},))
            ({'x': [1]},)
        """
        if len(arrays) == 1 and isinstance(arrays[0], Mapping) and self.synonyms.keys() & arrays[0].keys():
            return ({self.synonyms.get(name, name): array for name, array in arrays[0].items()},)
        return arrays

    def code(self, name: str, given: Any) -> Any:
        """Return the codes of labels that are given as a condition; anything else stays as it is."""
        columns = self.columns.get(name, ())
        return code_labels(columns[0], given) if len(columns) == 1 else given

    def read(self, arrays: tuple[Any, ...], argument_names: Sequence[str]) -> NamedArrays | StoredRows:
        """Return the data of a call as named arrays that have been checked, with their columns as in the fit.

        What is missing is filled in, and arrays that may have holes have a mask behind them.

        Raises:
            InputError: bad data, a column that is missing or unknown, or a hole where the fit had none.
        """
        names = self.order(argument_names)
        named = name_arrays("VariationalInference", "the data", self.rename(arrays), names, self.columns)
        filled = self.holes.fill(match_columns(named, self.columns, "the data"))
        self.holes.check("the data", filled, names)
        return filled if isinstance(filled, StoredRows) else NamedArrays(filled)

    def repeated(self, name: str, rows: Tensor, num_data: int) -> Tensor:
        """Return the rows of an array, one after the other, for new data, of which nothing is missing."""
        again = rows[torch.arange(num_data) % len(rows)]
        return torch.ones_like(again) if name in self.holes.masks else again

    def columns_of(self, site: str, shape: tuple[int, ...], arguments: Sequence[str]) -> tuple[Variable, ...]:
        """Return the columns that a site observes; nothing if they are not known.

        Those are the columns of the array of its name, or of x if it has as many numbers.

        Args:
            site: the name of the site.
            shape: the shape of a datum there.
            arguments: the names of the arrays of the model.
        """
        if site in self.columns or site in arguments:
            return self.columns.get(site, ())
        of_x = self.columns.get("x", ())
        return of_x if shape == (len(of_x),) else ()

    def describe(
        self, site: str, shape: tuple[int, ...], arguments: Sequence[str], coded: Sequence[int]
    ) -> tuple[Variable, ...]:
        """Return a variable for each number of a site; those that are codes of categories have a kind that says so.

        Args:
            site: the name of the site.
            shape: the shape of a datum there.
            arguments: the names of the arrays of the model.
            coded: the numbers that are codes of categories, by their places.
        """
        columns, names = self.columns_of(site, shape, arguments), names_of(site, shape)
        if len(columns) != len(names):
            columns = tuple(Variable(name, None) for name in names)
        return tuple(
            column
            if (column.kind in CODED) == (place in coded)
            else replace(column, kind=CODED[1] if place in coded else None)
            for place, column in enumerate(columns)
        )
