"""The start of a command: what is imported only if it is needed, and the help, which is kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ppl_vae.cli.help import print_help

LATE = {"pandas", "sklearn", "scipy.stats", "matplotlib", "h5py", "narwhals", "pyarrow", "torchvision", "arviz"}


def test_libraries_that_most_commands_need_late_are_imported_late() -> None:
    code = f"import sys, ppl_vae.cli.fit, ppl_vae.models.vae; print(sorted({LATE} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_is_made_once_for_each_state_of_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    calls = []

    def make() -> None:
        calls.append(1)
        print(f"text {len(calls)}")
        raise SystemExit(0)

    for _ in range(2):
        print_help("fit", [str(tmp_path)], make)
    monkeypatch.setenv("COLUMNS", "100")
    print_help("fit", [str(tmp_path)], make)
    (tmp_path / "own.py").write_text("# a verb of another folder")
    print_help("fit", [str(tmp_path)], make)
    assert capsys.readouterr().out.split() == ["text", "1", "text", "1", "text", "2", "text", "3"]


def test_help_needs_no_folder_to_be_kept_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        print_help("fit", [], lambda: print("text"))
    assert capsys.readouterr().out.split() == ["text", "text"]
