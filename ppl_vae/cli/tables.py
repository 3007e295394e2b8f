"""The tables that verbs write beside their arrays if the data of a run are a table, with its names and labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_vae import uses
from ppl_vae.data.kinds import Variable
from ppl_vae.data.table import read_original
from ppl_vae.data.written import TableForm, column_values, complete, labelled, write_frame
from ppl_vae.errors import InputError
from ppl_vae.imports import by_need
from ppl_vae.program import coded_columns
from ppl_vae.runs.files import written_beside

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = by_need("pandas")

if TYPE_CHECKING:
    from ppl_vae.cli.opened import OpenRun


def table_of(run: OpenRun, sites: Mapping[str, np.ndarray]) -> pd.DataFrame | None:
    """Return data by array or by observed site as a data frame; None if the data of the run are no table."""
    if run.data.form is None:
        return None
    return labelled(sites, {name: columns_of(run, name, array.shape[1:]) for name, array in sites.items()})


def columns_of(run: OpenRun, site: str, shape: tuple[int, ...]) -> tuple[Variable, ...]:
    """Return the columns that a site observes."""
    return run.vi.fitted.naming.columns_of(site, shape, run.vi.arguments_)


def write_tables(run: OpenRun, tables: Mapping[str, pd.DataFrame | None], form: TableForm | None = None) -> list[Path]:
    """Write ``uses/NAME.SUFFIX`` for each table, in the form of the data of the run, and return the files.

    Args:
        run: the run.
        tables: data frames by the name of their file, or by its path if that has a suffix.
        form: the form of the files; by default that of the data of the run.
    """
    form = form or run.data.form or TableForm()
    paths = []
    for name, frame in tables.items():
        if frame is not None:
            path = Path(name) if Path(name).suffix else run.run.path / "uses" / f"{name}{form.suffix}"
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with written_beside(path) as beside:
                    write_frame(beside, frame, form._replace(suffix=path.suffix))
            except OSError as error:
                raise InputError(f"{path} cannot be written ({error.strerror}): name another file") from error
            paths.append(path)
    return paths


def completed_table(
    run: OpenRun, imputation: uses.Imputation, data: str | None
) -> tuple[pd.DataFrame | None, TableForm | None]:
    """Return the completed table and its form: the file that was given, with its holes filled in, or the run's data."""
    columns, completed = run.vi.fitted.naming.columns, dict(imputation.completed)
    if not completed or run.data.form is None:
        return None, None
    if data is None or Path(data).suffix in (".npz", ".npy"):
        return table_of(run, completed), None
    hidden = {name: hole for name, hole in imputation.missing.items() if name in columns}
    frame, form = read_original(Path(data).expanduser(), columns)
    return complete(frame, completed, hidden, columns), form


def cells_table(run: OpenRun, imputation: uses.Imputation, rows: np.ndarray) -> pd.DataFrame | None:
    """Return a row for each missing number: what was filled in, its distribution, and its draws.

    A category has a label and its probability; it has no mean, no standard deviation and no interval.
    """
    if run.data.form is None:
        return None
    parts = [_cells_of_site(run, imputation, site, rows) for site in imputation.missing]
    cells = pd.concat(parts) if parts else pd.DataFrame()
    return cells.sort_values("row", kind="stable", ignore_index=True) if len(cells) else cells


def _cells_of_site(run: OpenRun, imputation: uses.Imputation, site: str, rows: np.ndarray) -> pd.DataFrame:
    missing, mean, number = imputation.missing[site], imputation.mean[site], len(rows)
    is_class = site in run.vi.fitted.classes
    most = run.vi.fitted.most_probable({site: mean})[site].reshape(number, -1)
    variables = columns_of(run, site, missing.shape[1:])
    coded = {column: place for place, column in enumerate(coded_columns(run.vi.program_).get(site, ()))}
    draws = imputation.draws[site].reshape(len(imputation.draws[site]), number, -1)
    flat = missing.reshape(number, -1)
    parts = []
    for at in range(flat.shape[1]):
        hole = flat[:, at]
        column = variables[at] if len(variables) == flat.shape[1] else Variable(f"{site}[{at}]", None)
        cells: dict[str, Any] = {"row": rows[hole], "column": column.name}
        cells["value"] = column_values([column], most[hole, at])
        if is_class or at in coded:
            shares = mean.reshape(number, flat.shape[1], -1)[:, at]
            if at in coded:
                shares = imputation.probabilities[site][:, coded[at]]
            cells["probability"] = shares[hole].max(-1)
        else:
            for field in ("mean", "sd", "lower", "upper"):
                cells[field] = getattr(imputation, field)[site].reshape(number, -1)[hole, at]
        for index, draw in enumerate(draws):
            cells[f"draw_{index + 1}"] = column_values([column], draw[hole, at])
        parts.append(pd.DataFrame(cells).astype(dict.fromkeys(["value", *_draw_names(draws)], object)))
    order = ["row", "column", "value", "probability", "mean", "sd", "lower", "upper", *_draw_names(draws)]
    return pd.concat(parts).reindex(columns=order)


def _draw_names(draws: np.ndarray) -> list[str]:
    return [f"draw_{index + 1}" for index in range(len(draws))]
