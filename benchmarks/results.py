"""The measured rows of all benchmarks, in one file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def keep(path: Path, rows: list[Row]) -> None:
    """Write rows to a file of them; what it has of the same works is replaced, the rows of other works are kept."""
    works = {row["work"] for row in rows}
    others = [row for row in json.loads(path.read_text()) if row["work"] not in works] if path.exists() else []
    whole = path.with_name(path.name + ".part")
    whole.write_text(json.dumps(others + rows, indent=2) + "\n")
    os.replace(whole, path)
