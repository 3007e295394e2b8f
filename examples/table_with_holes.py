"""A table with holes, from its file to a file in which they are filled in, with intervals.

A fifth of the values is hidden. Source of the model: Nazabal et al., Handling Incomplete Heterogeneous Data (2020).
"""

from __future__ import annotations

import _show  # isort: skip  (first: it sets up OpenMP)

import contextlib
import io
import tempfile

import numpy as np
import pandas as pd
from sklearn.datasets import load_wine

from ppl_vae.cli import main

SHOWN = ("flavanoids", "color_intensity", "proline")


def run() -> None:
    """Fit the table with holes, fill them in, compare with the truth, and draw."""
    options = _show.options()
    wine = load_wine(as_frame=True).frame
    wine["cultivar"] = wine.pop("target").map(dict(enumerate(("Barolo", "Grignolino", "Barbera"))))
    wine = wine.sample(frac=1, random_state=0, ignore_index=True)
    hidden = np.random.default_rng(0).random(wine.shape) < 0.2
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        wine.mask(hidden).to_csv(f"{folder}/wine.csv", index=False)
        fit = f"--data {folder}/wine.csv --model table_vae --model.latent-dim 4 --max-epochs 300 --compile off"
        main(["fit", *fit.split(), "--output", f"{folder}/run"])
        main(["impute", f"{folder}/run", "--data", f"{folder}/wine.csv", "--output", f"{folder}/filled.csv"])
        filled, cells = (pd.read_csv(f"{folder}/{name}.csv") for name in ("filled", "filled_cells"))
    cells["truth"] = [wine.loc[row, column] for row, column in zip(cells["row"], cells["column"], strict=True)]
    classes = cells[cells["column"] == "cultivar"]
    numbers = cells.drop(classes.index).astype({"truth": float})
    scale = wine.drop(columns="cultivar").std()[numbers["column"]].to_numpy()
    usual = wine.mask(hidden).mean(numeric_only=True)[numbers["column"]].to_numpy()
    error, by_mean = ((numbers["truth"] - guess) / scale for guess in (numbers["mean"], usual))
    inside = numbers["truth"].between(numbers["lower"], numbers["upper"]).mean()
    right = (classes["value"] == classes["truth"]).mean()
    print(f"{hidden.sum()} of {hidden.size} values hidden, {int(filled.isna().sum().sum())} left in the file")
    ours, theirs = (np.sqrt((e**2).mean()) for e in (error, by_mean))
    print(f"error in standard deviations: {ours:.2f}, by the column's mean {theirs:.2f}")
    print(f"90 % intervals hold {inside:.0%}; cultivars right {right:.0%}")
    figure, axes = _show.panels("Hidden measurements of wines, and 90 % intervals of them", columns=len(SHOWN))
    for ax, column in zip(np.ravel(axes), SHOWN, strict=True):
        part = numbers[numbers["column"] == column]
        spread = np.stack([part["mean"] - part["lower"], part["upper"] - part["mean"]]).clip(0)
        ax.errorbar(part["truth"], part["mean"], spread, fmt="o", ms=3, color=_show.BLUE, ecolor=_show.PALE)
        ax.axline((part["truth"].mean(),) * 2, slope=1, color=_show.INK, lw=0.8)
        ax.set(title=column.replace("_", " "), xlabel="truth", ylabel="filled in")
    _show.save(figure, options.output)


if __name__ == "__main__":
    run()
