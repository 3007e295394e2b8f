"""HDF5 files, whose data sets are read by slices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ppl_vae.data.split import PARTS
from ppl_vae.errors import InputError
from ppl_vae.imports import by_need

if TYPE_CHECKING:
    import h5py
else:
    h5py = by_need("h5py")


def open_hdf5(path: Path) -> dict[str, h5py.Dataset]:
    """Return the arrays of an HDF5 file unread; those of a group train, valid or test have the ending of their part.

    A read costs the chunks that it touches, which are decompressed whole. A file without chunks costs its bytes only.

    Raises:
        InputError: it is broken, or holds something else than arrays.

    Example:
        >>> import tempfile, numpy
        >>> path = Path(tempfile.mkdtemp()) / "own.h5"
        >>> with h5py.File(path, "w") as file:
        ...     file["y"], file["train/x"] = numpy.zeros(3), numpy.eye(3)
        >>> {name: array.shape for name, array in open_hdf5(path).items()}
        {'x_train': (3, 3), 'y': (3,)}
    """
    path.open("rb").close()  # h5py does not report a missing permission
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"cannot read {path} (broken or truncated, or no HDF5 file): save it again") from error
    arrays: dict[str, h5py.Dataset] = {}
    for name, item in file.items():
        if isinstance(item, h5py.Dataset):
            arrays[name] = item
        elif name in PARTS and all(isinstance(array, h5py.Dataset) for array in item.values()):
            arrays |= {f"{array}_{name}": item[array] for array in item}
        else:
            raise InputError(
                f"{path} has a group {name!r}: expected arrays such as x or x_train, or groups train, valid and test"
            )
    return arrays
