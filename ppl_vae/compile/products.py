"""Matrix products of graphs, each in the way that is faster for its size.

At the precision "medium" PyTorch multiplies fp32 matrices by oneDNN, and at "highest" by MKL. Where the commands choose
"medium", both are exact. oneDNN takes some 15 microseconds to begin, and MKL begins at once: it multiplies 20 x 88 by
88 x 100 numbers in a third of the time. Large products take up to a tenth longer by MKL. The number of operations
decides and no clock, so that a run can be repeated.

Both libraries are slower if the second factor is stored transposed, as the weights of a layer are. If the layer is wide
and the batch has few rows, the product of the transposes takes less time: 133 instead of 166 microseconds for 32 x 784
by 784 x 400 numbers in a step of a VAE.

``benchmarks/products.py`` measures both; these numbers are of two cores of an AMD EPYC with AVX-512.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

SMALL = 12e6
"""Number of floating-point operations below which a product is small."""
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
"""The names of the products in ``torch``; the factors are the last two arguments of each."""
EXACT = "ieee"
"""The precision at which MKL multiplies, as oneDNN calls it."""

Product = Callable[..., Tensor]


def mm(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the product of two matrices, by way of their transposes if that takes less time.

    .. math:: a b = (b^\top a^\top)^\top

    It does for a large product on a CPU whose second factor is stored transposed and has at least twice as many columns
    as the first one has rows. Otherwise the answer is ``NotImplemented``, as PyTorch expects of a decomposition.

    Example:
        >>> import torch
        >>> x, weight = torch.ones(32, 784), torch.ones(400, 784)
        >>> mm(x, weight.T).shape, mm(x, weight.T.contiguous())
        (torch.Size([32, 400]), NotImplemented)
    """
    is_large = 2 * a.numel() * b.shape[1] >= SMALL
    if a.is_cpu and is_large and b.stride(0) == 1 < b.stride(1) and 2 * len(a) <= b.shape[1]:
        return (b.T @ a.T).T.contiguous()
    return NotImplemented


def by_size(product: Product, precision: Callable[[], str], set_precision: Callable[[str], Any]) -> Product:
    """Return a product that takes oneDNN's precision from its size: small ones are exact, and thereby MKL's.

    Args:
        product: one of ``PRODUCTS``, with an argument ``out``.
        precision: a function that returns the precision of oneDNN's fp32 products.
        set_precision: a function that sets it.

    Example:
        >>> import torch
        >>> chosen = []
        >>> mm = by_size(torch.mm, lambda: "bf16", chosen.append)
        >>> a, b = torch.ones(2, 3), torch.ones(3, 4)
        >>> mm(a, b, out=torch.empty(2, 4))
        tensor([[3., 3., 3., 3.],
                [3., 3., 3., 3.]])
        >>> chosen
        ['ieee', 'bf16']
    """

    def multiply(*arguments: Tensor, out: Tensor, **numbers: float) -> Tensor:
        if 2 * out.numel() * arguments[-1].shape[-2] >= SMALL or (before := precision()) == EXACT:
            return product(*arguments, out=out, **numbers)
        set_precision(EXACT)
        try:
            return product(*arguments, out=out, **numbers)
        finally:
            set_precision(before)

    return multiply
