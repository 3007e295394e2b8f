"""Compilation of a graph: by Inductor, and on a GPU into a CUDA graph."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from ppl_vae.compile import private
from ppl_vae.compile.collection import without_collection
from ppl_vae.compile.explain import Untraceable
from ppl_vae.compile.graph import Outputs, TensorFunction, Traced, trace
from ppl_vae.errors import reason
from ppl_vae.networks.loops import Function
from ppl_vae.networks.recurrence import with_steps

CUT_SHORT = re.compile(r"(/\S+\.so): (?:file too short|invalid ELF header)")
"""What an error says about a library that is not whole."""
_LOG = logging.getLogger("ppl_vae")
WARM_UP = 3
"""Number of runs before a CUDA graph is captured, in which libraries choose their algorithms."""


class Graph(NamedTuple):
    """A compiled function and the tensors that it uses beside its inputs."""

    run: Callable[[list[Tensor]], Sequence[Tensor]]
    captured: list[Tensor]

    def __call__(self, *inputs: Tensor) -> Outputs:
        """Run the graph: return the outputs of the function, and change in place what the function changes."""
        with torch.no_grad(), private.without_modes():  # they have acted in the trace
            return tuple(self.run([*inputs, *self.captured]))


def compiled(function: TensorFunction, inputs: Sequence[Tensor], module: nn.Module | None = None) -> Graph:
    """Trace and compile a function for inputs of these shapes.

    On a CPU, Inductor compiles the graph to C++. On a GPU, Inductor compiles it if Triton is installed, and it becomes
    a CUDA graph. Random numbers come from the global generator, the same ones as without a graph.

    Args:
        function: the function of the inputs. It may differentiate (``torch.autograd.grad``), and may change other
            tensors than its inputs in place.
        inputs: examples; nothing is computed with their values, and no tensor changes.
        module: the module that the function runs, if there is one. The function may change its tensors in place, but
            may not replace them by others.

    Raises:
        Untraceable: if the function is not a graph of tensor operations, or no compiler is installed.

    Example:
        >>> total = torch.zeros(())
        >>> def add(x):
        ...     total.add_(x.sum())
        ...     return (2 * x,)
        >>> graph = compiled(add, [torch.ones(3)])
        >>> graph(torch.ones(3)), graph(torch.ones(3)), total
        ((tensor([2., 2., 2.]),), (tensor([2., 2., 2.]),), tensor(6.))
    """
    with warnings.catch_warnings(), without_collection():
        warnings.simplefilter("ignore")  # compilers' warnings about their own code
        return _compiled(trace(function, inputs, module), inputs)


def _compiled(traced: Traced, inputs: Sequence[Tensor]) -> Graph:
    example = [tensor.detach() for tensor in (*inputs, *traced.captured)]
    captured = example[len(inputs) :]
    if example and example[0].is_cuda:
        return Graph(_cuda_graph(traced.module, example, len(inputs)), captured)
    _compile_loops(traced.module)
    return Graph(_inductor(traced.module, example), captured)


def _compile_loops(module: fx.GraphModule) -> None:
    """Let the recurrences of a graph run compiled steps; each of them is one operation, in which Inductor sees none."""
    for node in module.graph.nodes:
        if node.target in (torch.ops.ppl_vae.recur.default, torch.ops.ppl_vae.recur_backward.default):
            node.args = (with_steps(node.args[0], _CompiledStep), *node.args[1:])
    module.recompile()  # Inductor's cache knows a graph by its code


class _CompiledStep:
    """A step of a recurrence that writes its outputs, compiled when it first runs with a number of rows."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.known: dict[int, Sequence[Tensor]] = {}
        self.graphs: dict[int, Graph | None] = {}

    def __call__(self, *inputs: Any) -> Sequence[Any]:
        """Return what the function returns, given tensors and the number of rows."""
        return self.function(*inputs)

    def examples(self, *inputs: Any) -> Sequence[Tensor]:
        """See ``WritingStep``."""
        num_rows = inputs[-1]
        if num_rows not in self.known:
            self.known[num_rows] = [output.to("meta") for output in self.function(*inputs)]
        return self.known[num_rows]

    def write(self, outputs: Sequence[Tensor], *inputs: Any) -> None:
        """See ``WritingStep``."""
        *tensors, num_rows = inputs
        if num_rows not in self.graphs:
            self.graphs[num_rows] = self._compiled([*outputs, *tensors], len(outputs), num_rows)
        graph = self.graphs[num_rows]
        if graph is None:
            write_all(outputs, self.function(*inputs))
        else:
            graph.run([*outputs, *tensors, *graph.captured])

    def _compiled(self, tensors: Sequence[Tensor], num_outputs: int, num_rows: int) -> Graph | None:
        def step(*tensors: Tensor) -> Outputs:
            write_all(tensors[:num_outputs], self.function(*tensors[num_outputs:], num_rows))
            return ()

        try:
            return compiled(step, tensors)
        except Untraceable as error:  # then PyTorch runs its operations one by one
            if None not in self.graphs.values():
                _LOG.warning("a step of a recurrence is not compiled, and takes longer: %s", error)
            return None


@torch.no_grad()
def write_all(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into tensors."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _inductor(module: fx.GraphModule, example: list[Tensor]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    try:
        return private.inductor(module, example)
    except Exception as error:
        cut_short = CUT_SHORT.search(str(error))
        if cut_short is None or not Path(cut_short[1]).is_file():
            raise Untraceable(f"Inductor cannot compile it ({reason(error)})") from error
        Path(cut_short[1]).unlink()  # a process was killed while it wrote this library to the cache
        return _inductor(module, example)


def _cuda_graph(
    module: fx.GraphModule, example: list[Tensor], num_inputs: int
) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """Record the kernels of a graph once; each run copies its inputs to where the recording reads them."""
    try:
        run: Callable[[list[Tensor]], Any] = _inductor(module, example)
    except Untraceable:  # without Triton, PyTorch runs one kernel for each operation

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
        private.copy_all(static, tensors[:num_inputs])
        recording.replay()
        return tuple(output.clone() for output in outputs)

    return replay
