"""The options of the training loop, and intervals that are counted in steps or in time."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

from ppl_vae.errors import InputError, raise_together
from ppl_vae.inference.objectives import Bound
from ppl_vae.inference.optimizers import optimizer_class
from ppl_vae.inference.options import Count, CountOrZero, NotNegative, Positive, Seed, Share
from ppl_vae.inference.place import Validation
from ppl_vae.inference.plateau import convergence_of
from ppl_vae.inference.schedules import SHARES, Schedule, plateau_share, warmup_share

Stop = Literal["patience", "plateau", "never"]
LEAST_VALIDATIONS = 20
"""The least number of validations after which training can have reached a plateau."""
MOST_STEPS = 10**12
SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class Interval(NamedTuple):
    """The distance between two events of a training, in gradient steps or in seconds; the other one is infinite."""

    steps: float = math.inf
    seconds: float = math.inf

    def has_passed(self, steps: int, seconds: float) -> bool:
        """Return True if this many steps, or this many seconds, have passed."""
        return steps >= self.steps or seconds >= self.seconds


NEVER = Interval()


def parse_interval(name: str, value: int | str | None) -> Interval | None:
    """Return an interval as a user writes it: a number of steps, or a time such as ``90s``, ``10m`` or ``2h``.

    Args:
        name: name of the option, for messages.
        value: the value of the option; None is no interval.

    Raises:
        InputError: it is neither, or it is zero.

    Example:
        >>> parse_interval("validate_every", 5000).steps, parse_interval("validate_every", "1.5h").seconds
        (5000.0, 5400.0)
        >>> parse_interval("validate_every", "often")
        Traceback (most recent call last):
        ppl_vae.errors.InputError: validate_every is 'often': expected a number of steps, or a time such as 90s, 10m, 2h
    """
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([a-z]*)", str(value).strip().lower())
    if match is not None and match[2] in SECONDS and 0 < float(match[1]) < 1e9:
        return Interval(seconds=float(match[1]) * SECONDS[match[2]])
    if match is not None and match[2] == "" and match[1].isdigit() and 0 < int(match[1]) <= MOST_STEPS:
        return Interval(steps=float(match[1]))
    raise InputError(f"{name} is {value!r}: expected a number of steps, or a time such as 90s, 10m, 2h")


@dataclass(frozen=True)
class TrainingOptions:
    """The options of the training loop.

    Args:
        max_epochs: largest number of passes over the training data. The default is 500.
        max_steps: largest number of gradient steps. Training then stops in the middle of an epoch. The default null
            sets no such limit.
        batch_size: number of data in a gradient step. The default is 64.
        group_by_length: number of batches whose sequences are sorted by length. The sequences of successive batches,
            such as 50, are sorted before they are cut into batches, so that a batch has little padding. The default
            null shuffles all data.
        optimizer: optimiser, such as adam, adamw or sgd. It is adam, adamw, adamax, radam, sgd, or the path of a class,
            such as torch.optim.RMSprop. Steps of adam and adamw are parts of compiled graphs; those of others run
            after the graph of the gradient. The default is adam.
        optimizer_args: further arguments of the optimiser. They are given by name, such as {"momentum": 0.9}. The
            default null gives none.
        weight_decay: decay of weights, but not of biases. Weights are parameters of two or more dimensions;
            biases and scales do not decay. The decay of adam is a part of the gradient, that of adamw is not. The
            default is 0.
        learning_rate: learning rate at the start. For "one-cycle" it is that at the peak. The default
            is 0.002.
        schedule: course of the learning rate. "cosine" (the default) lowers the learning rate to zero over max_epochs,
            or over max_steps if that is shorter; "constant" keeps it; "one-cycle" raises it over 30 % of that length
            and then lowers it; "milestones" lowers it seven times by 28 %, after stages that are each three times as
            long as the one before; "plateau" halves it after five validations without improvement. The rate changes at
            the start of an epoch, and after every validation if validate_every is a number of steps.
        warmup_steps: number of steps over which the rate rises. It begins near zero, and rises in at most 32 equal
            steps to the value of the schedule. The default 0 has no warm-up.
        valid_bound: bound that validation computes: elbo or iwae. It decides which parameters are kept and when
            training stops. The default null takes the bound that training ascends.
        valid_particles: number of draws if valid_bound is iwae. The default is 50.
        stop: reason to end training before max_epochs. "patience" (the default) waits for a better validation bound;
            "plateau" ends when the bound no longer rises by more than its noise or 1 % of the gain so far; "never"
            trains to the end.
        patience: number of validations without improvement before stopping. The default is 50; null (None in Python)
            trains to the end.
        validate_every: steps, or time such as 10m, between validations. It is meant for long epochs. The default null
            validates after every epoch.
        checkpoint_every: steps, or time, between checkpoints. The default null writes one after an epoch or a
            validation, and every ten minutes.
        seed: seed of all random numbers. It also decides the first weights of a program that is given as a class or
            by name; an object keeps its own. The same seed gives the same results on one machine. The default is 0.
        ema_decay: decay of the parameters' average, such as 0.999. The average is exponential, and the decay is
            that of a step. The averages are then validated and kept. The default null keeps the parameters themselves.
    """

    group: ClassVar[str] = "optimiser"
    max_epochs: Count = 500
    max_steps: Count | None = None
    batch_size: Count = 64
    group_by_length: Count | None = None
    optimizer: str = "adam"
    optimizer_args: dict[str, Any] | None = None
    weight_decay: NotNegative = 0.0
    learning_rate: Positive = 2e-3
    schedule: Schedule = "cosine"
    warmup_steps: CountOrZero = 0
    valid_bound: Bound | None = None
    valid_particles: Count = 50
    stop: Stop = "patience"
    patience: Count | None = 50
    validate_every: int | str | None = None
    checkpoint_every: int | str | None = None
    seed: Seed = field(default=0, metadata={"group": "run"})
    ema_decay: Share | None = None

    def check(self) -> None:
        """Check the options that are more than a number.

        Raises:
            InputError: an interval is none, or there is no such optimiser.
        """
        names = ("validate_every", "checkpoint_every")
        intervals = [partial(parse_interval, name, getattr(self, name)) for name in names]
        raise_together([*intervals, partial(optimizer_class, self.optimizer)])

    def stops(self, waited: int, history: Sequence[Validation], warmup: int = 0) -> bool:
        """Return True if training ends before its last epoch.

        Args:
            waited: number of validations since the best one.
            history: all validations.
            warmup: number of epochs at the beginning that do not count.
        """
        if self.stop == "patience":
            return self.patience is not None and waited >= self.patience
        if self.stop == "never" or len(history) < LEAST_VALIDATIONS:
            return False
        rows = [row._asdict() for row in history if row.epoch > warmup]
        return len(rows) >= LEAST_VALIDATIONS and convergence_of(rows).has_converged

    def rate_after(
        self, epochs: int, steps: int, taken: int, num_batches: int | None, history: Sequence[Validation] = ()
    ) -> float:
        """Return the learning rate after a number of whole epochs and of further steps.

        It depends on the number of steps, and not on the times of validations, so that a run can be resumed. On a
        plateau it depends on the bounds of the validations.

        Args:
            epochs: number of whole epochs that are done.
            steps: number of steps that are done of the epoch in progress.
            taken: number of all steps that are done.
            num_batches: number of steps of an epoch; if None, the rate changes at the start of an epoch alone.
            history: all validations, in their order.

        Example:
            >>> options = TrainingOptions(max_epochs=4, learning_rate=1.0, validate_every=10)
            >>> [round(options.rate_after(1, 20, 120, number), 3) for number in (100, None)]
            [0.794, 0.854]
        """
        rate = self.learning_rate * warmup_share(taken, self.warmup_steps)
        if self.schedule == "plateau":
            return rate * plateau_share([row.elbo_valid for row in history])
        done: float = epochs
        total: float = self.max_epochs
        if num_batches is not None:
            every = (parse_interval("validate_every", self.validate_every) or NEVER).steps
            if math.isfinite(every):
                done += max(0, steps - taken % int(every)) / num_batches
            if self.max_steps is not None:
                total = min(total, self.max_steps / num_batches)
        return rate * SHARES[self.schedule](min(done, total) / total)
