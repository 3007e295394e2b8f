"""The estimator ``VariationalInference``, with the methods fit, transform, score_samples and sample."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.data import Holes, hold_out, name_arrays
from ppl_vae.data.frames import match_columns
from ppl_vae.data.source import NamedArrays
from ppl_vae.display import bars
from ppl_vae.errors import InputError, InputWarning
from ppl_vae.estimator import state
from ppl_vae.estimator.application import Application
from ppl_vae.estimator.holes import look_for_holes
from ppl_vae.estimator.judged import with_target
from ppl_vae.estimator.options import FitOptions, check_options, method_options, with_options
from ppl_vae.estimator.origin import Origin
from ppl_vae.estimator.preparation import Preparation, Watch, describe_arguments, make_fitted
from ppl_vae.estimator.progress import FitProgress
from ppl_vae.estimator.shared_folder import write_shared
from ppl_vae.estimator.single_file import write_fit
from ppl_vae.estimator.usual_names import describe_unknown
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evaluation.fitted import Arrays
from ppl_vae.inference import Epoch, Training
from ppl_vae.inference.options import options_of
from ppl_vae.inference.rate_search import RateSearch
from ppl_vae.program import seeded
from ppl_vae.program.sites import describe_structure
from ppl_vae.runs import Fingerprints


@with_options
class VariationalInference(Application):
    """Fit a Pyro program by variational inference.

    The modules of a program that is an object are trained in place, as in PyTorch, and another ``fit`` goes on from
    where the last one ended. A clone, as cross-validation makes it, starts where the program was before its first fit.
    The names of all other fitted attributes end in an underscore.

    Args:
        program: an object with ``model`` and ``guide``, a ``Program``, or a pair of functions. Or a recipe, which is
            built under the seed: a class, a function without arguments, or the name of a program in the gallery, whose
            size (``data_dim``, ``columns``) is that of the data.
        guide: method of inference. "amortized" (the default) trains the program's own guide by stochastic
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

    fingerprints_: Fingerprints | None = None  # those of the run folder, if there is one

    program: Any
    guide: str
    max_epochs: int

    def __init__(self, program: Any, guide: str = "amortized", **options: Any) -> None:
        signature = inspect.signature(VariationalInference.__init__)
        if unknown := [name for name in options if name not in signature.parameters]:
            raise InputError(*(describe_unknown(name, signature.parameters) for name in unknown))
        given = signature.bind(self, program, guide, **options)
        given.apply_defaults()
        for name, value in list(given.arguments.items())[1:]:
            setattr(self, name, value)

    def fit(self, *arrays: Any, y: Any = None, validation: Any = None, verbose: bool = True) -> VariationalInference:
        """Fit to data, and keep the parameters with the best validation ELBO.

        Args:
            arrays: one array with a row per datum for each argument of ``model``, in their order; or one mapping from
                names to arrays. An array that the model does not name is reported by an ``InputWarning``.
            y: the second array, as scikit-learn names it; it is left out, with a warning, if the model takes one array
                alone.
            validation: the validation data in the same form; if None, a ``validation_fraction`` of the data is held
                out.
            verbose: if True, show a bar on a terminal or in a notebook, and a line every 30 seconds elsewhere.

        Raises:
            InputError: the data are invalid, or the program does not pass its check.
            Diverged: the loss is not finite.
        """
        self._prepare_fit(arrays, y, validation)
        with bars.verbose(verbose), FitProgress(self, is_shown=self.training_.ranks.is_first) as progress:
            for row in self.stretches(progress.watched if progress.is_shown else None):
                if row is not None:
                    progress.note(row)
        return self

    def fit_epochs(self, *arrays: Any, y: Any = None, validation: Any = None) -> Iterator[Epoch]:
        """Fit as ``fit`` does, and yield after every epoch, or after every validation if these have an interval.

        The caller prints, logs and stops: after ``break`` the program has the parameters with the best validation ELBO.
        Arguments and errors are those of ``fit``.

        Example:
            >>> x = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
            >>> [row.epoch for row in VariationalInference("normal", max_epochs=3).fit_epochs(x)]
            [1, 2, 3]
        """
        self._prepare_fit(arrays, y, validation)
        return self.epochs()

    def _prepare_fit(self, arrays: tuple[Any, ...], y: Any, validation: Any) -> None:
        arguments, owner = self.argument_names, type(self).__name__
        arrays = with_target(arrays, y, arguments)
        train: Arrays = name_arrays(owner, "fit", arrays, arguments, mixed=self.origin.takes_columns)
        if validation is not None:
            given = validation if isinstance(validation, tuple) else (validation,)
            columns = NamedArrays(train).columns
            named = name_arrays(owner, "validation", given, arguments, columns)
            valid: Arrays | None = match_columns(named, columns, "validation")
        else:
            train, valid = hold_out(train, options_of(self, FitOptions).validation_fraction, self.seed)
        self.prepare(train, valid)
        for remark in self.remarks_:
            warnings.warn(remark, InputWarning, stacklevel=3)

    def find_learning_rate(self, *arrays: Any, num_steps: int = 200, dynamic: Collection[str] = ()) -> RateSearch:
        """Search for a learning rate with steps of a copy at rising rates; this object does not change.

        Args:
            arrays: the training data, as ``fit`` takes them.
            num_steps: number of gradient steps, which are not compiled.
            dynamic: names of arrays of probabilities, from which bits are drawn.

        Raises:
            InputError: as in ``fit``; or the objective falls from the first steps on.

        Example:
            >>> x = np.random.default_rng(0).normal(size=(500, 2)).astype("float32")
            >>> vi = VariationalInference("normal", max_epochs=3)
            >>> vi = vi.set_params(learning_rate=vi.find_learning_rate(x).suggestion).fit(x)
        """
        train = name_arrays(type(self).__name__, "fit", arrays, self.argument_names, mixed=self.origin.takes_columns)
        other = state.fresh(self).set_params(compile="off")
        other.prepare(train, dynamic=dynamic)
        return other._prepared.search_rate(num_steps)

    @classmethod
    def from_fitted(cls, program: Any, *arrays: Any, guide: str = "amortized", **options: Any) -> VariationalInference:
        """Return a fitted object of a program that was trained elsewhere, such as by ``pyro.infer.SVI``.

        Nothing is trained. Parameters are those that the modules of the program hold and, for ``pyro.param``, those of
        Pyro's global parameter store.

        Args:
            program: the program, as the constructor takes it.
            arrays: data, from which the structure of the program is learnt; a few rows are enough.
            guide: the method that finds the posterior: the program's own guide ("amortized"), or lambda for every
                datum by gradient steps ("per-sample").
            **options: further options of the constructor.

        Raises:
            InputError: a parameter has not been trained, or the program does not pass its check.

        Example:
            >>> import pyro
            >>> import torch
            >>> from ppl_vae.models.factor_analysis import FactorAnalysis
            >>> x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
            >>> program = FactorAnalysis(data_dim=5, latent_dim=2)
            >>> adam, elbo = pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO()
            >>> svi = pyro.infer.SVI(program.model, program.guide, adam, elbo)
            >>> _ = [svi.step(x) for _ in range(10)]
            >>> evaluation = VariationalInference.from_fitted(program, x).evaluate(x, num_samples=100)
            >>> list(evaluation.evidence)
            ['iwae', 'exact']
            >>> pyro.clear_param_store()
        """
        vi = cls(program, guide=guide, **options)
        if not arrays:
            raise InputError("from_fitted(program, x) needs data, from which it learns the structure of the program")
        state.adopt(
            vi, name_arrays(cls.__name__, "from_fitted", arrays, vi.argument_names, mixed=vi.origin.takes_columns)
        )
        return vi

    def prepare(
        self,
        train: Arrays,
        valid: Arrays | None = None,
        *,
        others: Collection[Arrays] = (),
        dynamic: Collection[str] = (),
        start: Path | None = None,
        resume: Path | None = None,
    ) -> None:
        """Do all that can fail before training: check options, data and program, and put the data on the device.

        Args:
            train: named arrays.
            valid: named arrays that decide when to stop; None trains to ``max_epochs``.
            others: further data to which the fit will be applied and which may have holes, such as the test part.
            dynamic: names of arrays of probabilities, from which bits are drawn anew in every epoch.
            start: a checkpoint whose parameters are the first ones.
            resume: a checkpoint from which training continues.
        """
        check_options(self)
        if not self.origin.is_of(self.program, self.seed):  # a recipe that is built under another seed
            del self._origin
        self.origin.size_by(train, standardize=options_of(self, FitOptions).standardize)
        holes = look_for_holes(self.origin.definition, self, [part for part in (train, valid, *others) if part])
        train, valid = holes.fill(train), valid and holes.fill(valid)
        with seeded(self.seed):  # initial values of pyro.param and of a derived encoder
            self.attach(train, dynamic, train=True, holes=holes)
            state.check_attached(self, {"the training data": train, "the validation data": valid or {}}, start)
        self.sites_ = describe_structure(self.program_)  # once, so that saving does not run the program
        self.remarks_ = describe_arguments(self.fitted, train)
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

    @property
    def num_train_(self) -> int:
        """The number of training data of the fit that was prepared, of all processes."""
        return self._prepared.num_train

    def compiles(self) -> str:
        """Report if the steps of training are compiled, and why, as the end of a sentence."""
        return self._prepared.describe_compilation()

    def describe_data(self) -> list[str]:
        """Describe in a line each the training data that are streamed, and the validation data that are left out."""
        return self._prepared.describe_data()

    def epochs(self) -> Iterator[Epoch]:
        """Train after ``prepare``, and yield after every epoch, or after every validation if these have an interval.

        The caller prints, saves and stops. At the end, or if the caller stops, the program has the parameters with the
        best validation ELBO.
        """
        return (row for row in self.stretches() if row is not None)

    def stretches(self, watch: Watch | None = None) -> Iterator[Epoch | None]:
        """Train as ``epochs`` does, and yield None at times in between at which ``save`` may be called.

        Args:
            watch: function that returns the batches of an epoch as they are, such as a progress bar over them.
        """
        started, before = time.perf_counter(), self.train_seconds_
        try:
            for row in self._prepared.stretches(watch):
                self.train_seconds_ = before + time.perf_counter() - started
                yield row
        finally:
            self.history_ = [validation._asdict() for validation in self.training_.history]

    def save(self, path: str | Path) -> None:
        """Write the fit as one file, which ``ppl_vae.load`` reads: options, parameters, and the name of the program.

        The file has no pickle and no code. A program that was given by name, or as a class with plain arguments, is
        built again from these; one that was given as an object must be given to ``load`` as well.

        Example:
            >>> import tempfile
            >>> from ppl_vae import VariationalInference, load
            >>> x = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
            >>> vi = VariationalInference("normal", max_epochs=2).fit(x)
            >>> path = Path(tempfile.mkdtemp(), "heights.safetensors")
            >>> vi.save(path)
            >>> bool((load(path).score_samples(x) == vi.score_samples(x)).all())
            True
        """
        write_fit(self, path)

    def share(self, folder: str | Path, evaluation: Evaluation | None = None) -> None:
        """Write a folder that a model hub takes and ``ppl_vae.load`` reads.

        Parameters have plain names in ``model.safetensors``; an old ``README.md``, the model card, is not changed.
        """
        write_shared(self, folder, evaluation)

    def save_checkpoint(self, path: Path) -> None:
        """Write a checkpoint of a run: the best parameters, and the state from which training continues."""
        state.save_checkpoint(self, path)

    def load_parameters(self, path: Path) -> VariationalInference:
        """Load the best parameters of a checkpoint.

        Raises:
            InputError: the checkpoint is damaged, or belongs to another program.
        """
        state.load_parameters(self, path)
        return self

    __getstate__, __setstate__ = state.contents, state.restore
    __reduce_ex__, __copy__, __deepcopy__, to = state.reduced, state.shared, state.copied, state.moved

    def attach(
        self,
        arrays: Arrays,
        dynamic: Collection[str] = (),
        *,
        train: bool,
        holes: Holes = Holes(),  # noqa: B008  (immutable)
    ) -> None:
        """Bring the program to the device, and make the method unless there is one with the same options and masks."""
        standardize = options_of(self, FitOptions).standardize
        made_of = (self.origin.definition, self.guide, method_options(self), standardize, holes.names)
        method = self.fitted_.inference if getattr(self, "_made_of", None) == made_of else None
        self.fitted_ = make_fitted(self.origin, self, arrays, dynamic, train=train, method=method, holes=holes)
        self._made_of = made_of

    @property
    def argument_names(self) -> tuple[str, ...]:
        """Names of all arguments of the model."""
        return self.origin.definition.argument_names

    @property
    def origin(self) -> Origin:
        """The program as it was given or built; it is made once, so that a second fit goes on from the first."""
        origin: Origin | None = getattr(self, "_origin", None)
        if origin is None or not origin.is_of(self.program):
            self._origin = origin = Origin(self.program, self.seed, options_of(self, FitOptions).data_plate)
        return origin

    def fit_transform(self, *arrays: Any, y: Any = None) -> np.ndarray:
        """Fit to data, and return their posterior means, see ``fit`` and ``transform``."""
        arrays = with_target(arrays, y, self.argument_names)
        return self.fit(*arrays).transform(*arrays)

    __sklearn_clone__ = state.fresh
