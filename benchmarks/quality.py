"""Comparison of the models with published results, on the data that the papers used.

    python benchmarks/quality.py --data-root FOLDER --fit vae        # about an hour; writes runs/quality/vae
    python benchmarks/quality.py --data-root FOLDER --measure vae    # the evidence of the test data, to quality.json
    python benchmarks/quality.py --report                            # docs/quality.md from quality.json

FOLDER must contain ``static_binarized_mnist.npz`` (x_train, x_valid, x_test) and ``jsb_chorales.npz`` (the same
arrays, and lengths_train, lengths_valid, lengths_test).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import ppl_vae.cli.process  # noqa: F401  (first: it sets up OpenMP)

BENCHMARKS = Path(__file__).parent
NUMBERS, PAGE = BENCHMARKS / "quality.json", BENCHMARKS.parent / "docs" / "quality.md"
NUM_SAMPLES, NUM_SAMPLES_OF_SEQUENCES = 5000, 1000
BURDA = "Burda, Grosse and Salakhutdinov (2016)"
MNIST = "--data static_binarized_mnist.npz --patience null --compile on"
LAYERS = "--model vae --model.hidden [200,200] --model.latent-dim 50 --model.activation tanh"
IWAE = "--bound iwae --num-particles 50 --batch-size 50 --learning-rate 1e-3"


class Work(NamedTuple):
    """A model, the options that train it, and the published result."""

    model: str
    options: str
    published: float
    source: str
    budget: str
    """The training budget of the published run."""
    per_step: bool = False
    """If true, results are nats per time step of a sequence, not per datum."""


WORKS = {
    "vae": Work(
        "two tanh layers of 200 units, 50 latents",
        f"{LAYERS} {MNIST} --batch-size 250 --learning-rate 1e-3 --max-epochs 800",
        -88.71,
        BURDA,
        "3280 epochs",
    ),
    "vae, iwae": Work(
        "the same, trained with the importance-weighted bound of 50 particles",
        f"{LAYERS} {MNIST} {IWAE} --max-epochs 60",
        -87.10,
        BURDA,
        "3280 epochs",
    ),
    "vamp_vae": Work(
        "two gated layers of 300 units, 40 latents, 500 pseudo-inputs",
        "--model vamp_vae --model.hidden [300,300] --model.activation gated --model.latent-dim 40 "
        f"--model.num-pseudo 500 {MNIST} --batch-size 100 --learning-rate 1e-3 --kl-warmup-epochs 20 --max-epochs 150",
        -85.57,
        "Tomczak and Welling (2018)",
        "up to 2000 epochs",
    ),
    "hierarchical_vae, iwae": Work(
        "100 and 50 latents under two tanh layers of 200 and of 100 units, bottom-up, 50 particles",
        "--model hierarchical_vae --model.latent-dims [100,50] --model.hidden [[200,200],[100,100]] "
        f"--model.activation tanh {MNIST} {IWAE} --max-epochs 34",
        -85.32,
        BURDA,
        "3280 epochs",
    ),
    "deep_markov_model": Work(
        "64 latents, a GRU of 200 units",
        "--model deep_markov_model --data jsb_chorales.npz --batch-size 20 --learning-rate 1e-2 --kl-warmup-epochs 60 "
        "--clip-norm 10 --max-epochs 150 --patience null --compile off --num-samples 100",
        -6.87,
        "Pyro's tutorial on the deep Markov model reports -6.87; Krishnan, Shalit and Sontag (2017) report -6.93",
        "",
        per_step=True,
    ),
}


def command(name: str) -> list[str]:
    """Return the arguments after ``python -m`` that train a model."""
    return ["ppl_vae.fit", *WORKS[name].options.split(), "--output", f"runs/quality/{folder(name)}"]


def folder(name: str) -> str:
    """Return the name of the run folder."""
    return name.replace(", ", "-").replace(" ", "-")


def fit(name: str, data_root: Path) -> int:
    """Train a model, or resume its training; return the exit status."""
    from ppl_vae.cli import main as run_verb

    args = [str(data_root / arg) if arg.endswith(".npz") else arg for arg in command(name)[1:]]
    resumed = ["--resume"] if (Path(args[-1]) / "checkpoint.safetensors").exists() else []
    return run_verb(["fit", *args, *resumed])


def measure(name: str, data_root: Path, run: Path, num_samples: int | None = None) -> dict[str, Any]:
    """Return the evidence of the test data and the cost of the run."""
    from ppl_vae import load
    from ppl_vae.data import load_dataset

    work, vi = WORKS[name], load(run)
    summary = json.loads((run / "summary.json").read_text())
    file = next(option for option in work.options.split() if option.endswith(".npz"))
    test = load_dataset(data_root / file).test
    num_data = len(test["x"])
    unit = num_data / test["lengths"].sum() if work.per_step else 1.0
    num_samples = num_samples or (NUM_SAMPLES_OF_SEQUENCES if work.per_step else NUM_SAMPLES)
    whole = vi.evaluate(test, num_samples=num_samples).rows
    numbers = {
        "num_data": num_data,
        "elbo": unit * whole["elbo"].log_evidence,
        "iwae": unit * whole["iwae"].log_evidence,
        "mcse": unit * whole["iwae"].mcse,
        "se": unit * whole["iwae"].se,
        "doubtful": whole["iwae"].doubtful,
        "draws": num_samples,
        "epochs": summary["epochs"],
        "best_epoch": summary["best_epoch"],
        "train_minutes": summary["train_seconds"] / 60,
        "evaluate_minutes": whole["iwae"].seconds / 60,
    }
    return numbers


def page(numbers: dict[str, dict[str, Any]]) -> str:
    """Return the page in Markdown; it depends only on ``quality.json``."""
    lines = [
        "# Quality",
        "",
        "This page compares the models with published results on the same data. `benchmarks/quality.py` trains the",
        "models, measures them and writes this page. Minutes are wall-clock time of one thread, which shared its core.",
        "",
    ]
    images = {name: row for name, row in numbers.items() if not WORKS[name].per_step}
    if images:
        lines += [
            "## Static binarised MNIST",
            "",
            f"Nats per datum, by importance sampling with draws from the encoder ({NUM_SAMPLES} in the papers), for",
            "the 10,000 test data in the binarisation of Larochelle. The training budgets differ widely.",
            "",
            "| | published | here | draws | Monte Carlo error | error over data | their budget | epochs | minutes |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| `{name}` | {WORKS[name].published:.2f} | {row['iwae']:.2f} | {row['draws']} | {row['mcse']:.2f} | "
            f"{row['se']:.2f} | {WORKS[name].budget} | {row['epochs']} | {row['train_minutes']:.0f} |"
            for name, row in images.items()
        ]
        lines += [
            "",
            "On average, an estimate from draws of the encoder is a lower bound. It is not tight if the importance",
            "weights are unreliable (Pareto k above 0.7), as they are for most of these data.",
        ]
        lines.append("")
    steps = {name: row for name, row in numbers.items() if WORKS[name].per_step}
    if steps:
        lines += [
            "## Polyphonic music: JSB chorales",
            "",
            f"Nats per time step of the test part, 77 chorales; higher is better. Importance sampling uses "
            f"{NUM_SAMPLES_OF_SEQUENCES} draws.",
            "",
            "| | published ELBO | ELBO here | importance sampling here | Monte Carlo error | epochs | minutes |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| `{name}` | {WORKS[name].published:.2f} | {row['elbo']:.2f} | {row['iwae']:.2f} | {row['mcse']:.2f} | "
            f"{row['epochs']} | {row['train_minutes']:.0f} |"
            for name, row in steps.items()
        ]
        lines.append("")
    lines += [
        "## Commands",
        "",
        "All runs except the first were started with a larger number of epochs, and then resumed with the number below",
        "(`--resume --max-epochs`). Their learning rate therefore fell faster at the end than with these commands.",
        "",
        "```",
    ]
    lines += [f"python -m {' '.join(command(name))}" for name in numbers]
    lines += ["```", "", "## Sources", ""]
    for name in numbers:
        lines.append(f"- `{name}`: {WORKS[name].model}. {WORKS[name].source}.")
    return "\n".join([*lines, ""])


def main(args: list[str]) -> int:
    """Train a model, measure it or write the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path(), help="folder of the data files (default: .)")
    parser.add_argument("--fit", choices=WORKS, help="the model to train")
    parser.add_argument("--measure", choices=WORKS, help="the model to measure")
    parser.add_argument("--run", type=Path, help="run folder to measure (default: the one that --fit writes)")
    parser.add_argument("--num-samples", type=int, help="number of draws per datum (default: that of the papers)")
    parser.add_argument("--report", action="store_true", help="only write docs/quality.md")
    options = parser.parse_args(args)
    if options.fit:
        return fit(options.fit, options.data_root)
    numbers = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    if name := options.measure:
        run = options.run or Path("runs/quality") / folder(name)
        numbers[name] = measure(name, options.data_root, run, options.num_samples)
        numbers = {work: numbers[work] for work in WORKS if work in numbers}
        NUMBERS.write_text(json.dumps(numbers, indent=2) + "\n")
    PAGE.write_text(page(numbers))
    print(page(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
