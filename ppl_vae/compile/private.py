"""The private interfaces of PyTorch that the package uses, all in this file.

PyTorch may change them in any version. So nothing is compiled with a version newer than ``LAST_TESTED``, and what only
compilation needs is imported when it is needed.

``torch.compile``, which is public, starts from a Python function again and checks its guards in every call. Measured
with PyTorch 2.13 on one core, for a step of a VAE at a batch of 128 (median of 300 interleaved steps, and of three
compilations):

| compiled by | step, 784-400-20 | step, 64-256-10 | compile, empty cache | compile, filled cache |
|---|---|---|---|---|
| ``compile_fx_inner`` (here) | 3.85 ms | 0.43 ms | 12.0 s | 1.6 s |
| ``torch._inductor.standalone_compile`` | 3.93 ms | 0.45 ms | 14.3 s | 1.5 s |
| ``torch._inductor.compile`` | 3.91 ms | 0.46 ms | 13.9 s | 5.7 s |
| ``torch.compile`` | 4.23 ms | 0.67 ms | 16.7 s | 3.1 s |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

__all__ = ["TorchDispatchMode", "tree_leaves", "tree_map", "tree_map_only"]

LAST_TESTED = (2, 13)
"""The newest version of PyTorch with which the tests of this room have passed; ``pyproject.toml`` has the same."""


def untested() -> str | None:
    """Return why nothing is compiled with this version of PyTorch; None if it is not too new."""
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    if (major, minor) <= LAST_TESTED:
        return None
    last = ".".join(map(str, LAST_TESTED))
    return f"PyTorch {torch.__version__} is newer than {last}, the last version tested with compilation: install {last}"


# ------------------------------------------------------------------------------------------------------------ tracing


def fake_mode(**options: Any) -> Any:
    """Return a mode in which tensors have a shape and a type, but no numbers."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode(**options)


def is_fake(tensor: Tensor) -> bool:
    """Return True if a tensor has no numbers."""
    from torch._subclasses.fake_tensor import is_fake

    return is_fake(tensor)


def make_fx(function: Callable[..., Any], **options: Any) -> Callable[..., fx.GraphModule]:
    """Return a function that runs another one on its inputs and records the operations as a graph."""
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(function, **options)


def reads_a_value(operation: Any) -> bool:
    """Return True if an operation of PyTorch hands a tensor's number to Python."""
    return operation is torch.ops.aten._local_scalar_dense.default


def value_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a tensor without numbers whose number is wanted."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

    return DataDependentOutputException, DynamicOutputShapeException


# ---------------------------------------------------------------------------------------------------------- compiling


def settings() -> AbstractContextManager[None]:
    """Return a context with the settings of Inductor for our graphs."""
    from torch._inductor import config

    return config.patch(
        {
            "fallback_random": True,  # the generator's numbers, not those of Inductor's own
            "size_asserts": False,  # the caller compares the shapes, once for each call
            "alignment_asserts": False,
            "cpp.max_horizontal_fusion_size": 1,  # vectorised, fused loops of sums over states gave wrong gradients
            "cpp.vec_isa_ok": True,  # the processor's own report; asking the compiler too takes a second
        }
    )


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return the operations that Inductor replaces by simpler ones."""
    from torch._inductor.decomposition import select_decomp_table

    return select_decomp_table()


def inductor(module: fx.GraphModule, example: list[Tensor]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """Compile a graph for inputs of the shapes of an example."""
    from torch._guards import TracingContext, tracing
    from torch._inductor.compile_fx import compile_fx_inner
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = fake_mode(shape_env=ShapeEnv())  # Inductor's cache across runs wants one, though no shape is symbolic
    fakes = [mode.from_tensor(tensor, static_shapes=True) for tensor in example]
    with settings(), tracing(TracingContext(mode)):
        return compile_fx_inner(module, fakes)


def without_modes() -> AbstractContextManager[None]:
    """Return a context in which no mode changes what a function of PyTorch does."""
    return torch._C.DisableTorchFunction()


def copy_all(to: list[Tensor], values: list[Tensor]) -> None:
    """Copy tensors to the memory of others."""
    torch._foreach_copy_(to, values, non_blocking=True)
