"""Latents that all data share: a posterior of their own, for a model that no guide samples them for."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import sum_rightmost
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program.handlers import bijection
from ppl_vae.program.latent_space import moments
from ppl_vae.program.program import Batch, Program
from ppl_vae.program.seeds import seeded
from ppl_vae.program.traces import find_data_plate, sample_sites

NARROWER = 0.1
"""Scale of the posterior of a global latent at first, as a share of the prior's: all data speak of it."""


def with_globals(program: Program, batch: Batch, num_data: int) -> Program:
    r"""The program with its global latents, which lie outside the data plate, replaced by draws from a posterior.

    .. math::
        q(w) = \mathcal N(\mu, \mathrm{diag}\,\sigma^2) \text{ in unconstrained space}, \qquad
        \mathcal L = \frac1N \sum_i \mathbb E_{q(w)} \bigl[\mathcal L(x_i; w)\bigr]
        - \frac1N \mathrm{KL}(q(w)\,\|\,p(w))

    The posterior's parameters are trained with theta; ``global_term`` gives an objective the second term. For
    everything else that is done with the program, w is drawn from q(w): its evidence is that of the posterior
    predictive, :math:`\log \mathbb E_{q(w)}\, p(x \mid w)`, given the data that q was fitted to.

    Source: Hoffman et al., Stochastic Variational Inference (2013), section 2; Kucukelbir et al., Automatic
    Differentiation Variational Inference (2017), section 2.4, for the family.

    Args:
        program: a program; it is returned as it is where there are no global latents that its guide leaves out.
        batch: some data.
        num_data: ``N``, of the training data.

    Raises:
        InputError: a global latent is discrete, or nothing maps unconstrained space to its support.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(x):
        ...     w = pyro.sample("w", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(w, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> made = with_globals(Program(model), (torch.zeros(9),), num_data=9)
        >>> made.structure((torch.zeros(9),)).latents, made.global_posterior.names
        (('z',), ('w',))
    """
    with torch.no_grad(), seeded(None), program.scope():
        guided: set[str] = set()
        try:
            sites = dict(sample_sites(poutine.trace(program.model).get_trace(*batch)))
            if program.guide is not None:
                guided = {name for name, _ in sample_sites(poutine.trace(program.guide).get_trace(*batch))}
        except Exception:  # the check tells what is wrong with it, and better
            return program
        if not any(site["is_observed"] for site in sites.values()):
            return program
        plate = find_data_plate(program.name, sites, len(batch[0]), program.data_plate)
        outside = {
            name: site
            for name, site in sites.items()
            if not (site["is_observed"] or name in guided or plate in {f.name for f in site["cond_indep_stack"]})
        }
        if not outside:
            return program
        for name, site in outside.items():
            if site["fn"].support.is_discrete:
                raise InputError(
                    f"the latent {name!r} of {program.name} lies outside the data plate {plate!r} and is discrete: "
                    f"only continuous latents can be shared by all data; move it inside, or make it a parameter"
                )
        posterior = GlobalPosterior(outside, num_data).to(batch[0].device)
    made = copy.copy(program)
    made._structure, made.global_posterior = None, posterior
    made.module = nn.ModuleDict({"model": program.module, "globals": posterior})
    model = program.model

    @functools.wraps(model)
    def conditioned(*rows: Tensor) -> Any:
        pyro.module("globals", posterior)
        with posterior.drawn():
            return model(*rows)

    made.model = conditioned
    return made


class GlobalPosterior(nn.Module):
    """A Gaussian with a diagonal covariance, in unconstrained space, for each global latent.

    Args:
        sites: of one run of the model, by name.
        num_data: ``N``.

    Attributes:
        names: of the latents.
    """

    def __init__(self, sites: dict[str, Any], num_data: int) -> None:
        super().__init__()
        self.names = tuple(sites)
        self._last = _Last(torch.zeros(()))
        self._at_mean = False
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

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Global latents take draws, one for each draw of the local ones, and are seen no more."""
        with _Globals(self) as handler:
            yield
        self._last.log_ratio = handler.log_ratio

    @property
    def log_ratio(self) -> Tensor:
        """log p(w) - log q(w) of the last run's draws, ``(K,)`` or a scalar."""
        return self._last.log_ratio

    @contextmanager
    def at_mean(self) -> Iterator[None]:
        """They take the mean in place of draws."""
        self._at_mean = True
        try:
            yield
        finally:
            self._at_mean = False

    def draw(self, name: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """A point ``shape + (...)`` of a latent, and its log density."""
        loc, log_scale = self.loc[_key(name)], self.log_scale[_key(name)]
        noise = torch.zeros if self._at_mean else torch.randn
        eps = noise(shape + loc.shape, dtype=loc.dtype, device=loc.device)
        return loc + log_scale.exp() * eps, -0.5 * eps.square() - log_scale - 0.5 * math.log(2 * math.pi)


@dataclass
class _Last:
    """Of the last run."""

    log_ratio: Tensor


class _Globals(Messenger):
    """Global latents take draws, and are hidden from whoever runs the model."""

    def __init__(self, posterior: GlobalPosterior) -> None:
        super().__init__()
        self.posterior = posterior
        self.log_ratio: Tensor = torch.zeros(())

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.posterior.names:
            return
        fn = msg["fn"]
        plate = next((m for m in _PYRO_STACK if isinstance(m, IndepMessenger) and m.name == "_draws"), None)
        shape: tuple[int, ...] = ()
        if plate is not None and plate.dim is not None:
            shape = (plate.size, *[1] * (-plate.dim - 1 - len(fn.batch_shape)))
        point, log_q = self.posterior.draw(msg["name"], shape)
        transform = bijection(fn.support)
        value = transform(point)
        log_det = transform.log_abs_det_jacobian(point, value)
        log_p = fn.log_prob(value)
        self.log_ratio = self.log_ratio + sum(
            sum_rightmost(term, term.dim() - bool(shape)) * sign
            for term, sign in ((log_p, 1), (log_det, 1), (log_q, -1))
        )
        msg["value"], msg["done"], msg["stop"] = value, True, True


def global_term(program: Program) -> Tensor | float:
    """The share of a datum in minus the divergence of the global latents, nats per datum, of the last run's draws."""
    posterior = program.global_posterior
    return 0.0 if posterior is None else posterior.log_ratio.mean() / posterior.num_data


def refuse_globals(program: Program, why: str) -> None:
    """Raise ``InputError`` for what cannot be done with latents that all data share."""
    if program.global_posterior is not None:
        raise InputError(
            f"the latent {program.global_posterior.names[0]!r} of {program.name} is shared by all data, and {why}: "
            f"estimate the evidence by iwae"
        )


def _key(name: str) -> str:
    return name.replace(".", "_")
