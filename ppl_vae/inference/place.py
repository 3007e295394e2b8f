"""Places in a training: the results up to there, the number of steps, the state of the random generators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Epoch(NamedTuple):
    """The results of a round of training, which ends in a validation: an epoch, unless rounds have another length."""

    epoch: int
    """The number of the epoch in which it ended, counted from 1."""
    elbo_train: float
    """Mean over the round's steps while the parameters moved, nats per datum."""
    elbo_valid: float
    """The mean over the validation data, nats per datum; ``nan`` if there are none."""
    learning_rate: float
    best_epoch: int
    """The epoch in which the round ended whose parameters are kept."""
    step: int = 0
    """The number of all gradient steps until then."""
    best_step: int = 0
    """The number of steps after which the parameters were those that are kept."""


class Place(NamedTuple):
    """A place between two gradient steps of a training."""

    epochs: int = 0
    """The number of whole epochs that are done."""
    steps: int = 0
    """The number of steps that are done of the epoch in progress."""
    taken: int = 0
    """The number of all steps that are done."""
    validations: int = 0
    waited: int = 0
    """The number of validations since the best one, or since the end of the warm-up."""

    @property
    def epoch(self) -> int:
        """The number, from 1, of the epoch in which the last step was taken; 0 before the first."""
        return self.epochs + (self.steps > 0)

    @property
    def label(self) -> str:
        """The place as a part of the name of a file: ``3`` after three epochs, ``3.20`` after 20 further steps."""
        return f"{self.epochs}.{self.steps}" if self.steps else f"{self.epochs}"


class Validation(NamedTuple):
    """A validation in the history of a training, by which it is judged if training has converged."""

    epoch: float
    step: float
    elbo_valid: float


class Reached(NamedTuple):
    """The state of a training after its last stretch. It is replaced as one, so that a stop leaves it whole."""

    row: Epoch | None
    best_elbo: float
    best: dict[str, Tensor]
    """The program's state after the best round."""
    last: dict[str, Tensor]
    """The state of the program, the optimiser and the round, from which the next stretch starts."""
    place: Place = Place()
    history: tuple[Validation, ...] = ()
    """All validations, in their order."""


def place_of(row: Epoch | None, taken: int, warmup: int) -> Place:
    """Return the place of a checkpoint of an earlier version, which was written at the end of an epoch.

    Args:
        row: the results of the epoch.
        taken: the number of steps that the optimiser has taken.
        warmup: number of epochs that patience does not count.
    """
    if row is None:
        return Place()
    return Place(row.epoch, 0, taken, row.epoch, max(0, row.epoch - max(row.best_epoch, warmup)))


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the random generators of the host and of a device."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch of a run; every epoch has a different one."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def set_random(states: dict[str, Tensor], device: torch.device) -> None:
    """Let the random generators go on from their ``random_state``; without one they stay as they are."""
    for kind, state in states.items():
        if kind == "cpu":
            torch.set_rng_state(state.cpu())
        elif device.type == "cuda":
            torch.cuda.set_rng_state(state.cpu(), device)


def history_of(tensors: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Return the history of a training as rows, from the tensors of its checkpoint, if that has it.

    Example:
        >>> history_of({"history": torch.tensor([[1.0, 20.0, -17.5]])})
        [{'epoch': 1.0, 'step': 20.0, 'elbo_valid': -17.5}]
    """
    return [Validation(*values)._asdict() for values in tensors.get("history", torch.zeros(0)).tolist()]
