"""The posterior of the latents that all data share: a Gaussian in unconstrained space, and draws from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import sum_rightmost
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK, effectful
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program.handlers import bijection
from ppl_vae.program.moments import moments

NARROWER = 0.1
"""The scale of the posterior of a global latent at first, as a share of the prior's: all data inform it."""


class GlobalPosterior(nn.Module):
    """A Gaussian with a diagonal covariance, in unconstrained space, for each global latent.

    Args:
        sites: the global latents in one run of the model, by name.
        num_data: the number ``N`` of training data.

    Attributes:
        names: the names of the global latents.
    """

    def __init__(self, sites: dict[str, Any], num_data: int) -> None:
        super().__init__()
        self.names = tuple(sites)
        self.num_data: Tensor
        self.register_buffer("num_data", torch.tensor(float(num_data)))
        self.loc, self.log_scale = nn.ParameterDict(), nn.ParameterDict()
        for name, site in sites.items():
            try:
                loc, scale = moments(site["fn"])
            except NotImplementedError as error:
                raise InputError(
                    f"the latent {name!r} lies outside the data plate, and nothing maps unconstrained space to the "
                    f"support of its {type(site['fn']).__name__}: make it a parameter with pyro.param"
                ) from error
            self.loc[_key(name)] = nn.Parameter(loc.detach().clone().contiguous())
            self.log_scale[_key(name)] = nn.Parameter((NARROWER * scale).log().detach().clone().contiguous())

    def conditioned(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """Return the model with its global latents drawn from this posterior, and hidden from outer handlers."""

        @wraps(model)
        def conditioned(*rows: Tensor) -> Any:
            pyro.module("globals", self)
            with _Globals(self):
                return model(*rows)

        return conditioned

    def draw(self, site: str, shape: tuple[int, ...], noise: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        """Return a point ``shape + (...)`` of a latent in unconstrained space, and its log density."""
        loc, log_scale = self.loc[_key(site)], self.log_scale[_key(site)]
        eps = noise(shape + loc.shape, dtype=loc.dtype, device=loc.device)
        return loc + log_scale.exp() * eps, -0.5 * eps.square() - log_scale - 0.5 * math.log(2 * math.pi)


@effectful(type="global")
def _draw(
    posterior: GlobalPosterior,
    site: str,
    fn: Any,
    shape: tuple[int, ...],
    noise: Callable[..., Tensor] = torch.randn,
) -> tuple[Tensor, Tensor]:
    """Return a draw w of a global latent, and log p(w) - log q(w), ``(K,)`` or a scalar; handlers may listen."""
    point, log_q = posterior.draw(site, shape, noise)
    transform = bijection(fn.support)
    value = transform(point)
    log_det = transform.log_abs_det_jacobian(point, value)
    log_p = fn.log_prob(value)
    terms = ((log_p, 1), (log_det, 1), (log_q, -1))
    return value, sum(sum_rightmost(term, term.dim() - bool(shape)) * sign for term, sign in terms)


class _Globals(Messenger):
    """A handler that gives global latents their draws, one for each draw of the local ones, and hides them."""

    def __init__(self, posterior: GlobalPosterior) -> None:
        super().__init__()
        self.posterior = posterior

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.posterior.names:
            return
        fn = msg["fn"]
        plate = next((m for m in _PYRO_STACK if isinstance(m, IndepMessenger) and m.name == "_draws"), None)
        shape: tuple[int, ...] = ()
        if plate is not None and plate.dim is not None:
            shape = (plate.size, *[1] * (-plate.dim - 1 - len(fn.batch_shape)))
        value, _ = _draw(self.posterior, msg["name"], fn, shape)
        msg["value"], msg["done"], msg["stop"] = value, True, True


class AtMean(Messenger):
    """A handler that gives global latents the mean of their posterior instead of draws."""

    def _pyro_global(self, msg: Any) -> None:
        msg["kwargs"]["noise"] = torch.zeros


def hidden_run() -> poutine.block_messenger.BlockMessenger:
    """Hide the sites of a run within a run, except draws of global latents, so that ``AtMean`` still acts on them."""
    return poutine.block(hide_fn=lambda msg: msg["type"] != "global")


class SharedTerm(Messenger):
    """A handler that sums the contributions to the objective of the global latents that are drawn inside.

    Args:
        posterior: the posterior of the global latents, if there are any.
    """

    def __init__(self, posterior: GlobalPosterior | None) -> None:
        super().__init__()
        self.posterior = posterior
        self.log_ratio: Tensor = torch.zeros(())

    def _pyro_post_global(self, msg: Any) -> None:
        self.log_ratio = self.log_ratio + msg["value"][1]

    @property
    def value(self) -> Tensor | float:
        """The share of a datum in minus the divergence of the global latents from their prior, nats per datum."""
        return 0.0 if self.posterior is None else self.log_ratio.mean() / self.posterior.num_data


def _key(name: str) -> str:
    return name.replace(".", "_")
