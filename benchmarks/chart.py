"""The chart of the results, which depends only on ``results.json``."""

from __future__ import annotations

import io
from collections.abc import Sequence

import results
from matplotlib.figure import Figure

INK, GREY, PALE = "#222222", "#777777", "#d5d5d5"


def chart(rows: Sequence[results.Row]) -> bytes:
    """Return a chart of the ratios with their ranges and the required bounds, as a PNG."""
    lines: list[results.Row | str] = []
    for isa, work in dict.fromkeys((row["isa"], row["work"]) for row in rows):
        lines += [f"{work} ({isa})", *(row for row in rows if (row["isa"], row["work"]) == (isa, work))]
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
    ax.set_xlabel(
        "our seconds divided by those of the peer: median, range, and a tick at the required bound", fontsize=9
    )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, metadata={"Software": None})
    return content.getvalue()
