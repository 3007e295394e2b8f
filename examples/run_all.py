"""Run every example and write the gallery: its pictures, and in README.md the text that each example printed.

python examples/run_all.py [--only NAME ...]

It prints the run time and the last line of each example. The exit status is the number of examples that failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
GALLERY = FOLDER / "README.md"


def scripts() -> list[Path]:
    """Return the examples in alphabetical order."""
    return sorted(path for path in FOLDER.glob("*.py") if path.name != "run_all.py" and not path.name.startswith("_"))


def write_output(name: str, output: str) -> None:
    """Put the output of an example under its picture in the gallery, and replace the old output."""
    text, picture = GALLERY.read_text(), rf"(!\[[^\]]*\]\(figures/{name}\.png\)\n)(?:\n```text\n.*?\n```\n)?"
    block = "\n```text\n" + output.strip("\n").rstrip() + "\n```\n"
    text, count = re.subn(picture, lambda match: match.group(1) + block, text, count=1, flags=re.DOTALL)
    if not count:
        raise SystemExit(f"{GALLERY} has no picture figures/{name}.png: add the section of {name}.py")
    GALLERY.write_text(text)


def main() -> int:
    """Run the chosen examples; return the number of failures."""
    parser = argparse.ArgumentParser(description="Run every example.")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[path.stem for path in scripts()], help="examples to run"
    )
    chosen = parser.parse_args().only
    environment = {"GOMP_SPINCOUNT": "1000", "MPLBACKEND": "Agg", **os.environ}
    failed, begun = [], time.perf_counter()
    for path in scripts():
        if chosen and path.stem not in chosen:
            continue
        started = time.perf_counter()
        run = subprocess.run([sys.executable, path], capture_output=True, text=True, env=environment, check=False)
        lines = run.stdout.strip().splitlines() or [""]
        print(f"{path.stem:20}  {time.perf_counter() - started:5.1f} s  {lines[-1].strip()}", flush=True)
        if run.returncode:
            failed.append(path.stem)
            print(run.stderr, file=sys.stderr)
        else:
            write_output(path.stem, run.stdout)
    print(
        f"{time.perf_counter() - begun:.0f} s in total; {'failed: ' + ', '.join(failed) if failed else 'none failed'}"
    )
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
