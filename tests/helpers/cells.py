"""Counts of genes in cells, drawn from a known model, and the ``anndata`` object that holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
from anndata import AnnData


def names(values: Any) -> pd.Index:
    """Return names as Python texts, which every version of anndata can write."""
    return pd.Index(list(values), dtype=object)


def simulated(num_cells: int = 60, num_genes: int = 5, seed: int = 0) -> AnnData:
    """Return cells with counts, logarithms of them as X, two batches, three cell types, and a column with holes."""
    rng = np.random.default_rng(seed)
    kind, batch = rng.integers(0, 3, num_cells), rng.integers(0, 2, num_cells)
    share = np.exp(rng.normal(size=(3, num_genes))[kind] + 0.3 * rng.normal(size=(2, num_genes))[batch])
    mean = rng.lognormal(4, 0.4, (num_cells, 1)) * share / share.sum(1, keepdims=True)
    counts = rng.poisson(rng.gamma(2.0, mean / 2.0))
    counts[counts.sum(1) == 0, 0] = 1
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical.from_codes(batch, names(["west", "east"])),
            "cell_type": pd.Categorical.from_codes(np.where(np.arange(num_cells) == 3, -1, kind), names("BNT")),
            "donor": np.arange(num_cells) % 4,
            "score": np.where(np.arange(num_cells) == 7, np.nan, rng.normal(size=num_cells)),
        },
        index=names(f"cell {i}" for i in range(num_cells)),
    )
    logs = scipy.sparse.csr_matrix(np.log1p(counts).astype("float32"))
    layers = {"counts": scipy.sparse.csr_matrix(counts), "dense": counts, "by gene": scipy.sparse.csc_matrix(counts)}
    return AnnData(logs, obs, pd.DataFrame(index=names(f"gene {i}" for i in range(num_genes))), layers=layers)
