"""Files that are written whole or not at all, and files that are read with a check of what they hold."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ppl_vae.errors import InputError, reason

UNFINISHED = ".part"
"""The end of the name of a file that is being written; its name begins with a dot."""

WORDS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
    type(None): "null",
}
"""Types of values in the words of a message."""


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file, so that a reader finds the old file or the new one, even after a crash."""
    with writing_whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path``, which is synchronised and renamed to ``path`` when the block ends."""
    with written_beside(path) as beside, beside.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file beside ``path``, which is renamed to ``path`` when the block ends.

    If the block fails, the temporary file is removed. If the process is killed, ``remove_unfinished`` does so later.

    Raises:
        OSError: the file cannot be written; the error names ``path``.
    """
    beside: Path | None = None
    try:
        with naming_file(path):
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
            beside = Path(name)
            os.close(descriptor)
            yield beside
            beside.chmod(0o644)
            os.replace(beside, path)
    except BaseException:
        if beside is not None:
            beside.unlink(missing_ok=True)
        raise


def is_unfinished(path: Path) -> bool:
    """Return True if a file is one that a process is writing, or was writing when it was killed."""
    return path.name.startswith(".") and path.suffix == UNFINISHED


def remove_unfinished(folder: Path) -> None:
    """Remove the files that a killed process was writing into a run folder, of which this process has the lock."""
    for place in (".", "figures", "uses", "shards"):
        for path in (folder / place).glob(f".*{UNFINISHED}"):
            with suppress(OSError):  # of a folder that may not be written to
                path.unlink(missing_ok=True)


def check_room(path: Path, size: int) -> None:
    """Make sure that the disk has room for a file, for a library that ends the process if it has not.

    Raises:
        OSError: the disk is full, or files of this size are not allowed.
    """
    if hasattr(os, "posix_fallocate"):
        with naming_file(path), path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Let an error of the operating system inside the block, such as a full disk, name the file."""
    try:
        yield
    except OSError as error:
        text = error.strerror or reason(error)
        raise OSError(error.errno or errno.EIO, text, str(path)) from error


# ------------------------------------------------------------------------------------------------------------ reading


def read_text(path: Path, what: str, remedy: str, *, most: int | None = None) -> str:
    """Return the text of a file.

    Args:
        path: the file.
        what: what the file is, for messages.
        remedy: the end of a message about a file that cannot be read.
        most: the largest size in bytes.

    Raises:
        InputError: the file cannot be read, is no text, or is too large.
    """
    try:
        if most is not None and path.stat().st_size > most:
            raise InputError(f"{path} is too large for {what}, {path.stat().st_size} bytes: {remedy}")
        return path.read_bytes().decode()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or reason(error)}): {remedy}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged, for it is no text (byte {error.start}): {remedy}") from error


def parse_json(text: str, where: str, remedy: str) -> dict[str, Any]:
    """Return a JSON object.

    Args:
        text: the text.
        where: the file, and the place in it, for messages.
        remedy: the end of a message about a text that is no JSON object.

    Raises:
        InputError: the text is no JSON object.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is damaged ({reason(error)}): {remedy}") from error
    if not isinstance(content, dict):
        raise InputError(f"{where} is damaged, for it holds {describe_kind(content)} and no mapping: {remedy}")
    return content


def check_kinds(
    content: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]], where: str, remedy: str, *, complete: bool = True
) -> None:
    """Check that a mapping has values of these types.

    A whole number is a real number too, and a Boolean is neither.

    Args:
        content: the mapping.
        kinds: the types that a value may have, by name.
        where: the file, and the place in it, for messages.
        remedy: the end of a message.
        complete: if True, every name must be there.

    Raises:
        InputError: a name is missing, or a value is of another type.

    Example:
        >>> check_kinds({"epoch": 3}, {"epoch": (int,)}, "m.jsonl", "fit anew")
        >>> check_kinds({"epoch": "3"}, {"epoch": (int, type(None))}, "m.jsonl", "fit anew")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: m.jsonl is damaged, for 'epoch' is '3': expected a whole number or null; fit anew
    """
    for name, allowed in kinds.items():
        if name not in content:
            if complete:
                raise InputError(f"{where} is damaged, for it lacks {name!r}: {remedy}")
            continue
        value = content[name]
        is_number = float in allowed and isinstance(value, int)
        if (isinstance(value, bool) and bool not in allowed) or not (is_number or isinstance(value, allowed)):
            expected = " or ".join(WORDS[kind] for kind in allowed)
            raise InputError(f"{where} is damaged, for {name!r} is {shorten(value)}: expected {expected}; {remedy}")


def describe_kind(value: Any) -> str:
    """Return the type of a value in the words of a message."""
    return next((words for kind, words in WORDS.items() if type(value) is kind), type(value).__name__)


def shorten(value: Any) -> str:
    """Return a value for a message, or its type if it is long."""
    if isinstance(value, list | dict | str) and len(value) > 60:
        return f"{describe_kind(value)} of {len(value)} {'characters' if isinstance(value, str) else 'parts'}"
    text = repr(value) if not isinstance(value, list | dict) else json.dumps(value, default=str)
    return text if len(text) <= 80 else describe_kind(value)


def finite(value: Any) -> Any:
    """Return a value with null for each number that is not finite, because JSON has no name for these."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ------------------------------------------------------------------------------------------------------------ digests


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 digest of what JSON holds, whatever the order of its names and its spaces.

    Example:
        >>> digest({"a": 1, "b": 2.5}) == digest({"b": 2.5, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_digest(content: dict[str, Any], where: str, remedy: str) -> dict[str, Any]:
    """Return a mapping without its digest, which is verified; a mapping of earlier versions has none.

    Raises:
        InputError: the content is not what was written.
    """
    given = content.get("digest")
    rest = {name: value for name, value in content.items() if name != "digest"}
    if given is not None and given != digest(rest):
        raise InputError(f"{where} is damaged, for its digest is that of another content: {remedy}")
    return rest
