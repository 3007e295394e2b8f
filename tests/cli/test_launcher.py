"""The launcher itself: two processes under torchrun, of which one is killed again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.runs import read_numbers

KILLS = 10
ROOT = Path(__file__).parents[2]


def start(output: Path, *options: str, launcher: tuple[str, ...] = ("-m", "ppl_vae")) -> subprocess.Popen[str]:
    """Start a fit of 40 epochs, of about half a second each on a free machine, with checkpoints within them."""
    args = ["--data", str(output.parent / "table.npz"), "--model", "factor_analysis", "--model.latent-dim", "2"]
    args += ["--batch-size", "16", "--max-epochs", "40", "--patience", "null", "--num-samples", "8"]
    args += ["--checkpoint-every", "50", "--output", str(output), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launcher, "fit", *args]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ranks_of(launcher: int) -> list[int]:
    """Return the processes that a launcher has started, those of its present attempt."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children")
    found = []
    for child in map(int, children.read_text().split() if children.exists() else []):
        try:
            if b"RANK=" in Path(f"/proc/{child}/environ").read_bytes():
                found.append(child)
        except OSError:  # it has just ended
            pass
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="it finds the processes in /proc")
@pytest.mark.parametrize("guide", ["amortized", "per-sample"])
def test_a_rank_that_is_killed_at_ten_instants_changes_no_number(guide: str, tmp_path: Path) -> None:
    generator, chance = np.random.default_rng(0), random.Random(0)
    x = generator.normal(size=(1000, 2)) @ generator.normal(size=(2, 5)) + 0.3 * generator.normal(size=(1000, 5))
    np.savez(tmp_path / "table.npz", x_train=x[:800], x_valid=x[800:900], x_test=x[900:])
    options = ["--guide", guide, "--local-steps", "2", "--inference-steps", "5"]
    options += ["--warm-start", "true"] if guide == "per-sample" else []
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ppl_vae")
    whole = start(tmp_path / "whole", *options, launcher=torchrun)
    out, err = whole.communicate(timeout=600)
    assert whole.returncode == 0, err
    assert "2 processes (cpu)" in out

    killed, seen, kills = start(tmp_path / "killed", *options, "--processes", "2", "--max-restarts", "30"), set(), 0
    while kills < KILLS and killed.poll() is None:
        ranks = ranks_of(killed.pid)
        if len(ranks) < 2 or seen & set(ranks):
            time.sleep(0.05)
            continue
        seen |= set(ranks)
        time.sleep(chance.uniform(0, 8))
        try:
            os.kill(chance.choice(ranks), signal.SIGKILL)
            kills += 1
        except ProcessLookupError:  # the fit has ended
            break
    _, err = killed.communicate(timeout=900)
    assert killed.returncode == 0, err
    assert kills >= KILLS // 2, "a fit that ended before it was killed shows nothing"
    assert "Traceback" not in err, err
    assert read_numbers(tmp_path / "killed") == read_numbers(tmp_path / "whole")
