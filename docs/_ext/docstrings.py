"""Docstrings as the site shows them: Markdown tables become tables, and references to names without a page are code."""

from __future__ import annotations

import re
from typing import Any

REFERENCE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?([\w.]+)`")

STAR = re.compile(r"(``.*?``)|(?<=[\w-])\*(?=\.\w)")
"""Code in a line, or the star of a pattern of files outside it, such as that of part-*.npy."""


def cells_of(line: str) -> list[str]:
    """Return the cells of a line of a Markdown table.

    Example:
        >>> cells_of("| a | b |")
        ['a', 'b']
    """
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def with_tables(lines: list[str]) -> list[str]:
    """Return the lines with Markdown tables in reStructuredText.

    Example:
        >>> with_tables(["| a | b |", "|---|---|", "| 1 | 2 |"])[:3]
        ['.. list-table::', '   :header-rows: 1', '']
    """
    result: list[str] = []
    for i, line in enumerate(lines):
        indent = line[: len(line) - len(line.lstrip())]
        if not line.lstrip().startswith("|"):
            result.append(line)
        elif set(line.strip()) <= set("|-: "):
            continue
        else:
            if not (i and lines[i - 1].lstrip().startswith("|")):
                result += [f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
            marks = ["* -", *["  -"] * len(cells_of(line))]
            result += [f"{indent}   {mark} {cell}" for mark, cell in zip(marks, cells_of(line), strict=False)]
            if not (i + 1 < len(lines) and lines[i + 1].lstrip().startswith("|")):
                result.append("")
    return result


def with_stars(line: str) -> str:
    r"""Return a line in which the stars of patterns of files are no marks of emphasis.

    Example:
        >>> with_stars("part-*.npy, and ``part-*.npy``")
        'part-\\*.npy, and ``part-*.npy``'
    """
    return STAR.sub(lambda match: match[1] or r"\*", line)


def adapt(app: Any, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Change the lines of a docstring in place, as autodoc asks for it."""
    lines[:] = with_tables([with_stars(REFERENCE.sub(r"``\1``", line)) for line in lines])


def keep_whole(app: Any, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Put an empty comment before an attribute: napoleon takes words before a colon in its first line for a type."""
    if what in ("attribute", "data", "property") and lines:
        lines[:0] = ["..", ""]


def setup(app: Any) -> dict[str, bool]:
    """Connect the changes to autodoc."""
    app.connect("autodoc-process-docstring", keep_whole, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", adapt)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
