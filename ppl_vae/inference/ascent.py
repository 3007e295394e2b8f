"""Steps of Adam up an objective in theta and phi, as one graph or in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ppl_vae.compile.compiler import Compiler
from ppl_vae.compile.graph import Outputs
from ppl_vae.inference.adam import AdamState, Rates, adam
from ppl_vae.parallel import ALONE, Ranks

Objective = Callable[..., "Tensor | tuple[Tensor, Tensor]"]
"""A function of a batch's tensors. It returns the scalar to ascend, or the scalars to report and to ascend."""
TABLE = 1024
"""Number of steps whose rates are computed at once, so that a device need not wait for each of them."""


class Adam(NamedTuple):
    """The state of a ``torch.optim.Adam``, to which ``adam`` can be applied in place."""

    parameters: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    counts: list[Tensor]
    betas: tuple[float, float]
    epsilon: float

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> Adam | None:
        """Return the state of an optimiser, which is made if it has none; None if the optimiser is not a plain Adam."""
        groups = optimizer.param_groups
        if type(optimizer) is not torch.optim.Adam or len(groups) > 1:
            return None
        (group,) = groups
        if group["weight_decay"] or group["amsgrad"] or group["maximize"]:
            return None
        begin(optimizer)
        states = [optimizer.state[parameter] for parameter in group["params"]]
        means, squares, counts = ([state[k] for state in states] for k in ("exp_avg", "exp_avg_sq", "step"))
        return cls(list(group["params"]), means, squares, counts, group["betas"], group["eps"])

    def rates(self, learning_rate: float, taken: int) -> Tensor:
        """Return the rates of the next steps, ``(TABLE, 2)``, on the parameters' device."""
        steps, (first, second) = np.arange(taken + 1, taken + 1 + TABLE), self.betas
        rates = np.stack([learning_rate / (1 - first**steps), (1 - second**steps) ** -0.5], -1)
        return torch.as_tensor(rates, dtype=self.parameters[0].dtype).to(self.parameters[0].device)

    @torch.no_grad()
    def step(self, gradients: list[Tensor] | tuple[Tensor, ...], rates: Tensor) -> None:
        """Take a step down the gradients in place, at rates ``(2,)``."""
        of_step = Rates(1 - self.betas[0], 1 - self.betas[1], rates[0], rates[1])
        for parameter, mean, square, gradient in zip(self.parameters, self.means, self.squares, gradients, strict=True):
            moments, step = adam(AdamState(mean, square), gradient, of_step, self.epsilon)
            mean.copy_(moments.mean)
            square.copy_(moments.square)
            parameter.sub_(step)
        for count in self.counts:
            count.add_(1)


def begin(optimizer: torch.optim.Optimizer) -> None:
    """Give an Adam the state of zero steps, which its first step would make otherwise."""
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

    Every epoch needs a new object, because the learning rate is read at the first call.

    Args:
        name: name of the step in messages.
        optimizer: an optimiser of the parameters.
        compiler: a compiler that makes a graph of the whole step, from the objective to the new parameters. It needs a
            ``torch.optim.Adam``. By default the step runs in Python.
        module: the module that the objective runs.
        clip_norm: largest norm of the gradient over all parameters together. A larger gradient is scaled down to it.
            None never scales.
        ranks: the processes that take every step together, each with its own part of the batch. Their gradients are
            reduced between two graphs, so that a graph that one of them lacks stops no other.

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
    ) -> None:
        self.name, self.optimizer, self.module, self.clip_norm = name, optimizer, module, clip_norm
        self.ranks = ranks
        self.compiler = compiler or Compiler("off")
        self.adam = Adam.of(optimizer) if self.compiler.mode != "off" else None
        if self.adam is None:
            self.compiler.refuse(name, f"{type(optimizer).__name__} is not the Adam that a graph has")
        else:
            self._taken = int(self.adam.counts[0])
            self._table = torch.empty(0)

    def __call__(self, objective: Objective, *inputs: Tensor) -> Tensor:
        """Take a step up the objective of a batch, and return its value before the step, detached.

        With several processes, the objective is the mean over their data, and so is the value. The last input is a
        tensor of the batch, with a row for each datum.
        """
        if self.ranks.size > 1:
            return self._together(objective, inputs)
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

    def _together(self, objective: Objective, inputs: tuple[Tensor, ...]) -> Tensor:
        parameters, rows = self._parameters, len(inputs[-1])
        (flat,) = self.compiler(
            f"the gradient of {self.name}",
            lambda *batch: (flat_gradient(objective, batch, parameters),),
            inputs,
            module=self.module,
        )
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
    """Return the value and the gradients of a sum of ``flat_gradient`` over the parts of a batch."""
    *parts, value, number = flat.split([*(parameter.numel() for parameter in parameters), 1, 1])
    gradients = [
        (part / number).view_as(parameter).to(parameter.dtype)
        for part, parameter in zip(parts, parameters, strict=True)
    ]
    return (value / number).reshape(()), gradients


def _pair(value: Any) -> tuple[Tensor, Tensor]:
    return value if isinstance(value, tuple) else (value, value)
