"""Operations under ``torch.vmap`` in a graph with a free number of data, where PyTorch's own rules would fix it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = {
    **{getattr(functional, f"conv{rank}d"): (rank, False) for rank in (1, 2, 3)},
    **{getattr(functional, f"conv_transpose{rank}d"): (rank, True) for rank in (1, 2, 3)},
}
"""The number of dimensions of an image by function, and True if the convolution is transposed."""


class FreeNumberOfData(TorchFunctionMode):
    """A mode in which operations whose rules under ``vmap`` fix the number of data are written by others.

    Tensors are joined by padding with zeros and a sum, and rows of a table are read by ``embedding``. Columns are
    chosen, and images convolved, by operators with rules of their own, which leave PyTorch's operations in the graph.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or what stands for it."""
        if func is functional.one_hot:
            classes, size = tuple(args) + tuple((kwargs or {}).values())
            return (classes[..., None] == torch.arange(size, device=classes.device)).long()
        if func is Tensor.__getitem__ and isinstance(args[1], Tensor) and args[1].dtype == torch.int64:
            table, index = args
            rows = functional.embedding(torch.where(index < 0, index + table.shape[0], index), table.flatten(1))
            return rows.reshape(*index.shape, *table.shape[1:])
        if func in (torch.index_select, Tensor.index_select) and is_mapped(args[0]):
            return _select(*args, **kwargs or {})
        if func in CONVOLUTIONS and is_mapped(args[0]):
            return _convolve(*CONVOLUTIONS[func], *args, **kwargs or {})
        if func in (torch.cat, torch.stack):
            return _joined(*args, **kwargs or {}, stack=func is torch.stack)
        return func(*args, **kwargs or {})


def is_mapped(tensor: Tensor) -> bool:
    """Return True if a tensor has a dimension that ``vmap`` hides; before PyTorch 2.7, True for every tensor."""
    unwrap = getattr(torch.func, "debug_unwrap", None)
    return unwrap is None or unwrap(tensor) is not tensor


def _select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    return choose_columns(input.movedim(dim, -1), index).movedim(-1, dim)


def _convolve(
    rank: int,
    transposed: bool,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    *others: Any,
    **named: Any,
) -> Tensor:
    """Return a convolution of images ``(C, ...)`` or ``(K, C, ...)``; the arguments are those of PyTorch's function."""
    names = ("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")
    rest = {"output_padding": 0, "groups": 1, "dilation": 1} | dict(zip(names, others, strict=False)) | named
    sizes = {"stride": stride, "padding": padding} | {name: rest[name] for name in ("dilation", "output_padding")}
    if padding == "valid":
        sizes["padding"] = 0
    elif padding == "same":
        spans = [step * (size - 1) for step, size in zip(_each(rest["dilation"], rank), weight.shape[2:], strict=True)]
        input = functional.pad(input, [part for span in spans[::-1] for part in (span // 2, span - span // 2)])
        sizes["padding"] = 0
    images = input if input.dim() == rank + 2 else input[None]
    listed = [_each(sizes[name], rank) for name in ("stride", "padding", "dilation", "output_padding")]
    out = convolve_images(images, weight, bias, *listed, rest["groups"], transposed)
    return out if input.dim() == rank + 2 else out[0]


def _each(value: Any, rank: int) -> list[int]:
    """Return a number for each dimension."""
    values = [int(part) for part in value] if isinstance(value, Sequence) else [int(value)]
    return values * rank if len(values) == 1 else values


@torch.library.custom_op("ppl_vae::choose_columns", mutates_args=())
def choose_columns(table: Tensor, index: Tensor) -> Tensor:
    """Return the columns of tables ``(..., M)`` with these numbers, ``(..., n)``."""
    return table.index_select(-1, index)


@choose_columns.register_vmap
def _(info: Any, in_dims: Any, table: Tensor, index: Tensor) -> tuple[Tensor, int]:
    _refuse_others(in_dims[1:])
    return table.movedim(in_dims[0], 0).index_select(-1, index), 0


@torch.library.custom_op("ppl_vae::convolve_images", mutates_args=())
def convolve_images(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    transposed: bool,
) -> Tensor:
    """Return the convolution of images ``(K, C, ...)``, as ``torch.convolution`` does."""
    return torch.convolution(images, weight, bias, stride, padding, dilation, transposed, output_padding, groups)


@convolve_images.register_vmap
def _(info: Any, in_dims: Any, images: Tensor, *others: Any) -> tuple[Tensor, int]:
    _refuse_others(in_dims[1:])
    weight, bias, stride, padding, dilation, output_padding, groups, transposed = others
    front = images.movedim(in_dims[0], 0)
    out = torch.convolution(
        front.flatten(0, 1), weight, bias, stride, padding, dilation, transposed, output_padding, groups
    )
    return out.unflatten(0, front.shape[:2]), 0


def _refuse_others(in_dims: Sequence[Any]) -> None:
    if any(dim is not None for dims in in_dims for dim in (dims if isinstance(dims, Sequence) else [dims])):
        raise NotImplementedError("weights or positions that differ by datum cannot be exported")


def _joined(tensors: Sequence[Tensor], dim: int = 0, *, stack: bool = False) -> Tensor:
    """Return what ``torch.cat`` or ``torch.stack`` does, as a sum of tensors that are padded with zeros."""
    if stack:
        dim = dim if dim >= 0 else dim + tensors[0].dim() + 1
        tensors = [tensor.unsqueeze(dim) for tensor in tensors]
    parts = [tensor for tensor in tensors if tensor.dim() > 1 or tensor.shape[0]]
    dtype = functools.reduce(torch.promote_types, (part.dtype for part in parts))
    place = dim % parts[0].dim()
    sizes, behind = [part.shape[place] for part in parts], 2 * (parts[0].dim() - 1 - place)
    padded = [
        functional.pad(part.to(dtype), (0,) * behind + (sum(sizes[:i]), sum(sizes[i + 1 :])))
        for i, part in enumerate(parts)
    ]
    return functools.reduce(torch.logical_or if dtype == torch.bool else torch.add, padded)
