"""When a function is run as a graph: where that repays, and for as long as the graph gives what the function gives."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ppl_vae.compile.explain import Untraceable
from ppl_vae.compile.graph import Function, Outputs
from ppl_vae.compile.kernels import Graph, compiled
from ppl_vae.compile.private import untested
from ppl_vae.errors import InputError, nearest

Compile = Literal["auto", "on", "off"]
REPAID_BY = 10.0
"""Seconds to save for which compiling pays: it takes 2 to 8 s, and training may stop early."""
RARE = 10
"""A batch of a size that is so many times rarer than another, such as the last of an epoch, has no graph of its own."""
SAVED = 1e-3
"""Seconds that a step of a small model saves, at least: what Python and Pyro take for it."""
CHECKED = 3
"""First calls of a graph that are compared with the function; later, the 4th, 8th, 16th, ... are."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 0.02}
"""Difference of a graph and its function, relative to its size, that rounding explains: where it turns a rectified unit
on or off, the gradient of a datum changes by one unit's share."""
_LOG = logging.getLogger("ppl_vae")

Key = tuple[str, Hashable, tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]]


class Compiler:
    """Runs functions of tensors, as compiled graphs where that repays and gives the same.

    A graph is made once for each name and each shape, strides and type of the inputs. Its first calls, and then ever
    fewer, are compared with the function itself, from the same state and random numbers. Where they differ, or where a
    function is no graph, it is run by Python from there on, and one line says why.

    Args:
        mode: "on" makes a graph of everything but for rare sizes of a batch; "auto" of what is planned to be called
            often; "off" of nothing.
        visits: how often a batch of so many rows is planned to be visited.
        tolerance: relative difference that rounding explains; by default that of the outputs' precision.
        say: takes the lines; the logger ``ppl_vae`` by default.

    Raises:
        InputError: an unknown mode.

    Example:
        >>> compiler, weight = Compiler("on"), torch.ones(3)
        >>> def scaled(x):
        ...     return (weight * x,)
        >>> compiler("scaled", scaled, [torch.arange(3.0)])
        (tensor([0., 1., 2.]),)
        >>> weight.mul_(2), compiler("scaled", scaled, [torch.arange(3.0)])[0]  # what it refers to is read anew
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
        self.plan(visits or {})
        self._known: dict[Key, _Counted] = {}
        self._refused: set[str] = set()

    @property
    def graphs(self) -> set[str]:
        """Names of the functions that are run as graphs."""
        return {name for name, *_ in self._known} - self._refused

    def plan(self, visits: Mapping[int, int]) -> None:
        """Batches of so many rows will be visited so often."""
        for rows, times in visits.items():
            self.visits[rows] = max(times, self.visits.get(rows, 0))

    def repays(self, rows: int, times: int = 1, saves: float = SAVED) -> bool:
        """Whether a function is compiled: see ``__call__``. It depends on no clock: a run repeated is the same run."""
        visits = self.visits.get(rows, 0)
        if self.mode == "on":
            return rows not in self.visits or RARE * visits >= max(self.visits.values())
        return self.mode == "auto" and visits * times * saves >= REPAID_BY

    def choice(self, rows: int, times: int = 1) -> str:
        """What was chosen for steps that each visit of so many rows takes so often, as the end of a sentence."""
        planned = f"{self.visits.get(rows, 0) * times:,} of them are planned"
        if self.mode == "auto":
            return f"compiled, as {planned}" if self.repays(rows, times) else f"not compiled, as only {planned}"
        return "compiled" if self.mode == "on" else "not compiled"

    def refuse(self, name: str, why: str) -> None:
        """Say once why a function is run by Python, where it was to be compiled."""
        if name not in self._refused and self.mode != "off":
            self._refused.add(name)
            self.say(f"{name} is not compiled: {why}")

    def __call__(
        self,
        name: str,
        function: Function,
        inputs: Sequence[Tensor],
        *,
        eager: Function | None = None,
        compared: Collection[Tensor] = (),
        module: nn.Module | None = None,
        static: Hashable = None,
        times: int = 1,
        saves: float = SAVED,
    ) -> Outputs:
        """``function(*inputs)``.

        Args:
            name: of the function, in messages. Under one name it refers to the same tensors in every call.
            function: see :func:`~ppl_vae.compile.kernels.compiled`.
            inputs: the last is a batch's tensor, whose rows tell how often it is visited.
            eager: what does the same faster by Python.
            compared: tensors which the function changes, linear in what it computes, such as a mean of gradients: they
                are compared beside the outputs.
            module: what the function runs.
            static: what the function depends on beside tensors, such as a number of draws.
            times: calls for each visit of a batch.
            saves: seconds that a graph saves in each, about.
        """
        # A graph reads its inputs where they lay in memory when it was made.
        key = (name, static, tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in inputs))
        graph = self._known.get(key)
        if graph is None and name not in self._refused and self.repays(len(inputs[-1]), times, saves):
            graph = self._make(key, function, inputs, module)
        if graph is None or name in self._refused:
            return (eager or function)(*inputs)
        graph.calls += 1
        if graph.calls > CHECKED and graph.calls & (graph.calls - 1):
            return graph.run(*inputs)
        return self._checked(name, graph, eager or function, inputs, compared)

    def _checked(
        self, name: str, graph: _Counted, function: Function, inputs: Sequence[Tensor], compared: Collection[Tensor]
    ) -> Outputs:
        """A call of both from the same state; what the graph does stands, unless it is too far off."""
        changed = [*compared, *graph.run.captured]
        before = _copies(changed)
        with torch.random.fork_rng([inputs[-1].device] if inputs[-1].is_cuda else []):
            outputs = graph.run(*inputs)
        left = _copies(changed)
        _write(changed, before)
        expected = function(*inputs)
        steps = [(mine - old, own - old) for mine, old, own in zip(left, before, compared, strict=False)]
        off = max(_difference([pair]) for pair in zip(outputs, expected, strict=True))
        off = max(off, _difference(steps))
        if off <= (self.tolerance or max(TOLERANCE.get(output.dtype, 0.1) for output in outputs)):
            _write(changed, left)
            return outputs
        self.refuse(
            name,
            f"in call {graph.calls} its graph was off by {off:.1g} of the result, so that it depends on something "
            "beside its tensors, such as a number that Python counts",
        )
        return expected

    def _make(
        self, key: Key, function: Function, inputs: Sequence[Tensor], module: nn.Module | None
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
    """A graph, and how often it has been called."""

    run: Graph
    calls: int = 0


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def _write(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _difference(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The largest difference of some tensors from those expected, in norm and relative to theirs.

    One that is a thousandth of the largest, or less, is compared with that: it may be zero but for rounding.
    """
    sizes = [_norm(expected) for _, expected in pairs]
    floor = 1e-3 * max(sizes, default=0.0)
    if not all(torch.equal(mine.isfinite(), expected.isfinite()) for mine, expected in pairs):
        return math.inf
    found = [_norm(mine - expected) for mine, expected in pairs]
    return max((off / (size + floor) if off else 0.0 for off, size in zip(found, sizes, strict=True)), default=0.0)


def _norm(tensor: Tensor) -> float:
    """In double precision; minus infinity less itself counts as nothing."""
    return float(tensor.double().nan_to_num(0.0, 0.0, 0.0).norm())
