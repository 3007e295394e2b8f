"""Values that were filled in, as arrays by observed site, and their figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ppl_vae.data.kinds import CODED, Variable
from ppl_vae.display.readable import readable
from ppl_vae.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NUMBERS = 40
"""The most numbers of a datum that are drawn as the columns of a table."""


@readable
class Imputation(NamedTuple):
    """The distribution of missing numbers, given those that were seen; dictionaries are by observed site.

    A number that is a class has no mean and no interval. Its mean and standard deviation are those of the indicators of
    the classes, ``(N, ..., C)``: the mean is the probability. It is completed by the most probable class.
    """

    mean: dict[str, np.ndarray]
    """Means given what was seen, ``(N, ...)``; a number that was seen is itself."""
    sd: dict[str, np.ndarray]
    """Standard deviations given what was seen, ``(N, ...)``; zero for a number that was seen."""
    lower: dict[str, np.ndarray]
    """Lower ends of 90 % intervals, ``(N, ...)``; 5 % of the draws are below."""
    upper: dict[str, np.ndarray]
    """Upper ends of 90 % intervals, ``(N, ...)``."""
    draws: dict[str, np.ndarray]
    """Completed data, drawn from p(missing | seen), ``(S, N, ...)``."""
    probabilities: dict[str, np.ndarray]
    """The probabilities of the categories of the columns of a table that have some, ``(N, n, C)`` by site, see
    ``ppl_vae.program.coded_columns``; the mean of such a column is its most probable category, whose indicator has the
    standard deviation."""
    missing: dict[str, np.ndarray]
    """True for the numbers that were missing, ``(N, ...)``."""
    completed: dict[str, np.ndarray]
    """The given arrays, with means in place of what was missing; empty if a site observes what the program computes
    of these arrays."""
    log_evidence: np.ndarray
    """Log evidence of what was seen, ``(N,)``, nats; on average a lower bound."""
    effective: np.ndarray
    """Effective number of draws for each datum, ``(N,)``; below about 10, an answer should not be believed."""
    columns: Mapping[str, Sequence[Variable]] = MappingProxyType({})
    """The numbers of each site, ``(...)`` in a row, with their names and categories."""

    def plot(self, *, image_shape: Sequence[int] | None = None, num_data: int = 8) -> Figure:
        """Draw what was filled in, with its uncertainty.

        Columns of a table have a panel each, with the intervals of what was missing beside a histogram of what was
        seen, or the shares of categories. Images, and data of more than 40 numbers, have a row each, with what was
        seen, some draws, the mean and the standard deviation.

        Args:
            image_shape: the shape of a datum that is an image, such as (28, 28).
            num_data: number of data with holes that are drawn, if they have a row each.

        Raises:
            InputError: nothing is missing, or the shape is not that of a datum.
        """
        holes = [missing.reshape(len(missing), -1) for missing in self.missing.values()]
        rows = np.flatnonzero(np.any([hole.any(1) for hole in holes], axis=0))
        if not len(rows):
            raise InputError("nothing is missing in these data, so that there is nothing to draw")
        if image_shape is None and sum(hole.shape[1] for hole in holes) <= MOST_NUMBERS:
            return self._plot_columns()
        from ppl_vae.plots import sheet  # by need

        rows = rows[:num_data]
        sites, labels, own = self.cells(rows)
        cells = [array.reshape(*array.shape[:2], -1) for array in sites.values()]
        return sheet(
            np.concatenate(cells, 2),
            title="What was seen, and what may be missing",
            rows=[f"row {row}" for row in rows],
            columns=labels,
            image_shape=image_shape,
            own_scale=[own],
        )

    def cells(
        self, rows: np.ndarray, num_draws: int = 4, truth: Mapping[str, np.ndarray] = MappingProxyType({})
    ) -> tuple[dict[str, np.ndarray], list[str], int]:
        """Return the cells of a sheet for some data: what was seen, draws, the mean, its doubt, and the truth.

        Classes have the most probable class in place of a mean, and its probability in place of a standard deviation.

        Args:
            rows: the numbers of the data.
            num_draws: the most draws that are shown.
            truth: the true numbers by site, if they are known.

        Returns:
            The cells ``(R, C, ...)`` by site, the labels of the columns, and the number of the column of the doubt.
        """
        cells, means, doubts = {}, [], []
        for site, missing in self.missing.items():
            mean, doubt, name = self.mean[site], self.sd[site], "mean"
            if mean.ndim > missing.ndim:
                unknown = np.isnan(mean).any(-1)
                mean, doubt, name = np.where(unknown, np.nan, mean.argmax(-1)), mean.max(-1), "most probable class"
            means.append(name)
            doubts.append("sd" if name == "mean" else "its probability")
            columns = [np.where(missing, np.nan, mean), *self.draws[site][:num_draws], mean, doubt]
            columns += [truth[site]] if truth else []
            cells[site] = np.stack([column[rows] for column in columns], 1)
        drawn = min(num_draws, len(next(iter(self.draws.values()))))
        both = (" or ".join(dict.fromkeys(names)) for names in (means, doubts))
        labels = ["seen", *(f"draw {draw + 1}" for draw in range(drawn)), *both]
        return cells, [*labels, *(["truth"] if truth else [])], drawn + 2

    def _plot_columns(self) -> Figure:
        from ppl_vae.plots import filled_columns  # by need
        from ppl_vae.plots.imputation import FilledColumn

        shown = []
        for site, missing in self.missing.items():
            holes, mean = missing.reshape(len(missing), -1), self.mean[site]
            is_class = mean.ndim > missing.ndim
            values = (mean.argmax(-1) if is_class else mean).reshape(len(mean), -1)
            low, high = (ends.get(site, values).reshape(values.shape) for ends in (self.lower, self.upper))
            variables = self.columns.get(site) or [Variable(f"{site}[{i}]", None) for i in range(holes.shape[1])]
            coded = [i for i, variable in enumerate(variables) if variable.kind in CODED]
            for i, variable in enumerate(variables):
                hole, filled = holes[:, i], values[:, i]
                if is_class:
                    filled = mean.reshape(len(mean), holes.shape[1], -1)[:, i]
                elif i in coded and site in self.probabilities:
                    count = 2 if variable.kind == "binary" else len(variable.categories) or None
                    filled = self.probabilities[site][:, coded.index(i), :count]
                interval = low[hole, i], high[hole, i]
                column = FilledColumn(variable.name, values[~hole, i], filled[hole], *interval, variable.categories)
                shown.append(column)
        return filled_columns(shown)
