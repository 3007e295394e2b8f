"""``python -m ppl_vae.gap``: what amortization costs, datum by datum, and what the family of the posterior does."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ppl_vae.cli.figures import numbered, write_gap_figure
from ppl_vae.cli.parser import Parser, command
from ppl_vae.data import Part
from ppl_vae.estimator import Accelerator, Compile, Gap, GapSettings, check_gap_settings, load, load_data, measure_gap
from ppl_vae.runs import Run


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""

    def verb(args: Sequence[str]) -> None:
        parser = Parser(
            prog="python -m ppl_vae.gap",
            description="Optimise the posterior of every datum by itself, and tell what the encoder loses beside it.",
        )
        parser.add_function_arguments(gap, as_positional=True)  # GapSettings is found in it
        options = parser.parse_args(args).as_dict()
        found = gap(**options)
        print("\n".join([found.table(options["part"]), *found.warnings()]))
        print(f"\nwritten to {Run(options['folder']).path}: gap.json, figures/gap.png")

    return command(verb, args)


def gap(
    folder: str,
    part: Part = "test",
    num_data: int | None = 1000,
    accelerator: Accelerator | None = None,
    compile: Compile | None = None,
    **settings: Any,
) -> Gap:
    """Find the gaps of a run; write ``gap.json`` and a figure.

    Args:
        folder: what ``fit`` wrote.
        part: the part of the run's data.
        num_data: so many data, drawn at random with the run's seed; null takes all.
        accelerator: auto takes a GPU if there is one; as in the fit by default.
        compile: auto runs what is called often as compiled graphs; on, off; as in the fit by default.
        settings: fields of ``GapSettings``.

    Returns:
        Gap: nats per datum.
    """
    run, options = Run.open(folder), GapSettings(**settings)
    run.check_writable()
    check_gap_settings(options)
    data = load_data(folder)
    vi = load(folder, accelerator=accelerator, compile=compile)
    arrays = numbered(data, part, num_data, vi.seed)
    vi.check_data(arrays)
    found = measure_gap(vi.fitted, arrays, options)
    run.write_json("gap.json", {"part": part, **found.numbers(), "settings": asdict(options)})
    write_gap_figure(run, found)
    return found


if __name__ == "__main__":
    sys.exit(main())
