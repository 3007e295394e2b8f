"""What tests ask of ArviZ, which version 1 has in other places than version 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray

from ppl_vae.runs.posterior import import_arviz

arviz = import_arviz()
VERSION = int(arviz.__version__.partition(".")[0])


def open_groups(path: Any) -> dict[str, Any]:
    """Return the groups of a file by name."""
    data = arviz.from_netcdf(path)
    return dict(data.children) if VERSION else {name: data[name] for name in data.groups()}


def leave_one_out(data: Any) -> float:
    """Return the sum of the leave-one-out estimates, nats."""
    return float(arviz.loo(data).elpd if VERSION else arviz.loo(data).elpd_loo)


def pareto_shapes(log_weights: np.ndarray) -> np.ndarray:
    """Return the Pareto k of log weights ``(B, K)``."""
    if not VERSION:
        return arviz.psislw(log_weights.copy())[1]
    from arviz_stats.base import array_stats

    return array_stats.psislw(-log_weights)[1]  # it takes log likelihoods, whose weights are their inverses


def compare_known(values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return ArviZ's table of models of which it knows the log density of each datum ``(N,)``; not rounded."""
    if not VERSION:
        names = ["elpd_loo", "se", "p_loo", "n_samples", "n_data_points", "warning", "loo_i", "scale"]
        known = {
            name: arviz.ELPDData(
                [nats.sum(), error_of(nats), 0.0, 1, len(nats), False, xarray.DataArray(nats, name="loo_i"), "log"],
                names,
            )
            for name, nats in values.items()
        }
        return arviz.compare(known, method="pseudo-BMA").rename(columns={"elpd_loo": "elpd"})
    known = {
        name: arviz.ELPDData(
            elpd=nats.sum(),
            se=error_of(nats),
            p=0.0,
            n_samples=1,
            n_data_points=len(nats),
            scale="log",
            warning=False,
            good_k=0.7,
            elpd_i=xarray.DataArray(nats, dims="datum"),
            pareto_k=xarray.DataArray(np.zeros(len(nats)), dims="datum"),
        )
        for name, nats in values.items()
    }
    return arviz.compare(known, method="pseudo-BMA", round_to="none")


def error_of(nats: np.ndarray) -> float:
    """Return the standard error of a sum over data."""
    return float((len(nats) * nats.var()) ** 0.5)
