"""``VariationalInference``: fit, transform, score_samples, sample."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ppl_vae.data import Batches, as_condition, hold_out, name_arrays
from ppl_vae.errors import InputError, nearest
from ppl_vae.estimator.estimators import make_settings
from ppl_vae.estimator.evaluate import evaluate_program
from ppl_vae.estimator.evaluation import Evaluation
from ppl_vae.estimator.options import Accelerator, Guide, check_options, device
from ppl_vae.estimator.passes import ROWS_PER_PASS, Room, passes, room_for
from ppl_vae.estimator.results import PosteriorDraws, join, single
from ppl_vae.evidence import Evidence
from ppl_vae.inference import Epoch, Schedule, Training, amortized_steps, group
from ppl_vae.program import Batch, Draws, Program, check, check_batch, check_observations, seeded
from ppl_vae.runs import read_checkpoint, write_checkpoint

Arrays = Mapping[str, np.ndarray]

_NOTHING = object()
VALIDATION_DRAWS = 5000
"""Draws in a validation ELBO, over all data: its noise is the same every epoch, and few draws would be fitted to it."""


class VariationalInference(BaseEstimator):
    """Fit a Pyro program by variational inference.

    The program's modules are trained in place, as in PyTorch; what is fitted besides ends in an underscore.

    Args:
        program: an object with ``model`` and ``guide``, a ``Program``, or a pair of functions.
        guide: the method; "amortized" trains the program's own guide by SVI with Trace_ELBO.
        num_particles: draws per datum in the training objective.
        max_epochs: most passes over the training data.
        batch_size: data per gradient step.
        learning_rate: Adam's, at the start.
        schedule: "cosine" lets it fall to zero over max_epochs; "constant" does not.
        patience: stop after this many epochs without a better validation ELBO; null (None in Python) trains to the end.
        validation_fraction: share of the data that fit holds out where it is given no validation data.
        num_samples: draws per datum in estimates of the evidence.
        seed: decides every random number; the same seed gives the same numbers on the same machine.
        accelerator: "auto" takes a GPU if there is one.
        data_plate: name of the program's data plate, where it cannot be told from the trace.

    Example:
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> x = np.random.default_rng(0).normal(size=(200, 5)).astype("float32")
        >>> vi = VariationalInference(FactorAnalysis(data_dim=5, latent_dim=2), max_epochs=20, num_samples=100)
        >>> vi.fit(x).transform(x).shape
        (200, 2)
        >>> vi.score_samples(x).shape, vi.sample(7).shape, vi.reconstruct(x).shape
        ((200,), (7, 5), (200, 5))
    """

    def __init__(
        self,
        program: Any,
        guide: Guide = "amortized",
        *,
        num_particles: int = 1,
        max_epochs: int = 500,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        schedule: Schedule = "cosine",
        patience: int | None = 50,
        validation_fraction: float = 0.1,
        num_samples: int = 1000,
        seed: int = 0,
        accelerator: Accelerator = "auto",
        data_plate: str | None = None,
    ) -> None:
        self.program = program
        self.guide = guide
        self.num_particles = num_particles
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.num_samples = num_samples
        self.seed = seed
        self.accelerator = accelerator
        self.data_plate = data_plate

    # ------------------------------------------------------------------------------------------------- fitting

    def fit(self, *arrays: Any, validation: Any = None) -> VariationalInference:
        """Fit to data, and keep the parameters with the best validation ELBO.

        Args:
            arrays: in the order of ``model``'s arguments, each with a row per datum; or one mapping of names to them.
            validation: likewise; where it is None, a ``validation_fraction`` of the data is held out.

        Raises:
            InputError: bad data, or a program that does not pass its check.
            Diverged: the loss is not finite.
        """
        train: Arrays = self._named(arrays, "fit")
        if validation is not None:
            given = validation if isinstance(validation, tuple) else (validation,)
            valid: Arrays | None = self._named(given, "validation")
        else:
            train, valid = hold_out(train, self.validation_fraction, self.seed)
        self.prepare(train, valid)
        for _ in self.epochs():
            pass
        return self

    def prepare(
        self, train: Arrays, valid: Arrays | None = None, *, dynamic: Collection[str] = (), resume: Path | None = None
    ) -> None:
        """All that can fail before training: check options, data and program, and put the data on the device.

        Args:
            train: named arrays.
            valid: named arrays that decide when to stop; None trains on to ``max_epochs``.
            dynamic: names of arrays of probabilities, to draw anew as bits every epoch.
            resume: a checkpoint to go on from.
        """
        check_options(self)
        with seeded(self.seed):  # initial values of pyro.param
            self._attach(train, dynamic)
            check(self.program_, self.template_)
        self._train_batches = self._batches(train, self.batch_size, dynamic)
        self._valid_batches = self._batches(valid, ROWS_PER_PASS) if valid else None
        self._check_batches(self._train_batches)
        if self._valid_batches:
            self._check_batches(self._valid_batches)
        sizes = {min(self.batch_size, self._train_batches.num_data), self._train_batches.num_data % self.batch_size}
        for size in sizes - {0}:
            first = {name: array[:size] for name, array in train.items()}
            check_batch(self.program_, next(self._batches(first, size, dynamic).in_order()))
        self.training_ = Training(
            self.program_,
            self.template_,
            partial(amortized_steps, num_particles=self.num_particles),
            max_epochs=self.max_epochs,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            patience=self.patience if valid else None,
            seed=self.seed,
        )
        self.train_seconds_ = 0.0
        if resume is not None:
            tensors, numbers = read_checkpoint(resume)
            self.training_.load_state(tensors, numbers)
            for name, rows in zip(self.arguments_, self.template_, strict=True):
                if not torch.equal(tensors[f"template.{name}"], rows.cpu()):
                    raise InputError(
                        f"the data have changed since {resume} was written: its first rows of {name!r} differ"
                    )
            self.train_seconds_ = numbers["train_seconds"]

    def check_data(self, *arrays: Any) -> None:
        """Raise ``InputError`` where a datum has no density under the program: grey values under a Bernoulli."""
        self._check_batches(self._batches(self._for_fitted(arrays), ROWS_PER_PASS))

    def _check_batches(self, batches: Batches) -> None:
        row = 0
        for batch in batches.in_order(batch_size=ROWS_PER_PASS):
            check_observations(self.program_, batch, row)
            row += len(batch[0])

    def epochs(self) -> Iterator[Epoch]:
        """Train what was prepared; yields after every epoch. The caller prints, saves and stops.

        At the end, or where the caller stops, the program has the parameters with the best validation ELBO.
        """
        started, before = time.perf_counter(), self.train_seconds_
        validate = self._validate if self._valid_batches else None
        for epoch in self.training_.epochs(self._train_batches.shuffled, validate):
            self.train_seconds_ = before + time.perf_counter() - started
            yield epoch

    def _validate(self) -> float:
        assert self._valid_batches is not None
        draws = max(self.num_particles, -(-VALIDATION_DRAWS // self._valid_batches.num_data))
        with torch.no_grad(), seeded(self.seed), self.program_.scope(training=False):
            total = sum(
                self.program_.log_weights(batch, k).double().sum().item()
                for batch in self._valid_batches.in_order()
                for k in passes(draws, self._room.draws(len(batch[0])))
            )
        return total / (draws * self._valid_batches.num_data)

    # ------------------------------------------------------------------------------------- using a fitted program

    @property
    def has_latents(self) -> bool:
        """Whether there is a posterior to look at: latents that a guide samples."""
        check_is_fitted(self, "program_")
        structure = self.program_.structure(self.template_)
        return set(structure.latents) > set(structure.summed)

    def transform(self, *arrays: Any) -> np.ndarray:
        """Posterior means of the latents, ``(N, D)``; several sites are flattened and joined."""
        check_is_fitted(self, "program_")
        if not self.has_latents:
            raise InputError(f"{self.program_.name} has no latents to transform to that a guide samples")
        means = self._map(arrays, self.program_.posterior_mean)
        return np.concatenate([mean.reshape(len(mean), -1) for mean in means.values()], axis=1)

    def score_samples(self, *arrays: Any) -> np.ndarray:
        """Importance-sampled log evidence of every datum, ``(N,)``, nats."""
        return self.evidence(*arrays).log_evidence.numpy()

    def score(self, *arrays: Any) -> float:
        """Mean of ``score_samples``, nats per datum; higher is better."""
        return float(self.score_samples(*arrays).mean())

    def evidence(self, *arrays: Any, estimator: str = "iwae", **settings: Any) -> Evidence:
        """Log evidence of every datum with Monte Carlo error, effective sample size and doubts, each ``(N,)``, nats.

        Args:
            arrays: the data.
            estimator: "prior", "iwae", "cubo", "ais", "bdmc" (of simulated data) or "exact".
            settings: fields of ``Settings``: num_samples, proposal_scale, num_temperatures and so on.
        """
        return self.evaluate(*arrays, estimators=(estimator,), diagnostics=False, **settings).evidence[estimator]

    def evaluate(
        self,
        *arrays: Any,
        estimators: Collection[str] | None = None,
        diagnostics: bool = False,
        **settings: Any,
    ) -> Evaluation:
        """How well the data are explained: log evidence by several estimators, ELBO, errors, and what to doubt.

        Args:
            arrays: the data.
            estimators: as in ``evidence``; by default iwae, and exact where it is known.
            diagnostics: tell too how the latents are used.
            settings: fields of ``Settings``.
        """
        return evaluate_program(
            self.program_,
            self.template_,
            self._batches(self._for_fitted(arrays), ROWS_PER_PASS),
            estimators,
            make_settings({"num_samples": self.num_samples} | settings),
            diagnostics=diagnostics,
            seed=self.seed,
        )

    def sample(self, num_data: int, *, mean: bool = False, **conditions: Any) -> Any:
        """Draws from the prior predictive, ``(num_data, ...)``; a dictionary where several sites are observed.

        Args:
            num_data: how many.
            mean: the mean of x given z in place of a draw of x.
            conditions: arrays that the model is conditioned on, such as labels; else those of the first datum seen.
        """
        check_is_fitted(self, "program_")
        if not isinstance(num_data, int | np.integer) or num_data < 1:
            raise InputError(f"num_data is {num_data!r}: expected a whole number, 1 or more")
        for name in conditions.keys() - set(self.arguments_):
            raise InputError(f"the model takes no condition {name!r}; {nearest(name, self.arguments_)}")
        batch = tuple(
            as_condition(name, conditions[name], row, num_data)
            if name in conditions
            else row[:1].expand(num_data, *row.shape[1:])
            for name, row in zip(self.arguments_, self.template_, strict=True)
        )
        with seeded(self.seed), self.program_.scope(training=False):
            draws = self.program_.prior(batch)
        return single({k: v[0].cpu().numpy() for k, v in (draws.means if mean else draws.observed).items()})

    def reconstruct(self, *arrays: Any) -> Any:
        """Posterior-predictive mean of data, ``(N, ...)``; a dictionary where several sites are observed."""

        def means(batch: Batch) -> dict[str, Tensor]:
            num_draws = min(64, self._room.draws(len(batch[0])))
            return {name: mean.mean(0) for name, mean in self.program_.posterior(batch, num_draws).means.items()}

        return single(self._map(arrays, means))

    def posterior(self, *arrays: Any, num_samples: int) -> PosteriorDraws:
        """Draws of the latents from the guide, and of the data given them."""
        draw = partial(self.program_.posterior, num_samples=num_samples)
        parts: list[Draws] = self._each_batch(arrays, draw, num_samples)

        def joined(field: str, axis: int) -> dict[str, np.ndarray]:
            return join([getattr(part, field) for part in parts], axis)

        return PosteriorDraws(joined("latents", 1), joined("observed", 1), joined("means", 1), joined("data", 0))

    def _map(self, arrays: tuple[Any, ...], function: Any) -> dict[str, np.ndarray]:
        """A function of a batch that gives named tensors with a row per datum, over all data."""
        return join(self._each_batch(arrays, function))

    def _each_batch(self, arrays: tuple[Any, ...], function: Any, num_draws: int = 1) -> list[Any]:
        """A function of every batch of the data, with the seed's random numbers and the program as it evaluates."""
        named = self._for_fitted(arrays)
        with torch.no_grad(), seeded(self.seed), self.program_.scope(training=False):
            return [function(batch) for batch in self._batches(named, self._room.rows(num_draws)).in_order()]

    # ------------------------------------------------------------------------------------------- saving, loading

    def save(self, path: Path) -> None:
        """Write a checkpoint: the best parameters, and what training needs to go on."""
        tensors, numbers = self.training_.state()
        for name, rows in zip(self.arguments_, self.template_, strict=True):
            tensors[f"template.{name}"] = rows
        extra = {"program": self.program_.name, "train_seconds": self.train_seconds_}
        write_checkpoint(path, tensors, numbers | extra)

    def load_parameters(self, path: Path) -> VariationalInference:
        """Take the best parameters of a checkpoint.

        Raises:
            InputError: cut short, or of another program.
        """
        tensors, numbers = read_checkpoint(path)
        template = {name: rows.numpy() for name, rows in group(tensors, "template").items()}
        check_options(self)
        self._attach(template)
        best = group(tensors, "best")
        if not best:
            raise InputError(f"{path} has no finished epoch: go on with it, --resume, or fit anew, --overwrite")
        try:
            self.program_.load_state(self.template_, best)
        except InputError as error:
            raise InputError(f"{path} (a {numbers['program']}): {error}") from None
        self.train_seconds_ = numbers["train_seconds"]
        return self

    # ------------------------------------------------------------------------------------------------- data

    def _attach(self, arrays: Arrays, dynamic: Collection[str] = ()) -> None:
        """Bring the program to the device, and keep a few rows of data, from which its structure can be traced."""
        self.device_ = device(self.accelerator)
        self.program_ = self._make_program()
        self.program_.module.to(self.device_)
        floats = [p.dtype for p in self.program_.module.parameters() if p.is_floating_point()]
        self.dtype_ = floats[0] if floats else torch.get_default_dtype()
        self.arguments_ = self.program_.arguments(arrays.keys())
        few = {name: array[:8] for name, array in arrays.items()}
        self.template_ = next(self._batches(few, 8, dynamic).in_order())
        self.__dict__.pop("_measured", None)

    @property
    def _room(self) -> Room:
        """How many draws from the guide fit into a pass; measured once for a program and its data."""
        if not hasattr(self, "_measured"):
            with self.program_.scope(training=False):
                self._measured = room_for(partial(self.program_.log_weights, self.template_), len(self.template_[0]))
        return self._measured

    def _batches(self, arrays: Arrays, batch_size: int, dynamic: Collection[str] = ()) -> Batches:
        return Batches(
            arrays,
            self.arguments_,
            batch_size,
            device=self.device_,
            dtype=self.dtype_,
            dynamic=[name for name in dynamic if name in self.arguments_],
        )

    def _named(self, arrays: tuple[Any, ...], where: str) -> dict[str, np.ndarray]:
        """What a caller passed, as named arrays that have been checked."""
        return name_arrays(type(self).__name__, where, arrays, self._make_program().argument_names())

    def _for_fitted(self, arrays: tuple[Any, ...]) -> dict[str, np.ndarray]:
        """Data for a fitted program, each datum of the shape that it was fitted to."""
        check_is_fitted(self, "program_")
        named = self._named(arrays, "the data")
        for name, row in zip(self.arguments_, self.template_, strict=True):
            if name in named and named[name].shape[1:] != row.shape[1:]:
                raise InputError(
                    f"a datum of {name!r} has shape {named[name].shape[1:]}: expected {tuple(row.shape[1:])}, as in "
                    f"the fit; the first dimension counts the data"
                )
        return named

    def _make_program(self) -> Program:
        """The program, made once, so that a second fit goes on from the first."""
        if isinstance(self.program, Program):
            return self.program
        if getattr(self, "_made_from", _NOTHING) is not self.program:
            parts = self.program if isinstance(self.program, tuple) else (self.program,)
            self._made = Program(*parts, data_plate=self.data_plate)
            self._made_from: Any = self.program
        return self._made
