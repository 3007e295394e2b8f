"""Comparison of the recipes with published results, on the data that the papers used.

    python benchmarks/quality.py --data-root FOLDER --fit static-mnist-vae        # trains, or goes on with a training
    python benchmarks/quality.py --data-root FOLDER --measure static-mnist-vae    # the evidence, into quality.json
    python benchmarks/quality.py --data-root FOLDER --filter jsb-deep-markov      # by filters of more --num-particles
    python benchmarks/quality.py --data-root FOLDER --anneal static-mnist-vae     # the same of some data by annealing
    python benchmarks/quality.py --report                                         # docs/quality.md from quality.json

FOLDER must contain ``static_binarized_mnist.npz`` (x_train, x_valid, x_test), and ``jsb_chorales.npz`` and the files of
``music/`` (the same arrays, and lengths_train, lengths_valid, lengths_test). A recipe is a file of ``ppl_vae/recipes``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ppl_vae.cli.process  # noqa: F401  (first: it sets up OpenMP)

BENCHMARKS = Path(__file__).parent
NUMBERS, PAGE = BENCHMARKS / "quality.json", BENCHMARKS.parent / "docs" / "quality.md"
NUM_SAMPLES, NUM_SAMPLES_OF_SEQUENCES = 5000, 1000
NUM_FILTERS, NUM_PARTICLES = 10, 500
"""The number of particle filters of a sequence, and of the particles of each unless another is given."""
BURDA = "Burda, Grosse and Salakhutdinov (2016)"
TOMCZAK = "Tomczak and Welling (2018)"
KRISHNAN = (
    "Krishnan, Shalit and Sontag (2017), by importance sampling. Epochs and sizes are the defaults of the authors' "
    "code (github.com/clinicalml/structuredinference, parse_args_dkf.py and train_dkf.py): 100 latents, an LSTM of "
    "600 units, 2000 draws"
)
SHORT = "The training was {share:.0%} of the published one in epochs, and the rate had fallen to zero by then."
REDRAWN_SHORT = (
    "The published training saw fixed bits. Ours took {share:.0%} of its epochs, on bits that were drawn anew in each."
)
LARGER = (
    "The source trains larger networks for 2000 epochs. Ours took {share:.0%} of them; in its second half, the "
    "validation bound rose by {late_gain:.2f} nats per step."
)
FILTERED = (
    "By particle filters, the published result is reached, with smaller networks and {share:.0%} of the 2000 epochs of "
    "the source. Importance sampling is {gap:.2f} nats below the filters."
)
"""The sentence on music if the published result is reached, to its two decimals."""
SMALL = "Our networks are smaller, and the source does not state the length of its training."


STATIC, REDRAWN, MUSIC = "static", "redrawn", "music"
SECTIONS = {
    STATIC: (
        "Static binarised MNIST",
        f"Nats per datum, by importance sampling with draws from the encoder ({NUM_SAMPLES} in the papers), for\n"
        "the 10,000 test data in the binarisation of Larochelle. Higher is better.",
    ),
    REDRAWN: (
        "Static binarised MNIST, trained on bits that are drawn anew",
        "The test and validation data are those above. In every epoch of the training, the bits of the same 50,000\n"
        "images are drawn anew from their grey values; the published trainings saw one draw. The model of bits is the\n"
        "same, and overfits less. `benchmarks/grey.py` finds the images by their bits. It takes 49,800 different\n"
        "images for the 50,000 rows, because some images of a 1 look alike, and 3 of 39 million bits contradict their\n"
        "image.",
    ),
    MUSIC: (
        "Polyphonic music",
        f"Nats per time step of the test part, by importance sampling with {NUM_SAMPLES_OF_SEQUENCES} draws from\n"
        "the encoder. Higher is better. Importance weights vary too much over hundreds of steps. Particle filters\n"
        f"with the same encoder (`--estimators smc`, {NUM_FILTERS} for each sequence), also a lower bound on average,\n"
        "come nearer to the evidence.",
    ),
}
"""The title and the text of each part of the page."""


class Work(NamedTuple):
    """The published result that a recipe repeats."""

    model: str
    published: float
    source: str
    epochs: int | None
    """The number of epochs of the published training; None if the source does not state it."""
    why: str
    """A sentence on what makes the difference. It may contain ``{share}``, our epochs as a share of the published, and
    ``{late_gain}``, the rise of the validation bound in the second half of the training."""
    section: str = STATIC
    """The part of the page; results on music are nats per time step of a sequence, not per datum."""

    @property
    def per_step(self) -> bool:
        return self.section == MUSIC


WORKS = {
    "static-mnist-vae": Work("two tanh layers of 200 units, 50 latents", -88.71, BURDA, 3280, SHORT),
    "static-mnist-iwae": Work(
        "the same, trained with the importance-weighted bound of 50 draws", -87.10, BURDA, 3280, SHORT
    ),
    "static-mnist-vamp": Work(
        "two gated layers of 300 units, 40 latents, 500 pseudo-inputs",
        -85.57,
        TOMCZAK,
        2000,
        "The published result is reached within the errors; the paper stops early, after at most 2000 epochs.",
    ),
    "static-mnist-two-layers-iwae": Work(
        "100 and 50 latents under two tanh layers of 200 and of 100 units, bottom-up, 50 draws",
        -85.32,
        BURDA,
        3280,
        SHORT,
    ),
    "static-mnist-conv-hierarchical-vamp": Work(
        "two layers of 40 latents, convolutions, 500 pseudo-inputs", -81.09, TOMCZAK, 2000, SHORT
    ),
    "static-mnist-resnet-flow": Work(
        "40 latents, residual convolutions, coupling maps as the prior", -79.84, "Xu et al. (2019)", None, SMALL
    ),
    "redrawn-mnist-vae": Work("the network of `static-mnist-vae`", -88.71, BURDA, 3280, REDRAWN_SHORT, REDRAWN),
    "redrawn-mnist-iwae": Work("the network of `static-mnist-iwae`", -87.10, BURDA, 3280, REDRAWN_SHORT, REDRAWN),
    "redrawn-mnist-vamp": Work("the network of `static-mnist-vamp`", -85.57, TOMCZAK, 2000, REDRAWN_SHORT, REDRAWN),
    "redrawn-mnist-vamp-iwae": Work(
        "the same, trained further with the importance-weighted bound of 10 draws",
        -85.57,
        TOMCZAK,
        2000,
        REDRAWN_SHORT,
        REDRAWN,
    ),
    "jsb-deep-markov": Work("64 latents, a GRU of 200 units", -6.39, KRISHNAN, 2000, LARGER, MUSIC),
    "nottingham-deep-markov": Work("the same", -2.77, KRISHNAN, 2000, LARGER, MUSIC),
    "piano-midi-deep-markov": Work("the same", -7.83, KRISHNAN, 2000, LARGER, MUSIC),
    "musedata-deep-markov": Work("the same", -6.83, KRISHNAN, 2000, LARGER, MUSIC),
}


def fit(name: str, data_root: Path, options: list[str]) -> int:
    """Train a recipe, or go on with its training; return the exit status."""
    from ppl_vae.cli import main as run_verb

    run = Path("runs/quality") / name
    if (run / "checkpoint.safetensors").exists():
        return run_verb(["fit", "--resume", "--output", str(run), *options])
    return run_verb(
        ["fit", "--config", name, "--data", str(data_file(name, data_root)), "--output", str(run), *options]
    )


def data_file(name: str, data_root: Path) -> Path:
    """Return the path of the data of a recipe."""
    from ppl_vae.recipes import find_configuration
    from ppl_vae.runs import read_config

    return data_root / read_config(find_configuration(name))["data"]


def measure(
    name: str, data_root: Path, run: Path, num_samples: int | None = None, num_particles: int = NUM_PARTICLES
) -> dict[str, Any]:
    """Return the evidence of the test data and the cost of the run, which may still be trained.

    Args:
        name: the recipe.
        data_root: folder of the data.
        run: the run folder.
        num_samples: number of draws per datum; by default that of the papers.
        num_particles: number of particles of each filter of a sequence.
    """
    import torch

    from ppl_vae import load
    from ppl_vae.data import load_dataset
    from ppl_vae.runs import Run

    work, vi, opened = WORKS[name], load(run), Run.open(run)
    rows, begun_by = opened.metrics(), opened.config().get("start_from")
    before = Run.open(begun_by).metrics()[-1] if begun_by else {"epoch": 0, "train_seconds": 0.0}
    data = load_dataset(data_file(name, data_root))
    test, num_data = data.test, len(data.test["x"])
    unit, of_valid = ((1 / part["lengths"].mean() if work.per_step else 1.0) for part in (test, data.valid))
    num_samples = num_samples or (NUM_SAMPLES_OF_SEQUENCES if work.per_step else NUM_SAMPLES)
    whole = vi.evaluate(test, estimators=("iwae",), num_samples=num_samples).rows
    value, error = ("per_step", "per_step_se") if work.per_step else ("log_evidence", "se")
    beside = filter_steps(vi, test, num_particles) if work.per_step else {}
    return beside | {
        "num_data": num_data,
        "elbo": getattr(whole["elbo"], value),
        "iwae": getattr(whole["iwae"], value),
        "mcse": unit * whole["iwae"].mcse,
        "se": getattr(whole["iwae"], error),
        "doubtful": whole["iwae"].doubtful,
        "draws": num_samples,
        "epochs": before["epoch"] + rows[-1]["epoch"],
        "best_epoch": rows[-1]["best_epoch"],
        "late_gain": late_gain(rows, of_valid),
        "train_minutes": (before["train_seconds"] + rows[-1]["train_seconds"]) / 60,
        "evaluate_minutes": whole["iwae"].seconds / 60,
        "device": describe_device(str(vi.fitted.device), torch.get_num_threads()),
    }


def filter_steps(vi: Any, test: Mapping[str, Any], num_particles: int) -> dict[str, Any]:
    """Return the evidence of sequences by particle filters, in nats per time step.

    Args:
        vi: the fit.
        test: the sequences.
        num_particles: number of particles of each filter.
    """
    num_samples = NUM_FILTERS * num_particles
    found = vi.evaluate(test, estimators=("smc",), num_samples=num_samples, num_filters=NUM_FILTERS).rows["smc"]
    return {
        "smc": found.per_step,
        "smc_mcse": found.mcse / test["lengths"].mean(),
        "smc_doubtful": found.doubtful,
        "particles": num_particles,
    }


def anneal(
    name: str, data_root: Path, run: Path, num_data: int, start: str, num_samples: int | None = None
) -> dict[str, Any]:
    """Return how far annealing is above importance sampling on some test data.

    Args:
        name: the recipe, whose results are nats per datum.
        data_root: folder of the data.
        run: the run folder.
        num_data: number of test data.
        start: the distribution from which the chains start, ``"prior"`` or ``"guide"``. With the prior, the encoder has
            no part in the estimate.
        num_samples: number of draws per datum of importance sampling; by default that of the papers.
    """
    from ppl_vae import load
    from ppl_vae.data import load_dataset, subset

    vi = load(run)
    some = subset(load_dataset(data_file(name, data_root)).test, num_data, vi.seed)
    found = vi.evaluate(some, estimators=("iwae", "ais"), num_samples=num_samples or NUM_SAMPLES, start=start)
    difference = found.evidence["ais"].log_evidence - found.evidence["iwae"].log_evidence
    return {
        "annealed": len(difference),
        "annealed_from": start,
        "ais_above_iwae": difference.mean().item(),
        "ais_mcse": found.rows["ais"].mcse,
    }


def late_gain(rows: Sequence[Mapping[str, float]], unit: float) -> float:
    """Return the rise of the validation bound since half of the epochs.

    Args:
        rows: the rows of ``metrics.jsonl``.
        unit: the unit of the result, per nat of the bound: 1 for nats per datum, and for nats per time step the
            reciprocal of the mean length.

    Example:
        >>> late_gain([{"epoch": epoch, "elbo_valid": -10.0 / epoch} for epoch in range(1, 11)], unit=1.0)
        1.0
    """
    half = next(row for row in rows if 2 * row["epoch"] >= rows[-1]["epoch"])
    return unit * (rows[-1]["elbo_valid"] - half["elbo_valid"])


def describe_device(device: str, num_threads: int) -> str:
    """Return the device in words."""
    threads = "thread" if num_threads == 1 else "threads"
    return f"{num_threads} CPU {threads} of {os.cpu_count()}" if device == "cpu" else device


def why(name: str, row: dict[str, Any]) -> str:
    """Return the sentence on the difference between a published result and ours."""
    work = WORKS[name]
    share = row["epochs"] / work.epochs if work.epochs else math.nan
    if not work.per_step:
        return work.why.format(**row, share=share)
    text = FILTERED if round(row["smc"], 2) >= work.published else work.why
    return text.format(**row, share=share, gap=row["smc"] - row["iwae"])


def page(numbers: dict[str, dict[str, Any]]) -> str:
    """Return the page in Markdown; it depends only on ``quality.json``."""
    lines = [
        "# Quality",
        "",
        "This page compares fits with published results on the same data. Each row is a recipe, a file of",
        "`ppl_vae/recipes`; `fit --config NAME` repeats it. `benchmarks/quality.py` trains and measures the recipes,",
        "and writes this page. Minutes are the wall-clock time of training; other work shared the processor. Epochs",
        "and minutes include those of the run with which a training began (`--start-from`).",
        "",
    ]
    for section, (title, text) in SECTIONS.items():
        chosen = {name: row for name, row in numbers.items() if WORKS[name].section == section}
        if chosen:
            lines += [f"## {title}", "", text, "", *table(chosen), ""]
    lines += [
        *annealing(numbers),
        "On average, an estimate from draws of the encoder is a lower bound. It is not tight if the importance weights",
        "are unreliable (Pareto k above 0.7); the column *doubtful* has the share of these data.",
        "",
        "## Why ours differ",
        "",
        *(f"- `{name}`: {why(name, row)}" for name, row in numbers.items()),
        "",
        "## Commands",
        "",
        "The numbers of `static-mnist-iwae`, `static-mnist-vamp`, `static-mnist-two-layers-iwae`,",
        "`nottingham-deep-markov` and `musedata-deep-markov` are those of runs that were started with another number",
        "of epochs, and then resumed with that of the recipe (`--resume --max-epochs`). Their learning rate took",
        "another course than with these commands. The run of `redrawn-mnist-vamp-iwae` began with `redrawn-mnist-vamp`",
        "after 327 of its 340 epochs.",
        "",
        "```",
        *(f"python -m ppl_vae.fit --config {name} --output runs/quality/{name}" for name in numbers),
        "```",
        "",
    ]
    if waiting := [name for name in WORKS if name not in numbers]:
        lines += ["Recipes without a result yet, for want of a GPU:", ""]
        lines += [f"- `{name}`: {published(name)}." for name in waiting]
        lines.append("")
    lines += ["## Sources", ""]
    lines += [f"- `{name}`: {work.model}. {work.source}." for name, work in WORKS.items()]
    return "\n".join([*lines, ""])


def annealing(numbers: dict[str, dict[str, Any]]) -> list[str]:
    """Return sentences on how far annealing is above importance sampling, if that was measured."""
    lines = [
        f"- `{name}`: {row['ais_above_iwae']:+.2f}, with a Monte Carlo error of {error_of_difference(row):.2f}, on "
        f"{row['annealed']} data, annealed from the {row['annealed_from']}"
        for name, row in numbers.items()
        if "annealed" in row
    ]
    text = "Annealed importance sampling minus importance sampling, both lower bounds on average, on the same data:"
    return [text, "", *lines, ""] if lines else []


def error_of_difference(row: dict[str, Any]) -> float:
    """Return the Monte Carlo error of the difference of both estimators, whose draws are independent.

    That of importance sampling is known for all data; for a part of them, drawn at random, it is larger by the root of
    the ratio of their numbers.
    """
    return math.hypot(row["ais_mcse"], row["mcse"] * math.sqrt(row["num_data"] / row["annealed"]))


def published(name: str) -> str:
    """Return the published result of a recipe as a part of a sentence."""
    work = WORKS[name]
    epochs = f" after at most {work.epochs} epochs" if work.epochs else ""
    return f"published {work.published:.2f}{epochs}"


def table(numbers: dict[str, dict[str, Any]]) -> list[str]:
    """Return the rows of a table in Markdown; those of sequences have the estimate of particle filters too.

    Nats per time step have three decimals, nats per datum two.
    """
    is_filtered = any("smc" in row for row in numbers.values())
    more = ["by particle filters", "particles", "Monte Carlo error", "doubtful"] if is_filtered else []
    names = ["recipe", "published", "here", "Monte Carlo error", "error over data", "ELBO here", "draws", "doubtful"]
    names += [*more, "their epochs", "epochs", "minutes", "device"]
    rows = [names, ["---"] * len(names)]
    for name, row in numbers.items():
        work = WORKS[name]
        decimals = 3 if work.per_step else 2
        filtered = ["", "", "", ""]
        if "smc" in row:
            filtered = [
                f"{row['smc']:.{decimals}f}",
                f"{row['particles']}",
                f"{row['smc_mcse']:.{decimals}f}",
                f"{row['smc_doubtful']:.0%}",
            ]
        rows.append(
            [
                f"`{name}`",
                f"{work.published:.2f}",
                *(f"{row[key]:.{decimals}f}" for key in ("iwae", "mcse", "se", "elbo")),
                str(row["draws"]),
                f"{row['doubtful']:.0%}",
                *(filtered if is_filtered else []),
                str(work.epochs or ""),
                str(row["epochs"]),
                f"{row['train_minutes']:.0f}",
                row["device"],
            ]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def main(args: list[str]) -> int:
    """Train a recipe, measure it, anneal to some data or write the page; return the exit status."""
    from ppl_vae import load
    from ppl_vae.cli.command import fast_products
    from ppl_vae.data import load_dataset

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path(), help="folder of the data files (default: .)")
    parser.add_argument("--fit", choices=WORKS, help="the recipe to train; further options are those of fit")
    parser.add_argument("--measure", choices=WORKS, help="the recipe to measure")
    parser.add_argument("--run", type=Path, help="run folder to measure (default: the one that --fit writes)")
    parser.add_argument("--num-samples", type=int, help="number of draws per datum (default: that of the papers)")
    per_step = [name for name, work in WORKS.items() if work.per_step]
    parser.add_argument("--filter", choices=per_step, help="the measured recipe to filter with more particles")
    parser.add_argument("--num-particles", type=int, default=NUM_PARTICLES, help=f"of a filter ({NUM_PARTICLES})")
    per_datum = [name for name, work in WORKS.items() if not work.per_step]
    parser.add_argument("--anneal", choices=per_datum, help="the measured recipe to compare with annealing")
    parser.add_argument("--num-data", type=int, default=500, help="number of test data to anneal to (default: 500)")
    parser.add_argument(
        "--start", choices=("prior", "guide"), default="prior", help="start of annealing (default: prior)"
    )
    parser.add_argument("--report", action="store_true", help="only write docs/quality.md")
    options, rest = parser.parse_known_args(args)
    if options.fit:
        return fit(options.fit, options.data_root, rest)
    if rest:
        parser.error(f"unknown options: {' '.join(rest)}")
    numbers = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    if name := options.measure or options.filter or options.anneal:
        where = name, options.data_root, options.run or Path("runs/quality") / name
        if options.measure is None and name not in numbers:
            parser.error(f"{name}: first --measure it")
        with fast_products():
            if options.measure:
                row = measure(*where, options.num_samples, options.num_particles)
            elif options.filter:
                test = load_dataset(data_file(name, options.data_root)).test
                row = numbers[name] | filter_steps(load(where[-1]), test, options.num_particles)
            else:
                row = numbers[name] | anneal(*where, options.num_data, options.start, options.num_samples)
        numbers[name] = row
        numbers = {work: numbers[work] for work in WORKS if work in numbers}
        NUMBERS.write_text(json.dumps(numbers, indent=2) + "\n")
    PAGE.write_text(page(numbers))
    print(page(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
