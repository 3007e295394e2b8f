"""The run that a verb works on: its program, its data, pictures of data, and the files that results go to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ppl_vae import plots
from ppl_vae.data import Dataset, Part, subset, with_numbers
from ppl_vae.data.images import Grey
from ppl_vae.display.lists import split_list
from ppl_vae.errors import InputError, nearest
from ppl_vae.estimator import Accelerator, VariationalInference, load, load_data
from ppl_vae.inference import Compile
from ppl_vae.runs import FORMATS, Run
from ppl_vae.uses.pictures import picture_sites

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Outcome(NamedTuple):
    """The result of a verb, the lines that it prints, the files that it has written, and the exit status."""

    result: Any
    lines: Sequence[str] = ()
    files: Sequence[Path] = ()
    status: int = 0


@dataclass(frozen=True)
class Selection:
    """A selection of the data of a run.

    Args:
        part: part of the run's data.
        num_data: number of data, sampled at random (default: all). They are drawn from the part with the seed of the
            run; null takes all.
    """

    group: ClassVar[str] = "data"

    part: Part = "test"
    num_data: int | None = None


class OpenRun(NamedTuple):
    """A run with what was fitted and the data that it was fitted to."""

    run: Run
    vi: VariationalInference
    data: Dataset
    formats: tuple[str, ...]

    def select(self, selection: Selection, rows: Sequence[int] = ()) -> Mapping[str, Any]:
        """Return the arrays of selected data, or of some rows of their part; ``_row`` has the numbers of the rows."""
        numbered = with_numbers(self.data.part(selection.part), "_row")
        count = numbered.num_rows
        if not rows:
            return subset(numbered, selection.num_data, self.vi.seed)
        for row in rows:
            if not 0 <= row < count:
                raise InputError(f"row {row}: the {selection.part} part has rows 0 to {count - 1}")
        return dict(numbered.rows(list(rows)))

    def draw_sheet(
        self, sites: Mapping[str, np.ndarray], title: str, arrays: Mapping[str, np.ndarray], **options: Any
    ) -> Figure:
        """Draw a sheet of data.

        Args:
            sites: data ``(R, C, ...)`` by observed site, for ``R`` rows and ``C`` columns.
            title: the title of the figure.
            arrays: the data that the rows belong to, one for each row or one for all. They have the lengths of
                sequences, and name the rows unless ``rows`` is among the options.
            options: further arguments of ``ppl_vae.plots.sheet``.
        """
        shape = next(iter(sites.values())).shape[:2]
        flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in sites.items()}
        lengths = arrays.get("lengths") if "lengths" in self.vi.arguments_ else None
        if lengths is not None:
            lengths = np.broadcast_to(lengths.reshape(len(lengths), -1)[: shape[0]], shape).ravel()
        picture = picture_sites(flat, self.data, lengths)
        cells = picture.array.reshape(*shape, *picture.array.shape[1:])
        if "rows" not in options:
            options["rows"] = [name_row(arrays, index) for index in range(shape[0])]
        options |= {"image_shape": picture.shape, "roll": picture.roll, "light": picture.light, "names": picture.names}
        return plots.sheet(cells, title=title, **options)

    def draw_grid(
        self, sites: Mapping[str, np.ndarray], columns: int, title: str, rows: Sequence[str] = (), **options: Any
    ) -> Figure:
        """Draw a sheet of data ``(N, ...)`` in rows of this many columns; the last row may be shorter.

        Args:
            sites: data by observed site.
            columns: number of columns.
            title: the title of the figure.
            rows: a label for each row.
            options: ``lengths`` of sequences, ``(N,)``, and further arguments of ``ppl_vae.plots.sheet``.
        """
        padding = -len(next(iter(sites.values()))) % columns

        def fold(array: np.ndarray, fill: float) -> np.ndarray:
            padded = np.concatenate([array, np.full((padding, *array.shape[1:]), fill)])
            return padded.reshape(-1, columns, *array.shape[1:])

        cells = {name: fold(array, np.nan) for name, array in sites.items()}
        arrays = {"lengths": fold(options.pop("lengths"), 1)} if "lengths" in options else {}
        return self.draw_sheet(cells, title, arrays, rows=rows, **options)

    @property
    def has_pictures(self) -> bool:
        """True if data are images or sequences, and not numbers in a table."""
        return self.data.image_shape is not None or "lengths" in self.vi.arguments_

    def new_lengths(self, number: int) -> dict[str, np.ndarray]:
        """Return lengths for new sequences, those of test data over and over; nothing if data are no sequences."""
        if "lengths" not in self.vi.arguments_:
            return {}
        return {"lengths": np.resize(self.select(Selection(num_data=number))["lengths"], number)}

    def write(
        self,
        name: str,
        result: Any,
        figures: Mapping[str, Figure],
        lines: Sequence[str] = (),
        files: Sequence[Path] = (),
        **fields: Any,
    ) -> Outcome:
        """Write ``figures/FIGURE.FORMAT`` and ``uses/NAME.npz``, and return the outcome of a use.

        Args:
            name: the name of the use.
            result: the named tuple that the use returned.
            figures: figures by the names of their files.
            lines: lines to print.
            files: further files that were written.
            fields: what is written besides the fields of the result: arrays, and dictionaries of arrays, such as
                ``mean``, whose site ``x`` is written as ``mean.x``, or as ``probability.x`` if its values are classes.
                A field that is None is left out.
        """
        arrays: dict[str, np.ndarray] = {}
        classes = self.vi.fitted.classes
        for field, value in {**result._asdict(), **fields}.items():
            if isinstance(value, Mapping):
                mean = field in ("mean", "means")
                arrays |= {
                    f"{'probability' if mean and site in classes else field}.{site}": array
                    for site, array in value.items()
                }
            elif value is not None:
                arrays[field] = np.asarray(value)
        return Outcome(result, lines, [*files, *self.write_figures(figures), self.run.write_arrays(name, arrays)])

    def write_figures(self, figures: Mapping[str, Figure], among: Collection[str] = ()) -> list[Path]:
        """Write ``figures/FIGURE.FORMAT``, and return the files; others of the same group are removed."""
        return self.run.write_figures(figures, among, self.formats)


def open_run(
    folder: str,
    format: str = "png",
    image_shape: list[int] | None = None,
    grey: Grey | None = None,
    accelerator: Accelerator | None = None,
    compile: Compile | None = None,
    trust: bool = False,
) -> OpenRun:
    """Open a run.

    Args:
        folder: the run folder that ``fit`` wrote.
        format: file format of figures: png, svg or pdf. Several are possible, such as png,svg.
        image_shape: shape in which a datum is drawn, such as [28,28]. Images with colours are [32,32,3]. By default it
            is that of the fit.
        grey: way to draw grey images. With ink high values are dark, and with light they are light. By default it is
            that of the fit.
        accelerator: device that computes. With auto it is a GPU if there is one. The default is the device of the fit.
        compile: use of compiled graphs. With auto, functions that are called often are compiled; with on, all are; with
            off, none. By default it is as in the fit.
        trust: execute a program file from elsewhere. It may lie inside the run folder, or outside the working tree.

    Raises:
        InputError: the folder is no run or may not be written to, or a format is unknown.
    """
    formats = tuple(split_list(format.lower()))
    for name in formats or ("",):
        if name not in FORMATS:
            raise InputError(f"--format {name!r} is unknown; {nearest(name, FORMATS)}")
    run = Run.open(folder)
    run.check_writable()
    vi = load(folder, accelerator=accelerator, compile=compile, trust=trust)
    data = load_data(folder, image_shape, grey)
    vi.fitted.naming.columns = vi.fitted.naming.columns or data.arrays_columns  # earlier versions did not save them
    return OpenRun(run, vi, data, formats)


def parse_rows(text: str | None, option: str) -> list[int]:
    """Return numbers of rows, such as ``3,17``.

    Example:
        >>> parse_rows("3, 17", "--rows"), parse_rows(None, "--rows")
        ([3, 17], [])
    """
    try:
        return [int(part) for part in split_list(text)]
    except ValueError:
        raise InputError(f"{option} {text}: expected whole numbers such as 3,17") from None


def name_row(arrays: Mapping[str, np.ndarray], index: int) -> str:
    """Return the name of a datum in a figure.

    Example:
        >>> name_row({"_row": np.array([17]), "y": np.array([3])}, 0)
        'row 17 (label 3)'
    """
    y = arrays.get("y")
    label = "" if y is None or y.ndim > 1 or y.dtype.kind == "f" or y[index] < 0 else f" (label {y[index]})"
    return f"row {arrays['_row'][index]}{label}"
