"""``VariationalInference``: fit, transform, score_samples, sample."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ppl_vae.data import Batches, hold_out, name_arrays
from ppl_vae.errors import InputError
from ppl_vae.estimator.options import FitOptions, HardwareOptions, check_options, device, method_options, with_options
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evaluation.fitted import Arrays, Fitted, make_batches
from ppl_vae.evaluation.passes import ROWS_PER_PASS, visits
from ppl_vae.evaluation.results import PosteriorDraws, PriorDraws, single
from ppl_vae.evaluation.validation import validation_bound
from ppl_vae.evidence import Evidence
from ppl_vae.inference import (
    METHODS,
    NUMBER,
    AmortizedOptions,
    Compile,
    Compiler,
    Epoch,
    LocalOptions,
    Method,
    Step,
    Training,
    TrainingOptions,
    group,
)
from ppl_vae.inference.options import options_of
from ppl_vae.program import (
    Batch,
    BoundProgram,
    Program,
    check,
    check_batch,
    check_model,
    check_observations,
    check_parts,
    fp32_products,
    seeded,
)
from ppl_vae.runs import read_checkpoint, read_tables, write_checkpoint, write_tables

_NOTHING = object()
BF16_TOLERANCE = 0.1
"""How far, relative to its size, a graph may be off where bfloat16 is rounded at other places."""


@with_options
class VariationalInference(BaseEstimator):
    """Fit a Pyro program by variational inference.

    The program's modules are trained in place, as in PyTorch; what is fitted besides ends in an underscore.

    Args:
        program: an object with ``model`` and ``guide``, a ``Program``, or a pair of functions.
        guide: the method of inference. "amortized" (the default) trains the program's own guide by stochastic
            variational inference; if the program has none, an encoder is derived from the model. "per-sample" has no
            encoder: gradient steps find the lambda of every datum. "semi-amortized" starts these steps at the encoder's
            output.
        **options: see the dataclasses of options; their help stands here.

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
            train, valid = hold_out(train, options_of(self, FitOptions).validation_fraction, self.seed)
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
        with seeded(self.seed):  # initial values of pyro.param, and of an encoder that is derived
            self._attach(train, dynamic, train=True)
            check(self.inference_.posterior, self.fitted.begun)
        if not self.program_.parameters():
            raise InputError(
                f"{self.program_.name} has no parameters to train: guide={self.guide!r} trains those of the model "
                f"alone; give it one with pyro.param, or fit its guide, --guide amortized, and evaluate "
                f"--proposal per-sample"
            )
        method, num_valid = self.inference_, len(next(iter(valid.values()))) if valid else 0
        options = options_of(self, TrainingOptions)
        batch_size = options.batch_size
        self._train_batches = self._batches(self._numbered(train), batch_size, dynamic)
        self._valid_batches = self._batches(self._numbered(valid), ROWS_PER_PASS) if valid else None
        self._check_batches(self._batches(train, ROWS_PER_PASS, dynamic))
        if valid:
            self._check_batches(self._batches(valid, ROWS_PER_PASS))
        sizes = {min(batch_size, self._train_batches.num_data), self._train_batches.num_data % batch_size}
        for size in sizes - {0}:
            first = {name: array[:size] for name, array in train.items()}
            check_batch(method.posterior, method.begin(next(self._batches(first, size, dynamic).in_order())))
        method.remember(self._train_batches.num_data, num_valid)
        parts = (self._train_batches, self._valid_batches)
        method.compiler.plan(visits([part.sizes() for part in parts if part], self.max_epochs))
        self.training_: Training = Training(
            self.program_,
            self.template_,
            self._steps,
            options if valid else replace(options, patience=None),
            warmup=method_options(self).kl_warmup_epochs,
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
            epoch = self.training_.epoch
            for part, left in read_tables(resume, epoch, tuple(method.tables)).items():
                method.tables[part].restore(epoch, left)

    def _steps(self, _: BoundProgram, batches: Iterable[Batch], optimizer: torch.optim.Optimizer) -> Iterator[Step]:
        """An epoch of training."""
        with fp32_products(options_of(self, HardwareOptions).matmul_precision, self.fitted.device):
            yield from self.inference_.steps(batches, optimizer, self.training_.epoch + 1)

    def compiles(self) -> str:
        """Report if the steps of training are compiled, and why, as the end of a sentence."""
        sizes = self._train_batches.sizes()
        return self.inference_.describe_compilation(max(sizes, key=lambda rows: sizes[rows]))

    def check_data(self, *arrays: Any) -> None:
        """Raise ``InputError`` where a datum has no density under the program: grey values under a Bernoulli."""
        self._check_batches(self._batches(self.fitted.checked(arrays), ROWS_PER_PASS))

    def _check_batches(self, batches: Batches) -> None:
        row = 0
        for batch in batches.in_order(batch_size=ROWS_PER_PASS):
            check_observations(self.inference_.posterior, self.inference_.begin(batch), row)
            row += len(batch[0])

    def _numbered(self, arrays: Arrays) -> Arrays:
        """Data, with the number of each row where the method remembers it."""
        if not self.inference_.numbered:
            return arrays
        return {**arrays, NUMBER: np.arange(len(next(iter(arrays.values()))))}

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
        method, epoch = self.inference_, self.training_.epoch + 1
        with torch.no_grad(), method.posterior.running(seed=self.seed, training=False):
            return validation_bound(
                method.posterior,
                (method.validate(batch, epoch) for batch in self._valid_batches.in_order()),
                self._valid_batches.num_data,
                num_particles=method_options(self).num_particles,
                bound=options_of(self, AmortizedOptions).bound,
                room=self.fitted.room,
            )

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
        """Estimate the log evidence of every datum, with its Monte Carlo error and what to doubt, nats.

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
        """Estimate how well data are explained: log evidence by several estimators, ELBO, errors, what to doubt.

        Args:
            arrays: the data.
            estimators: as in ``evidence``; by default iwae, and exact if it is known.
            diagnostics: If True, report too how the latents are used.
            settings: fields of ``Settings``.
        """
        return self.fitted.evaluate(*arrays, estimators=estimators, diagnostics=diagnostics, **settings)

    def sample(self, num_data: int, *, mean: bool = False, **conditions: Any) -> Any:
        """Draw data from the prior predictive, ``(num_data, ...)``; a dictionary if several sites are observed.

        Args:
            num_data: the number of data.
            mean: If True, return the mean of x given z instead of a draw of x.
            conditions: as in ``prior``.

        Raises:
            InputError: as in ``prior``.
        """
        draws = self.prior(num_data, **conditions)
        return single(draws.means if mean else draws.observed)

    def prior(self, num_data: int, **conditions: Any) -> PriorDraws:
        """Draw latents from the prior, and data given them.

        Args:
            num_data: the number of data.
            conditions: arrays that the model is conditioned on, such as labels: one value for all data, or one for
                each; by default those of the first data of the fit, over and over. Or latents by name, which then are
                not drawn.

        Raises:
            InputError: bad conditions, or a model that does not generate: it computes with the data that it observes.
        """
        return self.fitted.prior(num_data, **conditions)

    def reconstruct(self, *arrays: Any) -> Any:
        """Return the posterior-predictive mean of data, ``(N, ...)``; a dictionary if several sites are observed."""
        return self.fitted.reconstruct(*arrays)

    def observed(self, *arrays: Any) -> dict[str, np.ndarray]:
        """Return what the observed sites observe of data, ``(N, ...)`` by site."""
        return self.fitted.observed(*arrays)

    def posterior(self, *arrays: Any, num_samples: int) -> PosteriorDraws:
        """Draw latents from the guide, and data given them."""
        return self.fitted.posterior(*arrays, num_samples=num_samples)

    # ------------------------------------------------------------------------------------------- saving, loading

    def save(self, path: Path) -> None:
        """Write a checkpoint: the best parameters, and what training needs to go on."""
        tensors, numbers = self.training_.state()
        for name, rows in zip(self.arguments_, self.template_, strict=True):
            tensors[f"template.{name}"] = rows
        epoch, tables = self.training_.epoch, self.inference_.tables
        extra = {"program": self.program_.name, "train_seconds": self.train_seconds_}
        with write_tables(path, epoch, {part: table.after(epoch) for part, table in tables.items()}):
            write_checkpoint(path, tensors, numbers | extra)

    def load_parameters(self, path: Path) -> VariationalInference:
        """Take the best parameters of a checkpoint.

        Raises:
            InputError: cut short, or of another program.
        """
        tensors, numbers = read_checkpoint(path)
        template = {name: rows.numpy() for name, rows in group(tensors, "template").items()}
        check_options(self)
        with seeded(None):  # what a derived encoder draws is replaced, and no other thread draws in between
            self._attach(template, train=False)
        best = group(tensors, "best")
        if not best:
            raise InputError(f"{path} has no finished epoch: go on with it, --resume, or fit anew, --overwrite")
        try:
            self.program_.load_state(best)
        except InputError as error:
            raise InputError(f"{path} (a {numbers['program']}): {error}") from None
        self.train_seconds_ = numbers["train_seconds"]
        return self

    # ----------------------------------------------------------------------------------------------- composition

    @property
    def fitted(self) -> Fitted:
        """The fitted program, to be applied to data under this object's present options."""
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
        """Bring the program to the device, keep a few rows of data as its template, and make the method.

        A method that was made before, with the same options, goes on.
        """
        hardware = options_of(self, HardwareOptions)
        place, is_double = device(hardware.accelerator), hardware.precision == "64-true"
        program = self._make_program()
        program.store.precision = hardware.precision
        program.module.to(place, torch.float64 if is_double else None)
        floats = [p.dtype for p in program.module.parameters() if p.is_floating_point()]
        fallback = torch.float64 if is_double else torch.get_default_dtype()
        dtype = floats[0] if floats else fallback
        arguments = program.arguments(arrays.keys())
        few = {name: array[:8] for name, array in arrays.items()}
        template = next(make_batches(few, arguments, 8, place, dtype, dynamic).in_order())

        options, kind = method_options(self), METHODS[self.guide]
        made = (program, self.guide, options)
        if getattr(self, "_inferred_by", None) == made:
            method = self.fitted_.inference
        else:
            columns = [arrays[name] for name in arguments] if train else None
            own_guide = kind.uses_guide and not kind.lambda_is_data and program.guide is not None
            bound = program.bind(
                template,
                precision=hardware.precision,
                guided=kind.uses_guide,
                num_data=len(columns[0]) if columns else 1,
                check=(check_parts if own_guide else check_model) if train else None,
            )
            method = kind(bound, template, options, columns)
            self._inferred_by = made
        method.compiler = Compiler(
            hardware.compile, tolerance=BF16_TOLERANCE if hardware.precision == "bf16-mixed" else None
        )
        if train and (shared := method.program.global_posterior) is not None:
            shared.num_data.fill_(len(next(iter(arrays.values()))))  # a second fit may have other data
        self.fitted_ = Fitted(
            method,
            arguments,
            template,
            place,
            dtype,
            options_of(self, LocalOptions),
            self.num_samples,
            self.seed,
            self.compile,
        )

    def _batches(self, arrays: Arrays, batch_size: int, dynamic: Collection[str] = ()) -> Batches:
        """Return batches of the model's arguments, and behind them the rows' numbers if they are given."""
        fitted = self.fitted
        return make_batches(arrays, fitted.arguments, batch_size, fitted.device, fitted.dtype, dynamic)

    def _named(self, arrays: tuple[Any, ...], where: str) -> dict[str, np.ndarray]:
        """Return what a caller passed as named arrays that have been checked."""
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
        """The program, made once, so that a second fit goes on from the first."""
        if isinstance(self.program, Program):
            return self.program
        if getattr(self, "_made_from", _NOTHING) is not self.program:
            parts = self.program if isinstance(self.program, tuple) else (self.program,)
            self._made = Program(*parts, data_plate=options_of(self, FitOptions).data_plate)
            self._made_from: Any = self.program
        return self._made
