"""The training loop: epochs of steps, a learning-rate schedule, early stopping, and state that can be resumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import Diverged, InputError
from ppl_vae.inference.ascent import begin
from ppl_vae.inference.average import Average
from ppl_vae.inference.method import Step
from ppl_vae.inference.options import Count, Positive, Seed, Share
from ppl_vae.parallel import ALONE, Ranks
from ppl_vae.program import Batch, BoundProgram

Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True)
class TrainingOptions:
    """The options of the training loop.

    Args:
        max_epochs: largest number of passes over the training data. The default is 500.
        batch_size: number of data in each gradient step. The default is 64.
        learning_rate: learning rate of Adam at the start of training. The default is 0.002.
        schedule: "cosine" (the default) lowers the learning rate to zero over max_epochs; "constant" keeps it.
        patience: number of epochs without a better validation bound after which training stops. The default is 50; null
            (None in Python) trains to the end.
        seed: seed of all random numbers, also of the weights of a program that is given as a class or a name; those of
            an object are its own. The same seed gives the same results on the same machine. The default is 0.
        ema_decay: decay per step, such as 0.999, of exponential moving averages of the parameters, which are then
            validated and kept. The default null keeps the parameters themselves.
    """

    max_epochs: Count = 500
    batch_size: Count = 64
    learning_rate: Positive = 2e-3
    schedule: Schedule = "cosine"
    patience: Count | None = 50
    seed: Seed = 0
    ema_decay: Share | None = None


class Epoch(NamedTuple):
    """The results of an epoch of training."""

    epoch: int
    """Counted from 1."""
    elbo_train: float
    """Mean over the epoch's steps while the parameters moved, nats per datum."""
    elbo_valid: float
    """The mean over the validation data, nats per datum; ``nan`` if there are none."""
    learning_rate: float
    best_epoch: int
    """The epoch whose parameters are kept."""


class _Reached(NamedTuple):
    """The state of a training after its last whole epoch. It is replaced as one, so that a stop leaves it whole."""

    row: Epoch | None
    best_elbo: float
    best: dict[str, Tensor]
    """The program's state after the best epoch."""
    last: dict[str, Tensor]
    """The program's and the optimiser's state, from which the next epoch starts."""


EpochSteps = Callable[[BoundProgram, Iterable[Batch], torch.optim.Optimizer], Iterator[Step]]
"""A function that steps through the batches of an epoch once, such as ``amortized_steps``."""


class Training:
    """A training of a program, epoch by epoch, that keeps the parameters with the best validation ELBO.

    The random numbers of an epoch depend on the seed and on its number alone. So a run that is stopped after any
    epoch and resumed gives the same numbers as one that was not.

    Args:
        program: the program, which is trained in place.
        batch: any batch; its device is that of the parameters.
        steps: the steps of one epoch of inference.
        options: the options of the loop; the caller makes the batches.
        warmup: number of epochs at the beginning that patience does not count.
        ranks: the processes that train together; the caller gives each its own batches.
    """

    def __init__(
        self,
        program: BoundProgram,
        batch: Batch,
        steps: EpochSteps,
        options: TrainingOptions = TrainingOptions(),
        *,
        warmup: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.program, self.batch, self.steps = program, batch, steps
        self.options, self.warmup, self.ranks = options, warmup, ranks
        self.parameters = program.parameters()
        self.average = None if options.ema_decay is None else Average(self.parameters, options.ema_decay)
        self.optimizer = torch.optim.Adam(self.parameters.values(), lr=options.learning_rate, fused=True)
        begin(self.optimizer)
        self._reached = _Reached(None, -math.inf, {}, self._snapshot())

    @property
    def last_row(self) -> Epoch | None:
        """The results of the last whole epoch; None before the first."""
        return self._reached.row

    @property
    def epoch(self) -> int:
        """The number of epochs that are done."""
        return self._reached.row.epoch if self._reached.row else 0

    @property
    def best_epoch(self) -> int:
        """The epoch whose parameters are kept; 0 before the first."""
        return self._reached.row.best_epoch if self._reached.row else 0

    @property
    def best_elbo(self) -> float:
        """The validation ELBO of the best epoch, nats per datum."""
        return self._reached.best_elbo

    def epochs(
        self, batches: Callable[[int], Iterable[Batch]], validate: Callable[[], float] | None = None
    ) -> Iterator[Epoch]:
        """Train, and yield after every epoch.

        At the end, or if the caller or an error stops it, the program has the best parameters.

        Args:
            batches: function from a seed to the training data in a random order.
            validate: function that returns the present validation ELBO, nats per datum; None trains without it.

        Raises:
            Diverged: the ELBO is not finite; the message names the epoch and the batch.
        """
        self._restore(self._reached.last)
        try:
            while self.epoch < self.options.max_epochs and not self._impatient():
                self._reached = self._run_epoch(batches, validate)
                assert self._reached.row is not None
                yield self._reached.row
        finally:
            self.program.load_state(self._reached.best or group(self._reached.last, "last"))

    def _run_epoch(self, batches: Callable[[int], Iterable[Batch]], validate: Callable[[], float] | None) -> _Reached:
        epoch, rate = self.epoch + 1, self._rate(self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        seed = self.ranks.seed(epoch_seed(self.options.seed, epoch))
        with self.program.running(seed=seed, training=True):
            steps = []
            for step in self.steps(self.program, batches(seed), self.optimizer):
                steps.append(step)
                if self.average is not None:
                    self.average.update()
        elbos = torch.stack([step.elbo for step in steps]).double().cpu()
        sizes = torch.tensor([step.num_data for step in steps], dtype=torch.double)
        self.ranks.sum_(sizes)
        self._average_buffers()
        if not bool(torch.isfinite(elbos).all()):
            number = int((~torch.isfinite(elbos)).nonzero()[0])
            raise self._diverged(
                f"the loss is {-elbos[number].item()} at epoch {epoch}, batch {number + 1} of {len(steps)}"
            )
        if not all(bool(parameter.detach().isfinite().all()) for parameter in self.parameters.values()):
            raise self._diverged(f"a parameter is not finite after epoch {epoch}, batch {len(steps)} of {len(steps)}")
        _, best_elbo, best, _ = self._reached
        best_epoch = self.best_epoch
        with nullcontext() if self.average is None else self.average.in_place():
            elbo_valid = validate() if validate else math.nan
            if validate and not math.isfinite(elbo_valid):
                raise self._diverged(f"the validation ELBO is {elbo_valid} after epoch {epoch}")
            if validate is None or elbo_valid > best_elbo:
                best_epoch, best_elbo = epoch, elbo_valid
                best = {k: v.clone() for k, v in self.program.state().items()}
        row = Epoch(epoch, (elbos @ sizes / sizes.sum()).item(), elbo_valid, rate, best_epoch)
        return _Reached(row, best_elbo, best, self._snapshot())

    def _average_buffers(self) -> None:
        """Give all processes the mean of the buffers that an epoch has changed, such as those of batch norm."""
        if self.ranks.size == 1:
            return
        trained = {parameter.data_ptr() for parameter in self.parameters.values()}
        buffers = {
            name: (buffer, self._reached.last[f"last.{name}"])
            for name, buffer in self.program.state().items()
            if buffer.is_floating_point() and buffer.data_ptr() not in trained
        }
        changed = [name for name, (buffer, before) in buffers.items() if not torch.equal(buffer, before)]
        for name in dict.fromkeys(name for names in self.ranks.gather(changed) for name in names):
            buffer, before = buffers[name]
            change = buffer - before
            self.ranks.sum_(change)
            buffer.copy_(before + change / self.ranks.size)

    def _diverged(self, what: str) -> Diverged:
        kept = f"the parameters of epoch {self.best_epoch} are kept" if self.best_epoch else "no epoch was completed"
        rate = self.optimizer.param_groups[0]["lr"]
        return Diverged(
            f"{what}: lower the learning rate (now {rate:.2g}) or look for an overflow in model or guide; {kept}"
        )

    def _impatient(self) -> bool:
        patience = self.options.patience
        return patience is not None and self.epoch - max(self.best_epoch, self.warmup) >= patience

    def _rate(self, epochs_done: int) -> float:
        options = self.options
        if options.schedule == "constant":
            return options.learning_rate
        return options.learning_rate * (1 + math.cos(math.pi * epochs_done / options.max_epochs)) / 2

    def _snapshot(self) -> dict[str, Tensor]:
        """Return a copy of the state from which the next epoch starts; an interrupted epoch does not change it."""
        tensors = {f"last.{name}": tensor for name, tensor in self.program.state().items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{name}.{key}"] = value
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state().items()}
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and numbers after the last whole epoch, from which ``load_state`` continues.

        The tensors are ``best.*`` (the result so far), ``last.*``, ``optimizer.*`` and, with averages, ``average.*``.
        """
        row, best_elbo, best, last = self._reached
        tensors = {f"best.{name}": tensor for name, tensor in best.items()} | last
        return tensors, {"row": row._asdict() if row else None, "best_elbo": best_elbo}

    def load_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Continue from a ``state``.

        Raises:
            InputError: the tensors belong to another program.
        """
        last = {k: v for k, v in tensors.items() if k.startswith(("last.", "optimizer.", "average."))}
        self._restore(last)
        best = {k: v.to(self.batch[0].device) for k, v in group(tensors, "best").items()}
        row = Epoch(**numbers["row"]) if numbers["row"] else None
        self._reached = _Reached(row, numbers["best_elbo"], best, self._snapshot())

    def _restore(self, last: Mapping[str, Tensor]) -> None:
        """Set the program and the optimiser to a snapshot in place, because a graph refers to these tensors."""
        self.program.load_state(group(last, "last"))
        moments = group(last, "optimizer")
        for name, parameter in self.parameters.items():
            for key, tensor in self.optimizer.state[parameter].items():
                if f"{name}.{key}" not in moments:
                    raise InputError(f"the checkpoint has no optimiser state of {name!r}: train anew with --overwrite")
                tensor.copy_(moments[f"{name}.{key}"])
        if self.average is not None:
            self.average.load_state(group(last, "average"))


def group(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint whose names begin with ``name`` and a dot, without it."""
    return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch of a run; every epoch has a different one."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
