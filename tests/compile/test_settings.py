"""The settings of Inductor for our graphs: what they spare gives the same, and is back afterwards."""

from __future__ import annotations

import pytest
import sympy  # type: ignore[import-untyped]

from ppl_vae.compile import private


@pytest.mark.parametrize("vectors", [None, 16])
def test_strides_of_indices_are_those_of_inductor(vectors: int | None) -> None:
    from torch._inductor import sizevars
    from torch.utils._sympy.functions import FloorDiv, ModularIndexing

    def strides() -> list[sympy.Expr]:
        for function in (sizevars.stride_at, sizevars.simplify_index_in_vec_range, sizevars.stride_at_vec_range):
            function.cache_clear()
        return [sizevars.stride_at_vec_range(index, x, vectors) for index in indices]

    x, y = sympy.symbols("x y", integer=True, nonnegative=True)
    indices = [
        400 * x + y,
        16 * x + 16 * y + 3,
        x * (y + 1) - x * y,
        x**2 + y,
        FloorDiv(x, 16) + 8 * y,
        5 * ModularIndexing(x, 1, 32) + FloorDiv(y, 4),
        ModularIndexing(x, 16, 8),
    ]
    known = strides()
    with private.settings():
        assert all(sympy.expand(one - other) == 0 for one, other in zip(strides(), known, strict=True))
    assert sizevars.sympy is sympy
    assert known[:3] == [400, 16, 1]


def test_inductor_makes_its_handler_of_types_once() -> None:
    from torch._inductor.codegen import common
    from torch._inductor.dtype_propagation import DtypePropagationOpsHandler

    with private.settings():
        handler = common.DtypePropagationOpsHandler()
        before = dict(vars(handler))
        assert common.DtypePropagationOpsHandler() is handler
        assert vars(handler) == before
        assert type(handler) is DtypePropagationOpsHandler
    assert common.DtypePropagationOpsHandler is DtypePropagationOpsHandler
