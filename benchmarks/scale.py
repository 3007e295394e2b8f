"""The package at the size of the data: memory, throughput, processes, shards, and ten million rows.

    python benchmarks/scale.py                            # every part; writes scale.json and docs/scale.md
    python benchmarks/scale.py --parts shards,arithmetic  # some parts; the rows of the others are kept
    python benchmarks/scale.py --parts millions --share 0.1
    python benchmarks/scale.py --report                   # writes only the tables

A part is a file of ``scaling/`` with a function of its own name, from a ``Trial`` to the rows of its table. The table
is written into ``docs/scale.md`` between the lines ``<!-- table: PART -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from scaling.protocol import Row, Trial

import ppl_vae.cli.process  # noqa: F401  (first: it sets up OpenMP)

PARTS = ("reading", "memory", "throughput", "processes", "shards", "arithmetic", "millions")
BENCHMARKS = Path(__file__).parent
NUMBERS, PAGE = BENCHMARKS / "scale.json", BENCHMARKS.parent / "docs" / "scale.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="parts to measure (default: all)")
    parser.add_argument("--share", type=float, default=1.0, help="share of the full size (default: 1)")
    parser.add_argument("--folder", type=Path, default=None, help="folder for data and runs (default: a temporary one)")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the tables")
    options = parser.parse_args()
    numbers = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    kept = True
    for part in [] if options.report else options.parts.split(","):
        rows, seconds, others = measure(part, options.share, options.folder)
        kept = kept and all(row.holds is not False for row in rows)
        numbers[part] = {
            "rows": [row._asdict() for row in rows],
            "seconds": round(seconds, 1),
            "others": others,
            "share": options.share,
            "machine": describe_machine(),
        }
        ordered = {name: numbers[name] for name in PARTS if name in numbers}
        NUMBERS.write_text(json.dumps(ordered, indent=2, ensure_ascii=False) + "\n")
        print(f"\n{part}, {seconds:.0f} s\n\n{table(numbers[part])}\n", flush=True)
    write_tables(numbers)
    return 0 if kept else 1


def measure(part: str, share: float, place: Path | None) -> tuple[list[Row], float, float | None]:
    """Measure a part in an empty folder, which is removed afterwards.

    Return its rows, its seconds, and the number of cores that other work took meanwhile (None if that is not known).
    """
    if part not in PARTS:
        raise SystemExit(f"error: --parts {part}: expected some of {', '.join(PARTS)}")
    if not (BENCHMARKS / "scaling" / f"{part}.py").is_file():
        raise SystemExit(f"error: --parts {part}: benchmarks/scaling/{part}.py is not there")
    function = getattr(import_module(f"scaling.{part}"), part)
    folder, started = Path(tempfile.mkdtemp(prefix=f"scale-{part}-", dir=place)), time.perf_counter()
    before = seconds_of_others()
    try:
        rows, seconds = list(function(Trial(folder, share))), time.perf_counter() - started
        others = None if before is None else max(0.0, round((seconds_of_others() - before) / seconds, 2))
        return rows, seconds, others
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def seconds_of_others() -> float | None:
    """Return the seconds of all cores that no process of this benchmark has taken, nor idleness, since the start."""
    if not Path("/proc/stat").exists():
        return None
    user, nice, system, _, _, interrupts, soft, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    own = os.times()
    busy = (user + nice + system + interrupts + soft + steal) / os.sysconf("SC_CLK_TCK")
    return busy - (own.user + own.system + own.children_user + own.children_system)


def describe_machine() -> str:
    """Return the processor and the number of its cores that this process may use."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.processor()}, {cores} cores"


def table(part: dict[str, Any]) -> str:
    """Return the table of a part in Markdown."""
    words = {True: "kept", False: "**missed**", None: ""}
    lines = ["| what | measured | limit | |", "|---|---|---|---|"]
    lines += [f"| {row['what']} | {row['measured']} | {row['limit']} | {words[row['holds']]} |" for row in part["rows"]]
    size = "" if part["share"] == 1 else f" at {part['share']:g} of the full size"
    others = part.get("others")
    load = "" if others is None else f", of which other work took {others:g} meanwhile"
    return "\n".join([*lines, "", f"Measured in {part['seconds']:.0f} s{size} on {part['machine']}{load}."])


def write_tables(numbers: dict[str, Any]) -> None:
    """Write the tables into the page, between the lines that mark their places."""
    if not PAGE.exists():
        return
    text = PAGE.read_text()
    for part, content in numbers.items():
        place = re.compile(rf"(<!-- table: {part} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = place.sub(lambda mark, content=content: f"{mark[1]}\n{table(content)}\n\n{mark[2]}", text)
    PAGE.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
