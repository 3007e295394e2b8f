"""A few checks of every kind of the fault drill; ``make drill`` runs all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.drill.__main__ import PARTS

TESTED_ELSEWHERE = ("kills", "processes", "life")
"""Such faults are also in ``cli/test_resume``, ``cli/test_changed_runs`` and ``estimator/test_long_life``."""


@pytest.mark.parametrize(
    "parts",
    [[part for part in PARTS if part not in TESTED_ELSEWHERE], pytest.param(TESTED_ELSEWHERE, marks=pytest.mark.slow)],
    ids=["default", "tested elsewhere"],
)
def test_no_fault_ends_in_a_traceback_or_a_silent_error(parts: Sequence[str]) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.drill", *parts, "--quick"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    assert ended.returncode == 0, ended.stderr[-5000:] + ended.stdout
    assert "| all |" in ended.stdout
