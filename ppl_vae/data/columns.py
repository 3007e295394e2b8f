"""Columns of a table as a program takes them: names, kinds, categories and typical values."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ppl_vae.data.frames import NamedArrays, is_frame, read_frame
from ppl_vae.data.kinds import CODED, Variable
from ppl_vae.data.scales import Scaling, find_scalings
from ppl_vae.data.source import as_source
from ppl_vae.data.statistics import blocks_of, column_statistics


def size_arguments(names: Collection[str], arrays: Any, *, standardize: bool = False) -> dict[str, Any]:
    """Return the arguments of a program's constructor that the data decide: ``columns`` of a table, and ``data_dim``.

    Args:
        names: the names of the arguments that are wanted.
        arrays: the training data.
        standardize: as in ``table_columns``.

    Example:
        >>> import numpy as np
        >>> size_arguments(["data_dim", "latent_dim"], NamedArrays({"x": np.zeros((10, 8, 8))}))
        {'data_dim': 64}
    """
    source = as_source(arrays)
    decided: dict[str, Any] = {}
    if "columns" in names and source.columns.get("x"):
        decided["columns"] = table_columns(arrays, standardize=standardize)
    if "data_dim" in names:
        decided["data_dim"] = math.prod(source.shapes.get("x", next(iter(source.shapes.values()))))
    return decided


def table_columns(
    data: Any, kinds: Mapping[str, str] | None = None, *, standardize: bool = False
) -> list[dict[str, Any]]:
    r"""Return what a program's argument ``columns`` takes: a mapping for each column of the array x.

    Its keys are ``name``, ``kind`` and ``categories``. A column of numbers also has its ``center`` and ``spread``, the
    mean and the standard deviation of real numbers, of the logarithm of positive ones, and of :math:`\log(1 + x)` of
    counts, without those that are missing.

    Args:
        data: a data frame, or arrays that were made of one, such as the training part of a data set.
        kinds: kinds of columns of a data frame by name; the others are inferred.
        standardize: If true, the program is fitted with ``standardize``, and the values are those of the numbers that
            it is given.

    Example:
        >>> import pandas
        >>> frame = pandas.DataFrame({"height": [-1.0, 1.0, None], "city": ["Oslo", "Rome", "Oslo"]})
        >>> for column in table_columns(frame):
        ...     print(column)
        {'name': 'height', 'kind': 'real', 'categories': [], 'center': 0.0, 'spread': 1.0}
        {'name': 'city', 'kind': 'binary', 'categories': ['Oslo', 'Rome']}
    """
    arrays = read_frame(data, kinds=kinds).arrays() if is_frame(data) else data
    variables = NamedArrays(arrays).columns.get("x", ())
    if not variables:
        return []
    columns = [variable.as_plain() for variable in variables]
    scaling = find_scalings(arrays, ["x"])["x"] if standardize else None
    typical = column_statistics(_on_natural_scales(arrays, variables, scaling))["x"]
    for column, mean, scale in zip(columns, typical.mean, typical.scale, strict=True):
        if column["kind"] not in CODED:
            column |= {"center": float(mean), "spread": float(scale) if scale > 0 else 1.0}
    return columns


def _on_natural_scales(
    arrays: Mapping[str, np.ndarray], variables: Sequence[Variable], scaling: Scaling | None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of x block by block, with logarithms of positive numbers and of counts."""
    positive, count = (np.array([v.kind == kind for v in variables]) for kind in ("positive", "count"))
    for block in blocks_of(arrays, ["x"]):
        x = block["x"].astype(np.float64)
        if scaling is not None:
            x = (x - np.where(scaling.is_positive, 0.0, scaling.location)) / scaling.scale
        x[:, positive], x[:, count] = np.log(x[:, positive]), np.log1p(x[:, count])
        yield {"x": x}
