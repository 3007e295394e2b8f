"""The ELBO's two terms: reconstruction, and the divergence of the guide from the prior, by site and dimension."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask, sum_rightmost
from torch import Tensor

from ppl_vae.networks.chains import GaussianChain
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.derived_guide import is_derived
from ppl_vae.program.handlers import is_point_mass, is_scored
from ppl_vae.program.runner import Batch
from ppl_vae.program.supports import is_discrete
from ppl_vae.program.traces import Site, Structure, is_factor, sample_sites


class ElboTerms(NamedTuple):
    """The ELBO of every datum is ``reconstruction - divergence``, nats per datum."""

    reconstruction: Tensor
    """E log p(x | z) over the guide, ``(B,)``."""
    divergence: Tensor
    """KL(q(z | x) || p(z)), ``(B,)``, from the same draws."""
    by_site: dict[str, Tensor]
    """The divergence of each latent, ``(B, dimensions...)``, or ``(B,)`` if its dimensions depend on each other."""


class Divergence(NamedTuple):
    """The divergence of the guide from the prior, in one latent or in several together."""

    values: Tensor
    """Nats, ``(K, B, dimensions...)``, or ``(K, B)`` if the dimensions depend on each other."""
    size: int
    """The number of dimensions that each value stands for."""


class ObjectiveTerms(NamedTuple):
    """The terms of training objectives that treat the divergence by itself, per draw and datum, in nats."""

    log_likelihood: Tensor
    """log p(x | z), ``(K, B)``."""
    divergences: tuple[Divergence, ...]
    """Divergences by latent; the mean of their sum is E log q(z | x) - log p(z)."""
    score: Tensor | None
    """As in ``WeightedDraws``."""
    shared: Tensor | float = 0.0
    """As in ``WeightedDraws``."""


def objective_terms(
    program: BoundProgram, batch: Batch, num_samples: int = 1, *, closed: bool = True, reparameterised: bool = True
) -> ObjectiveTerms:
    r"""Return the two terms of the ELBO, differentiable.

    .. math:: \mathcal L(x) = \mathbb E_q \log p(x \mid z) - \mathrm{KL}\bigl(q(z \mid x)\,\|\,p(z)\bigr)

    Discrete latents that the guide leaves out are summed out in p(x, z) and in p(z). The scales of ``poutine.scale``
    count if model and guide have the same scale for a latent.

    Args:
        program: a program with a guide.
        batch: the data.
        num_samples: the number ``K`` of draws per datum.
        closed: if True, the divergence is computed for every latent by itself, by dimension, and in closed form if
            there is one, as in ``pyro.infer.TraceMeanField_ELBO``; if False, from the draws of all latents together.
        reparameterised: as in ``BoundProgram.weighted_draws``.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(5, 6)
        >>> terms = objective_terms(Program(VAE(data_dim=6, latent_dim=2)).bind((x,)), (x,))
        >>> terms.log_likelihood.shape, terms.divergences[0].values.shape
        (torch.Size([1, 5]), torch.Size([1, 5, 2]))
    """
    with program.running():
        structure = program.structure
        guide, model, shared = program.traces(batch, num_samples, reparameterised=reparameterised)
        scored = [name for name, site in sample_sites(guide).items() if is_scored(site)]
        own = _by_site(structure, guide, model, num_samples) if closed else {}

        def log_density(trace: poutine.Trace, leave_out: Collection[str] = ()) -> Tensor:
            total = structure.log_density(trace, num_samples, tempered=True, leave_out=leave_out)
            return total.expand(num_samples, len(batch[0]))

        score = None
        if scored:
            score = log_density(guide, [name for name in sample_sites(guide) if name not in scored])
        factors = [name for name, site in sample_sites(guide).items() if is_factor(site)]
        if structure.summed:
            log_likelihood = log_density(model) - log_density(model, structure.observed)
        else:
            log_likelihood = log_density(model, structure.latents)
        if factors:  # they belong to no latent
            log_likelihood = log_likelihood - log_density(guide, [n for n in sample_sites(guide) if n not in factors])
        divergences = list(own.values())
        left = [name for name in structure.latents if name not in own]
        if left or not own:
            log_q = log_density(guide, [*own, *scored, *factors])
            if score is not None:  # its gradient is the score function's
                others = [name for name in sample_sites(guide) if name not in scored or name in own]
                log_q = log_q + log_density(guide, others).detach()
            log_prior = log_density(model, [*own, *structure.observed])
            size = sum(site["fn"].event_shape.numel() for name, site in sample_sites(model).items() if name in left)
            divergences.append(Divergence(log_q - log_prior, size))
        return ObjectiveTerms(log_likelihood, tuple(divergences), score, shared)


@torch.no_grad()
def elbo_terms(program: BoundProgram, batch: Batch, num_samples: int = 1) -> ElboTerms:
    r"""Split the ELBO into its two terms, and the divergence by latent and dimension.

    .. math::
        \mathcal L(x) = \mathbb E_q \log p(x \mid z) - \mathrm{KL}\bigl(q(z \mid x)\,\|\,p(z)\bigr), \qquad
        \mathrm{KL}_d(x) = \mathbb E_{q(z \mid x)} \log \frac{q(z_d \mid z_{<d}, x)}{p(z_d \mid z_{<d})}

    The latents :math:`z_{<d}` on which :math:`z_d` depends may differ between guide and model, as in a guide from the
    bottom up. If they do not, each :math:`\mathrm{KL}_d` is a closed form, if there is one, given the draws of
    :math:`z_{<d}`.
    Discrete latents that the guide leaves out are summed out, and a latent that depends on one has no entry by site;
    nor have latents that a derived guide draws together.

    Args:
        program: a program with a guide.
        batch: the data.
        num_samples: the number of draws from the guide.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(5, 6)
        >>> terms = elbo_terms(Program(VAE(data_dim=6, latent_dim=2)).bind((x,)), (x,), num_samples=4)
        >>> terms.reconstruction.shape, terms.by_site["z"].shape
        (torch.Size([5]), torch.Size([5, 2]))
    """
    with program.running():
        structure = program.structure
        guide, model, _ = program.traces(batch, num_samples)
        log_prior = structure.log_density(model, num_samples, leave_out=structure.observed)
        reconstruction = structure.log_density(model, num_samples) - log_prior
        divergence = structure.log_density(guide, num_samples) - log_prior
        by_site = {
            name: values.mean(0) for name, (values, _) in _by_site(structure, guide, model, num_samples, 1.0).items()
        }
        draws = (num_samples, len(batch[0]))
        return ElboTerms(reconstruction.expand(draws).mean(0), divergence.expand(draws).mean(0), by_site)


def _by_site(
    structure: Structure, guide: poutine.Trace, model: poutine.Trace, num_samples: int, scale: float | None = None
) -> dict[str, Divergence]:
    """Return the divergence of each latent by itself, times ``scale``, or times the scale that both sites share."""
    by_site, prior, drawn = {}, sample_sites(model), sample_sites(guide)
    order = [name for name in prior if name in drawn]
    before: set[str] = set()
    for name, q in drawn.items():
        p = prior.get(name)
        if p is None or is_derived(q) or is_point_mass(q["fn"]):
            continue
        # The closed form holds if all that the prior may depend on was drawn before this latent.
        closed = before.issuperset(order[: order.index(name)])
        before.add(name)
        scales = [structure.own_scale(site) for site in (q, p)]
        alike = scale is not None or scales[0] is scales[1] or not any(isinstance(s, Tensor) for s in scales)
        if not alike or (scale is None and scales[0] != scales[1]):
            continue
        if p["fn"].batch_shape.numel() == q["fn"].batch_shape.numel():
            values, event_dim = _divergence(q, p, closed)
            values = structure.to_front(q, values, num_samples, event_dim) * (scales[0] if scale is None else scale)
            values = values.expand(num_samples, *values.shape[1:])
            by_site[name] = Divergence(values, q["fn"].event_shape[event_dim:].numel())
    return by_site


@torch.no_grad()
def observed_numbers(program: BoundProgram, batch: Batch) -> Tensor:
    """Count the numbers of each datum that are observed, ``(B,)``; masked and missing ones and factors do not count."""
    with program.running():
        structure = program.structure
        total = torch.zeros(len(batch[0]), device=batch[0].device)
        for name, site in sample_sites(program.run(program.model, batch)).items():
            if name in structure.observed and site["value"].numel():
                size = float(site["fn"].event_shape.numel())
                count = torch.full(site["fn"].batch_shape, size, device=total.device)
                if (seen := site["infer"].get("_seen")) is not None:
                    count = sum_rightmost(seen.expand(site["fn"].shape()).to(total), site["fn"].event_dim)
                count = scale_and_mask(count, mask=site["mask"])
                total = total + structure.to_front(site, count, 1).reshape(len(total), -1).sum(-1)
        return total


def observes_discrete(program: BoundProgram) -> bool:
    """Check if every observed site is discrete, so that no datum can have a log density above zero."""
    sites = program.model_sites(training=None)
    return all(is_discrete(sites[name]["fn"]) for name in program.structure.observed)


def _divergence(q: Site, p: Any, closed: bool) -> tuple[Tensor, int]:
    """Return KL(q || p) at one site, as Pyro lays it out, and the number of its event dimensions.

    The divergence of chains is that of their steps, given the draws of the steps before. If ``closed`` is False, or
    there is no closed form, it is the difference of the log densities at the draws.
    """
    q_base, p_base, event_dim = q["fn"], p["fn"], 0
    dims = [fn.reinterpreted_batch_ndims for fn in (q_base, p_base) if isinstance(fn, dist.Independent)]
    if len(dims) == 2 and dims[0] == dims[1]:
        q_base, p_base, event_dim = q_base.base_dist, p_base.base_dist, dims[0]
    within = None
    if isinstance(q_base, GaussianChain) and isinstance(p_base, GaussianChain):
        within, event_dim = q_base.within, 2
        q_base, p_base = q_base.conditionals(q["value"]), p_base.conditionals(q["value"])
    divergence = _closed_form(q_base, p_base) if closed else None
    if divergence is None:
        divergence = q_base.log_prob(q["value"]) - p_base.log_prob(q["value"])
    divergence = divergence.expand(q["fn"].batch_shape + q["fn"].event_shape[:event_dim])
    if within is not None:
        divergence = torch.where(within[..., None], divergence, 0.0)
    mask = q["mask"]
    if isinstance(mask, Tensor):
        mask = mask.reshape(mask.shape + (1,) * event_dim)
    return scale_and_mask(divergence, mask=mask), event_dim


def _closed_form(q: Any, p: Any) -> Tensor | None:
    try:
        return torch.distributions.kl_divergence(q, p)
    except NotImplementedError:
        return None
