r"""Counts of genes in cells, from an .h5ad file to a map of the types of cells.

A cell with latent z, in batch s and with l counts in all, has x_g ~ NegativeBinomial(mean l rho_g, shape r_g) counts of
gene g, where rho = softmax(decoder(z, s)) are shares (Lopez et al., Deep Generative Modeling for Single-cell
Transcriptomics, 2018). The batch is a condition, so that z need not know it: cells of one type lie together, whatever
their batch. The counts are drawn from a known model here; with a file of your own, only its name changes.
"""

import tempfile
from pathlib import Path

import _show
import numpy as np
import pandas as pd
import scipy.sparse
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from ppl_vae import VariationalInference
from ppl_vae.data import load_dataset
from ppl_vae.models.count_vae import CountVAE

options = _show.options()
rng = np.random.default_rng(0)
CELLS, GENES, COLOURS = 1500, 150, (_show.BLUE, _show.ORANGE, _show.GREEN, _show.INK)
kind, batch = rng.integers(0, 4, CELLS), rng.integers(0, 2, CELLS)
share = np.exp(rng.normal(size=GENES) + 0.5 * rng.normal(size=(4, GENES))[kind] + rng.normal(size=(2, GENES))[batch])
mean = rng.lognormal(6, 0.4, (CELLS, 1)) * share / share.sum(1, keepdims=True)
counts = scipy.sparse.csr_matrix(rng.poisson(rng.gamma(2.0, mean / 2.0)))
types, batches, rows, genes = (  # texts as every version of anndata can write them
    pd.Index(list(values), dtype=object)
    for values in (["B", "monocyte", "NK", "T"], ["first", "second"], map(str, range(CELLS)), map(str, range(GENES)))
)
categories = {"cell_type": pd.Categorical.from_codes(kind, types), "batch": pd.Categorical.from_codes(batch, batches)}
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "cells.h5ad"
    AnnData(counts, pd.DataFrame(categories, rows), pd.DataFrame(index=genes)).write_h5ad(file)
    data = load_dataset(file, arguments="x,batch,exposure", obs="y=cell_type")

train, test = ({name: data.part(part)[name] for name in ("x", "batch", "exposure")} for part in ("train", "test"))
vi = VariationalInference(
    CountVAE(GENES, num_batches=2, latent_dim=2), max_epochs=50, learning_rate=4e-3, num_samples=200
).fit(train)
logs = [np.log1p(1000 * np.asarray(part["x"]) / part["exposure"][:, None]) for part in (train, test)]
pca = PCA(2).fit(logs[0])
maps = {"principal components of logarithms": [pca.transform(log) for log in logs]}
maps["posterior mean of z"] = [vi.transform(part) for part in (train, test)]

figure, axes = _show.panels("150 unseen cells: a colour for each type, a marker for each batch", 1, 2, size=(4.4, 3.9))
print(vi.evaluate(test).table("unseen cells"))
for ax, (name, (known, unseen)) in zip(axes, maps.items(), strict=True):
    for (c, label), (s, marker) in ((c, s) for c in enumerate(types) for s in enumerate("ox")):
        mask = (data.test["y"] == c) & (data.test["batch"] == s)
        ax.scatter(*unseen[mask].T, s=22, marker=marker, color=COLOURS[c], lw=0.9, label=None if s else label)
    ax.set(title=name, xticks=[], yticks=[])
    score = [KNeighborsClassifier(15).fit(known, data.train[k]).score(unseen, data.test[k]) for k in ("y", "batch")]
    print(f"{name}: the neighbours tell {score[0]:.0%} of the types, and {score[1]:.0%} of the batches")
axes[1].legend(frameon=False)
_show.save(figure, options.output)
