"""A function of tensors as a graph of tensor operations: run by Python once, compiled, and then run without Python."""

from __future__ import annotations

import linecache
import random
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import is_fake
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ppl_vae.errors import reason

Outputs = tuple[Tensor, ...]
Function = Callable[..., Outputs]
"""Tensors to a tuple of tensors. It may refer to others, and change those in place, but not its inputs."""
WARM_UP = 3
"""Runs of a CUDA kernel before its capture, in which libraries choose their algorithms."""


MOST_OPERATIONS = 5000
"""Of a graph that is compiled; Inductor would need some minutes for more, such as a long chain of latents."""


class Untraceable(Exception):
    """A function that is no graph of tensor operations: says which statement is none, and why."""


class Traced(NamedTuple):
    """A graph, and what it refers to beside its inputs: parameters, buffers, data. They are read anew in every run."""

    module: fx.GraphModule
    """Takes the inputs and then the captured tensors."""
    captured: list[Tensor]


class Graph(NamedTuple):
    """A compiled function."""

    run: Callable[[list[Tensor]], Sequence[Tensor]]
    captured: list[Tensor]

    def __call__(self, *inputs: Tensor) -> Outputs:
        """The function's outputs; tensors that it changes in place are changed."""
        with torch.no_grad(), torch._C.DisableTorchFunction():  # modes have had their say in the trace
            return tuple(self.run([*inputs, *self.captured]))


def compiled(function: Function, inputs: Sequence[Tensor], module: nn.Module | None = None) -> Graph:
    """Trace and compile a function for inputs of these shapes.

    On a CPU the graph is compiled by Inductor to C++. On a GPU it is compiled by Inductor where Triton is there, and
    captured in a CUDA graph. Random numbers come from the global generator, the same ones as without a graph.

    Args:
        function: of the inputs. It may differentiate (``torch.autograd.grad``), and change what it refers to in place.
        inputs: examples; nothing is computed with their values, and no tensor changes.
        module: what the function runs. It may change its tensors in place, but not put others in their place.

    Raises:
        Untraceable: the function is no graph of tensor operations, or there is nothing here to compile it.

    Example:
        >>> total = torch.zeros(())
        >>> def add(x):
        ...     total.add_(x.sum())
        ...     return (2 * x,)
        >>> graph = compiled(add, [torch.ones(3)])
        >>> graph(torch.ones(3)), graph(torch.ones(3)), total
        ((tensor([2., 2., 2.]),), (tensor([2., 2., 2.]),), tensor(6.))
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of compilers about themselves
        return _compiled(trace(function, inputs, module), inputs)


def _compiled(traced: Traced, inputs: Sequence[Tensor]) -> Graph:
    example = [tensor.detach() for tensor in (*inputs, *traced.captured)]
    captured = example[len(inputs) :]
    if example and example[0].is_cuda:
        return Graph(_cuda_graph(traced.module, example, len(inputs)), captured)
    return Graph(_inductor(traced.module, example), captured)


def trace(function: Function, inputs: Sequence[Tensor], module: nn.Module | None = None) -> Traced:
    """The graph of a function, and the tensors that it refers to.

    Raises:
        Untraceable: Python looks at the value of a tensor, draws random numbers of its own, or remembers something.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    detached = [tensor.detach() for tensor in inputs]
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with _explained(), _no_draws_by_python(), _no_memory(module), mode, _Unchanged(mode) as unchanged:
        graph = make_fx(function)(*(mode.from_tensor(tensor, static_shapes=True) for tensor in detached))
    captured = _lifted(graph, unchanged.originals)
    with _explained():
        functional = torch.func.functionalize(graph, remove="mutations")
        with _settings():
            graph = make_fx(functional, tracing_mode="fake", decomposition_table=_decompositions())(
                *detached, *(tensor.detach() for tensor in captured)
            )
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return Traced(graph, captured)


@contextmanager
def _no_draws_by_python() -> Iterator[None]:
    """Python's and NumPy's generators stay as they are; a function that draws from them is no graph."""
    python, numpy = random.getstate(), cast(tuple, np.random.get_state())  # noqa: NPY002
    try:
        yield
        _, keys, position, *_ = cast(tuple, np.random.get_state())  # noqa: NPY002
        if random.getstate() != python or position != numpy[2] or not np.array_equal(keys, numpy[1]):
            raise Untraceable("it draws from Python's or NumPy's random numbers, which a graph would freeze")
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def _no_memory(module: nn.Module | None) -> Iterator[None]:
    """Modules' attributes stay what they are; a function that sets one is no graph, which would leave it alone."""
    parts = list(module.modules()) if module is not None else []
    by_pytorch = vars(nn.Module()).keys()
    held: list[tuple[nn.Module, str | None, Any]] = [
        (part, None, values) for part in parts for values in (vars(part), part._buffers, part._parameters)
    ]
    held += [
        (part, name, value)
        for part in parts
        for name, value in vars(part).items()
        if type(value) in (list, dict) and name not in by_pytorch
    ]
    before = [copy(container) for _, _, container in held]
    try:
        yield
        for (part, name, container), old in zip(held, before, strict=True):
            for key in _changed(container, old):
                what = f"{type(part).__name__}.{name or key}"
                raise Untraceable(f"it changes {what}, which a graph would leave as it is")
    finally:
        for (_, _, container), old in zip(held, before, strict=True):
            container.clear()
            (container.update if isinstance(container, dict) else container.extend)(old)


def _changed(now: Any, before: Any) -> list[Any]:
    """Keys of a dictionary, or places in a list, at which there is another object, or none."""
    new, old = (each if isinstance(each, dict) else dict(enumerate(each)) for each in (now, before))
    return [key for key in {**old, **new} if key not in new or key not in old or new[key] is not old[key]]


class _Unchanged(TorchDispatchMode):
    """What a function changes in place stays as it is while the function is traced: a stand-in takes its place.

    Attributes:
        originals: of the stand-ins, by their identity.
    """

    def __init__(self, mode: Any) -> None:
        super().__init__()
        self.mode = mode
        self.operations = 0
        self.originals: dict[int, Tensor] = {}
        self._stand_ins: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.operations += 1
        if self.operations > MOST_OPERATIONS:
            raise Untraceable(
                f"it is a graph of more than {MOST_OPERATIONS} operations, which takes too long to compile"
            )
        if func is torch.ops.aten._local_scalar_dense.default and not is_fake(args[0]):
            raise RuntimeError("data-dependent: the value of a tensor that may change")
        if func._schema.is_mutable:
            args, kwargs = tree_map_only(Tensor, self._stand_in, (args, kwargs))
        return func(*args, **kwargs)

    def _stand_in(self, tensor: Tensor) -> Tensor:
        if is_fake(tensor):
            return tensor
        if id(tensor) not in self._stand_ins:
            stand_in = self.mode.from_tensor(tensor.detach(), static_shapes=True)
            self._stand_ins[id(tensor)], self.originals[id(stand_in)] = stand_in, tensor
        return self._stand_ins[id(tensor)]


def _lifted(module: fx.GraphModule, originals: Mapping[int, Tensor]) -> list[Tensor]:
    """Make inputs of the tensors that a graph refers to, or to whose stand-ins it does."""
    captured: list[Tensor] = []
    nodes: dict[int, fx.Node] = {}
    last = [node for node in module.graph.nodes if node.op == "placeholder"][-1:]
    for node in list(module.graph.nodes):
        if node.op != "get_attr":
            continue
        tensor = getattr(module, str(node.target))
        tensor = originals.get(id(tensor), tensor)
        if id(tensor) not in nodes:
            with module.graph.inserting_after(last[0]) if last else module.graph.inserting_before():
                last = [module.graph.placeholder(f"captured_{len(captured)}")]
            captured.append(tensor)
            nodes[id(tensor)] = last[0]
        node.replace_all_uses_with(nodes[id(tensor)])
        module.graph.erase_node(node)
    module.recompile()
    return captured


# ---------------------------------------------------------------------------------------------------------- compiling


def _settings() -> Any:
    """Inductor's, while it compiles."""
    from torch._inductor import config

    return config.patch(
        {
            "fallback_random": True,  # the generator's numbers, not those of Inductor's own
            "size_asserts": False,  # shapes are compared once for each call, by whoever has the graph
            "alignment_asserts": False,
            "cpp.max_horizontal_fusion_size": 1,  # vectorised, fused loops of sums over states gave wrong gradients
            "cpp.vec_isa_ok": True,  # what the processor says of itself; asking the compiler too takes a second
        }
    )


def _decompositions() -> dict[Any, Callable[..., Any]]:
    from torch._inductor.decomposition import select_decomp_table

    def normal(x: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: None = None) -> Tensor:
        noise = torch.randn(x.shape, dtype=x.dtype, device=x.device)
        return noise if (mean, std) == (0, 1) else noise * std + mean

    def bernoulli(p: Tensor, *, generator: None = None) -> Tensor:  # Inductor's draws singles for doubles too
        return (torch.rand_like(p) < p).to(p.dtype)

    def addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """The bias is added by the kernel that reads the product; in three dimensions, or Inductor would undo it."""
        if (beta, alpha) != (1, 1):
            return NotImplemented
        return ((a @ b)[None] + bias)[0]

    aten = torch.ops.aten
    own: dict[Any, Callable[..., Any]] = {
        aten.normal_functional.default: normal,
        aten.bernoulli.default: bernoulli,
        aten.addmm.default: addmm,
    }
    return {**select_decomp_table(), **own}


def _inductor(module: fx.GraphModule, example: list[Tensor]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    from torch._guards import TracingContext, tracing
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv())  # Inductor's cache across runs wants one, though no shape is symbolic
    fakes = [mode.from_tensor(tensor, static_shapes=True) for tensor in example]
    try:
        with _settings(), tracing(TracingContext(mode)):
            return compile_fx_inner(module, fakes)
    except Exception as error:
        raise Untraceable(f"Inductor cannot compile it ({reason(error)})") from error


def _cuda_graph(
    module: fx.GraphModule, example: list[Tensor], num_inputs: int
) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """The graph's kernels, recorded once; inputs are copied to where the recording reads them."""
    try:
        run: Callable[[list[Tensor]], Any] = _inductor(module, example)
    except Untraceable:  # without Triton the kernels are PyTorch's own, one for each operation

        def run(tensors: list[Tensor]) -> Any:
            return module(*tensors)

    captured = example[num_inputs:]
    static = [tensor.clone() for tensor in example[:num_inputs]]
    kept = [tensor.clone() for tensor in captured]
    generator = torch.cuda.get_rng_state()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run([*static, *captured])
    torch.cuda.current_stream().wait_stream(stream)
    recording = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(recording):
        outputs = tuple(run([*static, *captured]))
    for tensor, before in zip(captured, kept, strict=True):
        tensor.copy_(before)
    torch.cuda.set_rng_state(generator)

    def replay(tensors: list[Tensor]) -> Outputs:
        torch._foreach_copy_(static, tensors[:num_inputs], non_blocking=True)
        recording.replay()
        return tuple(output.clone() for output in outputs)

    return replay


# ---------------------------------------------------------------------------------------------------------- explaining


@contextmanager
def _explained() -> Iterator[None]:
    """What goes wrong inside is an ``Untraceable`` that names the statement."""
    try:
        yield
    except Untraceable:
        raise
    except Exception as error:
        looked = isinstance(error, _value_errors()) or "data-dependent" in str(error) or ".numpy()" in str(error)
        why = "Python looks at the value of a tensor" if looked else reason(error)
        raise Untraceable(f"{_statement(error)}: {why}") from error


def _value_errors() -> tuple[type[Exception], ...]:
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

    return DataDependentOutputException, DynamicOutputShapeException


def _statement(error: Exception) -> str:
    """The innermost statement of the user's: of a file that is no library's, and no part of this one but a model."""
    libraries = {Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "purelib", "platlib")}
    package = Path(__file__).resolve().parents[1]
    libraries.add(Path(torch.__file__).resolve().parents[1])
    own = None
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename).resolve()
        within = package in path.parents and package / "models" not in path.parents
        if (
            not within
            and not frame.filename.startswith("<")
            and not any(library in path.parents for library in libraries)
        ):
            own = frame
    if own is None:
        return "an operation of a library"
    line = linecache.getline(own.filename, own.lineno or 0).strip() or own.line
    return f"line {own.lineno} of {Path(own.filename).name}, `{line}`"
