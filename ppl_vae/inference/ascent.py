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
    ) -> None:
        self.name, self.optimizer, self.module, self.clip_norm = name, optimizer, module, clip_norm
        self.compiler = compiler or Compiler("off")
        self.adam = Adam.of(optimizer) if self.compiler.mode != "off" else None
        if self.adam is None:
            self.compiler.refuse(name, f"{type(optimizer).__name__} is not the Adam that a graph has")
        else:
            self._taken = int(self.adam.counts[0])
            self._table = torch.empty(0)

    def __call__(self, objective: Objective, *inputs: Tensor) -> Tensor:
        """Take a step up the objective of a batch, and return its value before the step, detached."""
        if self.adam is None:
            return self._in_python(objective, inputs)[0]
        number = self._taken % TABLE
        if number == 0 or not len(self._table):
            self._table = self.adam.rates(self.optimizer.param_groups[0]["lr"], self._taken - number)
        self._taken += 1
        (value,) = self.compiler(
            self.name,
            lambda rates, *batch: self._as_graph(objective, rates, batch),
            (self._table[number], *inputs),
            eager=lambda rates, *batch: self._in_python(objective, batch),
            compared=self.adam.means,
            module=self.module,
        )
        return value

    def _as_graph(self, objective: Objective, rates: Tensor, inputs: tuple[Tensor, ...]) -> Outputs:
        assert self.adam is not None
        value, gradients = value_and_gradient(objective, inputs, self.adam.parameters)
        if self.clip_norm is not None:
            norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
            share = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            gradients = [gradient * share for gradient in gradients]
        self.adam.step([-gradient for gradient in gradients], rates)
        return (value,)

    def _in_python(self, objective: Objective, inputs: tuple[Tensor, ...]) -> Outputs:
        value, ascended = _pair(objective(*inputs))
        self.optimizer.zero_grad()
        if ascended.requires_grad:
            (-ascended).backward()
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for parameter in parameters:  # a guide that takes no part has a state in the optimiser as well
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.optimizer.step()
        return (value.detach(),)


def value_and_gradient(
    objective: Objective, inputs: tuple[Tensor, ...], parameters: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return an objective's value, and the gradient of what is ascended in each parameter.

    This is separate from the update, so that data-parallel training can reduce the gradient between the two.
    """
    value, ascended = _pair(objective(*inputs))
    if not ascended.requires_grad:
        return value.detach(), [torch.zeros_like(parameter) for parameter in parameters]
    gradients = torch.autograd.grad(ascended, parameters, allow_unused=True, materialize_grads=True)
    return value.detach(), list(gradients)


def _pair(value: Any) -> tuple[Tensor, Tensor]:
    return value if isinstance(value, tuple) else (value, value)
