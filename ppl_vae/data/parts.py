"""Sorting the arrays of a file into the parts of a data set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ppl_vae.data.checks import check_arrays, check_numeric
from ppl_vae.data.precision import to_native
from ppl_vae.data.source import NamedArrays
from ppl_vae.data.split import PARTS, split_rows
from ppl_vae.errors import InputError


def parts_of(
    name: str, arrays: Mapping[str, np.ndarray], seed: int, most_blocks: int | None = None
) -> dict[str, NamedArrays]:
    """Sort arrays by part, convert them, and split missing parts off train.

    Arrays are called ``x_train``, ``x_valid``, ``x_test``, ``y_train`` and so on; arrays called ``x``, ``y``
    are all train. A missing part becomes a tenth of the rows of train, drawn by the seed; so train alone is
    split 80/10/10 %.

    Args:
        name: name of the data set, for messages.
        arrays: arrays by their name in the file.
        seed: seed of the split.
        most_blocks: see ``split_ranges``.

    Returns:
        For each part its arrays, each number with the value that it has in the file.

    Raises:
        InputError: if there is no x in train, an array belongs to no part, train has too few rows, or its
            arrays do not pass the checks.

    Example:
        >>> parts = parts_of("toy", {"x": np.arange(20)[:, None], "y": np.arange(20)}, seed=0)
        >>> {part: arrays["x"].shape for part, arrays in parts.items()}
        {'train': (16, 1), 'valid': (2, 1), 'test': (2, 1)}
    """
    return split_parts(name, _group(name, arrays), seed, most_blocks)


def split_parts(
    name: str, parts: dict[str, NamedArrays], seed: int, most_blocks: int | None = None
) -> dict[str, NamedArrays]:
    """Return train, valid and test; each that is missing becomes a tenth of the rows of train, drawn by the seed.

    Args:
        name: name of the data set, for messages.
        parts: the parts that there are.
        seed: seed of the split.
        most_blocks: see ``split_ranges``.

    Raises:
        InputError: train has too few rows, or its arrays do not pass the checks.
    """
    missing = [part for part in PARTS if part not in parts]
    if missing:
        train = parts["train"]
        # Checked before the split, so that a message gives the row of the file.
        check_arrays(name, "the file" if len(missing) == 2 else "train", train)
        rows = split_rows(train.num_rows, split_shares(missing), seed, name, most_blocks=most_blocks)
        parts = {**parts, **{part: train.rows(at) for part, at in zip(("train", *missing), rows, strict=True)}}
    return {part: parts[part] for part in PARTS}


def split_shares(missing: Sequence[str]) -> list[int]:
    """Return the shares of train and of the parts that are missing."""
    return [100 - 10 * len(missing), *[10 for _ in missing]]


def scale_bytes(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Divide x by 255 if all its parts are bytes and some value is above 1; leave other arrays as they are."""
    x = {key: values for key, values in arrays.items() if key == "x" or key.rpartition("_")[0] == "x"}
    is_bytes = all(values.dtype == np.uint8 for values in x.values())
    if not is_bytes or not any(values.max(initial=0) > 1 for values in x.values()):
        return dict(arrays)
    return {**arrays, **{key: values / np.float32(255) for key, values in x.items()}}


def sort_by_part(name: str, keys: Collection[str]) -> dict[str, dict[str, str]]:
    """Return for each part the names of its arrays, and for each of these its name in the file.

    Raises:
        InputError: there is no x in train, or an array belongs to no part.

    Example:
        >>> sort_by_part("toy", ["x_train", "y_train", "x_test"])
        {'train': {'x': 'x_train', 'y': 'y_train'}, 'test': {'x': 'x_test'}}
    """
    parts: dict[str, dict[str, str]] = {}
    has_parts = any(key.rpartition("_")[2] in PARTS for key in keys)
    for key in keys:
        array, _, part = key.rpartition("_") if has_parts else (key, "", "train")
        if not array or part not in PARTS:
            raise InputError(
                f"{name}: array '{key}' belongs to no part: "
                f"call it {key}_train, {key}_valid or {key}_test, or remove it"
            )
        parts.setdefault(part, {})[array] = key
    if "x" not in parts.get("train", {}):
        wanted = "x_train" if has_parts else "x or x_train"
        raise InputError(f"{name}: no array {wanted}: it has {', '.join(keys) or 'none'}; rename the data")
    return parts


def _group(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, NamedArrays]:
    checked = {key: _checked(f"{name}: array '{key}'", values) for key, values in arrays.items()}
    parts = sort_by_part(name, checked)
    return {part: NamedArrays({array: checked[key] for array, key in keys.items()}) for part, keys in parts.items()}


def _checked(where: str, values: np.ndarray) -> np.ndarray:
    check_numeric(where, values)
    return to_native(where, values)
