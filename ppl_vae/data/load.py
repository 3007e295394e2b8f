"""Loading a data set by its name or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ppl_vae.data.binarize import Binarize, binarize_parts, check_binarize
from ppl_vae.data.dataset import Dataset
from ppl_vae.data.digits import load_digits
from ppl_vae.data.files import SUFFIXES, read_file
from ppl_vae.data.images import Grey, check_grey, check_image_shape, infer_image_shape
from ppl_vae.data.parts import parts_of, scale_bytes
from ppl_vae.data.sequences import is_padded, pad_parts
from ppl_vae.data.split import PARTS
from ppl_vae.data.vision import CLASSES, load_vision
from ppl_vae.errors import InputError, nearest

DATASETS = ("digits", *CLASSES)
INK = ("digits", "mnist", "kmnist", "emnist", "omniglot")
"""Data sets whose high values are ink."""


def load_dataset(
    data: str | Path = "digits",
    *,
    data_root: str | Path | None = None,
    binarize: Binarize | None = None,
    image_shape: Sequence[int] | None = None,
    grey: Grey | None = None,
    seed: int = 0,
) -> Dataset:
    """Load a named image set or a file as named arrays that have been checked.

    A ``.npz`` file holds x_train, x_valid, x_test (likewise y and any other array); if a part is missing,
    it becomes a tenth of train, and arrays called just x, y are split 80/10/10 %. A ``.npy`` file is x. A ``.csv``
    file has one row per datum, with or without a line of names; a column called y or label, of whole numbers, is y.
    With arrays lengths_train and so on, one whole number per datum, x holds padded sequences ``(N, T, ...)`` of these
    lengths. The values past their ends are set to zero, and T may differ between the parts.

    Args:
        data: digits, mnist, fashion-mnist, kmnist, emnist, omniglot, or the path of an .npz, .npy or .csv file.
        data_root: folder of torchvision's image sets, to which they are downloaded; by default ~/.cache/ppl_vae.
        binarize: none, threshold (1 from half the range up), static (one Bernoulli draw, by seed) or dynamic
            (train is drawn anew every epoch). By default threshold for a named image set, whose grey values a
            Bernoulli likelihood cannot observe, and none for a file. Images of bytes in a file are divided by
            255 if they become bits, and kept otherwise.
        image_shape: shape of x as an image, (H, W) or (H, W, 3). By default it is inferred from data stored as
            (H, W), (1, H, W), (3, H, W) or (H, W, 3), unless they are sequences. A vector of pixels is reshaped, so
            its channels come last.
        grey: way in which grey images are drawn: ink, high values are dark, or light, high values are light. By default
            ink for digits, mnist, kmnist, emnist and omniglot, and light for fashion-mnist and files.
        seed: seed of the split and of the draws.

    Returns:
        The data set: x, shape ``(N, ...)``; if there are labels or lengths, whole numbers, shape ``(N,)``.

    Raises:
        InputError: if the name is unknown, the file is missing or broken, the download fails, an array does not
            pass the checks of ``Dataset``, or ``binarize``, ``image_shape``, ``grey`` or ``seed`` is wrong.

    References:
        Salakhutdinov and Murray (2008) for "static", Burda et al. (2016) for "dynamic".

    Example:
        >>> load_dataset("digits").describe()
        'digits: 1257 train, 180 valid, 360 test; x 64, y; x binarised (threshold)'
    """
    is_named = str(data) in DATASETS
    how = ("threshold" if is_named else "none") if binarize is None else binarize
    check_binarize(how)
    check_grey(grey)
    read = _load_named(str(data), data_root, seed) if is_named else _load_file(data, seed, is_unit=how != "none")
    if image_shape is not None:
        shape = check_image_shape(read.name, image_shape, read.train["x"].shape[1:])
        read = replace(read, image_shape=shape)
    read = replace(read, grey=grey or ("ink" if str(data) in INK else "light"))
    if how == "none":
        return read
    bits = binarize_parts(read.name, {part: read.part(part) for part in PARTS}, how, seed)
    return replace(read, train=bits["train"], valid=bits["valid"], test=bits["test"], binarize=how)


def _load_named(name: str, data_root: str | Path | None, seed: int) -> Dataset:
    parts, image_shape = load_digits(seed) if name == "digits" else load_vision(name, data_root, seed)
    return Dataset(name, **parts, image_shape=image_shape)  # type: ignore[arg-type]


def _load_file(data: str | Path, seed: int, *, is_unit: bool) -> Dataset:
    path = Path(data).expanduser()
    if len(path.parts) <= 1 and not path.suffix and not path.is_file():
        raise InputError(
            f"unknown data set {str(data)!r}: {nearest(str(data).lower(), DATASETS)}, "
            f"or the path of a file ({', '.join(SUFFIXES)})"
        )
    arrays = pad_parts(path.name, read_file(path))
    if is_unit:
        arrays = scale_bytes(arrays)
    parts = parts_of(path.name, arrays, seed)
    train = parts["train"]
    image_shape = None if is_padded(train) else infer_image_shape(train["x"].shape[1:])
    return Dataset(path.name, **parts, image_shape=image_shape)  # type: ignore[arg-type]
