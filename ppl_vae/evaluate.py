"""``python -m ppl_vae.evaluate``: how good a fitted model is, on a part of its data."""

from __future__ import annotations

import ppl_vae.openmp  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence
from typing import Literal

from ppl_vae.cli import Parser, command
from ppl_vae.data import Dataset, load_dataset, subset
from ppl_vae.estimator import Accelerator, Score, load
from ppl_vae.runs import Run


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""

    def verb(args: Sequence[str]) -> None:
        parser = Parser(
            prog="python -m ppl_vae.evaluate", description="Repeat the test figures of a run, or make others."
        )
        parser.add_function_arguments(evaluate, as_positional=True)
        options = parser.parse_args(args).as_dict()
        print(score_table(options["part"], evaluate(**options)))

    return command(verb, args)


def evaluate(
    folder: str,
    part: Literal["train", "valid", "test"] = "test",
    num_samples: int | None = None,
    num_data: int | None = None,
    accelerator: Accelerator | None = None,
) -> Score:
    """ELBO and importance-weighted log evidence of a run's data, nats per datum.

    Args:
        folder: what ``fit`` wrote.
        part: the part of its data.
        num_samples: draws per datum; as in the fit by default.
        num_data: so many data, drawn at random with the run's seed; all by default.
        accelerator: auto takes a GPU if there is one; as in the fit by default.

    Returns:
        Score: the same numbers as after the fit, with the defaults on the same machine.
    """
    vi = load(folder, accelerator=accelerator)
    arrays = subset(run_data(folder).part(part), num_data, vi.seed)
    return vi.evaluate(arrays, num_samples=num_samples)


def run_data(folder: str) -> Dataset:
    """The data set of a run, split and binarised as it was for the fit."""
    run = Run.open(folder)
    options = {k: run.option(k) for k in ("data", "data_root", "binarize", "image_shape", "seed")}
    if options["binarize"] == "dynamic":  # the same draws for valid and test; those of train are drawn once
        options["binarize"] = "static"
    return load_dataset(**options)


def score_table(part: str, score: Score) -> str:
    """A short table of a score.

    Example:
        >>> print(score_table("test", Score(-18.04, 0.21, -17.23, 0.2, "iwae", 1000, 360)))
        test, 360 data              nats per datum    standard error over data
        ELBO                                -18.04                        0.21
        log evidence (iwae, 1000)           -17.23                        0.20
    """
    rows = [
        (f"{part}, {score.num_data} data", "nats per datum", "standard error over data"),
        ("ELBO", f"{score.elbo:.2f}", f"{score.elbo_se:.2f}"),
        (
            f"log evidence ({score.estimator}, {score.num_samples})",
            f"{score.log_evidence:.2f}",
            f"{score.log_evidence_se:.2f}",
        ),
    ]
    return "\n".join(f"{label:<26}{value:>16}{error:>28}" for label, value, error in rows)


if __name__ == "__main__":
    sys.exit(main())
