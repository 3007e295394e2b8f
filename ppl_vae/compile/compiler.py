"""The compiler: runs functions as graphs if that saves time, as long as a graph gives what its function gives."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ppl_vae.compile.explain import Untraceable
from ppl_vae.compile.graph import Outputs, TensorFunction
from ppl_vae.compile.kernels import Graph, compiled, write_all
from ppl_vae.compile.private import untested
from ppl_vae.compile.work import WorkCount
from ppl_vae.display.bars import doing
from ppl_vae.errors import InputError, nearest

Compile = Literal["auto", "on", "off"]
REPAID_BY = 8.0
"""Seconds that a graph has to save before it is compiled: that takes 2 to 5 s, and training may stop early."""
RARE = 10
"""Ratio of visits from which a size of batch has no graph: the last batch of an epoch is that much rarer."""
SAVED = 1e-3
"""Seconds that a graph saves in a call if nothing is known about the work of its program."""
CHECKED = 3
"""Number of first calls of a graph that are compared with the function; later the 4th, 8th, 16th, ... are."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 0.02}
"""Relative difference between a graph and its function that rounding explains: if it turns a rectified unit on or off,
the gradient of a datum changes by the share of one unit."""
_LOG = logging.getLogger("ppl_vae")

GraphKey = tuple[str, Hashable, tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]]


class Compiler:
    """A caller of functions of tensors, which runs them as compiled graphs if that saves time and changes nothing.

    A graph is made once for each name and for each shape, strides and type of the inputs. Its first calls, and later
    fewer and fewer, are compared with the function, from the same state and random numbers. If they differ, or if the
    function cannot be traced, it runs in Python from then on, and one line reports why. So it does with a version of
    PyTorch that is newer than the last that was tested.

    Args:
        mode: "on" compiles everything, except for rare sizes of a batch; "auto" what is planned to be called often;
            "off" nothing.
        visits: planned number of visits, by the number of rows of a batch.
        tolerance: relative difference that rounding explains; by default it depends on the precision of the outputs.
        say: function that takes the lines; by default the logger ``ppl_vae``.

    Raises:
        InputError: if the mode is unknown.

    Example:
        >>> compiler, weight = Compiler("on"), torch.ones(3)
        >>> def scaled(x):
        ...     return (weight * x,)
        >>> compiler("scaled", scaled, [torch.arange(3.0)])
        (tensor([0., 1., 2.]),)
        >>> weight.mul_(2), compiler("scaled", scaled, [torch.arange(3.0)])[0]  # the weight is read anew
        (tensor([2., 2., 2.]), tensor([0., 2., 4.]))
    """

    def __init__(
        self,
        mode: Compile = "off",
        visits: Mapping[int, int] | None = None,
        *,
        tolerance: float | None = None,
        say: Callable[[str], None] = _LOG.warning,
    ) -> None:
        if mode not in get_args(Compile):
            raise InputError(f"compile={mode!r} is unknown; {nearest(str(mode), get_args(Compile))}")
        self.mode, self.tolerance, self.say = mode, tolerance, say
        if mode != "off" and (why := untested()):
            self.mode = "off"
            say(f"nothing is compiled: {why}")
        self.visits: dict[int, int] = {}
        self._saved: dict[int, float] = {}
        self.plan(visits or {})
        self._known: dict[GraphKey, _Counted] = {}
        self._refused: set[str] = set()

    @property
    def graphs(self) -> set[str]:
        """Names of the functions that run as graphs."""
        return {name for name, *_ in self._known} - self._refused

    def plan(self, visits: Mapping[int, int]) -> None:
        """Add planned visits: the number of visits, by the number of rows of a batch."""
        for rows, times in visits.items():
            self.visits[rows] = max(times, self.visits.get(rows, 0))

    def weigh(self, rows: int, work: WorkCount) -> None:
        """Take note of the work of a run of the program on a batch of this size, which says what a graph saves."""
        self._saved[rows] = work.saved

    def repays(self, rows: int, times: int = 1, saves: float | None = None) -> bool:
        """Return True if a function is compiled, see ``__call__``. No clock decides, so that a run can be repeated."""
        visits = self.visits.get(rows, 0)
        if saves is None:
            saves = self._saved.get(rows, SAVED)
        if self.mode == "on":
            return rows not in self.visits or RARE * visits >= max(self.visits.values())
        return self.mode == "auto" and visits * times * saves >= REPAID_BY

    def choice(self, rows: int, times: int = 1) -> str:
        """Describe the choice for a batch of this size and this number of calls a visit, as the end of a sentence."""
        planned = f"{self.visits.get(rows, 0) * times:,}"
        if self.mode == "auto":
            repays = self.repays(rows, times)
            return f"compiled: {planned} repay it" if repays else f"not compiled: {planned} are too few to repay it"
        return "compiled" if self.mode == "on" else "not compiled"

    def refuse(self, name: str, why: str) -> None:
        """Report once why a function that was to be compiled runs in Python."""
        if name not in self._refused and self.mode != "off":
            self._refused.add(name)
            self.say(f"{name} is not compiled: {why}")

    def __call__(
        self,
        name: str,
        function: TensorFunction,
        inputs: Sequence[Tensor],
        *,
        eager: TensorFunction | None = None,
        compared: Collection[Tensor] = (),
        module: nn.Module | None = None,
        static: Hashable = None,
        times: int = 1,
        saves: float | None = None,
        rows: int | None = None,
    ) -> Outputs:
        """Return ``function(*inputs)``.

        Args:
            name: name of the function, in messages. Under one name it uses the same tensors in every call.
            function: the function, see :func:`~ppl_vae.compile.kernels.compiled`.
            inputs: its inputs; the last is a tensor of a batch, whose number of rows decides about the planned visits.
            eager: function that does the same faster in Python, if there is one.
            compared: tensors that the function changes and that are linear in what it computes, such as a mean of
                gradients; they are compared beside the outputs.
            module: the module that the function runs, if there is one.
            static: the values other than tensors on which the function depends, such as a number of draws.
            times: number of calls for each visit of a batch.
            saves: seconds that a graph saves in each call, roughly; by default those that follow from the work of the
                program, see ``weigh``.
            rows: the number of rows that decides, if the last input is no tensor of a batch.
        """
        # A graph relies on the strides of the inputs with which it was made.
        key = (name, static, tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in inputs))
        graph = self._known.get(key)
        if (
            graph is None
            and name not in self._refused
            and self.repays(len(inputs[-1]) if rows is None else rows, times, saves)
        ):
            with doing(f"compiling {name}"):
                graph = self._make(key, function, inputs, module)
        if graph is None or name in self._refused:
            return (eager or function)(*inputs)
        graph.calls += 1
        if graph.calls > CHECKED and graph.calls & (graph.calls - 1):
            return graph.run(*inputs)
        with doing(f"compiling {name}"):  # in its first call
            return self._checked(name, graph, eager or function, inputs, compared)

    def _checked(
        self,
        name: str,
        graph: _Counted,
        function: TensorFunction,
        inputs: Sequence[Tensor],
        compared: Collection[Tensor],
    ) -> Outputs:
        """Call both from the same state, and keep what the graph does, unless it is too far off."""
        changed = [*compared, *graph.run.captured]
        before = _copies(changed)
        with torch.random.fork_rng([inputs[-1].device] if inputs[-1].is_cuda else []):
            outputs = graph.run(*inputs)
        after = _copies(changed)
        write_all(changed, before)
        expected = function(*inputs)
        changes = [(new - old, right - old) for new, old, right in zip(after, before, compared, strict=False)]
        off = max(_difference(changes), *(_difference([pair]) for pair in zip(outputs, expected, strict=True)))
        if off <= (self.tolerance or max(TOLERANCE.get(output.dtype, 0.1) for output in outputs)):
            write_all(changed, after)
            return outputs
        self.refuse(
            name,
            f"in call {graph.calls} its graph was off by {off:.1g} of the result, so that it depends on something "
            "beside its tensors, such as a number that Python counts",
        )
        return expected

    def _make(
        self, key: GraphKey, function: TensorFunction, inputs: Sequence[Tensor], module: nn.Module | None
    ) -> _Counted | None:
        name = key[0]
        try:
            self._known[key] = _Counted(compiled(function, inputs, module))
        except Untraceable as error:
            self.refuse(name, str(error))
            return None
        return self._known[key]


@dataclass
class _Counted:
    """A graph, with the number of its calls."""

    run: Graph
    calls: int = 0


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _difference(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return the largest relative difference between tensors and those that are expected, in norm.

    A tensor of at most a thousandth of the largest norm is compared with that thousandth: it may be zero but for
    rounding.
    """
    sizes = [_norm(expected) for _, expected in pairs]
    floor = 1e-3 * max(sizes, default=0.0)
    if not all(torch.equal(actual.isfinite(), expected.isfinite()) for actual, expected in pairs):
        return math.inf
    errors = [_norm(actual - expected) for actual, expected in pairs]
    return max(
        (error / (size + floor) if error else 0.0 for error, size in zip(errors, sizes, strict=True)), default=0.0
    )


def _norm(tensor: Tensor) -> float:
    """Return the norm in double precision; what is not finite counts as zero."""
    return float(tensor.double().nan_to_num(0.0, 0.0, 0.0).norm())
