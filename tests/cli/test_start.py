"""The start of a command: what is imported only if it is needed."""

from __future__ import annotations

import subprocess
import sys

LATE = {"pandas", "sklearn", "scipy.stats", "matplotlib", "h5py", "narwhals", "pyarrow", "torchvision", "arviz"}


def test_libraries_that_most_commands_need_late_are_imported_late() -> None:
    code = f"import sys, ppl_vae.cli.fit, ppl_vae.models.vae; print(sorted({LATE} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
