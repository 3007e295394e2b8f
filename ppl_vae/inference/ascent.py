"""Steps of an optimiser up an objective in theta and phi: as one graph, after a graph of the gradient, or in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ppl_vae.compile.compiler import Compiler
from ppl_vae.compile.graph import Outputs
from ppl_vae.inference.adam import CLEARED_EVERY, AdamState, Rates, adam, clear_tiny, without_tiny
from ppl_vae.inference.optimizers import in_graphs
from ppl_vae.parallel import ALONE, Ranks

Objective = Callable[..., "Tensor | tuple[Tensor, Tensor]"]
"""A function of a batch's tensors. It returns the scalar to ascend, or the scalars to report and to ascend."""
TABLE = 1024
"""Number of steps whose rates are computed at once, so that a device need not wait for each of them."""


class Adam(NamedTuple):
    """The state of a ``torch.optim.Adam`` or ``AdamW``, to which ``adam`` can be applied in place."""

    parameters: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    counts: list[Tensor]
    betas: tuple[float, float]
    epsilon: float
    decays: list[float]
    """The weight decay of each parameter."""
    decoupled: bool
    """True if the parameter itself decays, as in AdamW; else the decay is a part of the gradient."""

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> Adam | None:
        """Return the state of an optimiser, which is made if it has none; None if no graph can contain its steps."""
        if not in_graphs(optimizer):
            return None
        begin(optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        decays = [group["weight_decay"] for group in optimizer.param_groups for _ in group["params"]]
        states, first = [optimizer.state[parameter] for parameter in parameters], optimizer.param_groups[0]
        means, squares, counts = ([state[k] for state in states] for k in ("exp_avg", "exp_avg_sq", "step"))
        decoupled = first.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
        return cls(parameters, means, squares, counts, first["betas"], first["eps"], decays, decoupled)

    def rates(self, learning_rate: float, taken: int) -> Tensor:
        """Return the rates of the next steps, ``(TABLE, 3)``, on the parameters' device; the last is uncorrected."""
        steps, (first, second) = np.arange(taken + 1, taken + 1 + TABLE), self.betas
        rates = np.stack(
            [learning_rate / (1 - first**steps), (1 - second**steps) ** -0.5, np.full(TABLE, learning_rate)], -1
        )
        return torch.as_tensor(rates, dtype=self.parameters[0].dtype).to(self.parameters[0].device)

    @torch.no_grad()
    def step(self, gradients: list[Tensor] | tuple[Tensor, ...], rates: Tensor) -> None:
        """Take a step down the gradients in place, at rates ``(3,)``."""
        of_step = Rates(1 - self.betas[0], 1 - self.betas[1], rates[0], rates[1])
        for parameter, mean, square, decay, gradient in zip(
            self.parameters, self.means, self.squares, self.decays, gradients, strict=True
        ):
            if decay and self.decoupled:
                parameter.mul_(1 - decay * rates[2])
            elif decay:
                gradient = gradient + decay * parameter
            moments, step = adam(AdamState(mean, square), gradient, of_step, self.epsilon)
            mean.copy_(without_tiny(moments.mean))
            square.copy_(without_tiny(moments.square, 2))
            parameter.copy_(without_tiny(parameter - step) if decay else parameter - step)
        for count in self.counts:
            count.add_(1)


def begin(optimizer: torch.optim.Optimizer) -> None:
    """Give an Adam the state of zero steps, which otherwise its first step would make."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not optimizer.state[parameter]:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }


class Ascent:
    """An ascent of an objective by an optimiser's steps, one step for each call.

    Every stretch needs a new object, because the learning rate is read at the first call.

    Args:
        name: name of the step in messages.
        optimizer: an optimiser of the parameters.
        compiler: a compiler that makes a graph of the whole step, from the objective to the new parameters, of a plain
            ``torch.optim.Adam`` or ``AdamW``. For another optimiser the graph ends with the gradient, and its step runs
            in Python. By default all of it runs in Python.
        module: the module that the objective runs.
        clip_norm: largest norm of the gradient over all parameters together. A larger gradient is scaled down to it.
            None never scales.
        ranks: the processes that take every step together, each with its own part of the batch. Their gradients are
            reduced between two graphs, so that a graph that one of them lacks stops no other.
        num_parts: number of parts of a batch whose gradients are computed one after the other and added.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(3))
        >>> ascend = Ascent("step", torch.optim.Adam([weight], lr=0.1))
        >>> for _ in range(200):
        ...     value = ascend(lambda x: -(weight - x).square().sum(), torch.arange(3.0))
        >>> weight.detach().round(decimals=2)
        tensor([0., 1., 2.])
    """

    def __init__(
        self,
        name: str,
        optimizer: torch.optim.Optimizer,
        compiler: Compiler | None = None,
        *,
        module: nn.Module | None = None,
        clip_norm: float | None = None,
        ranks: Ranks = ALONE,
        num_parts: int = 1,
    ) -> None:
        self.name, self.optimizer, self.module, self.clip_norm = name, optimizer, module, clip_norm
        self.ranks, self.num_parts = ranks, num_parts
        self.compiler = compiler or Compiler("off")
        is_compiled = self.compiler.mode != "off"
        self.adam = Adam.of(optimizer) if is_compiled else None
        self._steps_in_python = 0
        self.in_two = ranks.size > 1 or num_parts > 1 or (is_compiled and self.adam is None)
        if self.adam is not None:
            self._taken = int(self.adam.counts[0])
            self._table = torch.empty(0)

    def __call__(self, objective: Objective, *inputs: Tensor) -> Tensor:
        """Take a step up the objective of a batch, and return its value before the step, detached.

        With several processes, the objective is the mean over their data, and so is the value. The last input is a
        tensor of the batch, with a row for each datum.
        """
        if self.in_two:
            return self._in_two(objective, inputs)
        if self.adam is None:
            return self._in_python(objective, inputs)[0]
        (value,) = self.compiler(
            self.name,
            lambda rates, *batch: self._as_graph(objective, rates, batch),
            (self._next_rates(self.adam), *inputs),
            eager=lambda rates, *batch: self._in_python(objective, batch),
            compared=self.adam.means,
            module=self.module,
        )
        return value

    def _next_rates(self, adam: Adam) -> Tensor:
        number = self._taken % TABLE
        if number == 0 or not len(self._table):
            self._table = adam.rates(self.optimizer.param_groups[0]["lr"], self._taken - number)
        self._taken += 1
        return self._table[number]

    @property
    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _as_graph(self, objective: Objective, rates: Tensor, inputs: tuple[Tensor, ...]) -> Outputs:
        assert self.adam is not None
        value, gradients = value_and_gradient(objective, inputs, self.adam.parameters)
        self._update(self.adam, gradients, rates)
        return (value,)

    def _update(self, adam: Adam, gradients: list[Tensor], rates: Tensor) -> None:
        if self.clip_norm is not None:
            norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
            share = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            gradients = [gradient * share for gradient in gradients]
        adam.step([-gradient for gradient in gradients], rates)

    def _in_python(self, objective: Objective, inputs: tuple[Tensor, ...]) -> Outputs:
        value, ascended = _pair(objective(*inputs))
        self.optimizer.zero_grad()
        if ascended.requires_grad:
            (-ascended).backward()
        self._update_in_python()
        return (value.detach(),)

    def _update_in_python(self) -> None:
        parameters = self._parameters
        for parameter in parameters:  # a guide that takes no part has a state in the optimiser as well
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.optimizer.step()
        if self._steps_in_python % CLEARED_EVERY == 0:
            states = [state for parameter in parameters for state in self.optimizer.state[parameter].values()]
            clear_tiny([*parameters, *(state for state in states if isinstance(state, Tensor))])
        self._steps_in_python += 1

    def _in_two(self, objective: Objective, inputs: tuple[Tensor, ...]) -> Tensor:
        """Take a step of which the gradient and the update are two functions."""
        parameters, rows = self._parameters, len(inputs[-1])
        parts = parts_of(inputs, self.num_parts)
        flat: Tensor | None = None
        for part in parts:
            (gradient,) = self.compiler(
                f"the gradient of {self.name}",
                lambda *batch: (flat_gradient(objective, batch, parameters),),
                part,
                module=self.module,
                times=len(parts),
                rows=rows,
            )
            flat = gradient if flat is None else flat + gradient
        assert flat is not None
        self.ranks.sum_(flat)
        if self.adam is None:
            return self._update_by_flat(flat)[0]
        (value,) = self.compiler(
            f"the update after {self.name}",
            lambda rates, flat: self._update_as_graph(rates, flat),
            (self._next_rates(self.adam), flat),
            eager=lambda _, flat: self._update_by_flat(flat),
            compared=self.adam.means,
            rows=rows,
        )
        return value

    def _update_as_graph(self, rates: Tensor, flat: Tensor) -> Outputs:
        assert self.adam is not None
        value, gradients = unflatten(flat, self.adam.parameters)
        self._update(self.adam, gradients, rates)
        return (value,)

    def _update_by_flat(self, flat: Tensor) -> Outputs:
        value, gradients = unflatten(flat, self._parameters)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = -gradient
        self._update_in_python()
        return (value,)


def parts_of(inputs: tuple[Tensor, ...], num_parts: int) -> list[tuple[Tensor, ...]]:
    """Return the parts of a batch, of sizes that differ by one at most; there are not more of them than rows.

    Example:
        >>> [len(part[0]) for part in parts_of((torch.zeros(7, 2),), 3)]
        [3, 2, 2]
    """
    if num_parts == 1:
        return [inputs]
    return list(zip(*(tensor.tensor_split(min(num_parts, len(tensor))) for tensor in inputs), strict=True))


def value_and_gradient(
    objective: Objective, inputs: tuple[Tensor, ...], parameters: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return an objective's value, and the gradient of what is ascended in each parameter."""
    value, ascended = _pair(objective(*inputs))
    if not ascended.requires_grad:
        return value.detach(), [torch.zeros_like(parameter) for parameter in parameters]
    gradients = torch.autograd.grad(ascended, parameters, allow_unused=True, materialize_grads=True)
    return value.detach(), list(gradients)


def flat_gradient(objective: Objective, inputs: tuple[Tensor, ...], parameters: list[Tensor]) -> Tensor:
    r"""Return a gradient and the objective's value as one tensor, whose sum over parts of a batch is that of the batch.

    .. math:: \bigl(n\, \nabla \mathcal L,\ n\, \mathcal L,\ n\bigr)

    Args:
        objective: the objective, a mean over the data of a batch.
        inputs: its inputs; the last one has a row for each of the n data.
        parameters: what it is differentiated in.

    Example:
        >>> weight, x = torch.nn.Parameter(torch.ones(2)), torch.arange(6.0).reshape(3, 2)
        >>> parts = [flat_gradient(lambda x: (x @ weight).mean(), (part,), [weight]) for part in (x[:1], x[1:])]
        >>> value, (gradient,) = unflatten(sum(parts), [weight])
        >>> value, gradient
        (tensor(5.), tensor([2., 3.]))
    """
    value, gradients = value_and_gradient(objective, inputs, parameters)
    parts = [gradient.reshape(-1) for gradient in gradients]
    return torch.cat([*parts, value.reshape(1), torch.ones_like(value).reshape(1)]) * len(inputs[-1])


def unflatten(flat: Tensor, parameters: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the value and the gradients from a sum of ``flat_gradient`` over the parts of a batch."""
    *parts, value, number = flat.split([*(parameter.numel() for parameter in parameters), 1, 1])
    gradients = [
        (part / number).view_as(parameter).to(parameter.dtype)
        for part, parameter in zip(parts, parameters, strict=True)
    ]
    return (value / number).reshape(()), gradients


def _pair(value: Any) -> tuple[Tensor, Tensor]:
    return value if isinstance(value, tuple) else (value, value)
