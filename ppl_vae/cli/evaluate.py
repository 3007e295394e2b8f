"""``python -m ppl_vae.evaluate``: how good a fitted model is, in nats, with errors and what to doubt."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppl_vae.cli.figures import numbered, write_evidence_figures
from ppl_vae.cli.parser import Parser, command
from ppl_vae.data import Part
from ppl_vae.estimator import Accelerator, Compile, Evaluation, Settings, load, load_data
from ppl_vae.runs import Run, write_evidence


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""

    def verb(args: Sequence[str]) -> None:
        parser = Parser(
            prog="python -m ppl_vae.evaluate",
            description="Estimate the evidence of a run's data, say what to believe, and write it into the run folder.",
        )
        parser.add_function_arguments(evaluate, as_positional=True, skip={"settings"})
        parser.add_class_arguments(Settings)
        options = parser.parse_args(args).as_dict()
        evaluation = evaluate(**options)
        print("\n".join([evaluation.table(options["part"]), *evaluation.warnings()]))
        print(f"\nwritten to {Run(options['folder']).path}: evidence.json, evidence.nc, figures")

    return command(verb, args)


def evaluate(
    folder: str,
    estimators: str | None = None,
    part: Part = "test",
    num_data: int | None = None,
    accelerator: Accelerator | None = None,
    compile: Compile | None = None,
    **settings: Any,
) -> Evaluation:
    """Estimate the evidence of a run's data; write ``evidence.json``, ``evidence.nc`` and figures.

    Args:
        folder: what ``fit`` wrote.
        estimators: some of prior, iwae, cubo, ais, bdmc and exact, such as iwae,ais; by default iwae, and exact where
            it is known.
        part: the part of the run's data.
        num_data: so many data, drawn at random with the run's seed; all by default.
        accelerator: auto takes a GPU if there is one; as in the fit by default.
        compile: auto runs what is called often as compiled graphs; on, off; as in the fit by default.
        settings: fields of ``Settings``.

    Returns:
        Evaluation: nats per datum; the seed is the run's, so that the same command gives the same numbers.
    """
    run, data = Run.open(folder), load_data(folder)
    run.check_writable()
    vi = load(folder, accelerator=accelerator, compile=compile)
    arrays = numbered(data, part, num_data, vi.seed)
    names = None if estimators is None else [name.strip() for name in estimators.split(",") if name.strip()]
    defaults = {"num_samples": Settings.num_samples}
    evaluation = vi.evaluate(arrays, estimators=names, diagnostics=True, **(defaults | settings))
    run.write_json("evidence.json", {"part": part, **evaluation.numbers()})
    write_evidence(
        run.path / "evidence.nc",
        {name: _arrays(each.table()) for name, each in evaluation.evidence.items()},
        {name: _arrays(each.curve) for name, each in evaluation.evidence.items() if each.curve},
        rows=arrays["_row"],
    )
    write_evidence_figures(run, vi, data, arrays, evaluation)
    return evaluation


def _arrays(tensors: Mapping[Any, Any]) -> dict[Any, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


if __name__ == "__main__":
    sys.exit(main())
