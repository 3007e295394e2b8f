"""What the verbs of the uses share: a run opened with its program and data, pictures of data, and where results go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ppl_vae.cli.figures import numbered, picture
from ppl_vae.cli.parser import Parser, command, split_conditions
from ppl_vae.data import Dataset, Part
from ppl_vae.errors import InputError, nearest
from ppl_vae.estimator import Accelerator, Compile, VariationalInference, load, load_data
from ppl_vae.plots import sheet
from ppl_vae.runs import FORMATS, Run


class Done(NamedTuple):
    """What a verb has done."""

    result: Any
    """The arrays, as the function of ``ppl_vae.uses`` hands them back."""
    lines: list[str]
    """What there is to say of them."""
    files: list[Path]


def use_command(use: Callable[..., Done], args: Sequence[str] | None, *, conditions: bool = False) -> int:
    """Run the verb of a use as a command, and tell what it has written.

    Args:
        use: its function of a run that is open; its other arguments are options, beside those of ``opened``.
        args: of the command line.
        conditions: whether options that neither has are conditions of the program, ``--y 3``.
    """

    def verb(args: Sequence[str]) -> None:
        parser = Parser(prog=f"python -m ppl_vae.{use.__name__}", description=(use.__doc__ or "").split("\n")[0])
        parser.add_function_arguments(opened, as_positional=True)
        parser.add_function_arguments(use, skip={"it", *(["conditions"] if conditions else [])})
        given: dict[str, str] = {}
        if conditions:
            args, given = split_conditions(parser, args)
        options = parser.parse_args(args).as_dict()
        it = opened(**{name: options.pop(name) for name in signature(opened).parameters})
        done = use(it, **options, **given)
        print("\n".join([*done.lines, *(f"written to {path}" for path in done.files)]))

    return command(verb, args)


class Opened(NamedTuple):
    """A run with what was fitted and the data that it was fitted to."""

    run: Run
    vi: VariationalInference
    data: Dataset
    formats: tuple[str, ...]

    def arrays(self, part: Part, num_data: int | None, rows: Sequence[int] = ()) -> dict[str, np.ndarray]:
        """Some data of a part drawn at random with the run's seed, or these rows of it; ``_row`` has their numbers."""
        if not rows:
            return numbered(self.data, part, num_data, self.vi.seed)
        arrays = self.data.part(part)
        count = len(next(iter(arrays.values())))
        for row in rows:
            if not 0 <= row < count:
                raise InputError(f"row {row}: the {part} part has rows 0 to {count - 1}")
        index = np.array(rows)
        return {name: array[index] for name, array in arrays.items()} | {"_row": index}

    def figure(
        self, sites: Mapping[str, np.ndarray], title: str, *, lengths: np.ndarray | None = None, **options: Any
    ) -> Figure:
        """A sheet of data ``(R, C, ...)`` by observed site; lengths ``(R, C)`` of sequences; options of ``sheet``."""
        first = next(iter(sites.values()))
        flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in sites.items()}
        seen = picture(flat, self.data.image_shape, None if lengths is None else lengths.reshape(-1))
        cells = seen.array.reshape(*first.shape[:2], *seen.array.shape[1:])
        return sheet(cells, title=title, image_shape=seen.shape, roll=seen.roll, names=seen.names, **options)

    def lengths(self, arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray | None:
        """Of the sequences of a sheet with a row for each datum."""
        if "lengths" not in arrays or "lengths" not in self.vi.arguments_:
            return None
        return np.broadcast_to(np.asarray(arrays["lengths"]).reshape(-1, 1), shape)

    @property
    def pictures(self) -> bool:
        """Whether data are images or sequences, and not numbers in a table."""
        return self.data.image_shape is not None or "lengths" in self.vi.arguments_

    def some_lengths(self, number: int) -> dict[str, np.ndarray]:
        """Lengths for so many sequences that are drawn, of test data over and over; nothing for other programs."""
        if "lengths" not in self.vi.arguments_:
            return {}
        return {"lengths": np.resize(self.arrays("test", number)["lengths"], number)}

    def grid(
        self,
        sites: Mapping[str, np.ndarray],
        columns: int,
        title: str,
        *,
        lengths: np.ndarray | None = None,
        **options: Any,
    ) -> Figure:
        """A sheet of data ``(N, ...)`` in rows of so many; the last one may be shorter."""
        count = len(next(iter(sites.values())))
        rows = -(-count // columns)

        def ragged(array: np.ndarray, fill: float) -> np.ndarray:
            padding = np.full((rows * columns - count, *array.shape[1:]), fill)
            return np.concatenate([array, padding]).reshape(rows, columns, *array.shape[1:])

        filled = {name: ragged(array, np.nan) for name, array in sites.items()}
        return self.figure(filled, title, lengths=None if lengths is None else ragged(lengths, 1), **options)

    def write(self, name: str, arrays: Mapping[str, np.ndarray] | None, figures: Mapping[str, Figure]) -> list[Path]:
        """Write ``figures/FIGURE.FORMAT`` and ``uses/NAME.npz``; the files."""
        files = [path for each, figure in figures.items() for path in self.run.write_figure(each, figure, self.formats)]
        return [*files, *([self.run.write_arrays(name, arrays)] if arrays is not None else [])]


def opened(
    folder: str,
    format: str = "png",
    image_shape: list[int] | None = None,
    accelerator: Accelerator | None = None,
    compile: Compile | None = None,
) -> Opened:
    """Open a run to use its program.

    Args:
        folder: what ``fit`` wrote.
        format: of figures: png, svg, pdf, or several, such as png,svg.
        image_shape: how a datum is drawn, such as [28,28] or [32,32,3]; as in the fit by default.
        accelerator: auto takes a GPU if there is one; as in the fit by default.
        compile: auto runs what is called often as compiled graphs; on, off; as in the fit by default.

    Raises:
        InputError: no run, one that may not be written to, an unknown format.
    """
    formats = tuple(name.strip().lower() for name in format.split(",") if name.strip())
    for name in formats or ("",):
        if name not in FORMATS:
            raise InputError(f"--format {name!r} is unknown; {nearest(name, FORMATS)}")
    run = Run.open(folder)
    run.check_writable()
    return Opened(run, load(folder, accelerator=accelerator, compile=compile), load_data(folder, image_shape), formats)


def whole_numbers(text: str | None, option: str) -> list[int]:
    """Numbers of rows, such as ``3,17``.

    Example:
        >>> whole_numbers("3, 17", "--rows"), whole_numbers(None, "--rows")
        ([3, 17], [])
    """
    try:
        return [int(part) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        raise InputError(f"{option} {text}: expected whole numbers such as 3,17") from None


def named_row(arrays: Mapping[str, np.ndarray], index: int) -> str:
    """What a datum is called in a figure.

    Example:
        >>> named_row({"_row": np.array([17]), "y": np.array([3])}, 0)
        'row 17 (label 3)'
    """
    y = arrays.get("y")
    label = "" if y is None or y.ndim > 1 or y.dtype.kind == "f" or y[index] < 0 else f" (label {y[index]})"
    return f"row {arrays['_row'][index]}{label}"


def flattened(**fields: Any) -> dict[str, np.ndarray]:
    """Arrays and dictionaries of arrays as one dictionary, ``mean.x``.

    Example:
        >>> sorted(flattened(rows=np.arange(2), mean={"x": np.ones(2)}))
        ['mean.x', 'rows']
    """
    arrays: dict[str, np.ndarray] = {}
    for field, value in fields.items():
        if isinstance(value, Mapping):
            arrays |= {f"{field}.{name}": array for name, array in value.items()}
        else:
            arrays[field] = np.asarray(value)
    return arrays
