"""Run folders in tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_numbers(folder: Path) -> dict[str, Any]:
    """Return the numbers of a run, its summary and its metrics, without its times."""
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return summary | {"train_seconds": 0, "metrics": [row | {"train_seconds": 0} for row in rows]}
