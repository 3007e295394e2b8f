"""Averages of parameters over the steps of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.inference.adam import CLEARED_EVERY, clear_tiny
from ppl_vae.parallel import Ranks
from ppl_vae.program import BoundProgram


class Average:
    r"""Exponential moving averages of parameters over the steps of training.

    .. math:: \bar\theta_t = d_t\, \bar\theta_{t-1} + (1 - d_t)\, \theta_t, \qquad
        d_t = \min\Bigl(d, \frac{t}{t + 9}\Bigr)

    The decay of the first steps is smaller, so that the initial parameters lose their weight.

    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging (1992), who average all iterates
    with equal weights; here the weights decay.

    Args:
        parameters: the leaf tensors, by name.
        decay: d.

    Example:
        >>> weight = torch.zeros(1)
        >>> average = Average({"weight": weight}, decay=0.5)
        >>> for value in (1.0, 2.0, 3.0):
        ...     weight = weight.fill_(value)
        ...     average.update()
        >>> with average.in_place():
        ...     print(weight)
        tensor([2.8000])
        >>> weight
        tensor([3.])
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.parameters, self.decay = dict(parameters), decay
        self.averages = {name: tensor.detach().clone() for name, tensor in parameters.items()}
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages with the parameters after a step."""
        decay = min(self.decay, self.steps / (self.steps + 9))
        self.steps += 1
        for name, average in self.averages.items():
            average.lerp_(self.parameters[name], 1 - decay)
        if self.steps % CLEARED_EVERY == 0:
            clear_tiny(self.averages.values())

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the parameters by their averages inside the context."""
        own = {name: tensor.detach().clone() for name, tensor in self.parameters.items()}
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self.parameters.items():
            tensor.copy_(values[name])

    def state(self) -> dict[str, Tensor]:
        """Return the tensors from which ``load_state`` restores the averages."""
        return {**self.averages, "_steps": torch.tensor(self.steps)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the averages from a ``state``.

        Raises:
            InputError: the state belongs to a training without averages.
        """
        if state.keys() != self.state().keys():
            raise InputError(
                "the checkpoint has no averages of the parameters: resume without ema_decay, or train anew"
            )
        self.steps = int(state["_steps"])
        for name, average in self.averages.items():
            average.copy_(state[name])


def average_buffers(program: BoundProgram, last: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Give all processes the mean of the buffers that a stretch has changed, such as those of batch norm.

    Args:
        program: the program.
        last: the state before the stretch, whose names begin with ``last.``.
        ranks: the processes that train together.
    """
    if ranks.size == 1:
        return
    trained = {parameter.data_ptr() for parameter in program.parameters().values()}
    buffers = {
        name: (buffer, last[f"last.{name}"])
        for name, buffer in program.state().items()
        if buffer.is_floating_point() and buffer.data_ptr() not in trained
    }
    changed = [name for name, (buffer, before) in buffers.items() if not torch.equal(buffer, before)]
    for name in dict.fromkeys(name for names in ranks.gather(changed) for name in names):
        buffer, before = buffers[name]
        change = buffer - before
        ranks.sum_(change)
        buffer.copy_(before + change / ranks.size)
