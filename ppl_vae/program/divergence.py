"""The ELBO's two terms: reconstruction, and the divergence of the guide from the prior, by site and dimension."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ppl_vae.program.derived_guide import is_derived
from ppl_vae.program.program import Batch, Program
from ppl_vae.program.traces import Site, sample_sites


class ElboTerms(NamedTuple):
    """The ELBO of every datum is ``reconstruction - divergence``, nats per datum."""

    reconstruction: Tensor
    """E log p(x | z) over the guide, ``(B,)``."""
    divergence: Tensor
    """KL(q(z | x) || p(z)), ``(B,)``, from the same draws."""
    by_site: dict[str, Tensor]
    """The divergence of each latent, ``(B, dimensions...)``, or ``(B,)`` where its dimensions depend on each other."""


@torch.no_grad()
def elbo_terms(program: Program, batch: Batch, num_samples: int = 1) -> ElboTerms:
    r"""Split the ELBO, and tell where the guide differs from the prior.

    .. math::
        \mathcal L(x) = \mathbb E_q \log p(x \mid z) - \mathrm{KL}\bigl(q(z \mid x)\,\|\,p(z)\bigr), \qquad
        \mathrm{KL}_d(x) = \mathbb E_{q(z_< \mid x)}
        \mathrm{KL}\bigl(q(z_d \mid z_<, x)\,\|\,p(z_d \mid z_<)\bigr)

    Each :math:`\mathrm{KL}_d` is a closed form where there is one, given draws of the latents :math:`z_<` before it.
    Discrete latents that the guide leaves out are summed out, and a latent that depends on one has no entry by site;
    nor have latents that a derived guide draws together.

    Args:
        program: with a guide.
        batch: the data.
        num_samples: draws from the guide.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> terms = elbo_terms(Program(VAE(data_dim=6, latent_dim=2)), (torch.ones(5, 6),), num_samples=4)
        >>> terms.reconstruction.shape, terms.by_site["z"].shape
        (torch.Size([5]), torch.Size([5, 2]))
    """
    with program.scope():
        structure = program.structure(batch)
        guide, model = program.traces(batch, num_samples)
        log_prior = structure.log_density(model, num_samples, leave_out=structure.observed)
        reconstruction = structure.log_density(model, num_samples) - log_prior
        divergence = structure.log_density(guide, num_samples) - log_prior
        by_site, prior = {}, dict(sample_sites(model))
        for name, q in sample_sites(guide):
            if is_derived(q):
                continue
            p = prior[name]
            if p["fn"].batch_shape.numel() == q["fn"].batch_shape.numel():
                per_dimension, event_dim = _divergence(q, p)
                by_site[name] = structure.to_front(q, per_dimension, num_samples, event_dim).mean(0)
        draws = (num_samples, len(batch[0]))
        return ElboTerms(reconstruction.expand(draws).mean(0), divergence.expand(draws).mean(0), by_site)


@torch.no_grad()
def observed_numbers(program: Program, batch: Batch) -> Tensor:
    """How many numbers of each datum are observed, ``(B,)``; masked ones are not, nor is a factor."""
    with program.scope():
        structure = program.structure(batch)
        total = torch.zeros(len(batch[0]), device=batch[0].device)
        for name, site in sample_sites(program.run(program.model, batch)):
            if name in structure.observed and site["value"].numel():
                size = float(site["fn"].event_shape.numel())
                count = scale_and_mask(torch.full(site["fn"].batch_shape, size, device=total.device), mask=site["mask"])
                total = total + structure.to_front(site, count, 1).reshape(len(total), -1).sum(-1)
        return total


def _divergence(q: Site, p: Any) -> tuple[Tensor, int]:
    """KL(q || p) at one site, as Pyro lays it out, and how many of its dimensions are the event's."""
    q_base, p_base, event_dim = q["fn"], p["fn"], 0
    dims = [fn.reinterpreted_batch_ndims for fn in (q_base, p_base) if isinstance(fn, dist.Independent)]
    if len(dims) == 2 and dims[0] == dims[1]:
        q_base, p_base, event_dim = q_base.base_dist, p_base.base_dist, dims[0]
    try:
        divergence = torch.distributions.kl_divergence(q_base, p_base)
    except NotImplementedError:
        divergence = q_base.log_prob(q["value"]) - p_base.log_prob(q["value"])
    divergence = divergence.expand(q["fn"].batch_shape + q["fn"].event_shape[:event_dim])
    mask = q["mask"]
    if isinstance(mask, Tensor):
        mask = mask.reshape(mask.shape + (1,) * event_dim)
    return scale_and_mask(divergence, mask=mask), event_dim
