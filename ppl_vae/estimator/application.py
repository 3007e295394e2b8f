"""The application of a fitted program to data, by the methods of scikit-learn's estimators and by further ones."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ppl_vae.data.written import as_frame, labelled
from ppl_vae.errors import InputWarning
from ppl_vae.estimator.scikit_learn import Habits, check_fitted
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.evaluation.results import PosteriorDraws, PriorDraws, single
from ppl_vae.evidence import Evidence
from ppl_vae.inference import Compile, LocalOptions, Method
from ppl_vae.inference.options import options_of
from ppl_vae.inference.plateau import Convergence, convergence_of
from ppl_vae.parallel import RowSpan
from ppl_vae.program import Batch, BoundProgram, names_of

if TYPE_CHECKING:
    from ppl_vae.check import CheckPage
    from ppl_vae.compile.export import ExportedFile


class Application(Habits):
    """A fitted program that is applied to data.

    Attributes:
        fitted_: the fitted program; an object without it is not fitted.
        num_samples: number of draws per datum in estimates of the evidence.
        seed: the seed of every draw.
        compile: which functions run as compiled graphs.
        memory: the memory that data may take on the device.
        train_seconds_: the seconds that training took.
        history_: the validations of training, each with ``epoch``, ``step`` and ``elbo_valid``.
    """

    fitted_: Fitted
    num_samples: int
    seed: int
    compile: Compile
    memory: str | int | None
    train_seconds_: float = math.nan
    history_: Sequence[Mapping[str, Any]] = ()

    @property
    def fitted(self) -> Fitted:
        """The fitted program, which is applied to data with the present options of this object."""
        check_fitted(self)
        fitted: Fitted = self.fitted_
        fitted.options = options_of(self, LocalOptions)
        fitted.num_samples, fitted.seed = self.num_samples, self.seed
        fitted.compile, fitted.memory, fitted.train_seconds = self.compile, self.memory, self.train_seconds_
        return fitted

    def at(self, place: RowSpan) -> Self:
        """Return this object for data that have a place among others; the draws for a datum are as if all were given.

        Args:
            place: the number of the first row, a multiple of 512, and the number of all data.
        """
        other = copy.copy(self)
        other.fitted_ = self.fitted.at(place)
        return other

    @property
    def convergence_(self) -> Convergence:
        """A statement on whether training has converged, by its validation bounds.

        ``print(vi.convergence_)`` says it in a sentence; ``has_converged`` is True if the bound no longer rises.
        """
        check_fitted(self)
        return convergence_of(self.history_)

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

    @property
    def template(self) -> dict[str, np.ndarray]:
        """The few data that a fit keeps, by the names of the model's arguments."""
        return {name: row.cpu().numpy() for name, row in zip(self.arguments_, self.template_, strict=True)}

    @property
    def n_features_in_(self) -> int:
        """The number of columns of the first array."""
        rows = self.template_[0]
        return rows.shape[1] if rows.dim() > 1 else 1

    @property
    def feature_names_in_(self) -> np.ndarray:
        """The names of the columns of the first array, if it was a data frame in the fit."""
        columns = self.fitted.naming.columns.get(self.arguments_[0])
        if not columns:
            raise AttributeError("the first array of the fit was no data frame with names of columns")
        return np.array([column.name for column in columns], dtype=object)

    def to_frame(self, data: Any, library: str = "pandas") -> Any:
        """Return data as a data frame with the names of the columns and the labels of the categories in the fit.

        Args:
            data: an array of x, such as ``sample`` returns, or arrays by name, such as the completed ones of an
                imputation.
            library: the library of the data frame: pandas, polars or pyarrow.

        Raises:
            InputError: the library is unknown.

        Example:
            >>> import pandas
            >>> from ppl_vae import VariationalInference
            >>> from ppl_vae.models.normal import Normal
            >>> frame = pandas.DataFrame({"height": [1.6, 1.7, 1.9], "width": [0.5, 0.4, 0.6]})
            >>> vi = VariationalInference(Normal(data_dim=2), max_epochs=1).fit(frame)
            >>> vi.to_frame(vi.sample(5)).columns.tolist()
            ['height', 'width']
        """
        arrays = data if isinstance(data, Mapping) else {self.arguments_[0]: np.asarray(data)}
        return as_frame(labelled(arrays, self.fitted.naming.columns), library)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns of ``transform``, such as ``z[0]``."""
        means = self.fitted.latent_means(self.template)
        return np.array([name for site, mean in means.items() for name in names_of(site, mean.shape[1:])], dtype=object)

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
        return self._contained(self.fitted.transform(*arrays), arrays[0] if arrays else None)

    def score_samples(self, *arrays: Any) -> Any:
        """Return the importance-sampled log evidence of every datum, ``(N,)``, nats.

        After ``set_output(transform="pandas")``, or "polars", it is a data frame, with the Monte Carlo errors and with
        doubts beside it, and with the index of the data if they are a data frame of pandas.
        """
        evidence = self.evidence(*arrays)
        library = self.output_library()
        if library is None:
            return evidence.log_evidence.numpy()
        import pandas

        parts = {name: getattr(evidence, name).numpy() for name in ("log_evidence", "mcse", "doubtful")}
        index = arrays[0].index if isinstance(arrays[0], pandas.DataFrame | pandas.Series) else None
        return as_frame(pandas.DataFrame(parts, index=index), library)

    def score(self, *arrays: Any, y: Any = None) -> float:
        """Return the mean importance-sampled log evidence, nats per datum; higher is better."""
        evidence = self.evidence(*with_target(arrays, y, self.program_.argument_names))
        return float(evidence.log_evidence.numpy().mean())

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

    def check(
        self,
        *arrays: Any,
        train: Any = None,
        only: Collection[str] = (),
        skip: Collection[str] = (),
        **settings: Any,
    ) -> CheckPage:
        """Check if the inference is right and the model any good, with a verdict and a remedy for each question.

        Args:
            arrays: data that the fit has not seen.
            train: the training data in the same form; without them it is not known how far the encoder has overfitted.
            only: the names of the checks that are made, see ``ppl_vae.check.CHECKS``; by default all.
            skip: checks that are left out.
            settings: fields of ``ppl_vae.check.CheckSettings``, such as num_data and num_simulations.

        Returns:
            CheckPage: ``print(page)`` shows it, ``page.holds`` is True if no verdict fails.

        Raises:
            InputError: bad data, an unknown check, or a setting that cannot be.

        Example:
            >>> from ppl_vae import VariationalInference
            >>> from ppl_vae.models.factor_analysis import FactorAnalysis
            >>> x = np.random.default_rng(0).normal(size=(200, 5)).astype("float32")
            >>> vi = VariationalInference(FactorAnalysis(data_dim=5, latent_dim=2), max_epochs=2).fit(x[:150])
            >>> page = vi.check(x[150:], train=x[:150], only=["weights"], num_samples=100)
            >>> [verdict.subject for verdict in page.verdicts["weights"]]
            ['share with k > 0.50']
        """
        from ppl_vae.check import check_fit, make_check_settings  # with scipy.stats, which takes a second to import

        given = () if train is None else train if isinstance(train, tuple) else (train,)
        return check_fit(
            self.fitted,
            arrays,
            given,
            history=self.history_,
            settings=make_check_settings(settings),
            only=only,
            skip=skip,
        )

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

    def export(
        self,
        folder: str | Path,
        parts: Collection[str] = ("encoder", "decoder"),
        formats: Collection[str] = ("pt2", "onnx"),
    ) -> dict[str, ExportedFile]:
        """Write encoder and decoder as files that run without this package, for a free number of data.

        The encoder maps data to posterior means of the latents, and to their scales if they are normal; the decoder
        maps latents and conditions to the means of data. Each is first compared with the program's own numbers.

        Args:
            folder: the folder of ``encoder.pt2``, ``encoder.onnx`` and so on.
            parts: "encoder", "decoder" or both.
            formats: "pt2" is read by ``torch.export.load``, "onnx" (the extra ``onnx``) by onnxruntime.

        Returns:
            dict: for each file its inputs, its outputs and the largest difference from the program's own numbers.

        Raises:
            InputError: a mean has no closed form, an operation cannot be exported, or a number differs.
        """
        from ppl_vae.estimator.export import export_fit

        return export_fit(self, folder, parts, formats)


def with_target(arrays: tuple[Any, ...], y: Any, argument_names: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the arrays of a call with scikit-learn's y, which is left out if the model takes one array alone.

    Args:
        arrays: the arrays, of which the second may be y too.
        y: y as a keyword, or None.
        argument_names: the names of the arguments of the model.
    """
    given = arrays if y is None else (*arrays, y)
    if len(given) == 2 and given[1] is not None and len(argument_names) == 1:
        warnings.warn(f"y is left out: the model takes {argument_names[0]!r} alone", InputWarning, stacklevel=3)
        return given[:1]
    return given
