"""Posterior draws as a netCDF file in the schema of ArviZ, and what differs between ArviZ 0 and 1."""

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


CONDITIONAL = "x_given_z"
"""The name of the log likelihood of all that is observed of a datum, given the datum's latents."""
ABOUT_LOG_LIKELIHOOD = (
    "log p(x | z) of a datum given draws of its own latents, nats. Leave-one-out estimates from it are harmonic means "
    "of p(x | z), which are optimistic, since the latents have seen the datum: evidence.nc has the log evidence."
)
"""What the group ``log_likelihood`` is, an attribute of the file."""


def write_posterior(
    path: Path,
    posterior: Mapping[str, np.ndarray],
    posterior_predictive: Mapping[str, np.ndarray],
    observed_data: Mapping[str, np.ndarray],
    rows: np.ndarray,
    shared: Mapping[str, np.ndarray] | None = None,
    log_likelihood: np.ndarray | None = None,
) -> None:
    """Write draws of the latents, draws of the data given these, and the data; ``arviz.from_netcdf`` opens the file.

    The log likelihood is conditional on the latents of its own datum: ``arviz.loo`` of it is optimistic, since these
    latents have seen the datum. The evidence, in ``evidence.nc``, is free of that. The file says so in an attribute.

    Args:
        path: path of the file.
        posterior: draws of latent sites, ``(draws, data, ...)``.
        posterior_predictive: draws of observed sites, ``(draws, data, ...)``.
        observed_data: values of observed sites, ``(data, ...)``.
        rows: numbers of these data in their part, ``(data,)``, which become the coordinate ``datum``.
        shared: draws of the latents that all data share, ``(draws, ...)``; they stand beside the others.
        log_likelihood: log p(x | z) of the draws, ``(draws, data)``, nats.

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
    groups = {
        "posterior": {name: array[None] for name, array in {**posterior, **shared}.items()},
        "posterior_predictive": {name: array[None] for name, array in posterior_predictive.items()},
        "observed_data": dict(observed_data),
    }
    attributes = {}
    if log_likelihood is not None:
        groups["log_likelihood"] = {CONDITIONAL: log_likelihood[None]}
        dims[CONDITIONAL] = ["datum"]
        attributes = {"log_likelihood": ABOUT_LOG_LIKELIHOOD}
    write_netcdf(inference_data(groups, {"datum": rows}, dims, attributes), path)


def inference_data(
    groups: Mapping[str, Mapping[str, np.ndarray]],
    coords: Mapping[str, np.ndarray],
    dims: Mapping[str, list[str]],
    attributes: Mapping[str, str],
) -> Any:
    """Return groups of arrays as ArviZ 0 (``InferenceData``) or ArviZ 1 (``DataTree`` of xarray) has them.

    Args:
        groups: arrays by group and by name, with chain and draw in front if the group has draws; empty groups are left
            out.
        coords: coordinates by dimension.
        dims: the names of further dimensions by array.
        attributes: attributes of the whole.
    """
    arviz = import_arviz()
    present = {name: dict(arrays) for name, arrays in groups.items() if arrays}
    if int(arviz.__version__.partition(".")[0]) >= 1:
        used = {dim for arrays in present.values() for name in arrays for dim in dims.get(name, ())}
        kept = {name: values for name, values in coords.items() if name in used}
        data = arviz.from_dict(present, coords=kept, dims=dict(dims))
        data.attrs.update(attributes)
        return data
    return arviz.from_dict(**present, coords=dict(coords), dims=dict(dims), attrs=dict(attributes))


def import_arviz() -> Any:
    """Import ArviZ without its announcement of version 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def write_netcdf(data: Any, path: Path) -> None:
    """Write inference data of ArviZ, whole or not at all."""
    with written_beside(path) as beside:
        groups = data.children.values() if hasattr(data, "children") else data.values()  # of ArviZ 1, or of ArviZ 0
        size = sum(group.nbytes for group in groups)
        check_room(beside, size * 5 // 4 + NETCDF_OVERHEAD)
        try:
            data.to_netcdf(str(beside), engine="h5netcdf")
        except RuntimeError as error:  # HDF5 reports a full disk so
            raise OSError(errno.EIO, reason(error)) from error
