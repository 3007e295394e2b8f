"""Recurrences as one operation: a loop for the states, a loop for their adjoints, and everything else at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor, nn

from ppl_vae.networks.loops import Function, Loops, TensorKind, trace_loops

SHORT = 24
"""The number of steps from which a cell is traced, which takes half a second; fewer run in a plain loop."""

_OF_CELL: WeakKeyDictionary[nn.Module, dict[Hashable, int | None]] = WeakKeyDictionary()
_LOOPS: dict[int, Loops] = {}
_KEYS = count()
"""The loops of every cell that is alive, traced once for each kind of tensors; operations know them by their keys."""


def recur(cell: Callable[..., Any], state: Tensor, *inputs: Tensor, noise: Tensor | None = None) -> Tensor:
    r"""Return the states of a recurrence after every step.

    .. math:: h_t = f_\theta(h_{t-1}, x_t), \qquad
        \lambda_t = g_t + \Bigl(\frac{\partial h_{t+1}}{\partial h_t}\Bigr)^{\!\top} \lambda_{t+1}, \qquad
        \nabla_\theta = \sum_t \Bigl(\frac{\partial h_t}{\partial \theta}\Bigr)^{\!\top} \lambda_t

    The cell is traced once. Its operations on the way from state to state run in a loop over the steps, forwards; those
    from adjoint to adjoint run in a loop backwards. The gradients of weights and inputs are computed for all steps
    together. In a graph each loop is one operation, whatever the number of steps. A cell that cannot be traced, that
    draws random numbers, or whose rows depend on each other runs in a plain loop.

    Args:
        cell: a module from a state ``(n, S)`` and the inputs of a step, ``(n, ...)`` each, to the next state; or
            another function, which runs in a plain loop.
        state: the state before the first step, ``(n, S)``.
        inputs: the inputs of all steps, ``(T, n, ...)`` each.
        noise: numbers ``(T, n, S)``. If they are given, the cell returns a mean and a standard deviation, and the next
            state is mean + standard deviation * noise.

    Returns:
        Tensor: the states, ``(T, n, S)``.

    Example:
        >>> class Sum(nn.Module):
        ...     def forward(self, total, x):
        ...         return total + x
        >>> recur(Sum(), torch.zeros(1, 1), torch.arange(4.0).reshape(4, 1, 1)).flatten()
        tensor([0., 1., 3., 6.])
    """
    steps = inputs if noise is None else (noise, *inputs)
    if not isinstance(cell, nn.Module) or len(steps[0]) < SHORT:
        return unrolled(cell, state, *inputs, noise=noise)
    own = _Cell(cell, state, steps, noise is not None)
    if (key := own.key()) is None:
        return unrolled(cell, state, *inputs, noise=noise)
    tensors = own.tensors
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return cast(Tensor, _Recurrence.apply(own, key, *tensors))
    return cast(Tensor, torch.ops.ppl_vae.recur(key, False, tensors)[0])


def unrolled(cell: Callable[..., Any], state: Tensor, *inputs: Tensor, noise: Tensor | None = None) -> Tensor:
    """Return what ``recur`` does, from a plain loop that autograd follows step by step."""
    states = []
    for given in zip(*(inputs if noise is None else (noise, *inputs)), strict=True):
        state = _next(cell, state, given, has_noise=noise is not None)
        states.append(state)
    return torch.stack(states)


def _next(cell: Callable[..., Any], state: Tensor, given: Sequence[Tensor], *, has_noise: bool) -> Tensor:
    if not has_noise:
        return cell(state, *given)
    loc, scale = cell(state, *given[1:])
    return loc + scale * given[0]


@runtime_checkable
class WritingStep(Protocol):
    """A step of a loop that can write its outputs to memory that it is given."""

    def examples(self, *inputs: Any) -> Sequence[Tensor]:
        """Return tensors of the shapes and types of the outputs; their numbers do not matter."""

    def write(self, outputs: Sequence[Tensor], *inputs: Any) -> None:
        """Write the outputs to tensors whose rows lie one behind the other."""


class _Cell(NamedTuple):
    """A cell and its tensors."""

    module: nn.Module
    state: Tensor
    steps: tuple[Tensor, ...]
    """The noise, if there is any, and the inputs."""
    has_noise: bool

    @property
    def tensors(self) -> list[Tensor]:
        """State, noise, inputs, parameters and buffers."""
        return [self.state, *self.steps, *self.module.parameters(), *self.module.buffers()]

    def key(self) -> int | None:
        """Return the key of the loops for tensors of these kinds; None if the cell runs in a plain loop."""
        device, num_rows = self.state.device, 1 + len(self.steps)
        rounds_to = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        kinds = tuple(
            TensorKind(tuple(tensor.shape[0 if i >= num_rows else min(i, 1) + 1 :]), tensor.dtype, tensor.device)
            for i, tensor in enumerate(self.tensors)
        )
        signature = (kinds, num_rows, self.has_noise, self.module.training, rounds_to)
        known = _OF_CELL.setdefault(self.module, {})
        if signature not in known:
            with ThreadPoolExecutor(1) as pool:  # where none of the caller's modes acts on the trace
                known[signature] = pool.submit(self._trace, kinds, num_rows, rounds_to).result()
        return known[signature]

    def _trace(self, kinds: Sequence[TensorKind], num_rows: int, rounds_to: torch.dtype | None) -> int | None:
        named = (*self.module.named_parameters(), *self.module.named_buffers())
        names = [name for name, _ in named]

        def step(state: Tensor, *tensors: Tensor) -> Tensor:
            given = dict(zip(names, tensors[num_rows - 1 :], strict=True))

            def called(*args: Tensor) -> Any:
                return torch.func.functional_call(self.module, given, args)

            return _next(called, state, tensors[: num_rows - 1], has_noise=self.has_noise)

        try:
            with torch.autocast(self.state.device.type, rounds_to, enabled=rounds_to is not None):
                loops = trace_loops(step, kinds[:num_rows], kinds[num_rows:])
                if not _agrees(loops, step, kinds, 1e-3 if rounds_to is None else 0.1):
                    return None
        except Exception:  # whatever a cell of one's own does with tensors without numbers
            return None
        key = next(_KEYS)
        _LOOPS[key] = loops
        finalize(self.module, _forget, key)
        return key


def _forget(key: int) -> None:
    for known in (key, ~key):
        _LOOPS.pop(known, None)


def with_steps(key: int, changed: Callable[[Function], Function]) -> int:
    """Return ``~key``, the key of the same loops in which other functions compute the steps.

    Args:
        key: the key of the loops, an argument of the operations ``ppl_vae::recur`` and ``ppl_vae::recur_backward``.
        changed: a function that returns the other function of each, see ``Loops``. It is called once for each key.
    """
    if ~key not in _LOOPS:
        loops = _LOOPS[key]
        forward, saving, backward = map(changed, (loops.forward, loops.saving, loops.backward))
        _LOOPS[~key] = loops._replace(forward=forward, saving=saving, backward=backward)
    return ~key


def steps_of(operation: Any, args: Sequence[Any]) -> int:
    """Return the number of steps of a call of an operation of PyTorch; 1 if it is no recurrence."""
    return len(args[2][1]) if operation is torch.ops.ppl_vae.recur.default else 1


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: _Cell, key: int, *tensors: Tensor) -> Tensor:
        states, *saved = torch.ops.ppl_vae.recur(key, True, list(tensors))
        ctx.cell, ctx.key, ctx.num_tensors = cell, key, len(tensors)
        ctx.save_for_backward(*tensors, states, *saved)
        return states

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        tensors, stored = ctx.saved_tensors[: ctx.num_tensors], ctx.saved_tensors[ctx.num_tensors :]
        wanted = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # a second derivative is wanted, which a plain loop has
            cell, of = ctx.cell, [tensor for tensor, wants in zip(tensors, wanted, strict=True) if wants]
            state, *steps = tensors[: 1 + len(cell.steps)]
            noise = steps.pop(0) if cell.has_noise else None
            states = unrolled(cell.module, state, *steps, noise=noise)
            own = iter(torch.autograd.grad([states], of, above, create_graph=True, allow_unused=True))
            return (None, None, *(next(own) if wants else None for wants in wanted))
        gradients = torch.ops.ppl_vae.recur_backward(ctx.key, above[0], list(tensors), list(stored))
        return (None, None, *(gradient if wants else None for gradient, wants in zip(gradients, wanted, strict=True)))


@torch.library.custom_op("ppl_vae::recur", mutates_args=())
def _recur(key: int, saves: bool, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the states ``(T, n, S)``, and what the way back needs of every step."""
    with torch.no_grad(), torch.autocast(tensors[0].device.type, enabled=False):
        return _run(_LOOPS[key], saves, tensors)


def _run(loops: Loops, saves: bool, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the states and what is saved; every step gets rows of the same strides, which compiled steps rely on."""
    state, num_inputs = tensors[0].contiguous(), loops.num_inputs
    behind = [*loops.fixed(*tensors[1 + num_inputs :]), len(state)]
    outputs = _Outputs(loops.saving if saves else loops.forward, len(tensors[1]))
    inputs = zip(*(tensor.contiguous().unbind() for tensor in tensors[1 : 1 + num_inputs]), strict=True)
    for step, given in enumerate(inputs):
        state = outputs.of_step(step, state, *given, *behind)[0]
    return outputs.of_all_steps()


class _Outputs:
    """The outputs of all steps of a loop. Some steps write them to their places; those of others are stacked."""

    def __init__(self, function: Function, num_steps: int) -> None:
        self.function, self.num_steps = function, num_steps
        self.writing = function if isinstance(function, WritingStep) else None
        self.whole: list[Tensor] = []
        self.rows: list[Sequence[Tensor]] = [()] * num_steps

    def of_step(self, step: int, *inputs: Any) -> Sequence[Tensor]:
        """Run a step, and return its outputs."""
        if self.writing is None:
            self.rows[step] = self.function(*inputs)
            return self.rows[step]
        if not self.whole:
            self.whole = [
                torch.empty(self.num_steps, *example.shape, dtype=example.dtype, device=inputs[0].device)
                for example in self.writing.examples(*inputs)
            ]
            self.rows = list(zip(*(tensor.unbind() for tensor in self.whole), strict=True))
        self.writing.write(self.rows[step], *inputs)
        return self.rows[step]

    def of_all_steps(self) -> list[Tensor]:
        """Return every output of all steps, ``(T, n, ...)``."""
        return self.whole or [torch.stack(rows) for rows in zip(*self.rows, strict=True)]


@_recur.register_fake
def _(key: int, saves: bool, tensors: Sequence[Tensor]) -> list[Tensor]:
    loops = _LOOPS[max(key, ~key)]  # as they were traced: changed ones need numbers
    num_steps, first = len(tensors[1]), [tensor[:1] for tensor in tensors[1 : 1 + loops.num_inputs]]
    of_one_step = _run(loops, saves, [tensors[0], *first, *tensors[1 + len(first) :]])
    return [tensor.new_empty(num_steps, *tensor.shape[1:]) for tensor in of_one_step]


@torch.library.custom_op("ppl_vae::recur_backward", mutates_args=())
def _recur_backward(key: int, above: Tensor, tensors: Sequence[Tensor], stored: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of the tensors, given that of the states; zeros for those that have none."""
    with torch.no_grad(), torch.autocast(above.device.type, enabled=False):
        return _run_back(_LOOPS[key], above, tensors, stored)


def _run_back(loops: Loops, above: Tensor, tensors: Sequence[Tensor], stored: Sequence[Tensor]) -> list[Tensor]:
    inputs, fixed = tensors[1 : 1 + loops.num_inputs], loops.fixed(*tensors[1 + loops.num_inputs :])
    num_steps, num_rows = above.shape[:2]
    rows = [torch.cat([tensors[0][None], stored[0][:-1]]), *(tensor.contiguous() for tensor in (*inputs, *stored))]
    adjoints, outputs = above.clone(memory_format=torch.contiguous_format), _Outputs(loops.backward, num_steps)
    adjoint = torch.zeros_like(adjoints[0])
    every_step = list(enumerate(zip(adjoints.unbind(), *(row.unbind() for row in rows), strict=True)))
    for step, (own, *given) in reversed(every_step):
        own += adjoint
        adjoint = outputs.of_step(step, own, *given, *fixed, num_rows)[0]
    every = [adjoints, *rows, *outputs.of_all_steps()[1:]]
    gradients = loops.gradients(*(row.flatten(0, 1) for row in every), *fixed, num_steps * num_rows)
    return [
        tensor.new_zeros(tensor.shape) if gradient is None else gradient.reshape(tensor.shape).contiguous()
        for tensor, gradient in zip(tensors, [adjoint, *gradients], strict=True)
    ]


@_recur_backward.register_fake
def _(key: int, above: Tensor, tensors: Sequence[Tensor], stored: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in tensors]


def _agrees(loops: Loops, step: Callable[..., Tensor], kinds: Sequence[TensorKind], tolerance: float) -> bool:
    """Check states and gradients of two steps of three rows; those of a cell that mixes its rows are others."""
    tensors = []
    for i, (shape, dtype, device) in enumerate(kinds):
        shape = (*((2, 3) if 0 < i <= loops.num_inputs else (3,) if i == 0 else ()), *shape)
        numbers = (torch.arange(math.prod(shape)) * (1.0 + i)).cos().reshape(shape)
        tensors.append(numbers.to(device, dtype).requires_grad_(dtype.is_floating_point))
    state, inputs, weights = tensors[0], tensors[1 : 1 + loops.num_inputs], tensors[1 + loops.num_inputs :]
    states = []
    for t in range(2):
        state = step(state, *(tensor[t] for tensor in inputs), *weights)
        states.append(state)
    plain, wanted = torch.stack(states), [tensor for tensor in tensors if tensor.requires_grad]
    above = torch.ones_like(plain)
    expected = torch.autograd.grad(plain, wanted, above, allow_unused=True, materialize_grads=True)
    with torch.no_grad(), torch.autocast(above.device.type, enabled=False):
        stored = _run(loops, True, tensors)
        gradients = _run_back(loops, above, tensors, stored)
    ours = [gradient for gradient, tensor in zip(gradients, tensors, strict=True) if tensor.requires_grad]
    return all(
        torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)
        for one, other in zip([stored[0], *ours], [plain, *expected], strict=True)
    )
