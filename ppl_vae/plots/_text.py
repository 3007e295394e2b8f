"""How wide a text is, and as many lines as it needs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

SMALL, MEDIUM, LARGE = 8.4, 10.0, 12.0  # points, of matplotlib's sizes of these names
LINE = 1.25 / 72  # inches from line to line for each point of the size


def text_width(text: str, size: float = SMALL) -> float:
    """The width of a text in inches, of its widest line.

    Example:
        >>> 0.1 < text_width("x[0]") < text_width("two\\nlines") < 0.5
        True
    """
    return max(_line_width(line, size) for line in text.split("\n"))


@lru_cache(maxsize=4096)
def _line_width(line: str, size: float) -> float:
    width, _, _ = text_to_path.get_text_width_height_descent(line, FontProperties(size=size), ismath=False)
    return float(width) / 72


def widest(texts: Iterable[str], size: float = SMALL) -> float:
    """The width of the widest of some texts, inches."""
    return max((text_width(text, size) for text in texts), default=0.0)


def height_of(texts: Iterable[str], size: float = SMALL) -> float:
    """The height of the highest of some texts, inches; none or an empty one has none."""
    return max((text.count("\n") + 1 for text in texts if text), default=0) * size * LINE


def wrap(text: str, inches: float, size: float = SMALL) -> str:
    """A text in lines of at most ``inches``, broken between words; a longer word keeps a line to itself.

    Example:
        >>> wrap("posterior standard deviation", 1.2)
        'posterior standard\\ndeviation'
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and text_width(longer, size) > inches:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return "\n".join(lines)


def balance(text: str, inches: float, size: float = SMALL) -> str:
    """A text in as few lines as ``wrap`` makes, of much the same width, so that no word stands alone.

    Example:
        >>> balance("the more is missing the less is known", 2.0)
        'the more is missing\\nthe less is known'
    """
    fewest = wrap(text, inches, size).count("\n")
    widths = (inches * share / 20 for share in range(8, 20))
    return next(
        (lines for w in widths if (lines := wrap(text, w, size)).count("\n") == fewest), wrap(text, inches, size)
    )
