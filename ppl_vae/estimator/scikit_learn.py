"""The habits of scikit-learn's estimators, without its base classes: importing those takes as long as PyTorch."""

from __future__ import annotations

import inspect
import sys
from typing import Any, Self

import numpy as np


class Habits:
    """An object whose options are the parameters of its constructor, as scikit-learn's tools expect it.

    It works in a pipeline, a search and a clone. scikit-learn is imported only by what comes from there.
    """

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """Return the names of the options in alphabetical order."""
        return tuple(sorted(_options(cls)))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the values of the options by name.

        Args:
            deep: If true, include the options of options that are estimators, as ``name__option``.
        """
        values = {name: getattr(self, name) for name in self.option_names()}
        if deep:
            for name, value in list(values.items()):
                if hasattr(value, "get_params") and not isinstance(value, type):
                    values |= {f"{name}__{key}": inner for key, inner in value.get_params().items()}
        return values

    def set_params(self, **params: Any) -> Self:
        """Set options by name, and return this object.

        Raises:
            ValueError: an option is unknown.
        """
        known = self.option_names()
        for key, value in params.items():
            name, inner, rest = key.partition("__")
            if name not in known:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {self}. Valid parameters are: {[*known]!r}."
                )
            if inner:
                getattr(self, name).set_params(**{rest: value})
            else:
                setattr(self, name, value)
        return self

    def set_output(self, *, transform: str | None = None) -> Self:
        """Choose what ``transform`` returns: "default" for an array, "pandas" or "polars" for a data frame."""
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    def output_library(self) -> str | None:
        """Return the library of data frames that is chosen here, or for all of scikit-learn; None for arrays."""
        if not hasattr(self, "_sklearn_output_config") and "sklearn" not in sys.modules:
            return None
        from sklearn import get_config

        chosen = getattr(self, "_sklearn_output_config", {}).get("transform") or get_config()["transform_output"]
        return None if chosen == "default" else chosen

    def _contained(self, values: np.ndarray, given: Any) -> Any:
        """Return the array of ``transform`` in the container that the user has chosen here or for all of scikit-learn.

        Args:
            values: the array.
            given: the data that it was computed from, whose index a data frame keeps.
        """
        if not hasattr(self, "_sklearn_output_config") and "sklearn" not in sys.modules:
            return values
        from sklearn.utils._set_output import _wrap_data_with_container

        return _wrap_data_with_container("transform", values, given, self)

    _sklearn_auto_wrap_output_keys = frozenset({"transform"})

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's description of a transformer that needs no target."""
        from sklearn.utils import Tags, TargetTags, TransformerTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False), transformer_tags=TransformerTags())

    def __repr__(self) -> str:
        """Return the call of the constructor with the options that differ from their defaults."""
        defaults = {name: parameter.default for name, parameter in _options(type(self)).items()}
        changed = [
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if name in defaults and repr(value) != repr(defaults[name])
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def _repr_html_(self) -> str:
        """Return scikit-learn's drawing of an estimator, which a notebook shows."""
        from sklearn.utils import estimator_html_repr

        return estimator_html_repr(self)


def _options(cls: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of a constructor without the object itself."""
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return {name: parameter for name, parameter in parameters.items() if name != "self"}


def check_fitted(estimator: Any) -> None:
    """Raise scikit-learn's error unless an object has been fitted, so that its attribute ``fitted_`` is set."""
    if not hasattr(estimator, "fitted_"):
        from sklearn.exceptions import NotFittedError

        raise NotFittedError(
            f"This {type(estimator).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
            f"using this estimator."
        )
