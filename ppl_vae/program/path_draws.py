"""Draws from the guide whose gradient follows their path alone, for objectives of several weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.handlers import is_point_mass, is_scored
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import Site, Structure, sample_sites, site_values


class PathDraws(NamedTuple):
    """Log weights, and their gradient without the score of the guide."""

    log_weight: Tensor
    """log p(x, z) - log q(z | x), ``(K, B)``, nats, detached."""
    surrogate: Callable[[Tensor], Tensor]
    r"""A function of constant weights v ``(K, B)`` that returns ``(B,)`` numbers, whose gradient, not their value, is

    .. math::
        \sum_k v_k\, \partial_\theta \log p_\theta(x, z_k)
        + v_k^2\, \frac{\partial \log w_k}{\partial z_k} \frac{\partial z_k}{\partial \phi}

    as the draws :math:`z_k(\epsilon_k, \phi)` move along their path. It can be called once only."""


def path_draws(program: BoundProgram, batch: Batch, num_samples: int) -> PathDraws:
    r"""Draw from the guide so that log q has a gradient through the draws only, however they depend on each other.

    The guide runs twice: once for draws z that depend on phi, and once, given these, for the slope of log q in z, with
    phi held constant. If latents depend on each other, as in :math:`z_2 \sim q_\phi(z_2 \mid z_1, x)`, every effect of
    a draw is counted once.

    Args:
        program: a program with a guide.
        batch: the data.
        num_samples: the number ``K`` of draws per datum.

    Raises:
        InputError: a latent has no path, or is shared by all data.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.ones(3, 6)
        >>> draws = path_draws(Program(VAE(data_dim=6, latent_dim=2)).bind((x,)), (x,), num_samples=5)
        >>> draws.log_weight.shape, draws.surrogate(draws.log_weight.softmax(0)).shape
        (torch.Size([5, 3]), torch.Size([3]))
    """
    if program.global_posterior is not None:
        raise InputError(
            f"bound='iwae' is a bound on the evidence of each datum by itself, and {program.name} has latents that all "
            f"data share: bound='elbo'"
        )
    if program.shared_factors is not None:
        raise InputError(
            f"bound='iwae' is a bound on the evidence of each datum by itself, and the factor "
            f"{program.shared_factors.names[0]!r} of {program.name} lies outside the data plate: bound='elbo'"
        )
    with program.running():
        structure = program.structure
        drawn = sample_sites(program.guide_trace(batch, num_samples))
        sites = {n: site for n, site in drawn.items() if not (site["is_observed"] or is_point_mass(site["fn"]))}
        _refuse_scored(program, sites)
        held = {name: site["value"].detach().requires_grad_() for name, site in sites.items()}
        moving = {name: site["value"].clone() for name, site in sites.items()}
        log_q = structure.log_density(program.guide_trace(batch, num_samples, held), num_samples)
        values: Mapping[str, Tensor] = moving
        if len(sites) < len(drawn):  # latents that are functions of others
            values = site_values(program.guide_trace(batch, num_samples, moving))
        model = program.run(program.model, batch, num_samples, values, summed=structure.summed)
        log_p = structure.log_density(model, num_samples).expand(num_samples, len(batch[0]))

    def surrogate(weights: Tensor) -> Tensor:
        total = (weights * log_p).sum(0)
        for name, value in moving.items():
            if value.requires_grad:
                value.register_hook(lambda slope, name=name: slope * _broadcast(structure, sites[name], weights))
        if log_q.requires_grad:
            given = (weights.square() * log_q).sum()
            slopes = torch.autograd.grad(given, list(held.values()), allow_unused=True, materialize_grads=True)
            for site, slope in zip(sites.values(), slopes, strict=True):
                moved = structure.to_front(site, slope * site["value"], num_samples, site["fn"].event_dim)
                total = total - moved.sum(0).reshape(len(total), -1).sum(-1)
        return total

    return PathDraws((log_p - log_q).detach(), surrogate)


@torch.no_grad()
def check_density_repeats(program: BoundProgram, batch: Batch) -> None:
    """Check that two runs of a guide in training have the same density at the same draws, as ``path_draws`` needs.

    Raises:
        InputError: the guide draws more than its latents, as dropout does.
    """
    before = {name: tensor.clone() for name, tensor in program.state().items()}
    with program.running(seed=0, training=True):
        guide = program.guide_trace(batch)
        again = program.guide_trace(batch, values=site_values(guide))
        first, second = (program.structure.log_density(trace, 1) for trace in (guide, again))
    program.load_state(before)  # running means of batches
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-3):
        raise InputError(
            f"bound='iwae' runs the guide of {program.name} twice, and it draws more than its latents, as dropout "
            f"does: leave that out, or bound='elbo'"
        )


def _refuse_scored(program: BoundProgram, sites: Mapping[str, Site]) -> None:
    for name, site in sites.items():
        if is_scored(site):
            raise InputError(
                f"bound='iwae' takes the gradient along the path of the draws, and {name!r} in the guide of "
                f"{program.name} has none: leave it out of the guide, so that it is summed out, or bound='elbo'"
            )


def _broadcast(structure: Structure, site: Site, weights: Tensor) -> Tensor:
    """Reshape weights ``(K, B)`` to broadcast with a site's value as Pyro lays it out."""
    num_samples, value = len(weights), site["value"]
    dims = structure.value(site, num_samples).dim()
    laid_out = structure.from_front(site, weights.reshape(*weights.shape, *[1] * (dims - 2)), num_samples)
    return laid_out.reshape(laid_out.shape[laid_out.dim() - value.dim() :])
