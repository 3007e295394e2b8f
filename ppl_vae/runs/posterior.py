"""Posterior draws as a netCDF file in the schema of ArviZ, and the import of ArviZ, whose version 1 has another API."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.errors import reason
from ppl_vae.runs.files import check_room, written_beside

NETCDF_OVERHEAD = 2**17
"""Bytes that a netCDF file may have beside its arrays."""


def write_posterior(
    path: Path,
    posterior: Mapping[str, np.ndarray],
    posterior_predictive: Mapping[str, np.ndarray],
    observed_data: Mapping[str, np.ndarray],
    rows: np.ndarray,
    shared: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write draws of the latents, draws of the data given these, and the data; ``arviz.from_netcdf`` opens the file.

    Args:
        path: path of the file.
        posterior: draws of latent sites, ``(draws, data, ...)``.
        posterior_predictive: draws of observed sites, ``(draws, data, ...)``.
        observed_data: values of observed sites, ``(data, ...)``.
        rows: numbers of these data in their part, ``(data,)``, which become the coordinate ``datum``.
        shared: draws of the latents that all data share, ``(draws, ...)``; they stand beside the others.

    Example:
        >>> import arviz, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "posterior.nc"
        >>> z, x = np.zeros((5, 3, 2)), np.zeros((5, 3, 4))
        >>> write_posterior(path, {"z": z}, {"x": x}, {"x": x[0]}, rows=np.array([2, 5, 7]))
        >>> dict(arviz.from_netcdf(path).posterior.sizes)
        {'chain': 1, 'draw': 5, 'datum': 3, 'z_dim_0': 2}
    """
    posterior, posterior_predictive, observed_data, shared = (
        {name.replace("/", "_"): array for name, array in group.items()}  # in HDF5, "/" separates folders
        for group in (posterior, posterior_predictive, observed_data, shared or {})
    )
    dims = {
        name: ["datum", *(f"{name}_dim_{i}" for i in range(array.ndim - 1))]
        for name, array in {**{k: v[0] for k, v in posterior.items()}, **observed_data}.items()
    }
    dims |= {name: [f"{name}_dim_{i}" for i in range(array.ndim - 1)] for name, array in shared.items()}
    data = import_arviz().from_dict(
        posterior={name: array[None] for name, array in {**posterior, **shared}.items()} or None,
        posterior_predictive={name: array[None] for name, array in posterior_predictive.items()},
        observed_data=dict(observed_data),
        coords={"datum": rows},
        dims=dims,
    )
    write_netcdf(data, path)


def import_arviz() -> Any:
    """Import ArviZ without its announcement of version 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def write_netcdf(data: Any, path: Path) -> None:
    """Write inference data of ArviZ, whole or not at all."""
    with written_beside(path) as beside:
        check_room(beside, sum(data[group].nbytes for group in data.groups()) * 5 // 4 + NETCDF_OVERHEAD)
        try:
            data.to_netcdf(str(beside), engine="h5netcdf")
        except RuntimeError as error:  # HDF5 reports a full disk so
            raise OSError(errno.EIO, reason(error)) from error
