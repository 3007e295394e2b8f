"""The evidence of every datum, as a netCDF file in the schema of ArviZ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ppl_vae.runs.posterior import inference_data, write_netcdf


def write_evidence(
    path: Path,
    columns: Mapping[str, Mapping[str, np.ndarray]],
    curves: Mapping[str, Mapping[int, np.ndarray]],
    rows: np.ndarray,
    of: str = "evidence",
) -> None:
    """Write the results of estimators for every datum, in nats; ``arviz.from_netcdf`` opens the file.

    The log evidence of a datum is its log likelihood with the latents integrated out, for one value of the parameters:
    so it is a variable of the group ``log_likelihood`` for each estimator, with one chain and one draw. Further
    columns, such as ``iwae_mcse`` and ``iwae_pareto_k``, are in ``sample_stats``.

    Args:
        path: path of the file.
        columns: columns by estimator and by name, ``(data,)`` each, with ``"log_evidence"`` among them. An estimator
            that simulates its own data may have columns of another length.
        curves: bounds ``(data,)`` by estimator and by number of draws.
        rows: numbers of the data in their part, ``(data,)``, which become the coordinate ``datum``.
        of: what the numbers are of, an attribute of the file: the evidence of a datum, or ``"predictive"``.

    Example:
        >>> import arviz, tempfile
        >>> path, one = Path(tempfile.mkdtemp()) / "evidence.nc", np.ones(3)
        >>> columns = {"iwae": {"log_evidence": -one, "mcse": one}}
        >>> write_evidence(path, columns, {"iwae": {1: -2 * one, 10: -one}}, rows=np.array([2, 5, 7]))
        >>> saved = arviz.from_netcdf(path)
        >>> saved.log_likelihood["iwae"].sel(datum=5).item(), saved.sample_stats["iwae_bound"].sel(num_samples=1).shape
        (-1.0, (1, 1, 3))
    """
    log_likelihood: dict[str, np.ndarray] = {}
    stats: dict[str, np.ndarray] = {}
    dims: dict[str, list[str]] = {}
    coords: dict[str, np.ndarray] = {"datum": rows}
    for estimator, table in columns.items():
        own = "datum" if len(table["log_evidence"]) == len(rows) and "lower" not in table else f"{estimator}_datum"
        for name, values in table.items():
            variable = estimator if name == "log_evidence" else f"{estimator}_{name}"
            (log_likelihood if name == "log_evidence" else stats)[variable] = values[None, None]
            dims[variable] = [own]
    for estimator, curve in curves.items():
        stats[f"{estimator}_bound"] = np.stack(list(curve.values()))[None, None]
        dims[f"{estimator}_bound"] = ["num_samples", "datum"]
        coords["num_samples"] = np.array(list(curve))
    groups = {"log_likelihood": log_likelihood, "sample_stats": stats}
    write_netcdf(inference_data(groups, coords, dims, {"units": "nats per datum", "of": of}), path)
