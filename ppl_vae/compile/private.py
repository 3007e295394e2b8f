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

import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from ppl_vae.compile.products import PRODUCTS, by_size

__all__ = ["TorchDispatchMode", "tree_leaves", "tree_map", "tree_map_only"]

KERNELS_OF_A_UNIT = 4
"""The least number of kernels that are compiled together: the headers take as long as several of them."""
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


@contextmanager
def settings() -> Iterator[None]:
    """Run a block with the settings of Inductor for our graphs."""
    from torch._inductor import config, cpu_vec_isa
    from torch.compiler import config as of_caches

    chosen = {
        "fallback_random": True,  # the generator's numbers, not those of Inductor's own
        "size_asserts": False,  # the caller compares the shapes, once for each call
        "alignment_asserts": False,
        "cpp.max_horizontal_fusion_size": 1,  # vectorised, fused loops of sums over states gave wrong gradients
        "cpp.vec_isa_ok": True,  # the processor's own report; asking the compiler too takes a second
    }
    with config.patch(chosen), _as_reported(), kernels_together(), _products_by_size(), _short_calls(), _short_work():
        vectors = cpu_vec_isa.pick_vec_isa()  # Inductor's cache would take a graph for others, ATEN_CPU_CAPABILITY=avx2
        tag = f"{of_caches.cache_key_tag} {vectors}"
        with of_caches.patch(cache_key_tag=tag):  # type: ignore[attr-defined]
            yield


@contextmanager
def _as_reported() -> Iterator[None]:
    """Let Inductor believe the processor about its vectors of 512 bits, without bfloat16, integers and AMX.

    It compiles and loads a test for each of these six, which no kernel of ours uses.
    """
    from torch._inductor import cpu_vec_isa

    class Reported(cpu_vec_isa.VecAVX512):  # a class of its own, because tests are remembered by class
        def __bool__(self) -> bool:  # type: ignore[override]
            return True

    def vectors() -> list[Any]:
        if platform.machine() not in ("x86_64", "AMD64"):
            return known()
        flags = cpu_vec_isa.x86_isa_checker()
        both = [Reported(), cpu_vec_isa.VecAVX2()]
        return [isa for isa in both if all(flag in flags for flag in str(isa).split())]

    known = cpu_vec_isa.valid_vec_isa_list
    with _replaced(cpu_vec_isa, valid_vec_isa_list=vectors):
        yield


@contextmanager
def _replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Give a module or a class other attributes inside the block."""
    before = {name: vars(owner)[name] for name in attributes}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


class _Namespace:
    """A module or another namespace of PyTorch, with some functions of our own."""

    def __init__(self, known: Any, own: dict[str, Callable[..., Any]]) -> None:
        vars(self).update(known=known, **own)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["known"], name)

    def __setattr__(self, name: str, operation: Any) -> None:
        setattr(vars(self)["known"], name, operation)


@contextmanager
def _products_by_size() -> Iterator[None]:
    """Give graphs that are compiled or loaded in the block the products of ``products.by_size``."""
    from torch._inductor import select_algorithm

    own: dict[str, Callable[..., Any]] = {}
    if torch.backends.mkl.is_available():
        precision = partial(torch._C._get_fp32_precision_getter, "mkldnn", "matmul")
        set_precision = partial(torch._C._set_fp32_precision_setter, "mkldnn", "matmul")
        own = {name: by_size(getattr(torch, name), precision, set_precision) for name in PRODUCTS}
    with _replaced(select_algorithm, extern_kernels=_Namespace(select_algorithm.extern_kernels, own)):
        yield


@contextmanager
def _short_calls() -> Iterator[None]:
    """Let the code of a graph draw by ``torch.randn`` and not by ``torch.ops.aten.randn.default``.

    Between the matrix products of a step of a VAE a call takes 26 microseconds instead of 58.
    """
    from torch._inductor.ir import ExternKernel

    known = ExternKernel.set_python_kernel_name
    short = {f"torch.ops.aten.{name}.default": f"torch.{name}" for name in ("rand", "randn")}

    def set_name(self: Any, name: str | None) -> None:
        known(self, name)
        self.python_kernel_name = short.get(self.python_kernel_name, self.python_kernel_name)

    with _replaced(ExternKernel, set_python_kernel_name=set_name):
        yield


@contextmanager
def _short_work() -> Iterator[None]:
    """Spare Inductor work that it does again and again while it writes kernels: a fifth of the time of that.

    It makes its only handler of types anew for each operation, and simplifies by all rules of SymPy indices that are
    polynomials, for which one is enough.
    """
    import sympy  # type: ignore[import-untyped]
    from torch._inductor import sizevars
    from torch._inductor.codegen import common

    def simplify(index: Any) -> Any:
        return sympy.expand(index) if index.is_polynomial() else sympy.simplify(index)

    types = common.DtypePropagationOpsHandler()
    of_indices = _Namespace(sympy, {"simplify": simplify})
    with _replaced(common, DtypePropagationOpsHandler=lambda: types), _replaced(sizevars, sympy=of_indices):
        yield


@contextmanager
def kernels_together() -> Iterator[None]:
    """Compile the kernels of a graph in a few units, of which each reads the headers once.

    Inductor gives each kernel to a compiler of its own. For the ten kernels of a step of a VAE this takes 11.6 s of a
    core, and two units take 3.8 s. The headers are compiled before, once on a machine.
    """
    from torch._inductor.async_compile import AsyncCompile

    wait = AsyncCompile.wait

    def note(self: Any, argument_types: Sequence[str], source: str) -> _Kernel:
        kernel = _Kernel(tuple(argument_types), source)
        vars(self).setdefault("noted", []).append(kernel)
        return kernel

    def compile_noted(self: Any, scope: dict[str, Any]) -> None:
        if kernels := vars(self).pop("noted", ()):
            functions = dict(zip(kernels, _compiled(kernels), strict=True))
            scope.update({name: functions[kernel] for name, kernel in scope.items() if isinstance(kernel, _Kernel)})
        wait(self, scope)

    with _replaced(AsyncCompile, cpp_pybinding=note, wait=compile_noted):
        yield


class _Kernel(NamedTuple):
    """A kernel in C++, a function called ``kernel``."""

    argument_types: tuple[str, ...]
    source: str


def _compiled(kernels: Sequence[_Kernel]) -> list[Callable[..., None]]:
    """Return kernels as functions of Python, from about as many units as the processor has cores."""
    from torch._inductor import codecache
    from torch._inductor.async_compile import AsyncCompile, get_compile_threads

    class Units(codecache.CppPythonBindingsCodeCache):
        """A cache whose entries are libraries with many kernels; each of these is a module of its own."""

        cache: dict[str, Any] = {}  # noqa: RUF012

        @classmethod
        def _load_library_inner(cls, path: str, key: str) -> Any:
            return SimpleNamespace(path=path)

    def begin(source: str) -> Callable[[], Any]:
        missing: list[Any] = []
        with _replaced(codecache, _precompile_header=lambda *_, **__: None):  # which looks for them for 0.3 s
            load = Units.load_async(source, "cpu", submit_fn=missing.append)
        if not missing:
            return load
        Units.cache.clear()
        return Units.load_async(source, "cpu", submit_fn=AsyncCompile.submit if threads > 1 else None)

    threads = get_compile_threads()
    num_units = max(1, min(threads, len(kernels) // KERNELS_OF_A_UNIT))
    units = [kernels[first::num_units] for first in range(num_units)]
    loads = [begin(_source(unit, codecache.CppPythonBindingsCodeCache)) for unit in units]
    functions: list[Any] = [None] * len(kernels)
    for first, (unit, load) in enumerate(zip(units, loads, strict=True)):
        library = load()
        functions[first::num_units] = [_load(library, number) for number in range(len(unit))]
    return functions


def _source(unit: Sequence[_Kernel], bindings: Any) -> str:
    """Return the source of a unit: every kernel in a namespace of its own, with its binding, as Inductor writes it."""
    parts = []
    for number, (types, source) in enumerate(unit):
        parsed = (f"parse_arg<{kind.replace('const ', '')}>(args, {i})" for i, kind in enumerate(types))
        binding = bindings.suffix_template.format(
            arg_len=len(types),
            call_entry_func=f"kernel{number}({', '.join(parsed)}); Py_RETURN_NONE;",
            entry_func=f"kernel{number}",
            extra_parse_arg="",
        )
        parts.append(re.sub(r"\bkernel\(", f"kernel{number}(", source) + binding)
    includes = dict.fromkeys(line for part in parts for line in part.splitlines() if line.startswith("#include"))
    bodies = (re.sub(r"^#include.*$", "", part, flags=re.MULTILINE) for part in parts)
    spaces = (f"namespace of_kernel{number} {{\n{body}\n}}" for number, body in enumerate(bodies))
    return "\n".join(["#define PY_SSIZE_T_CLEAN", *includes, *spaces])


def _load(library: Any, number: int) -> Callable[..., None]:
    """Return a kernel of a library."""
    address = vars(torch._C._dynamo.guards)["_torchinductor_pyobject_tensor_data_ptr"]
    os.environ["_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"] = str(address)
    name = f"{library.key}.kernel{number}"
    spec = spec_from_file_location(name, library.path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, f"kernel{number}")


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
