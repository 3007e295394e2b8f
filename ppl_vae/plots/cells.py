"""The data of a sheet, with their labels and scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ppl_vae.plots.images import Key, Scale
from ppl_vae.plots.style import first, limits

LINES = 30  # more lines of a table, or strips, are not drawn, and the title says so


@dataclass(frozen=True)
class Cells:
    """Data ``(R, C, D)``, which of them are drawn ``(R, C)``, and their labels, which may be empty."""

    cells: np.ndarray
    shown: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    names: tuple[str, ...]
    own: tuple[int, ...]
    title: str
    row_title: str
    column_title: str
    notes: tuple[str, ...]

    def key(self, column: int) -> Key:
        """Return the name of the scale of a column: its number if the scale is its own, else None."""
        return column if column in self.own else None

    def scales(self) -> dict[Key, Scale]:
        """Return the common scale if a column has it, and each column's own, which begins at 0 or below."""
        main = [c for c in range(self.cells.shape[1]) if c not in self.own]
        scales: dict[Key, Scale] = {None: limits(self.cells[:, main])} if main else {}
        for c in self.own:
            values = self.cells[:, c][np.isfinite(self.cells[:, c])]
            low, high = (min(0.0, float(values.min())), float(values.max())) if values.size else (0.0, 1.0)
            scales[c] = (low, high if high > low else low + 1)
        return scales

    def column_name(self, column: int) -> str:
        """Return the label of a column, or its number."""
        return self.columns[column] if self.columns else f"column {column}"

    def lines(self) -> tuple[list[tuple[int, int]], str]:
        """Return the row and the column of each datum with a line of its own, and what the title says of the others.

        There are at most 30, in whole rows of the sheet if one has no more.
        """
        lines = [(row, column) for row, column in np.argwhere(self.shown).tolist()]
        if len(lines) <= LINES:
            return lines, ""
        if whole := [line for line in lines[:LINES] if line[0] < lines[LINES][0]]:
            return whole, first(whole[-1][0] + 1, len(self.cells), "rows")
        return lines[:LINES], first(LINES, len(lines), "data")


def shown_cells(cells: np.ndarray, own: tuple[int, ...]) -> np.ndarray:
    """Return which data ``(R, C)`` are drawn: all but empty ones that end their row or are on their own scale.

    Example:
        >>> shown_cells(np.array([[[1.0], [np.nan], [2.0]], [[3.0], [np.nan], [np.nan]]]), ()).tolist()
        [[True, True, True], [True, False, False]]
    """
    full = np.isfinite(cells).any(-1)
    followed = np.logical_or.accumulate(full[:, ::-1], 1)[:, ::-1]
    followed[:, list(own)] = full[:, list(own)]
    return followed
