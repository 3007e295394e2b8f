"""What one does with a fitted program: posterior means, evidence, draws, reconstructions."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ppl_vae.data import Batches, as_condition, name_arrays
from ppl_vae.errors import InputError, nearest
from ppl_vae.evaluation.estimators import Settings, check_estimators, estimators_for, make_settings
from ppl_vae.evaluation.evaluate import evaluate_program
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evaluation.passes import ROWS_PER_PASS, Room, room_for
from ppl_vae.evaluation.results import PosteriorDraws, PriorDraws, join, single
from ppl_vae.evidence import Evidence
from ppl_vae.inference import Compile, Compiler
from ppl_vae.inference.methods import LAMBDA, NUMBER, Inference, Local, proposal, random_latents
from ppl_vae.program import (
    Batch,
    Draws,
    Program,
    generates,
    observed_arguments,
    posterior_moments,
    predict,
    seeded,
)

Arrays = Mapping[str, np.ndarray]


class Fitted(BaseEstimator):
    """A program whose parameters are there; ``VariationalInference`` finds them.

    Attributes:
        program_: what was trained.
        inference_: how lambda is found for data.
        arguments_: names of the arrays that the model takes.
        template_: a few data.
        device_: where they are.
        dtype_: of real numbers.
    """

    num_samples: int
    seed: int
    compile: Compile
    program_: Program
    inference_: Inference
    arguments_: tuple[str, ...]
    template_: Batch
    device_: torch.device
    dtype_: torch.dtype

    @property
    def has_latents(self) -> bool:
        """Whether there is a posterior to look at: latents that a guide samples."""
        check_is_fitted(self, "program_")
        return bool(random_latents(self.program_, self.template_))

    @property
    def generates(self) -> bool:
        """Whether the model draws data without looking at those that it observes."""
        check_is_fitted(self, "program_")
        return generates(self.program_, self.template_)

    def transform(self, *arrays: Any) -> np.ndarray:
        """Posterior means of the latents, ``(N, D)``; several sites are flattened and joined."""
        check_is_fitted(self, "program_")
        if not self.has_latents:
            raise InputError(f"{self.program_.name} has no latents to transform to that a guide samples")
        means = self._map(arrays, lambda program, batch: posterior_moments(program, batch).mean)
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
        chosen, method = make_settings({"num_samples": self.num_samples} | settings), self.inference_
        named = self.checked(arrays)
        names = (
            estimators_for(self.program_, self.template_) if estimators is None else tuple(dict.fromkeys(estimators))
        )
        check_estimators(names, chosen)
        if chosen.proposal == "per-sample":
            method = proposal(self.program_, self.template_, self.local_options(), chosen.proposal_family)
            method.compiler = Compiler(self.compile)
        started = time.perf_counter()
        program, data = self._localised(named, method)
        seconds = time.perf_counter() - started if method.local else None
        evaluation = evaluate_program(
            program,
            method.begin(self.template_),
            self._batches(data, ROWS_PER_PASS),
            names,
            chosen,
            diagnostics=diagnostics,
            seed=self.seed,
            compiler=self._evaluator(chosen),
        )
        return evaluation._replace(inference_seconds=seconds)

    def sample(self, num_data: int, *, mean: bool = False, **conditions: Any) -> Any:
        """Draws from the prior predictive, ``(num_data, ...)``; a dictionary where several sites are observed.

        Args:
            num_data: how many.
            mean: the mean of x given z in place of a draw of x.
            conditions: as of ``prior``.

        Raises:
            InputError: as of ``prior``.
        """
        draws = self.prior(num_data, **conditions)
        return single(draws.means if mean else draws.observed)

    def prior(self, num_data: int, **conditions: Any) -> PriorDraws:
        """Draws of the latents from the prior, and of data given them.

        Args:
            num_data: how many.
            conditions: arrays that the model is conditioned on, such as labels, one value for all or one for each, else
                those of the first data seen, over and over; or latents by name, which then are not drawn.

        Raises:
            InputError: bad conditions, or a model that does not generate: it computes with the data that it observes.
        """
        check_is_fitted(self, "program_")
        if not isinstance(num_data, int | np.integer) or num_data < 1:
            raise InputError(f"num_data is {num_data!r}: expected a whole number, 1 or more")
        if not self.generates:
            raise InputError(
                f"{self.program_.name} does not generate: its model computes with the data that it observes, so that "
                f"draws would be reconstructions of these; call reconstruct"
            )
        batch = self.conditioned(num_data, conditions)
        with torch.no_grad(), seeded(self.seed), self.program_.scope(training=False):
            named = set(conditions) - set(self.arguments_)
            like = self.program_.prior(self.template_).latents if named else {}
            latents = {name: as_condition(name, conditions[name], like[name][0], num_data)[None] for name in named}
            draws = predict(self.program_, batch, latents)
        return PriorDraws(
            *({k: v[0].cpu().numpy() for k, v in part.items()} for part in (draws.latents, draws.observed, draws.means))
        )

    def conditioned(self, num_data: int, conditions: Mapping[str, Any]) -> Batch:
        """A batch of so many data under these conditions; what it holds of data that are observed does not count.

        Raises:
            InputError: as of ``prior``.
        """
        known = self.conditions
        for name in conditions.keys() - set(known):
            if name in self.arguments_:
                raise InputError(
                    f"the model draws {name!r}, so that it is no condition; conditions: {', '.join(known) or 'none'}"
                )
            raise InputError(f"the model takes no condition {name!r}; {nearest(name, known)}")
        return tuple(
            as_condition(name, conditions[name], row, num_data)
            if name in conditions
            else row[torch.arange(num_data) % len(row)]
            for name, row in zip(self.arguments_, self.template_, strict=True)
        )

    @property
    def conditions(self) -> tuple[str, ...]:
        """What draws can be conditioned on: arguments of the model that no site observes, and its latents."""
        check_is_fitted(self, "program_")
        observed = observed_arguments(self.program_, self.template_)
        free = [name for name, is_observed in zip(self.arguments_, observed, strict=True) if not is_observed]
        return (*free, *(name for name in self.program_.structure(self.template_).latents if name not in free))

    def reconstruct(self, *arrays: Any) -> Any:
        """Posterior-predictive mean of data, ``(N, ...)``; a dictionary where several sites are observed."""

        def means(program: Program, batch: Batch) -> dict[str, Tensor]:
            num_draws = min(64, self.room.draws(len(batch[0])))
            return {name: mean.mean(0) for name, mean in program.posterior(batch, num_draws).means.items()}

        return single(self._map(arrays, means))

    def observed(self, *arrays: Any) -> dict[str, np.ndarray]:
        """What the observed sites observe of data, ``(N, ...)`` by site."""
        batches = self.batches(self.checked(arrays))
        with torch.no_grad(), seeded(self.seed), self.program_.scope(training=False):
            return join([self.program_.prior(batch).data for batch in batches.in_order()])

    def posterior(self, *arrays: Any, num_samples: int) -> PosteriorDraws:
        """Draws of the latents from the guide, and of the data given them."""
        draw = partial(Program.posterior, num_samples=num_samples)
        parts: list[Draws] = self.each_batch(arrays, draw, num_samples)

        def joined(field: str, axis: int) -> dict[str, np.ndarray]:
            return join([getattr(part, field) for part in parts], axis)

        return PosteriorDraws(joined("latents", 1), joined("observed", 1), joined("means", 1), joined("data", 0))

    def _map(self, arrays: tuple[Any, ...], function: Any) -> dict[str, np.ndarray]:
        """A function of a program and a batch that gives named tensors with a row per datum, over all data."""
        return join(self.each_batch(arrays, function))

    def each_batch(self, arrays: tuple[Any, ...], function: Any, num_draws: int = 1) -> list[Any]:
        """What a function of a program and a batch answers for every batch of data, so small that draws find room.

        The program is that to look at data with: it has a fitted guide, evaluates and is in its scope. Where lambda is
        local, it has been found, and is the last tensor of a batch. Random numbers are the seed's.
        """
        program, data = self._localised(self.checked(arrays))
        with torch.no_grad(), seeded(self.seed), program.scope(training=False):
            return [function(program, batch) for batch in self._batches(data, self.room.rows(num_draws)).in_order()]

    def batches(self, arrays: Arrays) -> Batches:
        """Data as the model takes them, on the device."""
        return self._batches(arrays, ROWS_PER_PASS)

    def _localised(self, arrays: Arrays, method: Inference | None = None) -> tuple[Program, Arrays]:
        """The program to look at data with, and the data; where lambda is local, it is found, and is one of them."""
        method = method or self.inference_
        if not method.local:
            return method.posterior, arrays
        batches = self.batches(arrays)
        method.compiler.plan(batches.sizes())
        with seeded(self.seed):
            found = [method.infer(batch)[-1].cpu() for batch in batches.in_order()]
        return method.posterior, {**arrays, LAMBDA: torch.cat(found).numpy()}

    def _evaluator(self, settings: Settings) -> Compiler:
        """Of graphs for estimates with these settings; kept, so that the next evaluation has them."""
        if getattr(self, "_evaluators_of", None) is not self.inference_:
            self._evaluators: dict[Any, Compiler] = {}
            self._evaluators_of = self.inference_
        return self._evaluators.setdefault((self.compile, settings), Compiler(self.compile))

    def local_options(self) -> Local:
        """How lambda is found."""
        return Local(**{name: getattr(self, name) for name in Local.__dataclass_fields__})

    @property
    def argument_names(self) -> tuple[str, ...]:
        """Names of all arguments of the model."""
        return self._make_program().argument_names()

    @property
    def template(self) -> dict[str, np.ndarray]:
        """The few data that a fit keeps, by the names of the model's arguments."""
        check_is_fitted(self, "program_")
        return {name: row.cpu().numpy() for name, row in zip(self.arguments_, self.template_, strict=True)}

    @property
    def begun(self) -> Batch:
        """The template as ``inference_.posterior`` takes it."""
        return self.inference_.begin(self.template_)

    @property
    def room(self) -> Room:
        """How many draws from the guide fit into a pass; measured once for a program and its data."""
        if not hasattr(self, "_measured"):
            program, batch = self.inference_.posterior, self.begun
            with program.scope(training=False):
                self._measured = room_for(partial(program.log_weights, batch), len(batch[0]))
        return self._measured

    def _batches(self, arrays: Arrays, batch_size: int, dynamic: Collection[str] = ()) -> Batches:
        """Batches of the model's arguments, and behind them lambda or the rows' numbers where they are given."""
        return Batches(
            arrays,
            (*self.arguments_, *(name for name in (LAMBDA, NUMBER) if name in arrays)),
            batch_size,
            device=self.device_,
            dtype=self.dtype_,
            dynamic=[name for name in dynamic if name in self.arguments_],
        )

    def _named(self, arrays: tuple[Any, ...], where: str) -> dict[str, np.ndarray]:
        """What a caller passed, as named arrays that have been checked."""
        return name_arrays(type(self).__name__, where, arrays, self.argument_names)

    def checked(self, arrays: tuple[Any, ...]) -> dict[str, np.ndarray]:
        """Data as named arrays, each datum of the shape that the program was fitted to.

        Raises:
            InputError: bad data, or data of another shape.
        """
        check_is_fitted(self, "program_")
        named = self._named(arrays, "the data")
        for name, row in zip(self.arguments_, self.template_, strict=True):
            if name in named and named[name].shape[1:] != row.shape[1:]:
                raise InputError(
                    f"a datum of {name!r} has shape {named[name].shape[1:]}: expected {tuple(row.shape[1:])}, as in "
                    f"the fit; the first dimension counts the data"
                )
        return named
