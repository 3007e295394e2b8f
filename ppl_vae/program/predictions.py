"""Moments of the latents of a fitted program, marginals of its discrete ones, and its predictions at given latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.draws import Draws, joined_draws
from ppl_vae.program.global_posterior import GuidedLatents, SharedDraws
from ppl_vae.program.handlers import Generate, Until, is_point_mass
from ppl_vae.program.known_moments import class_probabilities, known_mean, known_variance, mixed_columns
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import (
    Site,
    Structure,
    sample_sites,
    site_values,
)


class LatentMoments(NamedTuple):
    """Mean and standard deviation of every latent site, ``(B, ...)`` by name.

    Those of a latent whose values are classes are moments of the indicators of the classes, ``(B, ..., C)``.
    """

    mean: dict[str, Tensor]
    sd: dict[str, Tensor]


@torch.no_grad()
def has_exact_moments(program: BoundProgram) -> bool:
    """Return True if ``posterior_moments`` needs no draws: the guide has one latent site whose moments are known.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> has_exact_moments(Program(VAE(data_dim=6, latent_dim=2)).bind((torch.zeros(3, 6),)))
        True
    """
    with program.running(seed="current"):
        return _moments_exact(program, sample_sites(program.guide_trace(program.template, 1)))


def _moments_exact(program: BoundProgram, sites: Mapping[str, Site]) -> bool:
    guided = isinstance(program.global_posterior, GuidedLatents)  # each run has other draws of the global latents
    return len(sites) == 1 and not guided and all(_moments_known(site) for site in sites.values())


def posterior_moments(program: BoundProgram, batch: Batch, num_samples: int = 64) -> LatentMoments:
    r"""Return mean and standard deviation of every latent site under the guide.

    They are exact if the guide has a single latent site whose moments are known. Otherwise they are estimated from
    ``num_samples`` draws, by the conditional moments of the sites if these are known:

    .. math:: \mathrm{Var}[z] = \mathbb E\,\mathrm{Var}[z \mid z'] + \mathrm{Var}\,\mathbb E[z \mid z']

    Discrete latents that are summed out are in no guide: see ``marginals``.

    Args:
        program: the program.
        batch: the arguments of ``model``.
        num_samples: the number of draws per datum.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 6)
        >>> moments = posterior_moments(Program(VAE(data_dim=6, latent_dim=2)).bind((x,)), (x,))
        >>> moments.mean["z"].shape, bool((moments.sd["z"] > 0).all())
        (torch.Size([3, 2]), True)
    """
    with program.running():
        structure = program.structure
        sites = sample_sites(program.guide_trace(batch, 1))
        if _moments_exact(program, sites):
            num_samples = 1
        else:
            sites = {name: site for name, site in sites.items() if name in structure.latents}

        def draw(count: int) -> dict[str, tuple[Tensor, ...]]:
            drawn = sample_sites(program.guide_trace(batch, count))
            return {name: _moments(structure, site, count) for name, site in drawn.items() if name in sites}

        mean, sd = {}, {}
        for name, (means, spread) in program.each_draw(draw, num_samples).items():
            mean[name] = means.mean(0).detach()
            if _moments_known(sites[name]):
                variance = spread.mean(0) + means.var(0, correction=0)
            elif class_probabilities(sites[name]["fn"]) is not None:
                variance = mean[name] * (1 - mean[name])
            else:
                variance = spread.var(0, correction=min(1, num_samples - 1))
            sd[name] = variance.sqrt().detach()
        return LatentMoments(mean, sd)


def _moments(structure: Structure, site: Site, num_samples: int) -> tuple[Tensor, Tensor]:
    """Return the conditional means of a site, ``(K, B, ...)``, and the variances; its draws if these are not known."""
    means = structure.mean(site, num_samples)
    if not _moments_known(site):
        return means, structure.value(site, num_samples).to(means.dtype)
    return means, structure.to_front(site, site["fn"].variance, num_samples, site["fn"].event_dim)


def classes_of(program: BoundProgram) -> dict[str, int]:
    """Return the number of classes of each site, observed or latent, whose values are classes."""
    shares = {name: class_probabilities(site["fn"]) for name, site in program.model_sites().items()}
    return {name: value.shape[-1] for name, value in shares.items() if value is not None}


def coded_columns(program: BoundProgram) -> dict[str, tuple[int, ...]]:
    """Return the columns whose numbers are categories, of each site that observes the columns of a table."""
    mixed = {name: mixed_columns(site["fn"]) for name, site in program.model_sites().items()}
    return {name: fn.coded for name, fn in mixed.items() if fn is not None}


def indicators(values: Tensor, size: Sequence[int]) -> Tensor:
    """Return values ``(..., *size)`` as they are, and classes as indicators, ``(..., C)``, if that is their size.

    Example:
        >>> indicators(torch.tensor([1, 0]), (2,)), indicators(torch.tensor([7.0]), ())
        (tensor([[0, 1],
                [1, 0]]), tensor([7.]))
    """
    return one_hot(values.long(), size[-1]) if len(size) and values.shape[1:] != tuple(size) else values


def _moments_known(site: Site) -> bool:
    fn = site["fn"]
    return not is_point_mass(fn) and known_mean(fn) is not None and known_variance(fn) is not None


@torch.no_grad()
def draw_latents(program: BoundProgram, batch: Batch, num_samples: int = 1) -> dict[str, Tensor]:
    """Draw the latents, ``(K, B, ...)``, as ``BoundProgram.posterior`` does, but draw no data with them if possible.

    Args:
        program: the program.
        batch: the arguments of ``model``.
        num_samples: the number of draws per datum.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 6)
        >>> draw_latents(Program(VAE(data_dim=6, latent_dim=2)).bind((x,)), (x,), 5)["z"].shape
        torch.Size([5, 3, 2])
    """
    structure = program.structure
    if structure.summed or program.global_posterior is not None:
        return program.posterior(batch, num_samples).latents
    with program.running():
        sites = sample_sites(program.guide_trace(batch, num_samples))
        return structure.drawn(sites, num_samples)


@torch.no_grad()
def draw_prior(program: BoundProgram, batch: Batch, num_samples: int = 1) -> dict[str, Tensor]:
    """Draw the latents from the prior, ``(K, B, ...)``, as ``BoundProgram.prior`` does, but draw no data with them.

    Args:
        program: the program.
        batch: the arguments of ``model``, which give the number of data and conditions such as labels.
        num_samples: the number of draws per datum.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 6)
        >>> draw_prior(Program(VAE(data_dim=6, latent_dim=2)).bind((x,)), (x,), 5)["z"].shape
        torch.Size([5, 3, 2])
    """
    structure = program.structure
    if program.global_posterior is not None:
        return program.prior(batch, num_samples).latents
    with program.running():
        model = Until(structure.latents)(Generate()(program.model))
        sites = sample_sites(program.run(model, batch, num_samples))
        return structure.drawn(sites, num_samples)


@torch.no_grad()
def draw_shared(program: BoundProgram, num_samples: int) -> dict[str, Tensor]:
    """Draw the latents that all data share, ``(K, ...)`` by name, from their posterior."""
    draws, few = [], tuple(tensor[:1] for tensor in program.template)
    with program.running():
        for _ in range(num_samples if program.global_posterior else 0):
            with SharedDraws(program.global_posterior) as shared:
                program.run(program.model, few)
            draws.append(shared.values)
    return {name: torch.stack([values[name] for values in draws]) for name in (draws[0] if draws else ())}


def posterior_given(program: BoundProgram, batch: Batch, shared: Mapping[str, Tensor], num_samples: int = 1) -> Draws:
    """Draw as ``BoundProgram.posterior`` does, given draws of the latents that all data share, see ``draw_shared``."""
    runs = [shared]
    if program.draws_take_runs:
        runs = [{name: w[k : k + 1] for name, w in shared.items()} for k in range(num_samples)]
    draws = []
    for given in runs:
        with SharedDraws(program.global_posterior, given):
            draws.append(program.posterior(batch, num_samples // len(runs)))
    return joined_draws(draws)


@torch.no_grad()
def predict(program: BoundProgram, batch: Batch, latents: Mapping[str, Tensor]) -> Draws:
    """Draw from p(x | z) at given latents; latents that are not given are drawn from the prior.

    Args:
        program: the program.
        batch: the arguments of ``model``; only the size of the observed arguments counts.
        latents: the latents by name, ``(K, B, ...)`` as in ``Draws``.

    Example:
        >>> from ppl_vae.models.vae import VAE
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(1, 6)
        >>> program = Program(VAE(data_dim=6, latent_dim=2)).bind((x,))
        >>> predict(program, (x,), {"z": torch.randn(5, 1, 2)}).means["x"].shape
        torch.Size([5, 1, 6])
    """
    num_samples = len(next(iter(latents.values()))) if latents else 1
    if num_samples > 1 and program.draws_take_runs:
        one_by_one = ({name: z[k : k + 1] for name, z in latents.items()} for k in range(num_samples))
        return joined_draws([predict(program, batch, given) for given in one_by_one])
    with program.running():
        values = laid_out(program, batch, latents, num_samples)
        trace = program.run(Generate()(program.model), batch, num_samples, values)
        return program.draws(trace, num_samples)


def laid_out(program: BoundProgram, batch: Batch, latents: Mapping[str, Tensor], num_samples: int) -> dict[str, Tensor]:
    """Lay latents ``(K, B, ...)`` by name out as Pyro does."""
    structure, sites, values = program.structure, program.model_sites(batch, training=None), {}
    for name, tensor in latents.items():
        value = structure.from_front(sites[name], tensor, num_samples)
        if num_samples == 1 or structure.draws_by == "repeat":  # no dimension of the draws
            value = value.reshape(value.shape[value.dim() - sites[name]["value"].dim() :])
        values[name] = value
    return values


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
