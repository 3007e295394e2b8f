"""What was measured as a page and a chart: a function of ``results.json`` and ``measurements.json`` alone."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import results
import works
from matplotlib.figure import Figure

INK, GREY, PALE = "#222222", "#777777", "#d5d5d5"
UNMEASURED = "A GPU is unmeasured: the machine of these measurements has none."


def publish(folder: Path) -> None:
    """Write the page and the chart of the files in a folder."""
    rows, measured = results.read(folder / "results.json", []), results.read(folder / "measurements.json", {})
    results.write(folder / "RESULTS.md", page(rows, measured))
    if rows:
        results.write(folder / "results.png", chart(rows))


def page(rows: Sequence[results.Row], measured: Mapping[str, Any]) -> str:
    """The Markdown."""
    sections = [
        [
            "# Results",
            "",
            "`make bench` writes this page. [README.md](README.md) says how the sides are made comparable.",
        ],
        machines(measured),
        ratios(rows),
        contestants(measured),
        throughput(measured),
        cold(measured),
        growth(measured),
        gpu(measured),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown; numbers, all columns but the first, to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def duration(seconds: float) -> str:
    """To three digits."""
    if seconds < 0.9995:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:.0f} s"


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def machines(measured: Mapping[str, Any]) -> list[str]:
    """Which parts were measured on what, and how often."""
    lines = ["## What was measured on what", ""]
    described: dict[str, list[str]] = {}
    for part in works.PARTS:
        if part in measured:
            described.setdefault(machine(measured[part]["machine"]), []).append(part)
    lines += [f"- {', '.join(parts)}: {text}" for text, parts in described.items()]
    rows = []
    for part, entry in ((part, measured[part]) for part in works.PARTS if part in measured):
        steps = f"{entry['steps']}" if entry.get("steps", 1) > 1 else ""
        kind = "a trial" if entry["is_trial"] else ""
        rows.append([part, f"{entry['repetitions']}", steps, entry["date"], f"{entry['took_seconds']} s", kind])
    total = sum(entry["took_seconds"] for entry in measured.values())
    lines += ["", *table(["part", "repetitions", "steps in each", "date", "took", ""], rows)]
    return [*lines, "", f"{total / 60:.0f} minutes in all."]


def machine(facts: Mapping[str, Any]) -> str:
    ours = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    peers = ", ".join(f"{name} {version}" for name, version in facts["peers"].items())
    gpu = f"; GPU {facts['gpu']}" if facts["gpu"] else ""
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['system']}, {facts['threads']} threads{gpu}. "
        f"Python {facts['python']}, {ours}; of the peers {peers}. Data: {facts['data']}."
    )


def ratios(rows: Sequence[results.Row]) -> list[str]:
    """The judged table, and what else is compared."""
    lines = [
        "## Ratios",
        "",
        "Seconds of ours over seconds of the peer: below 1, ours is faster. The ratio is the median over neighbouring",
        "turns, and beside it the range of all turns; the seconds are medians of their own. A step's seconds include",
        "the look-up of its batch.",
        "",
        "![The ratios and their ranges](results.png)",
    ]
    for work in dict.fromkeys(row["work"] for row in rows):
        cells = []
        for row in (row for row in rows if row["work"] == work):
            low, high = row["ratio_range"]
            bound = row.get("at_most")
            holds = "" if bound is None else "yes" if row["ratio"] <= bound else "no"
            cells.append(
                [
                    row["peer"],
                    duration(row["ours_seconds"]),
                    duration(row["peer_seconds"]),
                    f"{row['ratio']:.2f}",
                    f"{low:.2f} to {high:.2f}",
                    "" if bound is None else f"{bound:.2f}",
                    holds,
                ]
            )
        lines += ["", f"### {capital(work)}", ""]
        lines += table(["peer", "ours", "peer's", "ratio", "range", "at most", "holds"], cells)
    return lines


def compared(measured: Mapping[str, Any]) -> Iterator[tuple[works.Work, Mapping[str, Any]]]:
    """Works that were measured, and what was."""
    for part, work in works.WORKS.items():
        if part in measured:
            yield work, measured[part]


def contestants(measured: Mapping[str, Any]) -> list[str]:
    """Each one's time and memory, and whether all do the same."""
    lines = [
        "## Contestants",
        "",
        "All start from the same parameters, and see the same batches in the same order; their noise is their own, and",
        "so the last column should be the same but for some tenths of a nat. Per-sample steps are the exception: here",
        "the learning rate falls with a cosine, and Adam has other moments than SVI's. A loss is minus the ELBO, the",
        "mean over the steps of the second turn. Peak memory is that of a whole process, with its libraries and data.",
    ]
    for work, entry in compared(measured):
        rows = [
            [name, duration(answer["seconds"]), f"{answer['peak_mib']:,}", f"{answer['value']:.2f}"]
            for name, answer in entry["contestants"].items()
            if name != works.PRODUCTS.name
        ]
        unit = "a step" if work.each_step else "a turn"
        lines += ["", f"### {capital(work.title)}: each", "", *table(["", unit, "peak, MiB", work.value], rows)]
    if "fit" in measured:
        epochs = ", ".join(f"{number} ({name})" for name, number in measured["fit"]["epochs"].items())
        lines += ["", f"Epochs until the default fit stops by itself: {epochs}."]
    return lines


def throughput(measured: Mapping[str, Any]) -> list[str]:
    """Decoded samples a second, beside the matrix products that they need."""
    if "iwae" not in measured:
        return []
    work, answers, draws = works.WORKS["iwae"], measured["iwae"]["contestants"], measured["iwae"]["draws"]
    products = answers[works.PRODUCTS.name]
    rate = products["value"] * draws / products["seconds"]
    rows = [
        [name, f"{draws / answer['seconds']:,.0f}", f"{products['seconds'] / answer['seconds']:.0%}"]
        for name, answer in answers.items()
        if answer is not products
    ]
    return [
        "## Evaluation",
        "",
        f"{work.title}. The decoder's two matrix products alone, in PyTorch,",
        f"with as many draws at once as is fastest, run at {rate / 1e9:.0f} GFLOP/s in the same turns; the share is",
        "that of their time in each one's.",
        "",
        *table(["", "decoded samples a second", "share of the rate of matrix products"], rows),
    ]


def cold(measured: Mapping[str, Any]) -> list[str]:
    """Start of a process."""
    if "cold" not in measured:
        return []
    rows = [
        [
            row["contestant"],
            f"{row['cache']}" or "none",
            duration(row["import_seconds"]),
            duration(row["first_step_seconds"]),
        ]
        for row in measured["cold"]["rows"]
    ]
    return [
        "## Cold start",
        "",
        f"{capital(works.WORKS['step'].title)}, in a process that is alone. The first step",
        "includes what is traced and compiled for it, and the making of the networks.",
        "",
        *table(["", "Inductor's cache", "import", "first step"], rows),
    ]


def growth(measured: Mapping[str, Any]) -> list[str]:
    """Seconds over batch, width and particles."""
    if "growth" not in measured:
        return []
    lines = ["## Growth", "", f"{capital(works.WORKS['step'].title)}, with one thing changed: the time of a step."]
    points = measured["growth"]["rows"]
    for axis in dict.fromkeys(point["axis"] for point in points):
        on_axis = [point for point in points if point["axis"] == axis]
        names = list(on_axis[0]["seconds"])
        rows = [[f"{point['at']}", *(duration(point["seconds"][name]) for name in names)] for point in on_axis]
        lines += ["", *table([axis, *names], rows)]
    return lines


def gpu(measured: Mapping[str, Any]) -> list[str]:
    cards = sorted({entry["machine"]["gpu"] for entry in measured.values() if entry["machine"]["gpu"]})
    is_measured = any(work.needs_gpu for work, _ in compared(measured))
    text = f"Measured on {', '.join(cards)}: the works that say so." if cards and is_measured else UNMEASURED
    return ["## GPU", "", text]


# -------------------------------------------------------------------------------------------------------------- chart


def chart(rows: Sequence[results.Row]) -> bytes:
    """Ratios with their ranges, and the bounds that they are judged by; a PNG."""
    lines: list[results.Row | str] = []
    for work in dict.fromkeys(row["work"] for row in rows):
        lines += [work, *(row for row in rows if row["work"] == work)]
    figure = Figure(figsize=(9.5, 0.6 + 0.25 * len(lines)), layout="constrained")
    ax = figure.add_subplot()
    placement = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for y, line in enumerate(lines):
        if isinstance(line, str):
            ax.annotate(line, (0, y + 0.1), fontsize=9, fontweight="bold", bbox=background, **placement)
            continue
        (low, high), bound = line["ratio_range"], line.get("at_most")
        ax.plot([low, high], [y, y], color=GREY, linewidth=2, zorder=2)
        ax.plot(line["ratio"], y, "o", color=INK, markersize=6, zorder=3)
        text = f"{line['ratio']:.2f}"
        if bound is not None:
            ax.plot([bound, bound], [y - 0.35, y + 0.35], color=INK, linewidth=1.5, zorder=2)
            text += f" (at most {bound:.2f})"
        ax.annotate(text, (1.01, y), fontsize=8, **placement)
    ax.axvline(1, color=INK, linewidth=1, linestyle="--", zorder=1)
    values = [value for row in rows for value in (*row["ratio_range"], row.get("at_most", 1), 1)]
    lowest, highest = 0.85 * min(values), 1.2 * max(values)
    ax.set_xscale("log")
    ax.set_xlim(lowest, highest)
    ticks = [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20) if lowest < tick < highest]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    ax.set_xticks([], minor=True)
    peers = {y: line["peer"] for y, line in enumerate(lines) if not isinstance(line, str)}
    ax.set_yticks(list(peers), list(peers.values()), fontsize=8)
    ax.set_ylim(len(lines) - 0.3, -0.6)
    ax.grid(axis="x", color=PALE, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("seconds of ours over seconds of the peer: median, range, and a tick at the bound", fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, metadata={"Software": None})
    return content.getvalue()
