"""Sets of small grey images of torchvision."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ppl_vae.data.split import split_rows
from ppl_vae.errors import InputError
from ppl_vae.imports import import_torchvision

CLASSES = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "emnist": "EMNIST",
    "omniglot": "Omniglot",
}
DEFAULT_ROOT = Path("~/.cache/ppl_vae")


def load_vision(
    name: str, data_root: str | Path | None, seed: int
) -> tuple[dict[str, dict[str, np.ndarray]], tuple[int, int]]:
    """Load an image set, and download it only if its files are missing.

    One row in six of its training images, drawn by the seed, becomes the valid part (10,000 of MNIST's 60,000).
    EMNIST is the "balanced" split, with its images upright. Omniglot trains on the background characters and
    tests on the evaluation characters; ink is 1, and images are resized to 28 by 28. It has no y, because no
    character of its test part occurs in train.

    Args:
        name: a key of ``CLASSES``.
        data_root: folder in which torchvision's layout starts; None means ``~/.cache/ppl_vae``.
        seed: seed of the choice of the valid part.

    Returns:
        For each part, x in ``[0, 1]``, shape ``(N, 784)``, and y, shape ``(N,)``; and the image shape.

    Raises:
        InputError: if ``data_root`` does not exist, or the files are missing and cannot be downloaded, or
            they cannot be read.
    """
    root = Path(DEFAULT_ROOT if data_root is None else data_root).expanduser()
    if data_root is not None and not root.is_dir():
        raise InputError(f"{name}: there is no folder {root}: create it, or give another data_root")
    train, test = (_read(name, root, is_train=is_train) for is_train in (True, False))
    rows = split_rows(len(train["x"]), (5, 1), seed, name)
    kept, valid = ({array: values[at] for array, values in train.items()} for at in rows)
    return {"train": kept, "valid": valid, "test": test}, (28, 28)


def _read(name: str, root: Path, *, is_train: bool) -> dict[str, np.ndarray]:
    cls = getattr(import_torchvision().datasets, CLASSES[name])
    options: dict[str, Any] = {"background" if name == "omniglot" else "train": is_train}
    if name == "emnist":
        options["split"] = "balanced"
    try:
        data = _open(lambda download: cls(root, download=download, **options), name, root)
        return _omniglot_arrays(data) if name == "omniglot" else _mnist_arrays(data, name == "emnist")
    except (OSError, RuntimeError, ValueError, AssertionError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name}: its files in {root} cannot be read ({_line(error)}): delete them, and they are downloaded again"
        ) from error


def _open(make: Callable[[bool], Any], name: str, root: Path) -> Any:
    try:
        return make(False)
    except RuntimeError as error:
        if "not found" not in str(error):
            raise
    try:
        return make(True)
    except (OSError, RuntimeError, HTTPException, EOFError, BadZipFile) as error:
        raise InputError(
            f"{name}: not in {root}, and the download failed ({_line(error)}): "
            "copy torchvision's files there, or give the data_root that has them"
        ) from error


def _mnist_arrays(data: Any, is_transposed: bool) -> dict[str, np.ndarray]:
    pixels = data.data.numpy()
    if is_transposed:
        pixels = pixels.transpose(0, 2, 1)
    x = pixels.reshape(len(pixels), -1).astype(np.float32)
    x /= 255
    return {"x": x, "y": data.targets.numpy().astype(np.int64)}


def _omniglot_arrays(data: Any) -> dict[str, np.ndarray]:
    from PIL.Image import Resampling

    pixels = np.stack([np.asarray(image.resize((28, 28), Resampling.LANCZOS)) for image, _ in data])
    return {"x": 1 - pixels.reshape(len(pixels), -1).astype(np.float32) / 255}


def _line(error: Exception) -> str:
    lines = [line.strip(" :") for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:90].rstrip(": ")
