"""The application of a fitted program to data, by the methods of scikit-learn's estimators and by further ones."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ppl_vae.data.written import as_frame, labelled
from ppl_vae.estimator.judged import Judged
from ppl_vae.evaluation.results import PosteriorDraws, PriorDraws, single
from ppl_vae.inference import Method
from ppl_vae.parallel import RowSpan
from ppl_vae.program import Batch, BoundProgram, names_of

if TYPE_CHECKING:
    from ppl_vae.compile.export import ExportedFile


class Application(Judged):
    """A fitted program that is applied to data."""

    def at(self, place: RowSpan) -> Self:
        """Return this object for data that have a place among others; the draws for a datum are as if all were given.

        Args:
            place: the number of the first row, a multiple of 512, and the number of all data.
        """
        other = copy.copy(self)
        other.fitted_ = self.fitted.at(place)
        return other

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
