"""The help of a verb, which is kept between commands, so that asking for it again needs no PyTorch."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout, suppress
from pathlib import Path


def print_help(verb: str, folders: Iterable[str], make: Callable[[], object]) -> None:
    """Print the help of a verb: the text that was kept, or what a function prints, which is kept then.

    A text is kept for the sources of the package as they are, the version of Python, and the width of the terminal.

    Args:
        verb: the name of the verb.
        folders: folders of verbs beside the package.
        make: the function that prints the help.
    """
    path = _folder() / f"{verb}-{_digest(folders)}.txt"
    with suppress(OSError, UnicodeDecodeError):
        print(path.read_text("utf-8"), end="")
        return
    text = io.StringIO()
    try:
        with redirect_stdout(text), suppress(SystemExit):  # which ends a parser's help
            make()
    finally:
        print(text.getvalue(), end="")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{verb}-*.txt"):
            old.unlink()
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(text.getvalue(), "utf-8")
        os.replace(part, path)


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ppl_vae" / "help"


def _digest(folders: Iterable[str]) -> str:
    """Return a digest of all that the text depends on."""
    places = dict.fromkeys([Path(__file__).resolve().parents[1], *(Path(folder).resolve() for folder in folders)])
    files = sorted({file for place in places for file in place.rglob("*.py")})
    facts = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    terminal = (shutil.get_terminal_size().columns, sys.stdout.isatty())
    return hashlib.sha256(repr((facts, sys.version, sys.prefix, terminal)).encode()).hexdigest()[:16]
