"""The logger ``csv``: tables in text files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ppl_vae.runs.files import write_whole
from ppl_vae.runs.loggers.logger import Logger


class CsvLogger(Logger):
    """A logger to ``metrics.csv``, a row per validation, and ``settings.csv`` and ``summary.csv``, a row per name."""

    key = "csv"

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Write the settings, and keep the rows up to this step."""
        self.path, self.columns = self.folder / "metrics.csv", list[str]()
        _write(self.folder / "settings.csv", [("name", "value"), *config.items()])
        if self.path.is_file():
            with self.path.open(newline="") as file:
                head, *rows = list(csv.reader(file)) or [[]]
            kept = [row for row in rows if len(row) == len(head) and int(row[0]) <= step]
            self.columns = head if kept else []
            _write(self.path, [head, *kept] if kept else [])

    def row(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append a row; the columns are those of the first one."""
        is_first = not self.columns
        self.columns = self.columns or ["step", *(name for name in numbers if name != "step")]
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_first:
                writer.writerow(self.columns)
            writer.writerow([{**numbers, "step": step}.get(name, "") for name in self.columns])

    def end(self, step: int, summary: Mapping[str, float], figures: Mapping[str, Path]) -> None:
        """Write the results; figures are files already."""
        _write(self.folder / "summary.csv", [("name", "value"), *summary.items()])

    def close(self, *, is_complete: bool) -> None:
        """Do nothing: every row is in its file already."""


def _write(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue())
