"""A small fit of every model of the gallery: pictures and numbers of the pages of the models, and of the README.

    python benchmarks/gallery.py                    # all models, a few minutes on two cores
    python benchmarks/gallery.py --only vae,hmm     # some of them; the others keep their numbers
    python benchmarks/gallery.py --pages README.md,docs/guide/evidence.md      # the outputs of their commands

It writes a picture and a file of numbers for each model, in ``docs/models``, from which ``make docs`` writes its page.
Data that are not installed with scikit-learn are simulated here.
"""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401  (first: it sets up OpenMP)

# isort: split
import argparse
import contextlib
import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine

from ppl_vae.cli import main as run_command
from ppl_vae.data import load_dataset
from ppl_vae.runs import known_models

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "docs" / "models"
WORK = ROOT / "build" / "gallery"
PICTURES = {  # of the README and the guide: where a command leaves them
    "reconstructions": "digits-vae-amortized/figures/reconstructions.png",
    "prior": "digits-vae-amortized/figures/prior.png",
    "bound": "digits-vae-amortized/figures/bound.png",
    "gap": "digits-vae-amortized/figures/gap.png",
    "impute": "digits-vae-amortized/figures/impute.png",
}
PAGES = ("README.md", "docs/guide/evidence.md", "docs/guide/inference.md", "docs/guide/uses.md")
"""The pages with outputs; the run of the first one is that of all others."""


class Fit(NamedTuple):
    """A fit of a model: its data, further options, and what its page says about them."""

    data: str
    """The value of ``--data``: a data set, or a file that ``DATA`` writes."""
    options: str
    text: str
    figure: str = "prior"
    """The figure of the run that the page shows."""


DIGITS = "The 1797 handwritten digits of scikit-learn, with 8 by 8 pixels that are bits."
HOUSES = "Simulated sizes and prices of 1200 houses in three neighbourhoods, standardised."
CANCER = "The 30 measurements of scikit-learn's breast cancer data, standardised."
MELODIES = "Simulated melodies: 16 steps of 24 keys, a progression of chords and a voice above it."

FITS = {
    "autoencoder": Fit("digits", "--max-epochs 60", DIGITS, "reconstructions"),
    "conv_hierarchical_vae": Fit("digits", "--max-epochs 60 --model.num-pseudo 50", DIGITS),
    "conv_vae": Fit("digits", "--max-epochs 60", DIGITS),
    "count_vae": Fit(
        "cells.npz", "--max-epochs 40 --learning-rate 4e-3", "Simulated counts of 150 genes in 1200 cells."
    ),
    "cvae": Fit("digits", "--max-epochs 100", DIGITS + " The label is a condition."),
    "deep_markov_model": Fit(
        "melodies.npz",
        "--max-epochs 30 --model.features 24 --model.latent-dim 16 --model.emission 64 --model.transition 64 "
        "--model.rnn 64 --learning-rate 0.02 --clip-norm 10 --batch-size 50",
        MELODIES,
    ),
    "factor_analysis": Fit("cancer.npy", "--max-epochs 100 --model.latent-dim 5 --learning-rate 0.01", CANCER),
    "flow_prior_vae": Fit("digits", "--max-epochs 60", DIGITS),
    "flow_vae": Fit("digits", "--max-epochs 60", DIGITS),
    "full_covariance_vae": Fit("digits", "--max-epochs 100", DIGITS),
    "gmvae": Fit("digits", "--max-epochs 60", DIGITS),
    "hierarchical_vae": Fit("digits", "--max-epochs 60", DIGITS),
    "hmm": Fit(
        "melodies.npz",
        "--max-epochs 30 --model.features 24 --model.num-states 12 --learning-rate 0.15 --batch-size 50",
        MELODIES,
    ),
    "mixture": Fit("houses.npy", "--max-epochs 60 --learning-rate 0.02", HOUSES),
    "mixture_prior_vae": Fit("digits", "--max-epochs 100", DIGITS),
    "normal": Fit("houses.npy", "--max-epochs 60 --learning-rate 0.02", HOUSES),
    "not_miwae": Fit(
        "missing.npy",
        "--max-epochs 60 --model.latent-dim 5 --bound iwae --num-particles 10",
        CANCER + " Half of the values above the mean are hidden.",
    ),
    "ppca": Fit("cancer.npy", "--max-epochs 100 --model.latent-dim 5 --learning-rate 0.01", CANCER),
    "resnet_vae": Fit("digits", "--max-epochs 60 --model.num-blocks 1", DIGITS),
    "semi_supervised_vae": Fit(
        "few_labels.npz", "--max-epochs 60 --image-shape [8,8]", DIGITS + " One in ten has its label."
    ),
    "table_vae": Fit(
        "wine.csv", "--max-epochs 200 --model.latent-dim 4", "Scikit-learn's wines, a table with a fifth of it hidden."
    ),
    "top_down_vae": Fit("digits", "--max-epochs 60", DIGITS),
    "vae": Fit("digits", "--max-epochs 100", DIGITS),
    "vamp_vae": Fit("digits", "--max-epochs 60 --model.num-pseudo 50", DIGITS),
}


def write_houses() -> None:
    """Write sizes and prices, from three Gaussians."""
    rng = np.random.default_rng(0)
    means = np.array([[60.0, 250], [110, 330], [130, 700]])
    spreads = np.array([[[12.0, 0], [40, 25]], [[18, 0], [35, 20]], [[25, 0], [110, 60]]])
    place = rng.choice(3, size=1200, p=[0.4, 0.35, 0.25])
    x = means[place] + np.einsum("nij,nj->ni", spreads[place], rng.normal(size=(1200, 2)))
    np.save("houses.npy", ((x - x.mean(0)) / x.std(0)).astype("float32"))


def write_cancer() -> None:
    """Write the measurements, and the same with holes that depend on the values."""
    x = load_breast_cancer().data
    x = np.random.default_rng(0).permutation(((x - x.mean(0)) / x.std(0)).astype("float32"))
    np.save("cancer.npy", x)
    hidden = (x > 0) & (np.random.default_rng(1).random(x.shape) < 0.5)
    np.save("missing.npy", np.where(hidden, np.nan, x))


def write_few_labels() -> None:
    """Write the digits of which one in ten has its label; -1 is unknown."""
    data = load_dataset("digits")
    arrays = {}
    for part in ("train", "valid", "test"):
        y = data.part(part)["y"].copy()
        y[np.random.default_rng(0).random(len(y)) < 0.9] = -1
        arrays |= {f"x_{part}": data.part(part)["x"], f"y_{part}": y}
    np.savez("few_labels.npz", **arrays)


def write_wine() -> None:
    """Write the table of wines with holes."""
    wine = load_wine(as_frame=True).frame
    wine["cultivar"] = wine.pop("target").map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
    wine = wine.sample(frac=1, random_state=0, ignore_index=True)
    wine.mask(np.random.default_rng(0).random(wine.shape) < 0.2).to_csv("wine.csv", index=False)


def write_cells() -> None:
    """Write counts with two batches and four types."""
    rng = np.random.default_rng(0)
    kind, batch = rng.integers(0, 4, 1200), rng.integers(0, 2, 1200)
    share = np.exp(rng.normal(size=150) + 0.5 * rng.normal(size=(4, 150))[kind] + rng.normal(size=(2, 150))[batch])
    mean = rng.lognormal(6, 0.4, (1200, 1)) * share / share.sum(1, keepdims=True)
    x = rng.poisson(rng.gamma(2.0, mean / 2.0)).astype("float32")
    np.savez("cells.npz", x=x, batch=batch, exposure=x.sum(1))


def write_melodies() -> None:
    """Write piano rolls: a chord of three notes, and a voice that moves to near notes of it."""
    rng, chords = np.random.default_rng(0), ((0, 4, 7), (9, 0, 4), (5, 9, 0), (7, 11, 2))
    x = np.zeros((400, 16, 24), dtype="float32")
    for roll in x:
        voice, begin, pace = rng.integers(12, 24), rng.integers(4), rng.choice((2, 3))
        for t in range(16):
            chord = chords[(begin + t // pace) % 4]
            near = [key for key in range(12, 24) if key % 12 in chord]
            voice = min(near, key=lambda key: abs(key - voice - rng.normal(0, 2)))
            roll[t, [*chord, voice]] = 1
    np.savez("melodies.npz", x=x, lengths=np.full(400, 16))


DATA: dict[str, Callable[[], None]] = {
    "houses.npy": write_houses,
    "missing.npy": write_cancer,
    "few_labels.npz": write_few_labels,
    "wine.csv": write_wine,
    "cells.npz": write_cells,
    "melodies.npz": write_melodies,
}
"""How the data are written, by the last file that is written."""


def printed(command: str) -> str:
    """Run a command of the package and return what it prints.

    Raises:
        SystemExit: the command fails.
    """
    with contextlib.redirect_stdout(io.StringIO()) as text:
        status = run_command(shlex.split(command))
    if status:
        raise SystemExit(f"python -m ppl_vae {command}: status {status}")
    return text.getvalue()


def table_of(text: str) -> str:
    """Return the table of evidence in what ``fit`` prints, from its line of data to the next empty line."""
    return re.search(r"^test, \d.*?(?=\n\n|\Z)", text, re.DOTALL | re.MULTILINE)[0]  # type: ignore[index]


def end_of_table(rows: list[str]) -> int:
    """Return the number of lines until an empty one, or until the names of the columns that a table leaves out."""
    end = next((i for i, row in enumerate(rows) if not row), len(rows))
    left_out = next((i for i, row in enumerate(rows[:end]) if row.startswith("left out in")), None)
    if left_out is None:
        return end
    return next((i + 1 for i in range(left_out, end) if not rows[i].endswith(",")), end)


def fit_model(name: str, fit: Fit) -> dict[str, str]:
    """Fit a model, keep its picture, and return what its page says."""
    output = f"runs/{name}"
    model = f"{f'--data {fit.data} ' if fit.data != 'digits' else ''}--model {name} {fit.options}"
    text = printed(f"fit {model} --output {output} --overwrite --compile off")
    shutil.copy(f"{output}/figures/{fit.figure}.png", MODELS / "pictures" / f"{name}.png")
    captions = {"prior": f"Draws from the prior of {name}", "reconstructions": f"Data and reconstructions by {name}"}
    command = f"python -m ppl_vae fit {model} --output {output}"
    return {"text": fit.text, "caption": captions[fit.figure], "table": table_of(text), "command": command}


def refresh(page: Path) -> None:
    """Run the commands of a page that show their output, and replace it; the picture of a run is copied to the site."""

    def rerun(block: re.Match[str]) -> str:
        lines = block[1].splitlines()
        given = [line for line in lines if line.startswith("$ python -m ppl_vae ")]
        shown = [line for line in lines if not line.startswith("$ ")]
        if not shown:  # only fits of the page's own data, whose runs a later block needs
            given = [line for line in given if " fit" in line and "--data" not in line and ".py" not in line]
        text = ""
        for line in given:
            print(f"{page.name}: {line}", flush=True)
            command = line.removeprefix("$ python -m ppl_vae ")
            text = printed(f"{command} --overwrite" if command.startswith("fit") else command)
        if not shown:
            return block[0]
        head = re.match(r"\w+,? ?\d*", shown[0])[0]  # type: ignore[index]  # the output begins with this line
        text = f"\n{text}"
        rows = text[text.index(f"\n{head}") :].strip("\n").splitlines()
        shown = rows[: end_of_table(rows)]
        return "```console\n" + "\n".join([*(line for line in lines if line.startswith("$ ")), *shown]) + "\n```"

    text = re.sub(r"```console\n(.*?)\n```", rerun, page.read_text(), flags=re.DOTALL)
    page.write_text(text)


def main() -> None:
    """Fit the chosen models, or run the commands of the pages."""
    parser = argparse.ArgumentParser(description="Fit the gallery and write the pictures and numbers of its pages.")
    parser.add_argument("--only", help="names of models, separated by commas")
    parser.add_argument("--pages", help=f"pages whose commands are run, such as {','.join(PAGES)}")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    for folder in ("pictures", "numbers"):
        (MODELS / folder).mkdir(exist_ok=True)
    os.chdir(WORK)
    if options.pages:
        for page in options.pages.split(","):
            refresh(ROOT / page)
        for name, source in PICTURES.items():
            if (WORK / "runs" / source).exists():
                shutil.copy(WORK / "runs" / source, ROOT / "docs" / "pictures" / f"{name}.png")
        return
    for file, write in DATA.items():
        if not Path(file).exists():
            write()
    for name in options.only.split(",") if options.only else known_models():
        print(name, flush=True)
        numbers = json.dumps(fit_model(name, FITS[name]), indent=1, ensure_ascii=False)
        (MODELS / "numbers" / f"{name}.json").write_text(numbers + "\n")


if __name__ == "__main__":
    main()
