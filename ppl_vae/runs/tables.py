"""Tables of local parameters beside a checkpoint, one ``.npy`` file each, which are read in place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ppl_vae.errors import InputError, reason
from ppl_vae.runs.files import writing_whole


@contextmanager
def write_tables(checkpoint: Path, epoch: int, tables: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Write the tables of a checkpoint that is written inside the block, and then remove tables of earlier ones.

    Their names contain the epoch, so that a checkpoint never lacks its tables, whenever the process is killed.

    Args:
        checkpoint: path of the checkpoint.
        epoch: epoch of the checkpoint.
        tables: tables by part of the data.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.safetensors"
        >>> with write_tables(path, 3, {"train": np.ones((4, 2))}):
        ...     _ = path.write_bytes(b"")
        >>> read_tables(path, 3, ["train"])["train"].shape
        (4, 2)
    """
    written = {_path(checkpoint, epoch, part) for part in tables}
    for part, rows in tables.items():
        with writing_whole(_path(checkpoint, epoch, part)) as file:
            np.save(file, rows, allow_pickle=False)
    yield
    for hidden in ("", "."):  # a file that was cut short is hidden
        for path in checkpoint.parent.glob(f"{hidden}{checkpoint.stem}.lambda-*.npy*"):
            if path not in written:
                path.unlink()


def read_tables(checkpoint: Path, epoch: int, parts: Collection[str]) -> dict[str, np.ndarray]:
    """Return the tables that were written with a checkpoint, as memory maps of their files.

    Raises:
        InputError: if a table is missing or cut short.
    """
    tables = {}
    for part in parts:
        path = _path(checkpoint, epoch, part)
        try:
            tables[part] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:  # an empty file raises the last
            raise InputError(
                f"{path}, the local parameters of {checkpoint.name}, cannot be read ({reason(error)}): "
                f"restore it or fit the run anew"
            ) from error
    return tables


def _path(checkpoint: Path, epoch: int, part: str) -> Path:
    return checkpoint.with_name(f"{checkpoint.stem}.lambda-{part}-{epoch}.npy")
