"""Stores of zarr, whose arrays are read by slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ppl_vae.data.split import PARTS
from ppl_vae.errors import InputError
from ppl_vae.imports import import_extra


def open_zarr(path: Path) -> dict[str, Any]:
    """Return the arrays of a zarr store unread; those of a group train, valid or test have the ending of their part.

    A read costs the chunks that it touches, which are decompressed whole.

    Raises:
        InputError: zarr is not installed, or the store holds something else than arrays.

    Example:
        >>> import tempfile, numpy, zarr
        >>> path = Path(tempfile.mkdtemp()) / "own.zarr"
        >>> _ = zarr.open_group(path, mode="w").create_array("x", data=numpy.eye(3))
        >>> open_zarr(path)["x"].shape
        (3, 3)
    """
    zarr = import_extra("zarr", "zarr", str(path))
    store = zarr.open(path, mode="r")
    if isinstance(store, zarr.Array):
        return {"x": store}
    arrays: dict[str, Any] = {}
    for name, item in sorted(store.members()):
        if isinstance(item, zarr.Array):
            arrays[name] = item
        elif name in PARTS and all(isinstance(array, zarr.Array) for _, array in item.members()):
            arrays |= {f"{array}_{name}": values for array, values in item.members()}
        else:
            raise InputError(
                f"{path} has a group {name!r}: expected arrays such as x or x_train, or groups train, valid and test"
            )
    return arrays
