"""The exact posterior of discrete latents that are summed out, such as responsibilities and smoothed states."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import sample_sites, site_values


def marginals(program: BoundProgram, batch: Batch, num_samples: int = 64) -> dict[str, Tensor]:
    r"""Return the posterior probabilities of the values of each summed-out discrete latent, ``(B, ..., V)`` by site.

    .. math::
        p(s = v \mid x) = \mathbb E_{q(z \mid x)}\bigl[p(s = v \mid z, x)\bigr], \qquad
        p(s = v \mid z, x) = \frac{\partial \log \sum_s p(x, z, s)\, e^{\epsilon_s}}{\partial \epsilon_v}
        \Big|_{\epsilon = 0}

    One derivative of the sum gives the probabilities of all latents at once (Darwiche, A Differential Approach to
    Inference in Bayesian Networks, 2003): for a hidden Markov model it is the forward-backward algorithm. Exact where
    every latent is discrete; else the average over ``num_samples`` draws of the others from the guide.

    Args:
        program: the program; its discrete latents' values are the same numbers in every run.
        batch: arguments of ``model``.
        num_samples: the number of draws of the continuous latents.

    Example:
        >>> from ppl_vae.models.mixture import Mixture
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(5, 2)
        >>> probabilities = marginals(Program(Mixture(data_dim=2, num_components=3)).bind((x,)), (x,))["c"]
        >>> probabilities.shape, bool(torch.allclose(probabilities.sum(-1), torch.ones(5)))
        (torch.Size([5, 3]), True)
    """
    with program.running():
        structure = program.structure
        if not structure.summed:
            return {}
        if len(structure.summed) == len(structure.latents):
            num_samples = 1
        with torch.no_grad():
            guide = program.guide_trace(batch, num_samples)
            values = site_values(guide)
            trace = program.run(program.model, batch, num_samples, values, summed=structure.summed)
        sites = {name: site for name, site in sample_sites(trace).items() if name in structure.summed}
        tilts = {}
        for name, site in sites.items():
            tilts[name] = torch.zeros_like(structure.site_log_prob(site)).requires_grad_()
            site["infer"]["_log_det"] = tilts[name]
        with torch.enable_grad():
            total = structure.log_density(trace, num_samples).sum()
        slopes = torch.autograd.grad(total, list(tilts.values()))
        outside = -1 - structure.plate_nesting  # to the left of it lie the values of discrete latents
        probabilities = {}
        for (name, site), slope in zip(sites.items(), slopes, strict=True):
            own = site["infer"]["_enumerate_dim"]
            others = [dim for dim in range(-slope.dim(), outside) if dim != own]
            slope = (slope.sum(others, keepdim=True) if others else slope).movedim(own, -1)
            slope = slope.reshape(slope.shape[max(0, slope.dim() + outside - 1) :])
            probabilities[name] = structure.to_front(site, slope, num_samples, event_dim=1).mean(0)
        return probabilities
