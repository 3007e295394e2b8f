"""The verb ``compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.cli import command
from ppl_vae.cli.opened import Outcome, Selection
from ppl_vae.cli.parser import Parser
from ppl_vae.cli.spelling import hyphenated
from ppl_vae.data import Part, choose_arrays, is_equal, subset
from ppl_vae.errors import Diverged, InputError
from ppl_vae.estimator import Accelerator, VariationalInference, load, load_data
from ppl_vae.evaluation.comparison import (
    Measured,
    check_comparable,
    compare_fits,
    comparison_results,
    comparison_table,
    measure,
)
from ppl_vae.evaluation.estimators import PerDatum, Settings
from ppl_vae.runs import Run, write_json

LEFT_OUT = ("num_simulated",)
"""Settings that are no options: simulated data are those of one fit."""
TRIAL = {"num_samples": 2, "num_temperatures": 1, "num_chains": 1}
"""Settings of a first measurement of one datum of each run.

It reports a fault of the last run at once, and no run pays for the first call of the estimator."""


def parse(args: Sequence[str]) -> dict[str, Any]:
    """Return the values of the options of ``compare``."""
    parser = Parser("compare")
    parser.add_argument("runs", nargs="*", metavar="RUN")
    command.add_options(parser, compare, skip=("runs", *LEFT_OUT))
    return parser.parse_args(args).as_dict()


def compare(
    runs: Sequence[str],
    estimator: PerDatum | None = None,
    selection: Selection = Selection(),
    settings: Settings = Settings(),
    accelerator: Accelerator | None = None,
    output: str | None = None,
    trust: bool = False,
) -> Outcome:
    """Compare the log evidence of runs on the same data.

    Args:
        runs: run folders that ``fit`` wrote, two or more.
        estimator: estimator of the evidence, the same for all runs. By default it is exact for a run whose evidence is
            known, and iwae for the others.
        selection: the data; the seed is that of the first run.
        settings: settings of the estimator.
        accelerator: device that computes. With auto it is a GPU if there is one. The default is the device of each fit.
        output: JSON file to write the numbers to.
        trust: execute program files from elsewhere. They may lie inside a run folder, or outside the working tree.

    Returns:
        Outcome: with a list of ``Compared``, the best run first; the name of a run is its folder as given.

    Raises:
        InputError: fewer than two runs, runs on other data, or evidence that cannot be compared.
        Diverged: a density is not finite.
    """
    runs = [str(run) for run in runs]
    _check_folders(runs)
    path = None if output is None else _check_output(output)
    options = asdict(settings)
    fits = {name: load(name, accelerator=accelerator, trust=trust) for name in runs}
    arrays = common_data(fits, selection.part, selection.num_data)
    check_comparable({name: vi.fitted for name, vi in fits.items()})

    def measure_run(name: str, num_data: int | None, **options: Any) -> Measured:
        """Measure a run, whose name is added to the errors about it."""
        try:
            return measure(fits[name].fitted, subset(arrays[name], num_data, 0), estimator, **options)
        except (InputError, Diverged) as error:
            raise type(error)(f"{name}: {error}") from error

    for name in fits:
        measure_run(name, 1, **options | TRIAL)
    rows = compare_fits({name: measure_run(name, None, **options) for name in fits})
    lines = [comparison_table(rows, selection.part)]
    lines += [f"{row.name}: {sentence}" for row in rows for sentence in row.warnings]
    if path is not None:
        content = {"part": selection.part, "num_data": rows[0].num_data}
        write_json(path, content | {"runs": comparison_results(rows, selection.part).rows, "settings": options})
        lines += [f"\nwritten to {output}"]
    return Outcome(rows, lines)


def common_data(
    fits: Mapping[str, VariationalInference], part: Part, num_data: int | None
) -> dict[str, Mapping[str, np.ndarray]]:
    """Return the same rows of the data for each run, as the arrays that its model takes.

    Args:
        fits: fitted programs by run folder.
        part: part of the data.
        num_data: number of data, drawn with the first run's seed; None takes all.

    Raises:
        InputError: an array that two runs take differs between them, or they take none in common.
    """
    seed = next(iter(fits.values())).seed
    common: dict[str, Mapping[str, Any]] = {}
    first: dict[str, tuple[str, Any]] = {}
    for name, vi in fits.items():
        of_part = load_data(name).part(part)
        arrays = choose_arrays(of_part, [array for array in vi.arguments_ if array in of_part])
        if first and not first.keys() & arrays.keys():
            raise InputError(
                f"{name} takes the arrays {', '.join(arrays)}, the runs before it {', '.join(first)}: they have no "
                f"data in common; compare runs on the same data"
            )
        for array, values in arrays.items():
            other, others = first.setdefault(array, (name, values))
            if not is_equal(values, others):
                raise InputError(
                    f"{name} and {other} are on different data, for their {array!r} of {part} differs "
                    f"({_describe_changes(name, other)}): fit the one anew with the other's options"
                )
        common[name] = subset(arrays, num_data, seed)
    return common


def _describe_changes(*folders: str) -> str:
    """Return the options of two runs that make their data differ."""
    ours, theirs = (
        (options := Run.open(folder).data_options()) | {"binarize": options["binarize"] or load_data(folder).binarize}
        for folder in folders
    )
    changed = (name for name in ours if ours[name] != theirs[name])
    return ", ".join(f"{hyphenated(f'--{name}')} {ours[name]} and {theirs[name]}" for name in changed)


def _check_folders(runs: Sequence[str]) -> None:
    if len(runs) < 2:
        given = f"only {runs[0]} is given" if runs else "none is given"
        raise InputError(f"a comparison needs two run folders or more, {given}: python -m ppl_vae compare RUN RUN")
    paths: set[Path] = set()
    for name in runs:
        path = Run.open(name).path.resolve()
        if path in paths:
            raise InputError(f"the run {name} is given twice: name every run folder once")
        paths.add(path)


def _check_output(output: str) -> Path:
    """Return the path, if a file may be written to it."""
    path = Path(output).expanduser()
    if path.is_dir():
        raise InputError(f"--output {path} is a folder: name a file, such as {path / 'compare.json'}")
    if not path.resolve().parent.is_dir():
        raise InputError(f"--output {path} cannot be written: there is no folder {path.parent}")
    return path
