"""The set-up of a process: how long threads spin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppl_vae.cli import process
from ppl_vae.cli.process import SPINS_BESIDE_OTHERS

SPINS = """\
import os
import ppl_vae.cli.process as process

print(os.environ["GOMP_SPINCOUNT"])
"""


def test_threads_spin_for_a_short_time_beside_another_process() -> None:
    """And a value that is set stays."""
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}

    def spins(**more: str) -> str:
        command = [sys.executable, "-c", SPINS]
        return subprocess.run(command, capture_output=True, text=True, env=environment | more, check=True).stdout

    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert spins() == f"{SPINS_BESIDE_OTHERS}\n"
        assert spins(GOMP_SPINCOUNT="77") == "77\n"
    finally:
        busy.kill()
        busy.wait()


@pytest.mark.parametrize(
    ("status", "is_alone"),
    [("0.38 1.23 1.68 1/80 13962\n", True), ("0.00 0.01 0.00 2/80 13962\n", False), ("", False)],
)
def test_a_process_is_alone_if_linux_says_so(
    status: str, is_alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loadavg").write_text(status)
    monkeypatch.setattr(process, "LOAD", tmp_path / "loadavg")
    assert process.is_alone() == is_alone
    monkeypatch.setattr(process, "LOAD", tmp_path / "of another system")
    assert not process.is_alone()
