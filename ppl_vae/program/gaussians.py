"""The latents whose posterior or prior is a Gaussian: its mean and standard deviation, which are the whole of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal, Normal

from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.global_posterior import GuidedLatents
from ppl_vae.program.handlers import Generate
from ppl_vae.program.moments import unwrapped
from ppl_vae.program.predictions import LatentMoments
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import sample_sites

GAUSSIANS = (Normal, MultivariateNormal, LowRankMultivariateNormal)
"""The distributions whose numbers are Gaussian, each by itself."""
RUNS = 3
"""The number of draws by which a latent that depends on other latents is recognised."""


@torch.no_grad()
def gaussian_posteriors(program: BoundProgram, batch: Batch) -> LatentMoments:
    """Return mean and standard deviation of each latent whose posterior under the guide is a Gaussian, ``(B, ...)``.

    A latent is left out if its distribution in the guide is none, or depends on other latents, whose draws make its
    posterior a mixture.

    Args:
        program: the program.
        batch: the arguments of ``model``.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 6)
        >>> program = Program(VAE(data_dim=6, latent_dim=2)).bind((x,))
        >>> gaussian_posteriors(program, (x,)).mean["z"].shape, gaussian_priors(program, (x,)).sd["z"][0]
        (torch.Size([3, 2]), tensor([1., 1.]))
    """
    return _gaussians(program, len(batch[0]), lambda count: program.guide_trace(batch, count))


@torch.no_grad()
def gaussian_priors(program: BoundProgram, batch: Batch) -> LatentMoments:
    """Return mean and standard deviation of each latent whose prior is a Gaussian, as ``gaussian_posteriors`` does.

    Args:
        program: the program.
        batch: the arguments of ``model``, of which only the size and the conditions count.
    """
    return _gaussians(program, len(batch[0]), lambda count: program.run(Generate()(program.model), batch, count))


def _gaussians(program: BoundProgram, num_data: int, run: Callable[[int], poutine.Trace]) -> LatentMoments:
    """Return the moments of the Gaussian sites that are the same in each draw of a run."""
    if isinstance(program.global_posterior, GuidedLatents):  # each run has other draws of the global latents
        return LatentMoments({}, {})
    structure = program.structure

    def moments(count: int) -> dict[str, tuple[Tensor, Tensor]]:
        sites = sample_sites(run(count))
        return {
            name: (
                structure.to_front(site, site["fn"].mean, count, site["fn"].event_dim),
                structure.to_front(site, site["fn"].variance, count, site["fn"].event_dim),
            )
            for name, site in sites.items()
            if name in structure.latents and site["mask"] is None and isinstance(unwrapped(site["fn"]), GAUSSIANS)
        }

    with program.running():
        known = program.each_draw(moments, RUNS)
    mean: dict[str, Tensor] = {}
    sd: dict[str, Tensor] = {}
    for name, parts in known.items():
        if all(torch.allclose(part, part[:1], rtol=1e-5, atol=1e-7) for part in parts):
            loc, variance = (part[0].expand(num_data, *part.shape[2:]) for part in parts)
            mean[name], sd[name] = loc, variance.sqrt()
    return LatentMoments(mean, sd)
