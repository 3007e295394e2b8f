"""The term of an objective that comes from factors which all data share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

from ppl_vae.program.traces import is_factor


class SharedFactors(nn.Module):
    """The factors of a program that all data share.

    Args:
        names: their names.
        num_data: the number ``N`` of training data.
    """

    def __init__(self, names: Collection[str], num_data: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.num_data: Tensor
        self.register_buffer("num_data", torch.tensor(float(num_data)))


class FactorTerm(Messenger):
    """A handler that sums the factors that all data share over the runs inside.

    Args:
        factors: the factors of the program, if there are any.
    """

    def __init__(self, factors: SharedFactors | None) -> None:
        super().__init__()
        self.factors = factors
        self.total: Tensor | float = 0.0

    @property
    def value(self) -> Tensor | float:
        """The share of a datum in the logarithm of the factors, nats per datum."""
        return 0.0 if self.factors is None else self.total / self.factors.num_data


class _HiddenFactors(Messenger):
    """A handler that hides factors, and adds them to the innermost ``FactorTerm``."""

    def __init__(self, names: Collection[str], sign: int) -> None:
        super().__init__()
        self.names, self.sign = names, sign

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names and is_factor(msg):
            msg["stop"] = True
            term = next((handler for handler in reversed(_PYRO_STACK) if isinstance(handler, FactorTerm)), None)
            if term is not None:
                term.total = term.total + self.sign * msg["fn"].log_factor.sum()


def hiding_factors(function: Callable[..., Any], names: Collection[str], sign: int) -> Callable[..., Any]:
    """Return a model or a guide with these factors hidden, and added with a sign to a ``FactorTerm`` around it."""

    @wraps(function, assigned=(), updated=())
    def hiding(*batch: Tensor) -> Any:
        with _HiddenFactors(names, sign):
            return function(*batch)

    return hiding
