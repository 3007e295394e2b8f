"""The judgement of a fitted program: estimates of its evidence, the gaps of its inference, and the checks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ppl_vae.data.written import as_frame
from ppl_vae.display import bars
from ppl_vae.errors import InputWarning
from ppl_vae.estimator.scikit_learn import Habits, check_fitted
from ppl_vae.evaluation.densities import check_densities
from ppl_vae.evaluation.evaluation import Evaluation
from ppl_vae.evaluation.fitted import Fitted
from ppl_vae.evidence import Evidence
from ppl_vae.inference import Compile, LocalOptions
from ppl_vae.inference.options import from_names, options_of
from ppl_vae.inference.plateau import Convergence, convergence_of

if TYPE_CHECKING:
    from ppl_vae.check import CheckPage
    from ppl_vae.evaluation.gap import Gap


class Judged(Habits):
    """A fitted program that is judged by data.

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

    @property
    def convergence_(self) -> Convergence:
        """A statement on whether training has converged, by its validation bounds.

        ``print(vi.convergence_)`` says it in a sentence; ``has_converged`` is True if the bound no longer rises.
        """
        check_fitted(self)
        return convergence_of(self.history_)

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
        evidence = self.evidence(*with_target(arrays, y, self.fitted.program.argument_names))
        return float(evidence.log_evidence.numpy().mean())

    def evidence(self, *arrays: Any, estimator: str = "iwae", **settings: Any) -> Evidence:
        """Estimate the log evidence of every datum in nats, with its Monte Carlo error and its doubts.

        Args:
            arrays: the data.
            estimator: "prior", "iwae", "cubo", "ais", "smc" (of sequences), "bdmc" (of simulated data) or "exact".
            settings: fields of ``Settings``: num_samples, proposal_scale, num_temperatures and so on.

        Returns:
            Evidence: with the effective number of draws, each ``(N,)``.
        """
        return self.evaluate(*arrays, estimators=(estimator,), **settings).evidence[estimator]

    def evaluate(
        self,
        *arrays: Any,
        estimators: Collection[str] | None = None,
        diagnostics: bool = False,
        verbose: bool = True,
        **settings: Any,
    ) -> Evaluation:
        """Estimate how well data are explained: log evidence by several estimators, ELBO, errors and doubts.

        Args:
            arrays: the data.
            estimators: names as in ``evidence``; by default iwae, and exact if it is known.
            diagnostics: If True, report the use of the latents as well.
            verbose: If True, show a bar on a terminal or in a notebook if the work takes longer than two seconds.
            settings: fields of ``Settings``.
        """
        with bars.verbose(verbose):
            return self.fitted.evaluate(*arrays, estimators=estimators, diagnostics=diagnostics, **settings)

    def gap(self, *arrays: Any, verbose: bool = True, **settings: Any) -> Gap:
        """Measure the gaps of inference: what the encoder loses, and what the family of its posterior loses.

        Args:
            arrays: the data. The lambda of each of them is optimised, so that a few hundred are enough.
            verbose: If True, show a bar on a terminal or in a notebook if the work takes longer than two seconds.
            settings: fields of ``ppl_vae.evaluation.measure_gap.GapSettings``, such as families and local_steps.

        Returns:
            Gap: ``print(gap)`` shows its table, ``gap.plot()`` draws it.

        Raises:
            InputError: bad data, a setting that cannot be, or latents that cannot be moved.

        Example:
            >>> import numpy as np
            >>> from ppl_vae import VariationalInference
            >>> from ppl_vae.models.factor_analysis import FactorAnalysis
            >>> x = np.random.default_rng(0).normal(size=(50, 5)).astype("float32")
            >>> vi = VariationalInference(FactorAnalysis(data_dim=5, latent_dim=2), max_epochs=2).fit(x)
            >>> gap = vi.gap(x[:20], families="full", local_steps=20, num_samples=100)
            >>> list(gap.families), gap.by
            (['full'], 'exact')
        """
        from ppl_vae.evaluation.measure_gap import GapSettings, measure_gap  # by need

        chosen, data = from_names(GapSettings, settings, "a gap"), self.fitted.checked(arrays)
        with bars.verbose(verbose):
            self.check_data(data)
            return measure_gap(self.fitted, data, chosen)

    def check(
        self,
        *arrays: Any,
        train: Any = None,
        only: Collection[str] = (),
        skip: Collection[str] = (),
        verbose: bool = True,
        **settings: Any,
    ) -> CheckPage:
        """Check if the inference is right and the model any good, with a verdict and a remedy for each question.

        Args:
            arrays: data that the fit has not seen.
            train: the training data in the same form; without them it is not known how far the encoder has overfitted.
            only: the names of the checks that are made, see ``ppl_vae.check.CHECKS``; by default all.
            skip: checks that are left out.
            verbose: If True, show a bar on a terminal or in a notebook if the work takes longer than two seconds.
            settings: fields of ``ppl_vae.check.CheckSettings``, such as num_data and num_simulations.

        Returns:
            CheckPage: ``print(page)`` shows it, ``page.holds`` is True if no verdict fails.

        Raises:
            InputError: bad data, an unknown check, or a setting that cannot be.

        Example:
            >>> import numpy as np
            >>> from ppl_vae import VariationalInference
            >>> from ppl_vae.models.factor_analysis import FactorAnalysis
            >>> x = np.random.default_rng(0).normal(size=(200, 5)).astype("float32")
            >>> vi = VariationalInference(FactorAnalysis(data_dim=5, latent_dim=2), max_epochs=2).fit(x[:150])
            >>> page = vi.check(x[150:], train=x[:150], only=["weights"], num_samples=100)
            >>> [verdict.subject for verdict in page.verdicts["weights"]]
            ['share with k > 0.50', 'median effective draws']
        """
        from ppl_vae.check import check_fit, make_check_settings  # with scipy.stats, which takes a second to import
        from ppl_vae.estimator.refit import refit

        given = () if train is None else train if isinstance(train, tuple) else (train,)
        with bars.verbose(verbose):
            return check_fit(
                self.fitted,
                arrays,
                given,
                history=self.history_,
                settings=make_check_settings(settings),
                only=only,
                skip=skip,
                refit=partial(refit, self),
            )

    def check_data(self, *arrays: Any) -> None:
        """Raise ``InputError`` if a datum has no density under the program, such as grey values under a Bernoulli."""
        check_densities(self.fitted, self.fitted.batches(self.fitted.checked(arrays)))


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
