"""The walks of new users (``docs/walks``), followed word for word in an empty folder without a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.pages import DOCS, ROOT, blocks

MINUTES = 15
WALKS = {"student": "digit.png", "engineer": "mlflow.db"}
"""The files that a walk of commands ends with."""


@pytest.mark.slow
@pytest.mark.parametrize("name", WALKS)
def test_a_walk_of_commands_reaches_its_goal(name: str, tmp_path: Path) -> None:
    """Files are written as the page shows them, commands are run as the page has them; pip is not."""
    started = time.monotonic()
    for language, text in blocks((DOCS / "walks" / f"{name}.md").read_text()):
        if match := re.match(r"# ([\w.-]+)\n", text):
            (tmp_path / match[1]).write_text(text)
        elif language == "console":
            for command in re.findall(r"^\$ (.+)$", re.sub(r"\\\n\s*", " ", text), re.MULTILINE):
                if not command.startswith("pip "):
                    run(command, tmp_path)
    assert (tmp_path / WALKS[name]).exists()
    assert time.monotonic() - started < 60 * MINUTES


def run(command: str, folder: Path) -> None:
    """Run a command of a walk, with this Python and this checkout."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    result = subprocess.run(
        command, shell=True, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stdout + result.stderr, command


@pytest.mark.slow
def test_the_walk_in_a_notebook_reaches_its_goal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = (
        pytest.importorskip(name, reason="make docs installs it") for name in ("nbformat", "nbclient")
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    text = (DOCS / "walks" / "statistician.md").read_text()
    cells = [nbformat.v4.new_code_cell(code) for language, code in blocks(text) if language == "{code-cell}"]
    book = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(
        book, timeout=60 * MINUTES, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output.get("data", {}) for cell in book.cells for output in cell.outputs]
    assert any("image/png" in data for data in shown)  # the figure, without pyplot
    (line,) = re.findall(r"(\d+)% of \d+ hidden prices", book.cells[-1].outputs[0]["text"])
    assert 80 <= int(line) <= 98
