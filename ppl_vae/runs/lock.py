"""A lock of a run folder by the operating system, which releases it when the process ends, however it ends."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ppl_vae.errors import InputError
from ppl_vae.runs.files import remove_unfinished

try:
    import fcntl
except ImportError:  # Windows has no such locks of folders
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold the lock of a run folder, and remove what a killed process left unfinished in it.

    Several processes may use a run at a time, but one that fits it is alone.

    Args:
        folder: the folder, which exists.
        alone: if True, no other process may have the lock.

    Raises:
        InputError: another process has the lock.
    """
    if fcntl is None:
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{folder} cannot be opened ({error.strerror}): look at its permissions") from error
    try:  # the lock ends with its descriptor
        if _take(descriptor, fcntl.LOCK_EX):
            remove_unfinished(folder)
        elif alone:
            raise InputError(f"another process works on the run {folder}: wait until it ends, or name another folder")
        if not alone and not _share(descriptor):
            raise InputError(f"another process fits the run {folder}: wait until it ends, or copy the folder")
        yield
    finally:
        os.close(descriptor)


def _share(descriptor: int) -> bool:
    """Take the lock with others; one that cleans up has it alone for a moment."""
    for _ in range(20):
        if _take(descriptor, fcntl.LOCK_SH):
            return True
        time.sleep(0.05)
    return False


def _take(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # a file system without locks gives none
    return True


def is_alone(folder: Path) -> bool:
    """Return True if no other process fits the run in a folder; the lock is asked for and released at once."""
    if fcntl is None:
        return True
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return _take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
