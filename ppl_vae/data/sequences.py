"""Sequences of different lengths in one padded array."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from ppl_vae.data.split import PARTS
from ppl_vae.errors import InputError

LENGTHS = "lengths"


def is_padded(names: Collection[str]) -> bool:
    """Return True if x holds padded sequences, so that there is an array of their lengths.

    Args:
        names: the names of the arrays, or the arrays by name.
    """
    return "x" in names and LENGTHS in names


def check_lengths(name: str, part: str, arrays: Mapping[str, np.ndarray], first: int = 0) -> None:
    """Check that x, ``(N, T, ...)``, can hold sequences of the given lengths; messages count rows from ``first``.

    Raises:
        InputError: if x has no steps, or the lengths are not whole numbers from 1 to T, one for each row of x.
    """
    x, lengths = arrays["x"], arrays[LENGTHS]
    where = f"{name}: array '{LENGTHS}' of {part}"
    if lengths.shape != x.shape[:1] or lengths.dtype.kind not in "iu":
        raise InputError(
            f"{where} has shape {lengths.shape} and dtype {lengths.dtype}: expected one whole number for each row of "
            f"x, shape {x.shape[:1]}; or rename it, if it holds no lengths of sequences"
        )
    if x.ndim < 2:
        raise InputError(f"{where} is there, and a datum of x is one number: give x the shape (N, T, ...)")
    wrong = (lengths < 1) | (lengths > x.shape[1])
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{where} has {lengths[row]} in row {row + first}, and x has {x.shape[1]} steps: give a length from 1 to "
            f"{x.shape[1]}, or remove the row"
        )


def clear_padding(name: str, part: str, arrays: Mapping[str, np.ndarray], first: int = 0) -> dict[str, np.ndarray]:
    """Set everything past the end of each sequence to zero, including NaN.

    Args:
        name: name of the data set, for messages.
        part: name of the part, for messages.
        arrays: arrays by name; if there are ``lengths``, ``(N,)``, then x, ``(N, T, ...)``, holds sequences.
        first: number of the first row, for messages.

    Returns:
        The arrays; x is a copy if anything changed.

    Raises:
        InputError: see ``check_lengths``.

    Example:
        >>> x = np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 5.0]])
        >>> clear_padding("toy", "train", {"x": x, "lengths": np.array([2, 3])})["x"].tolist()
        [[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]]
    """
    if not is_padded(arrays) or arrays["x"].dtype.kind not in "biuf":
        return dict(arrays)
    check_lengths(name, part, arrays, first)
    x = np.asarray(arrays["x"])
    past = np.arange(x.shape[1]) >= arrays[LENGTHS][:, None]
    if not x[past].any():  # NaN would be something
        return dict(arrays)
    return {**arrays, "x": np.where(past.reshape(past.shape + (1,) * (x.ndim - 2)), x.dtype.type(0), x)}


def cut_sequences(name: str, arrays: Mapping[str, np.ndarray], longest: int) -> dict[str, np.ndarray]:
    """Cut each sequence of more steps than given into the fewest pieces, whose lengths differ by one step at most.

    A piece is a row of its own, padded as before. The other arrays of a row, such as a label, are repeated.

    Args:
        name: name of the data set, for messages.
        arrays: arrays by name; x, ``(N, T, ...)``, holds sequences of the lengths ``lengths``, ``(N,)``.
        longest: the largest number of steps of a piece.

    Raises:
        InputError: if the number of steps is below 1, or there are no sequences.

    Example:
        >>> x, lengths = np.array([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]]), np.array([5, 2])
        >>> pieces = cut_sequences("toy", {"x": x, "lengths": lengths}, longest=2)
        >>> pieces["x"][:, :2].tolist(), pieces["lengths"].tolist()
        ([[1, 2], [3, 4], [5, 0], [6, 7]], [2, 2, 1, 2])
    """
    if longest < 1:
        raise InputError(f"cut_sequences is {longest}: expected a number of steps, 1 or more")
    if not is_padded(arrays):
        raise InputError(f"{name} has no sequences, which are x with an array {LENGTHS!r}: leave out cut_sequences")
    x, lengths = arrays["x"], arrays[LENGTHS]
    counts = -(-lengths // longest)
    rows = np.repeat(np.arange(len(x)), counts)
    piece = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    short, longer = lengths[rows] // counts[rows], lengths[rows] % counts[rows]  # the first pieces are a step longer
    starts = piece * short + np.minimum(piece, longer)
    cut = np.zeros((len(rows), *x.shape[1:]), x.dtype)
    ends = starts + short + (piece < longer)
    for to, row, start, end in zip(cut, rows, starts, ends, strict=True):
        to[: end - start] = x[row, start:end]
    pieces = {"x": cut, LENGTHS: ends - starts}
    return {name: pieces[name] if name in pieces else array[rows] for name, array in arrays.items()}


def pad_parts(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pad the sequences of every part of a file with zeros to one number of steps, and clear them past their ends.

    Args:
        name: name of the file, for messages.
        arrays: arrays by their name in the file; sequences are x with lengths, or ``x_train`` with ``lengths_train``.

    Raises:
        InputError: see ``check_lengths``.

    Example:
        >>> x = {f"x_{part}": np.ones((2, steps)) for part, steps in (("train", 3), ("test", 5))}
        >>> lengths = {f"lengths_{part}": np.array([3, 1]) for part in ("train", "test")}
        >>> pad_parts("toy", {**x, **lengths})["x_train"].tolist()
        [[1.0, 1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]]
    """
    sequences: dict[str, np.ndarray] = {}
    for part in ("", *PARTS):
        data, lengths = (f"{array}_{part}" if part else array for array in ("x", LENGTHS))
        if data in arrays and lengths in arrays:
            known = {"x": arrays[data], LENGTHS: arrays[lengths]}
            sequences[data] = clear_padding(name, part or "the file", known)["x"]
    steps = max((x.shape[1] for x in sequences.values()), default=0)
    for key, x in sequences.items():
        sequences[key] = np.pad(x, [(0, 0), (0, steps - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])
    return {**arrays, **sequences}
