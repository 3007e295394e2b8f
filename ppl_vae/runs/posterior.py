"""Posterior draws as netCDF in ArviZ's schema, and the contact with ArviZ, whose API changes with version 1."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_posterior(
    path: Path,
    posterior: Mapping[str, np.ndarray],
    posterior_predictive: Mapping[str, np.ndarray],
    observed_data: Mapping[str, np.ndarray],
    rows: np.ndarray,
) -> None:
    """Write draws of the latents, draws of the data given them, and the data; ``arviz.from_netcdf`` opens it.

    Args:
        path: the file.
        posterior: latent sites, ``(draws, data, ...)``.
        posterior_predictive: observed sites, ``(draws, data, ...)``.
        observed_data: observed sites, ``(data, ...)``.
        rows: numbers of these data in their part, ``(data,)``: the coordinate ``datum``.

    Example:
        >>> import arviz, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "posterior.nc"
        >>> z, x = np.zeros((5, 3, 2)), np.zeros((5, 3, 4))
        >>> write_posterior(path, {"z": z}, {"x": x}, {"x": x[0]}, rows=np.array([2, 5, 7]))
        >>> dict(arviz.from_netcdf(path).posterior.sizes)
        {'chain': 1, 'draw': 5, 'datum': 3, 'z_dim_0': 2}
    """
    posterior, posterior_predictive, observed_data = (
        {name.replace("/", "_"): array for name, array in group.items()}  # HDF5 takes "/" for a folder
        for group in (posterior, posterior_predictive, observed_data)
    )
    dims = {
        name: ["datum", *(f"{name}_dim_{i}" for i in range(array.ndim - 1))]
        for name, array in {**{k: v[0] for k, v in posterior.items()}, **observed_data}.items()
    }
    data = import_arviz().from_dict(
        posterior={name: array[None] for name, array in posterior.items()} or None,
        posterior_predictive={name: array[None] for name, array in posterior_predictive.items()},
        observed_data=dict(observed_data),
        coords={"datum": rows},
        dims=dims,
    )
    write_netcdf(data, path)


def import_arviz() -> Any:
    """ArviZ, without its announcement of version 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def write_netcdf(data: Any, path: Path) -> None:
    """Write ArviZ's inference data, whole or not at all."""
    beside = path.with_name(f".{path.name}")
    data.to_netcdf(str(beside), engine="h5netcdf")
    os.replace(beside, path)
