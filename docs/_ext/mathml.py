"""Formulas as MathML, which browsers draw themselves: no script, no network, and the colour of the text."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

SPELLINGS = {  # LaTeX that docutils does not read: the same in its words
    r"\\dots\b": r"\\ldots",
    r"\\([td]?frac)\s*(\d)\s*(\d)": r"\\\1{\2}{\3}",
    r"\\(?:big|Big|bigg|Bigg)\|": r"|",
    r"\\operatorname\*?\{(\w+)\}": r"\\mathrm{\1}\\,",
}


def to_mathml(tex: str, *, block: bool) -> str:
    r"""Return a formula as MathML.

    Example:
        >>> to_mathml(r"\\frac12", block=False).count("mfrac")
        2
    """
    for pattern, replacement in SPELLINGS.items():
        tex = re.sub(pattern, replacement, tex)
    if re.search(r"(?<!\\)&|\\\\", tex) and r"\begin" not in tex:
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    return str(tex2mathml(tex.strip(), as_block=block))


def inline(self: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    self.body.append(to_mathml(node.astext(), block=False))
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    self.body.append(f'<div class="formula">{to_mathml(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the writer of formulas."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
