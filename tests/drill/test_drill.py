"""A few checks of every kind of the fault drill; ``make drill`` runs all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_no_fault_ends_in_a_traceback_or_a_silent_error() -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.drill", "--quick"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    assert ended.returncode == 0, ended.stderr[-5000:] + ended.stdout
    assert "| all |" in ended.stdout
