"""The estimator ``VariationalInference``, with the methods fit, transform, score_samples and sample."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ppl_vae.data import hold_out, name_arrays
from ppl_vae.errors import InputError, InputWarning
from ppl_vae.estimator.options import FitOptions, check_options, method_options, with_options
from ppl_vae.estimator.preparation import Preparation, attach, check_densities, describe_left_out
from ppl_vae.estimator.warrant import check_program, name_program
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evaluation.fitted import Arrays, Fitted
from ppl_vae.evaluation.results import PosteriorDraws, PriorDraws, single
from ppl_vae.evidence import Evidence
from ppl_vae.inference import Compile, Epoch, LocalOptions, Method, Training, group
from ppl_vae.inference.options import options_of
from ppl_vae.program import Batch, BoundProgram, Program, check, seeded
from ppl_vae.runs import Fingerprints, check_numbers, read_checkpoint, write_checkpoint, write_tables

_NOTHING = object()


@with_options
class VariationalInference(BaseEstimator):
    """Fit a Pyro program by variational inference.

    The program's modules are trained in place, as in PyTorch. The names of all other fitted attributes end in an
    underscore.

    Args:
        program: an object with ``model`` and ``guide``, a ``Program``, or a pair of functions.
        guide: the method of inference. "amortized" (the default) trains the program's own guide by stochastic
            variational inference; if the program has none, an encoder is derived from the model. "per-sample" has no
            encoder: gradient steps find the lambda of every datum. "semi-amortized" starts these steps at the encoder's
            output.
        **options: the options of all dataclasses; this line is replaced by their help.

    Example:
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> x = np.random.default_rng(0).normal(size=(200, 5)).astype("float32")
        >>> vi = VariationalInference(FactorAnalysis(data_dim=5, latent_dim=2), max_epochs=20, num_samples=100)
        >>> vi.fit(x).transform(x).shape
        (200, 2)
        >>> vi.score_samples(x).shape, vi.sample(7).shape, vi.reconstruct(x).shape
        ((200,), (7, 5), (200, 5))
    """

    fitted_: Fitted
    fingerprints_: Fingerprints | None = None  # those of the run folder, if there is one

    guide: str
    max_epochs: int
    num_samples: int
    seed: int
    compile: Compile

    def __init__(self, program: Any, guide: str = "amortized", **options: Any) -> None:
        given = inspect.signature(VariationalInference.__init__).bind(self, program, guide, **options)
        given.apply_defaults()
        for name, value in list(given.arguments.items())[1:]:
            setattr(self, name, value)

    # ------------------------------------------------------------------------------------------------- fitting

    def fit(self, *arrays: Any, validation: Any = None) -> VariationalInference:
        """Fit to data, and keep the parameters with the best validation ELBO.

        Args:
            arrays: one array with a row per datum for each argument of ``model``, in their order; or one mapping from
                names to arrays. An array that the model does not name is reported by an ``InputWarning``.
            validation: the validation data in the same form; if None, a ``validation_fraction`` of the data is held
                out.

        Raises:
            InputError: the data are invalid, or the program does not pass its check.
            Diverged: the loss is not finite.
        """
        train: Arrays = self._named(arrays, "fit")
        if validation is not None:
            given = validation if isinstance(validation, tuple) else (validation,)
            valid: Arrays | None = self._named(given, "validation")
        else:
            train, valid = hold_out(train, options_of(self, FitOptions).validation_fraction, self.seed)
        self.prepare(train, valid)
        if self.left_out_:
            warnings.warn(self.left_out_, InputWarning, stacklevel=2)
        for _ in self.epochs():
            pass
        return self

    def prepare(
        self, train: Arrays, valid: Arrays | None = None, *, dynamic: Collection[str] = (), resume: Path | None = None
    ) -> None:
        """Do all that can fail before training: check options, data and program, and put the data on the device.

        Args:
            train: named arrays.
            valid: named arrays that decide when to stop; None trains to ``max_epochs``.
            dynamic: names of arrays of probabilities, from which bits are drawn anew in every epoch.
            resume: a checkpoint from which training continues.
        """
        check_options(self)
        with seeded(self.seed):  # initial values of pyro.param and of a derived encoder
            self._attach(train, dynamic, train=True)
            check(self.inference_.posterior, self.fitted.begun)
        self.left_out_ = describe_left_out(self.fitted, train)
        if not self.program_.parameters():
            raise InputError(
                f"{self.program_.name} has no parameters to train: guide={self.guide!r} trains those of the model "
                f"alone; give it one with pyro.param, or fit its guide, --guide amortized, and evaluate "
                f"--proposal per-sample"
            )
        self._prepared = Preparation(self.fitted, self, train, valid, dynamic)
        self.train_seconds_ = 0.0 if resume is None else self._prepared.resume(resume, self.fingerprints_)

    @property
    def training_(self) -> Training:
        """The training loop of the fit that was prepared."""
        return self._prepared.training

    def compiles(self) -> str:
        """Report if the steps of training are compiled, and why, as the end of a sentence."""
        return self._prepared.describe_compilation()

    def check_data(self, *arrays: Any) -> None:
        """Raise ``InputError`` if a datum has no density under the program, such as grey values under a Bernoulli."""
        check_densities(self.fitted, self.fitted.batches(self.fitted.checked(arrays)))

    def epochs(self) -> Iterator[Epoch]:
        """Train after ``prepare``, and yield after every epoch. The caller prints, saves and stops.

        At the end, or if the caller stops, the program has the parameters with the best validation ELBO.
        """
        started, before = time.perf_counter(), self.train_seconds_
        for epoch in self._prepared.epochs():
            self.train_seconds_ = before + time.perf_counter() - started
            yield epoch

    # ------------------------------------------------------------------------------------------------- application

    @property
    def has_latents(self) -> bool:
        """True if there is a posterior to look at: latents that a guide samples."""
        return self.fitted.has_latents

    @property
    def generates(self) -> bool:
        """True if the model draws data without looking at the data that it observes."""
        return self.fitted.generates

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names that draws can be conditioned on: arguments of the model that no site observes, and its latents."""
        return self.fitted.conditions

    def transform(self, *arrays: Any) -> np.ndarray:
        """Return posterior means of the latents, ``(N, D)``; several sites are flattened and joined."""
        return self.fitted.transform(*arrays)

    def score_samples(self, *arrays: Any) -> np.ndarray:
        """Return the importance-sampled log evidence of every datum, ``(N,)``, nats."""
        return self.evidence(*arrays).log_evidence.numpy()

    def score(self, *arrays: Any) -> float:
        """Return the mean of ``score_samples``, nats per datum; higher is better."""
        return float(self.score_samples(*arrays).mean())

    def evidence(self, *arrays: Any, estimator: str = "iwae", **settings: Any) -> Evidence:
        """Estimate the log evidence of every datum in nats, with its Monte Carlo error and its doubts.

        Args:
            arrays: the data.
            estimator: "prior", "iwae", "cubo", "ais", "bdmc" (of simulated data) or "exact".
            settings: fields of ``Settings``: num_samples, proposal_scale, num_temperatures and so on.

        Returns:
            Evidence: with the effective number of draws, each ``(N,)``.
        """
        return self.evaluate(*arrays, estimators=(estimator,), **settings).evidence[estimator]

    def evaluate(
        self, *arrays: Any, estimators: Collection[str] | None = None, diagnostics: bool = False, **settings: Any
    ) -> Evaluation:
        """Estimate how well data are explained: log evidence by several estimators, ELBO, errors and doubts.

        Args:
            arrays: the data.
            estimators: names as in ``evidence``; by default iwae, and exact if it is known.
            diagnostics: If True, report the use of the latents as well.
            settings: fields of ``Settings``.
        """
        return self.fitted.evaluate(*arrays, estimators=estimators, diagnostics=diagnostics, **settings)

    def sample(self, num_data: int, *arrays: Any, mean: bool = False, **conditions: Any) -> Any:
        """Draw data from the prior predictive, ``(num_data, ...)``; a dictionary if several sites are observed.

        Args:
            num_data: the number of data.
            arrays: as in ``prior``.
            mean: If True, return the mean of x given z instead of a draw of x; the probabilities of the classes if x
                are classes.
            conditions: as in ``prior``.

        Raises:
            InputError: as in ``prior``.
        """
        draws = self.prior(num_data, *arrays, **conditions)
        return single(draws.means if mean else draws.observed)

    def prior(self, num_data: int, *arrays: Any, **conditions: Any) -> PriorDraws:
        """Draw latents from the prior, and data given them.

        Args:
            num_data: the number of data.
            arrays: data whose totals new data have, one after the other, if the model draws counts with a total, as a
                multinomial does; by default the first data of the fit, repeated.
            conditions: arrays that the model is conditioned on, such as labels, with one value for all data or one for
                each datum; by default the values of the first data of the fit, repeated. Or values of latents by name,
                which then are not drawn.

        Raises:
            InputError: the conditions are invalid, or the model does not generate: it computes with the data that it
                observes.
        """
        return self.fitted.prior(num_data, *arrays, **conditions)

    def reconstruct(self, *arrays: Any) -> Any:
        """Return the posterior-predictive mean of data, ``(N, ...)``; a dictionary if several sites are observed.

        Data that are classes have no mean: for them, return the probabilities of the classes, ``(N, ..., C)``.
        """
        return self.fitted.reconstruct(*arrays)

    def observed(self, *arrays: Any) -> dict[str, np.ndarray]:
        """Return the data as the observed sites observe them, ``(N, ...)`` by site."""
        return self.fitted.observed(*arrays)

    def posterior(self, *arrays: Any, num_samples: int) -> PosteriorDraws:
        """Draw latents from the guide, and data given them; latents that all data share are in ``shared``."""
        return self.fitted.posterior(*arrays, num_samples=num_samples)

    # ------------------------------------------------------------------------------------------- saving, loading

    def save(self, path: Path) -> None:
        """Write a checkpoint: the best parameters, and the state from which training continues."""
        tensors, numbers = self.training_.state()
        for name, rows in zip(self.arguments_, self.template_, strict=True):
            tensors[f"template.{name}"] = rows
        epoch, tables = self.training_.epoch, self.inference_.tables
        numbers |= {"train_seconds": self.train_seconds_} | name_program(self.program_, self.fingerprints_)
        with write_tables(path, epoch, {part: table.after(epoch) for part, table in tables.items()}) as digests:
            write_checkpoint(path, tensors, numbers | {"tables": digests})

    def load_parameters(self, path: Path) -> VariationalInference:
        """Load the best parameters of a checkpoint.

        Raises:
            InputError: the checkpoint is damaged, or belongs to another program.
        """
        tensors, numbers = read_checkpoint(path)
        check_numbers(path, numbers)
        template = {name: rows.numpy() for name, rows in group(tensors, "template").items()}
        check_options(self)
        with seeded(None):  # no other thread draws in between; what a derived encoder draws is replaced
            self._attach(template, train=False)
        best = group(tensors, "best")
        if not best:
            raise InputError(f"{path} has no finished epoch: go on with it, --resume, or fit anew, --overwrite")
        try:
            self.program_.load_state(best)
        except InputError as error:
            raise InputError(f"{path} (a {numbers['program']}): {error}") from None
        check_program(path, numbers, self.program_, self.fingerprints_)
        self.train_seconds_ = numbers["train_seconds"]
        return self

    # ----------------------------------------------------------------------------------------------- composition

    @property
    def fitted(self) -> Fitted:
        """The fitted program, which is applied to data with the present options of this object."""
        check_is_fitted(self, "fitted_")
        fitted: Fitted = self.fitted_
        fitted.options = options_of(self, LocalOptions)
        fitted.num_samples, fitted.seed = self.num_samples, self.seed
        fitted.compile, fitted.train_seconds = self.compile, getattr(self, "train_seconds_", math.nan)
        return fitted

    @property
    def program_(self) -> BoundProgram:
        """The program that was trained."""
        return self.fitted.program

    @property
    def inference_(self) -> Method:
        """The method of inference."""
        return self.fitted.inference

    @property
    def arguments_(self) -> tuple[str, ...]:
        """Names of the arrays that the model takes."""
        return self.fitted.arguments

    @property
    def template_(self) -> Batch:
        """A few data, on the device."""
        return self.fitted.template

    def _attach(self, arrays: Arrays, dynamic: Collection[str] = (), *, train: bool) -> None:
        """Bring the program to the device, and make the method unless there is one with the same options."""
        made_of = (self._make_program(), self.guide, method_options(self))
        method = self.fitted_.inference if getattr(self, "_made_of", None) == made_of else None
        self.fitted_ = attach(made_of[0], self, arrays, dynamic, train=train, method=method)
        self._made_of = made_of

    def _named(self, arrays: tuple[Any, ...], where: str) -> dict[str, np.ndarray]:
        """Return a caller's data as named arrays that have been checked."""
        return name_arrays(type(self).__name__, where, arrays, self.argument_names)

    @property
    def argument_names(self) -> tuple[str, ...]:
        """Names of all arguments of the model."""
        return self._make_program().argument_names

    @property
    def template(self) -> dict[str, np.ndarray]:
        """The few data that a fit keeps, by the names of the model's arguments."""
        return {name: row.cpu().numpy() for name, row in zip(self.arguments_, self.template_, strict=True)}

    def _make_program(self) -> Program:
        """Return the program, which is made once, so that a second fit continues from the first."""
        if isinstance(self.program, Program):
            return self.program
        if getattr(self, "_made_from", _NOTHING) is not self.program:
            parts = self.program if isinstance(self.program, tuple) else (self.program,)
            self._made = Program(*parts, data_plate=options_of(self, FitOptions).data_plate)
            self._made_from: Any = self.program
        return self._made
