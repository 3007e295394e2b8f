"""The spelling of options: hyphens on the command line, underscores in Python. This module needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence


def underscored(args: Sequence[str]) -> list[str]:
    """Return the arguments with option names as in Python, with underscores; values are left alone.

    Example:
        >>> underscored(["--max-epochs", "3", "--output=a-b", "--model.latent-dim", "2"])
        ['--max_epochs', '3', '--output=a-b', '--model.latent_dim', '2']
    """

    def name(arg: str) -> str:
        option, equals, value = arg.partition("=")
        return "--" + option[2:].replace("-", "_") + equals + value

    return [name(arg) if arg.startswith("--") and len(arg) > 2 else arg for arg in args]


def hyphenated(option: str) -> str:
    """Return an option as it is usually written.

    Example:
        >>> hyphenated("--max_epochs"), hyphenated("--model.latent_dim")
        ('--max-epochs', '--model.latent_dim')
    """
    head, dot, tail = option.partition(".")
    return head.replace("_", "-") + dot + tail
