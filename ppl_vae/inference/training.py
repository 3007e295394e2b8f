"""The training loop: stretches of steps, validations, early stopping, and state that can be resumed anywhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ppl_vae.errors import Diverged
from ppl_vae.inference.ascent import Adam
from ppl_vae.inference.average import Average, average_buffers
from ppl_vae.inference.method import Step
from ppl_vae.inference.optimizers import group, load_optimizer_state, make_optimizer, optimizer_state
from ppl_vae.inference.place import Epoch, Place, Reached, Validation, epoch_seed, place_of, random_state, set_random
from ppl_vae.inference.schedules import stair_of
from ppl_vae.inference.training_options import NEVER, Interval, TrainingOptions, parse_interval
from ppl_vae.parallel import ALONE, Ranks
from ppl_vae.program import Batch, BoundProgram

PAUSE = Interval(seconds=600.0)
"""The interval of pauses within an epoch if the user gives none."""
STACKED = 256
"""Number of steps whose bounds are kept apart: a number that outlives a step lies between tensors of the next ones, and
the C library could not give them the room of those before."""
DECIDED = 64
"""Number of steps after which several processes ask the first of them if it is time."""


EpochSteps = Callable[[BoundProgram, Iterable[Batch], torch.optim.Optimizer], Iterator[Step]]
"""A function that steps through batches of an epoch once, such as ``amortized_steps``."""
Shuffled = Callable[..., Iterable[Batch]]
"""A function from a seed to the training data in a random order; if a number is given, without its first batches."""


class Training:
    """A training of a program that keeps the parameters with the best validation ELBO.

    The random numbers of an epoch depend on the seed and on its number alone. A training consists of stretches of
    steps: it pauses for a validation, at the end of an epoch, and when it is time for a checkpoint. A run that is
    stopped after any stretch and resumed gives the same numbers as one that was not.

    Args:
        program: the program, which is trained in place.
        batch: any batch; its device is that of the parameters.
        steps: the steps of a stretch of inference, which starts anew in each: it passes nothing on but the parameters
            and the state of the optimiser.
        options: the options of the loop; the caller makes the batches.
        warmup: number of epochs at the beginning that patience does not count.
        ranks: the processes that train together; the caller gives each its own batches.
        num_batches: number of batches of an epoch, for learning rates that change within one.
        held: names of parameters that are not trained.
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
        num_batches: int | None = None,
        held: Collection[str] = (),
    ) -> None:
        self.program, self.batch, self.steps = program, batch, steps
        self.options, self.warmup, self.ranks, self.num_batches = options, warmup, ranks, num_batches
        self.rounds = parse_interval("validate_every", options.validate_every)
        self.pauses = parse_interval("checkpoint_every", options.checkpoint_every) or PAUSE
        self.parameters = {name: tensor for name, tensor in program.parameters().items() if name not in held}
        self.average = None if options.ema_decay is None else Average(self.parameters, options.ema_decay)
        self.optimizer = make_optimizer(
            self.parameters, options.learning_rate, options.optimizer, options.weight_decay, options.optimizer_args
        )
        Adam.of(self.optimizer)  # which begins its state, to which graphs refer
        self._reached = Reached(None, -math.inf, {}, self._snapshot())
        self._began = time.perf_counter()  # of the round

    @property
    def last_row(self) -> Epoch | None:
        """The results of the last round; None before the first."""
        return self._reached.row

    @property
    def place(self) -> Place:
        """The place after the last stretch."""
        return self._reached.place

    @property
    def epoch(self) -> int:
        """The number of whole epochs that are done."""
        return self.place.epochs

    @property
    def best_epoch(self) -> int:
        """The epoch whose parameters are kept; 0 before the first."""
        return self._reached.row.best_epoch if self._reached.row else 0

    @property
    def best_elbo(self) -> float:
        """The validation ELBO of the best epoch, nats per datum."""
        return self._reached.best_elbo

    @property
    def history(self) -> tuple[Validation, ...]:
        """All validations, in their order."""
        return self._reached.history

    def epochs(self, batches: Shuffled, validate: Callable[[], float] | None = None) -> Iterator[Epoch]:
        """Train, and yield after every validation: after every epoch, unless ``validate_every`` is given.

        At the end, or if the caller or an error stops it, the program has the best parameters.

        Args:
            batches: function from a seed to the training data in a random order.
            validate: function that returns the present validation ELBO, nats per datum; None trains without it.

        Raises:
            Diverged: the ELBO is not finite; the message names the epoch and the batch.
        """
        return (row for row in self.stretches(batches, validate) if row is not None)

    def stretches(self, batches: Shuffled, validate: Callable[[], float] | None = None) -> Iterator[Epoch | None]:
        """Train as ``epochs`` does, and yield after every stretch: the results of a round, or None if it goes on.

        The caller may save the ``state`` then.
        """
        self._restore(self._reached.last)
        self._began = time.perf_counter()
        try:
            while not self._is_over:
                seed = self.ranks.seed(epoch_seed(self.options.seed, self.epoch + 1))
                epoch = iter(batches(seed, self.place.steps) if self.place.steps else batches(seed))
                try:
                    yield from self._run_epoch(epoch, seed, validate)
                finally:
                    if hasattr(epoch, "close"):  # which ends a thread that reads ahead
                        epoch.close()
        finally:
            self.program.load_state(self._reached.best or group(self._reached.last, "last"))

    def _run_epoch(
        self, batches: Iterator[Batch], seed: int, validate: Callable[[], float] | None
    ) -> Iterator[Epoch | None]:
        number = self.epoch
        while self.epoch == number and not self._is_over:
            self._reached, batches = self._run_stretch(batches, seed, validate)
            done, row = self.place, self._reached.row
            yield row if row is not None and row.step == done.taken else None

    def _run_stretch(
        self, batches: Iterator[Batch], seed: int, validate: Callable[[], float] | None
    ) -> tuple[Reached, Iterator[Batch]]:
        """Take steps up to the next pause, and return the place that is reached, and the batches that are left."""
        before, taken, started = self.place, 0, time.perf_counter()
        epoch = before.epochs + 1
        history = self._reached.history
        rate = self.options.rate_after(before.epochs, before.steps, before.taken, self.num_batches, history)
        for of_rate in self.optimizer.param_groups:
            of_rate["lr"] = rate

        def until_pause() -> Iterator[Batch]:
            nonlocal taken
            for batch in batches:
                yield batch
                taken += 1
                if self._pauses_after(taken, started):
                    return

        with self.program.running(seed=seed, training=True):
            if before.steps:
                self._restore_random()
            bounds, counts = list[Tensor](), list[int]()
            for step in self.steps(self.program, until_pause(), self.optimizer):
                bounds.append(step.elbo)
                counts.append(step.num_data)
                if len(counts) % STACKED == 0:
                    bounds[-STACKED:] = [torch.stack(bounds[-STACKED:])]
                if self.average is not None:
                    self.average.update()
            random = random_state(self.batch[0].device)
        first = next(batches, None)
        elbos = torch.cat([bound.view(-1) for bound in bounds]).double().cpu()
        sizes = torch.tensor(counts, dtype=torch.double)
        self.ranks.sum_(sizes)
        average_buffers(self.program, self._reached.last, self.ranks)
        self._check_finite(elbos, epoch, before.steps)
        ended = first is None
        place = before._replace(
            epochs=before.epochs + ended,
            steps=0 if ended else before.steps + len(counts),
            taken=before.taken + len(counts),
        )
        last = self._reached.last
        if "round.elbos" in last:
            elbos, sizes = torch.cat([last["round.elbos"], elbos]), torch.cat([last["round.sizes"], sizes])
        kept = {} if ended else self._gather_random(random)
        if not self._ends_round(place):
            snapshot = self._snapshot() | kept | {"round.elbos": elbos, "round.sizes": sizes}
            reached = self._reached._replace(last=snapshot, place=place)
        else:
            reached = self._end_round(place, (elbos @ sizes / sizes.sum()).item(), rate, validate)
            reached = reached._replace(last=reached.last | kept)
        return reached, batches if first is None else chain([first], batches)

    def _pauses_after(self, taken: int, started: float) -> bool:
        """Return True if it is time to pause after a number of steps of a stretch, at an equal one in all processes."""
        total = self.place.taken + taken
        for interval in (self.rounds or NEVER, self.pauses):
            if math.isfinite(interval.steps) and total % interval.steps == 0:
                return True
        if self.options.max_steps is not None and total >= self.options.max_steps:
            return True
        if total <= self.options.warmup_steps and total % stair_of(self.options.warmup_steps) == 0:
            return True
        if self.ranks.size > 1 and taken % DECIDED:
            return False
        now = time.perf_counter()
        is_time = now - started >= self.pauses.seconds or (
            self.rounds is not None and now - self._began >= self.rounds.seconds
        )
        return self.ranks.decide(is_time) if self.ranks.size > 1 else is_time

    def _ends_round(self, place: Place) -> bool:
        """Return True if a round ends at a place: an interval, an epoch if there is no interval, or the training."""
        if self.rounds is None or self._is_end(place):
            return place.steps == 0 or self._is_end(place)
        seconds = time.perf_counter() - self._began
        due = self.ranks.decide(seconds >= self.rounds.seconds) if math.isfinite(self.rounds.seconds) else False
        return due or place.taken % self.rounds.steps == 0

    def _end_round(self, place: Place, elbo: float, rate: float, validate: Callable[[], float] | None) -> Reached:
        """Validate the parameters, and keep them if they are the best so far."""
        row, best_elbo, best, _, _, history = self._reached
        best_epoch, best_step = (row.best_epoch, row.best_step) if row else (0, 0)
        with nullcontext() if self.average is None else self.average.in_place():
            elbo_valid = validate() if validate else math.nan
            if validate and not math.isfinite(elbo_valid):
                raise self._diverged(f"the validation ELBO is {elbo_valid} after epoch {place.epoch}")
            is_better = validate is None or elbo_valid > best_elbo
            if is_better:
                best_epoch, best_step, best_elbo = place.epoch, place.taken, elbo_valid
                best = {k: v.clone() for k, v in self.program.state().items()}
        waited = 0 if is_better or place.epoch <= self.warmup else place.waited + 1
        place = place._replace(validations=place.validations + 1, waited=waited)
        row = Epoch(place.epoch, elbo, elbo_valid, rate, best_epoch, place.taken, best_step)
        self._began = time.perf_counter()
        history += (Validation(place.epoch, place.taken, elbo_valid),) if validate else ()
        return Reached(row, best_elbo, best, self._snapshot(), place, history)

    def _check_finite(self, elbos: Tensor, epoch: int, before: int) -> None:
        if not bool(torch.isfinite(elbos).all()):
            number = int((~torch.isfinite(elbos)).nonzero()[0])
            raise self._diverged(
                f"the loss is {-elbos[number].item()} at epoch {epoch}, batch {before + number + 1} of "
                f"{before + len(elbos)}"
            )
        if not all(bool(parameter.detach().isfinite().all()) for parameter in self.parameters.values()):
            last = before + len(elbos)
            raise self._diverged(f"a parameter is not finite after epoch {epoch}, batch {last} of {last}")

    def _diverged(self, what: str) -> Diverged:
        kept = f"the parameters of epoch {self.best_epoch} are kept" if self.best_epoch else "no epoch was completed"
        rate = self.optimizer.param_groups[0]["lr"]
        return Diverged(
            f"{what}: lower the learning rate (now {rate:.2g}) or look for an overflow in model or guide; {kept}"
        )

    @property
    def _is_over(self) -> bool:
        return self._is_end(self.place) or self.options.stops(self.place.waited, self.history, self.warmup)

    def _is_end(self, place: Place) -> bool:
        most = self.options.max_steps
        return place.epochs >= self.options.max_epochs or (most is not None and place.taken >= most)

    def _snapshot(self) -> dict[str, Tensor]:
        """Return a copy of the state from which the next stretch starts; one that is interrupted does not change it."""
        tensors = {f"last.{name}": tensor for name, tensor in self.program.state().items()}
        state = optimizer_state(self.optimizer, self.parameters)
        tensors |= {f"optimizer.{name}": tensor for name, tensor in state.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state().items()}
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and numbers after the last stretch, from which ``load_state`` continues.

        The tensors are ``best.*`` (the result so far), ``last.*``, ``optimizer.*``, ``history`` and, with averages,
        ``average.*``. In the middle of an epoch there is the state of the random generators, ``random.*``, and of a
        round there are its steps, ``round.*``.
        """
        row, best_elbo, best, last, place, history = self._reached
        tensors = {f"best.{name}": tensor for name, tensor in best.items()} | last
        tensors["history"] = torch.tensor(history, dtype=torch.double).reshape(-1, len(Validation._fields))
        return tensors, {"row": row._asdict() if row else None, "best_elbo": best_elbo, "place": place._asdict()}

    def load_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Continue from a ``state``.

        Raises:
            InputError: the tensors belong to another program.
        """
        own = ("last.", "optimizer.", "average.", "random.", "round.")
        last = {k: v for k, v in tensors.items() if k.startswith(own)}
        self._restore(last)
        best = {k: v.to(self.batch[0].device) for k, v in group(tensors, "best").items()}
        row = Epoch(**numbers["row"]) if numbers["row"] else None
        first = int(self.optimizer.state[next(iter(self.parameters.values()))].get("step", 0))
        place = Place(**numbers["place"]) if "place" in numbers else place_of(row, first, self.warmup)
        if row is not None and row.step == 0:  # a checkpoint of an earlier version, which validated every epoch
            row = row._replace(step=place.taken, best_step=place.taken // row.epoch * row.best_epoch)
        of_round = {k: v for k, v in last.items() if k.startswith(("random.", "round."))}
        history = tuple(Validation(*values) for values in tensors["history"].tolist()) if "history" in tensors else ()
        self._reached = Reached(row, numbers["best_elbo"], best, self._snapshot() | of_round, place, history)

    def _gather_random(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the states of the random generators of all processes."""
        states = self.ranks.gather(own)
        return {f"random.{rank}.{kind}": state for rank, of in enumerate(states) for kind, state in of.items()}

    def _restore_random(self) -> None:
        """Let the random generators go on from where they were; with another number of processes, they start anew."""
        states = group(self._reached.last, f"random.{self.ranks.rank}")
        set_random(states, self.batch[0].device)

    def _restore(self, last: Mapping[str, Tensor]) -> None:
        """Set the program and the optimiser to a snapshot in place, because a graph refers to these tensors."""
        self.program.load_state(group(last, "last"))
        load_optimizer_state(self.optimizer, self.parameters, group(last, "optimizer"))
        if self.average is not None:
            self.average.load_state(group(last, "average"))
