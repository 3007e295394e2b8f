"""The help of arguments, as docstrings have it."""

from __future__ import annotations

import inspect
import re


def split_arguments(docstring: str) -> dict[str, str]:
    """Return the texts of ``Args:`` in a docstring by the name of the argument, each in one line.

    Example:
        >>> split_arguments('''Fit.
        ...
        ...     Args:
        ...         rate: step size. The
        ...             default is 1.
        ...         seed, root: see above.
        ...         **more: other options.
        ...     ''')
        {'rate': 'step size. The default is 1.', 'seed': 'see above.', 'root': 'see above.', '**more': 'other options.'}
    """
    text = inspect.cleandoc(docstring).partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^ {4}(?=(?:\*\*)?\w+(?:, \w+)*: )", text, flags=re.MULTILINE)[1:]
    pairs = (entry.partition(": ") for entry in entries)
    return {name: " ".join(help.split()) for names, _, help in pairs for name in names.split(", ")}


def first_sentence(text: str) -> str:
    """Return the first sentence of a text, without its full stop.

    Example:
        >>> first_sentence("share, such as 0.5, of x. By default 1.")
        'share, such as 0.5, of x'
    """
    return re.split(r"(?<=[.])\s+(?=[A-Z\"])", text, maxsplit=1)[0].rstrip().removesuffix(".")
