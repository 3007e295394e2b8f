"""Docstrings as the site shows them: Markdown tables become tables, and references to names without a page are code."""

from __future__ import annotations

import re
from typing import Any

REFERENCE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?([\w.]+)`")


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


def adapt(app: Any, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Change the lines of a docstring in place, as autodoc asks for it."""
    lines[:] = with_tables([REFERENCE.sub(r"``\1``", line) for line in lines])


def setup(app: Any) -> dict[str, bool]:
    """Connect the change to autodoc."""
    app.connect("autodoc-process-docstring", adapt)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
