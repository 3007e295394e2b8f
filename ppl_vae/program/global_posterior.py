"""The posterior of the latents that all data share, a Gaussian or the guide's own, and draws from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask, sum_rightmost
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK, effectful
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program.handlers import bijection
from ppl_vae.program.moments import moments

START_SCALE = 0.1
"""The scale of the posterior of a global latent at first, as in ``pyro.infer.autoguide.AutoNormal``; a tenth of the
prior's scale if that is less, because all data inform the latent. A wide prior says nothing about the scale of the
posterior, and from a start that is far too wide the gradient of the other parameters is noise."""


STEEPEST = 10.0
"""The largest slope of the objective of all data in the log scale of a global latent, nats. It is one minus the square
of the scale divided by that of the posterior: a start that is far too wide has a slope of thousands, from which the
averages of Adam recover slowly."""

OF_DRAWS = DRAWS, DRAWS_OF_LOCALS = "_draws", "_draws_of_locals"
"""The names of the plate of the draws: of all latents, or of those of each datum alone, beside one draw of the global
ones."""


class SharedLatents(nn.Module):
    """The posterior of the latents that all data share.

    Args:
        names: the names of these latents.
        num_data: the number ``N`` of training data.
    """

    def __init__(self, names: Collection[str], num_data: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.num_data: Tensor
        self.register_buffer("num_data", torch.tensor(float(num_data)))

    @property
    def described(self) -> tuple[tuple[str, ...], str]:
        """The names of the latents, and the kind of their distribution in words."""
        return self.names, "Normal"

    def conditioned(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """Return the model with its global latents drawn from this posterior, and hidden from outer handlers."""
        raise NotImplementedError


class GuidedLatents(SharedLatents):
    """The global latents that the program's own guide samples.

    Every run of a model needs their draws, and the guide's other latents may depend on them. Runs under one
    ``SharedDraws`` have the same draws. A model that runs first runs the guide for them.

    Args:
        names: the names of the latents that model and guide have outside the data plate.
        auxiliary: the names of the guide's further sites outside the data plate, such as those of an ``AutoGuide``.
        guide: the program's own guide.
        num_data: the number ``N`` of training data.
    """

    def __init__(
        self, names: Collection[str], auxiliary: Collection[str], guide: Callable[..., Any], num_data: int
    ) -> None:
        super().__init__(names, num_data)
        self.sampled = {*names, *auxiliary}
        self._guide = (guide,)  # it is no module of this one

    @property
    def described(self) -> tuple[tuple[str, ...], str]:
        """See ``SharedLatents``."""
        return self.names, "drawn by the guide"

    def guide(self, *rows: Tensor) -> Any:
        """Run the guide with its global latents hidden from outer handlers."""
        with _GuideGlobals(self):
            return self._guide[0](*rows)

    def conditioned(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """See ``SharedLatents``."""

        @wraps(model)
        def conditioned(*rows: Tensor) -> Any:
            with sharing(self) as shared:
                if not shared.from_prior and not shared.values.keys() >= set(self.names):
                    with hidden_run():
                        self.guide(*rows)
                with _ModelGlobals(self, shared):
                    return model(*rows)

        return conditioned


class GlobalPosterior(SharedLatents):
    """A Gaussian with a diagonal covariance, in unconstrained space, for each global latent.

    Args:
        sites: the global latents in one run of the model, by name.
        num_data: the number ``N`` of training data.

    Attributes:
        names: the names of the global latents.
    """

    def __init__(self, sites: dict[str, Any], num_data: int) -> None:
        super().__init__(sites, num_data)
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
            start = START_SCALE * scale.detach().clamp(max=1)
            self.log_scale[_key(name)] = nn.Parameter(start.log().clone().contiguous())

    def conditioned(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """See ``SharedLatents``."""

        @wraps(model)
        def conditioned(*rows: Tensor) -> Any:
            pyro.module("globals", self)
            with _Globals(self):
                return model(*rows)

        return conditioned

    def draw(self, site: str, shape: tuple[int, ...], noise: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        """Return a point ``shape + (...)`` of a latent in unconstrained space, and its log density.

        The gradient in a log scale follows the path of the point alone: the rest, whose expectation is zero, is left
        out, so that there is no noise once the scale fits (Roeder, Wu and Duvenaud, Sticking the Landing, 2017). It is
        at most ``STEEPEST``.
        """
        loc, log_scale = self.loc[_key(site)], self.log_scale[_key(site)]
        eps = noise(shape + loc.shape, dtype=loc.dtype, device=loc.device)
        moving = log_scale
        if torch.is_grad_enabled() and log_scale.requires_grad:
            moving, most = log_scale.clone(), STEEPEST / self.num_data
            moving.register_hook(lambda slope: torch.maximum(torch.minimum(slope, most), -most))
        away, fixed = moving.exp() * eps, log_scale.detach()
        log_q = -0.5 * (away / fixed.exp()).square() - fixed - 0.5 * math.log(2 * math.pi)
        return loc + away, log_q


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


class SharedDraws(Messenger):
    """A handler under which all runs have the same draws of global latents, and which sums their densities.

    Args:
        posterior: the posterior of the global latents, if there are any.
        given: draws ``(K, ...)`` by the name of the site, which the runs take; by default they draw.
        from_prior: if True, runs of the model draw from the prior, and nothing is drawn from the posterior.

    Attributes:
        values: the draws by the name of the latent, as Pyro lays them out.
        log_ratio: log p(w) - log q(w) of the draws, ``(K,)`` or a scalar.
    """

    def __init__(
        self,
        posterior: SharedLatents | None,
        given: Mapping[str, Tensor] | None = None,
        *,
        from_prior: bool = False,
    ) -> None:
        super().__init__()
        self.posterior, self.given, self.from_prior = posterior, given or {}, from_prior
        self.values: dict[str, Tensor] = {}
        self.log_ratio: Tensor = torch.zeros(())
        self._counted: set[tuple[str, str]] = set()

    @staticmethod
    def current() -> SharedDraws | None:
        """Return the innermost of these handlers that is active, hidden runs included."""
        return next((handler for handler in reversed(_PYRO_STACK) if isinstance(handler, SharedDraws)), None)

    def count(self, part: str, site: str, term: Tensor) -> None:
        """Add a term of the log ratio, once for each site of the model or the guide."""
        if (part, site) not in self._counted:
            self._counted.add((part, site))
            self.log_ratio = self.log_ratio + term

    @property
    def value(self) -> Tensor | float:
        """The share of a datum in minus the divergence of the global latents from their prior, nats per datum."""
        return 0.0 if self.posterior is None else self.log_ratio.mean() / self.posterior.num_data


@contextmanager
def sharing(posterior: SharedLatents | None) -> Iterator[SharedDraws]:
    """Yield the active ``SharedDraws``, or a new one that is active inside the block."""
    with ExitStack() as stack:
        yield SharedDraws.current() or stack.enter_context(SharedDraws(posterior))


class _Globals(Messenger):
    """A handler that gives global latents their draws, one for each draw of the local ones, and hides them."""

    def __init__(self, posterior: GlobalPosterior) -> None:
        super().__init__()
        self.posterior = posterior

    def _pyro_sample(self, msg: Any) -> None:
        name, fn, shared = msg["name"], msg["fn"], SharedDraws.current()
        if name not in self.posterior.names:
            return
        plate = next((m for m in _PYRO_STACK if isinstance(m, IndepMessenger) and m.name == DRAWS), None)
        shape: tuple[int, ...] = ()
        if plate is not None and plate.dim is not None:
            shape = (plate.size, *[1] * (-plate.dim - 1 - len(fn.batch_shape)))
        if shared is not None and name in shared.values:
            value = shared.values[name]
        elif shared is not None and name in shared.given:
            given = shared.given[name]
            value = given.reshape((*shape, *given.shape[1:]))  # of several draws, or of one
        elif shared is not None and shared.from_prior:
            value = shared.values[name] = fn.sample(shape)
        else:
            value, log_ratio = _draw(self.posterior, name, fn, shape)
            if shared is not None:
                shared.values[name] = value
                shared.count("model", name, log_ratio)
        msg["value"], msg["done"], msg["stop"] = value, True, True


class _GuideGlobals(Messenger):
    """A handler that hides the global latents of a guide; under ``SharedDraws`` they are drawn once."""

    def __init__(self, posterior: GuidedLatents) -> None:
        super().__init__()
        self.posterior = posterior

    def _pyro_sample(self, msg: Any) -> None:
        name, shared = msg["name"], SharedDraws.current()
        if name not in self.posterior.sampled:
            return
        if shared is not None and name in shared.values:
            value = shared.values[name]
        elif shared is not None and name in shared.given:
            value = shared.given[name][0]  # each draw has a run of its own
        else:
            value = msg["fn"](*msg["args"], **msg["kwargs"])
        if shared is not None:
            shared.values[name] = value
            shared.count("guide", name, -_log_prob(msg, value))
        msg["value"], msg["done"], msg["stop"] = value, True, True


class _ModelGlobals(Messenger):
    """A handler that gives the global latents of a model the draws of the guide, and hides them."""

    def __init__(self, posterior: GuidedLatents, shared: SharedDraws) -> None:
        super().__init__()
        self.posterior, self.shared = posterior, shared

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.posterior.names:
            if self.shared.from_prior and msg["name"] not in self.shared.values:
                self.shared.values[msg["name"]] = msg["fn"].sample()
            value = self.shared.values[msg["name"]]
            self.shared.count("model", msg["name"], _log_prob(msg, value))
            msg["value"], msg["done"], msg["stop"] = value, True, True


def _log_prob(msg: Any, value: Tensor) -> Tensor:
    return scale_and_mask(msg["fn"].log_prob(value), msg["scale"], msg["mask"]).sum()


class AtMean(Messenger):
    """A handler that gives global latents the mean of their Gaussian posterior instead of draws."""

    def _pyro_global(self, msg: Any) -> None:
        msg["kwargs"]["noise"] = torch.zeros


def hidden_run() -> poutine.block_messenger.BlockMessenger:
    """Hide the sites of a run within a run, except draws of global latents, so that ``AtMean`` still acts on them."""
    return poutine.block(hide_fn=lambda msg: msg["type"] != "global")


def _key(name: str) -> str:
    return name.replace(".", "_")
