"""``python -m ppl_vae.compare``: runs on the same data side by side, in nats, with paired errors, and their costs."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.cli.parser import Parser, command
from ppl_vae.data import Part, subset
from ppl_vae.errors import Diverged, InputError
from ppl_vae.estimator import (
    DATA_OPTIONS,
    Accelerator,
    Compared,
    Measured,
    PerDatum,
    Settings,
    VariationalInference,
    check_comparable,
    compare_fits,
    comparison_table,
    load,
    load_data,
    make_settings,
    measure,
)
from ppl_vae.runs import Run, write_json

Arrays = Mapping[str, np.ndarray]
TRIAL = {"num_samples": 2, "num_temperatures": 1, "num_chains": 1}
"""Of one datum, before any run is measured: a fault of the last is told at once, and no run pays for the first call."""


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""

    def verb(args: Sequence[str]) -> None:
        parser = Parser(
            prog="python -m ppl_vae.compare",
            description="Put runs on the same data side by side: differences of log evidence with paired errors, ELBO, "
            "seconds.",
        )
        parser.add_argument("runs", nargs="*", metavar="RUN", help="what fit wrote; two or more")
        parser.add_function_arguments(compare, skip={"runs", "settings"})
        parser.add_class_arguments(Settings, skip={"num_simulated"})
        options = parser.parse_args(args).as_dict()
        rows = compare(**options)
        print(comparison_table(rows, options["part"]))
        for row in rows:
            for sentence in row.warnings:
                print(f"{row.name}: {sentence}")
        if options["output"] is not None:
            print(f"\nwritten to {options['output']}")

    return command(verb, args)


def compare(
    runs: Sequence[str],
    estimator: PerDatum | None = None,
    part: Part = "test",
    num_data: int | None = None,
    accelerator: Accelerator | None = None,
    output: str | None = None,
    **settings: Any,
) -> list[Compared]:
    """Put runs on the same data side by side.

    Args:
        runs: folders that ``fit`` wrote.
        estimator: of the evidence, the same for all runs; by default exact for a run where it is known, else iwae.
        part: the part of the runs' data.
        num_data: so many data, drawn at random with the first run's seed; all by default.
        accelerator: auto takes a GPU if there is one; as in each fit by default.
        output: write the numbers to this file too, as JSON.
        settings: fields of ``Settings``.

    Returns:
        list[Compared]: the best run first; a run's name is its folder as given.

    Raises:
        InputError: fewer than two runs, runs on other data, or evidence that cannot be compared.
        Diverged: a density is not finite.
    """
    runs = [str(run) for run in runs]
    _check_folders(runs)
    path = None if output is None else _free(output)
    settings = {"num_samples": Settings.num_samples} | settings
    fits = {name: load(name, accelerator=accelerator) for name in runs}
    arrays = common_data(fits, part, num_data)
    check_comparable({name: vi.fitted for name, vi in fits.items()})

    def measured(name: str, num_data: int | None, **settings: Any) -> Measured:
        with _named(name):
            return measure(fits[name].fitted, subset(arrays[name], num_data, 0), estimator, **settings)

    for name in fits:
        measured(name, 1, **settings | TRIAL)
    rows = compare_fits({name: measured(name, None, **settings) for name in fits})
    if path is not None:
        content = {"part": part, "num_data": rows[0].num_data, "runs": {row.name: _numbers(row) for row in rows}}
        write_json(path, content | {"settings": asdict(make_settings(settings))})
    return rows


def common_data(fits: Mapping[str, VariationalInference], part: Part, num_data: int | None) -> dict[str, Arrays]:
    """The same rows of the data for each run: the arrays that its model takes.

    Args:
        fits: by run folder.
        part: of the data.
        num_data: so many, drawn with the first run's seed; None takes all.

    Raises:
        InputError: an array that two runs take differs between them, or they take none in common.
    """
    seed = next(iter(fits.values())).seed
    found: dict[str, Arrays] = {}
    first: dict[str, tuple[str, np.ndarray]] = {}
    options: dict[str, dict[str, Any]] = {}
    for name, vi in fits.items():
        data = load_data(name)
        there = data.part(part)
        options[name] = {option: Run.open(name).option(option) for option in DATA_OPTIONS}
        options[name]["binarize"] = options[name]["binarize"] or data.binarize
        arrays = {array: there[array] for array in vi.arguments_ if array in there}
        if first and not first.keys() & arrays.keys():
            raise InputError(
                f"{name} takes the arrays {', '.join(arrays)}, the runs before it {', '.join(first)}: they have no "
                f"data in common; compare runs on the same data"
            )
        for array, values in arrays.items():
            other, others = first.setdefault(array, (name, values))
            if not np.array_equal(values, others):
                how = ", ".join(
                    f"--{option.replace('_', '-')} {value} and {options[other][option]}"
                    for option, value in options[name].items()
                    if value != options[other][option]
                )
                raise InputError(
                    f"{name} and {other} are on different data, for their {array!r} of {part} differs ({how}): fit the "
                    f"one anew with the other's options"
                )
        found[name] = subset(arrays, num_data, seed)
    return found


def _check_folders(runs: Sequence[str]) -> None:
    if len(runs) < 2:
        given = f"only {runs[0]} is given" if runs else "none is given"
        raise InputError(f"a comparison needs two run folders or more, {given}: python -m ppl_vae.compare RUN RUN")
    seen: set[Path] = set()
    for name in runs:
        path = Run.open(name).path.resolve()
        if path in seen:
            raise InputError(f"the run {name} is given twice: name every run folder once")
        seen.add(path)


def _free(output: str) -> Path:
    """A path that a file may be written to."""
    path = Path(output).expanduser()
    if path.is_dir():
        raise InputError(f"--output {path} is a folder: name a file, such as {path / 'compare.json'}")
    if not path.resolve().parent.is_dir():
        raise InputError(f"--output {path} cannot be written: there is no folder {path.parent}")
    return path


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong with one run is told with its name."""
    try:
        yield
    except (InputError, Diverged) as error:
        raise type(error)(f"{name}: {error}") from error


def _numbers(row: Compared) -> dict[str, Any]:
    return {key: value for key, value in row._asdict().items() if key not in ("name", "num_data")}


if __name__ == "__main__":
    sys.exit(main())
