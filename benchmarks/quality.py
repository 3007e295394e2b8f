"""How good the gallery's models are beside what was published, on the data that the papers used.

    python benchmarks/quality.py --data-root FOLDER --fit vae        # an hour or so: runs/quality/vae
    python benchmarks/quality.py --data-root FOLDER --measure vae    # the evidence of the test data: quality.json
    python benchmarks/quality.py --report                            # docs/quality.md, from quality.json

The folder has ``static_binarized_mnist.npz`` (x_train, x_valid, x_test) and ``jsb_chorales.npz`` (likewise, and
lengths_train, ...).
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
    """A model, how it is trained, and what was published of it."""

    model: str
    options: str
    published: float
    source: str
    budget: str
    """Of the published run."""
    per_step: bool = False
    """Nats per time step of a sequence, and not per datum."""


WORKS = {
    "vae": Work(
        "two tanh layers of 200, 50 latents",
        f"{LAYERS} {MNIST} --batch-size 250 --learning-rate 1e-3 --max-epochs 800",
        -88.71,
        BURDA,
        "3280 epochs",
    ),
    "vae, iwae": Work(
        "the same, the importance-weighted bound of 50 particles",
        f"{LAYERS} {MNIST} {IWAE} --max-epochs 60",
        -87.10,
        BURDA,
        "3280 epochs",
    ),
    "vamp_vae": Work(
        "two gated layers of 300, 40 latents, 500 pseudo-inputs",
        "--model vamp_vae --model.hidden [300,300] --model.activation gated --model.latent-dim 40 "
        f"--model.num-pseudo 500 {MNIST} --batch-size 100 --learning-rate 1e-3 --kl-warmup-epochs 20 --max-epochs 150",
        -85.57,
        "Tomczak and Welling (2018)",
        "up to 2000 epochs",
    ),
    "hierarchical_vae, iwae": Work(
        "100 and 50 latents under two tanh layers of 200 and of 100, bottom-up, 50 particles",
        "--model hierarchical_vae --model.latent-dims [100,50] --model.hidden [[200,200],[100,100]] "
        f"--model.activation tanh {MNIST} {IWAE} --max-epochs 34",
        -85.32,
        BURDA,
        "3280 epochs",
    ),
    "deep_markov_model": Work(
        "64 latents, a GRU of 200",
        "--model deep_markov_model --data jsb_chorales.npz --batch-size 20 --learning-rate 1e-2 --kl-warmup-epochs 60 "
        "--clip-norm 10 --max-epochs 150 --patience null --compile off --num-samples 100",
        -6.87,
        "Pyro's tutorial of the deep Markov model, -6.87; Krishnan, Shalit and Sontag (2017) have -6.93",
        "",
        per_step=True,
    ),
}


def command(name: str) -> list[str]:
    """What trains a work, after ``python -m``."""
    return ["ppl_vae.fit", *WORKS[name].options.split(), "--output", f"runs/quality/{folder(name)}"]


def folder(name: str) -> str:
    """The run's."""
    return name.replace(", ", "-").replace(" ", "-")


def fit(name: str, data_root: Path) -> int:
    """Train a work, or go on with its training."""
    from ppl_vae import fit

    args = [str(data_root / arg) if arg.endswith(".npz") else arg for arg in command(name)[1:]]
    resumed = ["--resume"] if (Path(args[-1]) / "checkpoint.safetensors").exists() else []
    return fit.main([*args, *resumed])


def measure(name: str, data_root: Path, run: Path, num_samples: int | None = None) -> dict[str, Any]:
    """The evidence of the test data."""
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
    """The Markdown, a function of ``quality.json`` alone."""
    lines = [
        "# Quality",
        "",
        "What the gallery's models reach beside what was published of them, on the same data. `benchmarks/quality.py`",
        "trains, measures and writes this page. Minutes are by the clock, of a thread that shared its core.",
        "",
    ]
    images = {name: row for name, row in numbers.items() if not WORKS[name].per_step}
    if images:
        lines += [
            "## Static binarised MNIST",
            "",
            f"Nats per datum, importance sampling with draws of the encoder ({NUM_SAMPLES} in the papers), 10,000 test",
            "data, in the binarisation of Larochelle. The training budgets differ by far.",
            "",
            "| | published | here | draws | Monte Carlo error | error over data | its epochs | epochs | minutes |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| `{name}` | {WORKS[name].published:.2f} | {row['iwae']:.2f} | {row['draws']} | {row['mcse']:.2f} | "
            f"{row['se']:.2f} | {WORKS[name].budget} | {row['epochs']} | {row['train_minutes']:.0f} |"
            for name, row in images.items()
        ]
        lines += [
            "",
            "An estimate by the encoder's draws is a lower bound on average, and no tight one where its weights are",
            "doubtful (Pareto k above 0.7), as they are of most of these data.",
        ]
        lines.append("")
    steps = {name: row for name, row in numbers.items() if WORKS[name].per_step}
    if steps:
        lines += [
            "## Polyphonic music: JSB chorales",
            "",
            f"Nats per time step of the test part, 77 chorales; higher is better. Importance sampling has "
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
        "All but the first were begun with more epochs in view, and resumed with these (`--resume --max-epochs`): the",
        "learning rate fell faster at the end than these commands let it.",
        "",
        "```",
    ]
    lines += [f"python -m {' '.join(command(name))}" for name in numbers]
    lines += ["```", "", "## Sources", ""]
    for name in numbers:
        lines.append(f"- `{name}`: {WORKS[name].model}. {WORKS[name].source}.")
    return "\n".join([*lines, ""])


def main(args: list[str]) -> int:
    """Train, measure or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--fit", choices=WORKS)
    parser.add_argument("--measure", choices=WORKS)
    parser.add_argument(
        "--run", type=Path, help="the folder of the run that is measured; by default where --fit puts it"
    )
    parser.add_argument("--num-samples", type=int, help="draws; fewer than the papers' where there is no time for more")
    parser.add_argument("--report", action="store_true")
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
