"""Steps of a batch of sequences: padding that is cut off, halves, and single steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.missing import mask_of
from ppl_vae.data.sequences import LENGTHS, is_padded
from ppl_vae.data.source import NamedArrays

if TYPE_CHECKING:
    from ppl_vae.data.batches import Batches

Tensors = tuple[Tensor, ...]


def trim(names: Sequence[str], batch: Tensors) -> Tensors:
    """Cut the padding off that all sequences of a batch share, up to one of a few numbers of steps.

    Args:
        names: the names of the tensors; x, ``(B, T, ...)``, has sequences, whose lengths are ``lengths``, ``(B,)``.
        batch: the tensors.

    Example:
        >>> x, lengths = trim(("x", "lengths"), (torch.zeros(2, 100, 3), torch.tensor([20, 6])))
        >>> x.shape
        torch.Size([2, 23, 3])
    """
    if not is_padded(names):
        return batch
    num_steps = batch[names.index("x")].shape[1]
    steps = enough_steps(int(batch[names.index(LENGTHS)].max()), num_steps)
    if steps == num_steps:
        return batch
    padded = ("x", mask_of("x"))
    return tuple(t[:, :steps].contiguous() if name in padded else t for name, t in zip(names, batch, strict=False))


def trim_rows(arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """Cut the padding off that all sequences of some data in memory share, as ``trim`` does; no number is copied.

    Args:
        arrays: arrays by name, or data on disk, which stay as they are.

    Example:
        >>> x = np.zeros((2, 100, 3))
        >>> {name: array.shape for name, array in trim_rows({"x": x, "lengths": np.array([20, 6])}).items()}
        {'x': (2, 23, 3), 'lengths': (2,)}
    """
    if not _are_in_memory(arrays):
        return arrays
    steps = enough_steps(int(arrays[LENGTHS].max()), arrays["x"].shape[1])
    padded = {name: arrays[name][:, :steps] for name in ("x", mask_of("x")) if name in arrays}
    return NamedArrays({**arrays, **padded}, getattr(arrays, "columns", None))


def sort_by_length(arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """Sort sequences in memory from the longest to the shortest, so that batches of them have little padding.

    Args:
        arrays: arrays by name, or data on disk, which stay as they are.

    Example:
        >>> sort_by_length({"x": np.zeros((3, 9)), "lengths": np.array([2, 9, 5])})["lengths"].tolist()
        [9, 5, 2]
    """
    if not _are_in_memory(arrays):
        return arrays
    order = np.argsort(-arrays[LENGTHS].astype(np.int64), kind="stable")
    return NamedArrays(arrays).rows(order)


def _are_in_memory(arrays: Mapping[str, Any]) -> bool:
    """Return True for at least one sequence in an array of NumPy."""
    return is_padded(arrays) and isinstance(arrays["x"], np.ndarray) and len(arrays["x"]) > 0


def enough_steps(longest: int, num_steps: int) -> int:
    """Return the first number of steps that is not below a length: a rounded power of the square root of 2, or all.

    There are few of them, so that few graphs are compiled, and less than a third of the steps is padding.

    Example:
        >>> [enough_steps(longest, 100) for longest in (1, 9, 16, 17, 92)]
        [1, 11, 16, 23, 100]
    """
    power = next(power for power in range(2 * longest.bit_length() + 1) if round(2 ** (power / 2)) >= longest)
    return min(num_steps, round(2 ** (power / 2)))


def shortened(names: Sequence[str], batch: Tensors) -> Tensors | None:
    """Return a batch whose sequences end in the first half; None if they have fewer than four steps."""
    x, lengths = batch[names.index("x")], batch[names.index(LENGTHS)]
    half = x.shape[1] // 2
    if half < 2:
        return None
    within = torch.arange(x.shape[1], device=x.device) < lengths.clamp(max=half)[:, None]
    within = within.reshape(within.shape + (1,) * (x.dim() - 2))
    changed = {"x": torch.where(within, x, torch.zeros_like(x)), LENGTHS: lengths.clamp(max=half)}
    return tuple(changed.get(name, tensor) for name, tensor in zip(names, batch, strict=False))


def one_step(names: Sequence[str], batch: Tensors, step: int) -> Tensors:
    """Return a single step of sequences x, ``(B, T, ...)``, and of their mask: sequences of length one.

    Args:
        names: the names of the tensors.
        batch: the tensors.
        step: the number of the step.

    Example:
        >>> x, lengths = one_step(("x", "lengths"), (torch.zeros(2, 100, 3), torch.tensor([20, 6])), 7)
        >>> x.shape, lengths
        (torch.Size([2, 1, 3]), tensor([1, 1]))
    """
    changed = {name: batch[names.index(name)][:, step : step + 1] for name in ("x", mask_of("x")) if name in names}
    if LENGTHS in names:
        changed[LENGTHS] = torch.ones_like(batch[names.index(LENGTHS)])
    return tuple(changed.get(name, tensor) for name, tensor in zip(names, batch, strict=False))


def lengths_of(batches: Batches) -> Tensor | None:
    """Return the lengths of all sequences, ``(N,)``; None if the data are no sequences."""
    if not is_padded(batches.names):
        return None
    place = batches.names.index(LENGTHS)
    return torch.cat([batch[place].cpu() for batch in batches.in_order()])
