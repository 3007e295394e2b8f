"""Statistics and ranks of data among data sets that are drawn from the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ppl_vae.check.data_statistics import StatisticsOfSite
from ppl_vae.check.ranks import ranks_of_counts
from ppl_vae.check.replicated import observed_data, posterior_replicates, prior_replicates
from ppl_vae.check.subject import CheckedData
from ppl_vae.errors import InputError, reason
from ppl_vae.program import classes_of, names_of
from ppl_vae.runs import file_and_class
from ppl_vae.runs.modules import import_file

MOST_GIVEN_DATA = 50
"""The largest number of data sets that are drawn given the data."""
MOST_COLUMNS = 500
"""The largest number of columns of a site whose intervals are checked one by one; of more, some are drawn."""
OwnStatistic = Callable[[np.ndarray], Any]


class Comparison(NamedTuple):
    """Data beside data sets that are drawn from the model, for one observed site."""

    names: tuple[str, ...]
    """The names of the ``S`` statistics."""
    observed: np.ndarray
    """The statistics of the data, ``(S,)``."""
    replicated: np.ndarray
    """Those of the data sets, ``(R, S)``."""
    columns: tuple[str, ...]
    """The names of the numbers of a datum whose intervals are checked, ``D`` of them."""
    ranks: np.ndarray
    """The rank of each number of the data among the draws in its place, ``(N, D)``."""
    given_data: np.ndarray
    """The statistics of data sets that are drawn given the data, ``(R', S)``."""


def compare(
    data: CheckedData, num_replicates: int, own: Mapping[str, OwnStatistic] | None = None
) -> dict[str, Comparison]:
    """Compare data with data sets that are drawn from the model, by observed site.

    Args:
        data: the data.
        num_replicates: the number of data sets.
        own: the user's own statistics by name, functions of what a site observes, ``(N, ...)``.
    """
    observed, size = observed_data(data), len(data)
    program = data.fitted.program
    classes, own = classes_of(program), own or {}
    random = np.random.default_rng([data.seed, 3])
    flat = {site: x.reshape(size, -1) for site, x in observed.items()}
    chosen = {site: _choose(x.shape[1], random) for site, x in flat.items()}
    makers: dict[str, StatisticsOfSite] = {}
    below = {site: np.zeros((size, len(columns))) for site, columns in chosen.items()}
    equal = {site: np.zeros((size, len(columns))) for site, columns in chosen.items()}
    rows: dict[str, list[dict[str, float]]] = {site: [] for site in flat}

    def compute(site: str, x: np.ndarray) -> dict[str, float]:
        return makers[site].compute(x.reshape(size, -1)) | _own(own, site, x)

    for part in prior_replicates(data, num_replicates + 1):
        for site, drawn in part.items():
            sets = drawn.astype(float)
            if site not in makers:  # the first data set fixes the statistics and does not count
                first = sets[0].reshape(size, -1)
                makers[site] = StatisticsOfSite.of(first, _image_of(data, observed[site]), classes.get(site, 0))
                sets = sets[1:]
            rows[site] += [compute(site, x) for x in sets]
            columns = sets.reshape(len(sets), *flat[site].shape)[..., chosen[site]]
            below[site] += (columns < flat[site][:, chosen[site]]).sum(0)
            equal[site] += (columns == flat[site][:, chosen[site]]).sum(0)
    few = int(min(MOST_GIVEN_DATA, max(1, 2e7 // sum(x.size for x in flat.values()))))
    given = posterior_replicates(data, few) if data.fitted.has_latents else {}
    comparisons = {}
    for site, x in flat.items():
        values = compute(site, observed[site].astype(float))
        names = tuple(name for name in values if len({values[name], *(row[name] for row in rows[site])}) > 1) or tuple(
            values
        )
        ranks = ranks_of_counts(below[site], equal[site], num_replicates, random)
        ranks[np.isnan(x[:, chosen[site]])] = np.nan
        sets_given = [compute(site, part.astype(float)) for part in given.get(site, ())]
        comparisons[site] = Comparison(
            names,
            np.array([values[name] for name in names]),
            np.array([[row[name] for name in names] for row in rows[site]]),
            tuple(np.array(names_of(site, observed[site].shape[1:]))[chosen[site]].tolist()),
            ranks,
            np.array([[row[name] for name in names] for row in sets_given]).reshape(-1, len(names)),
        )
    return comparisons


def read_statistic(spec: str) -> dict[str, OwnStatistic]:
    """Read the user's own statistic, a function of an array ``(N, ...)`` to a number or to several by name.

    Args:
        spec: the place of the function, path/to/file.py:function.

    Raises:
        InputError: there is no such file or function.

    Example:
        >>> read_statistic("median")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: --statistic 'median': expected path/to/file.py:function
    """
    path, name = file_and_class(spec)
    if path is None or not name:
        raise InputError(f"--statistic {spec!r}: expected path/to/file.py:function")
    if not path.is_file():
        raise InputError(f"--statistic {spec!r}: there is no file {path}")
    try:
        function = getattr(import_file(path), name, None)
    except Exception as error:  # whatever the user's file raises
        raise InputError(f"--statistic {spec!r}: the file cannot be imported ({reason(error)})") from error
    if not callable(function):
        raise InputError(f"--statistic {spec!r}: {path.name} has no function {name!r}")
    return {name: function}


def _own(own: Mapping[str, OwnStatistic], site: str, x: np.ndarray) -> dict[str, float]:
    """Return the user's own statistics of what a site observes."""
    results: dict[str, float] = {}
    for name, function in own.items():
        try:
            value = function(x)
            several = value if isinstance(value, Mapping) else {name: value}
            results |= {key: float(number) for key, number in several.items()}
        except Exception as error:  # whatever the user's function raises
            raise InputError(
                f"the statistic {name!r} of the site {site!r}, an array {x.shape}, fails ({reason(error)}): expected a "
                f"number, or numbers by name"
            ) from error
    return results


def _choose(count: int, random: np.random.Generator) -> np.ndarray:
    """Return the columns whose intervals are checked."""
    return np.arange(count) if count <= MOST_COLUMNS else np.sort(random.choice(count, MOST_COLUMNS, replace=False))


def _image_of(data: CheckedData, observed: np.ndarray) -> tuple[int, int] | None:
    """Return height and width if a datum is an image: by its own shape, or by that of an array of as many numbers."""
    for array in (observed, *data.arrays.values()):
        shape = np.shape(array)[1:]
        if len(shape) >= 2 and np.prod(shape) == observed[0].size and min(shape[-2:]) > 3:
            return int(shape[-2]), int(shape[-1])
    return None
