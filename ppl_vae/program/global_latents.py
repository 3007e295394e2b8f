"""Latents that all data share: a posterior of their own, for a model that no guide samples them for."""

from __future__ import annotations

from dataclasses import replace

import torch
from pyro import poutine
from torch import nn

from ppl_vae.errors import InputError
from ppl_vae.program.global_posterior import GlobalPosterior
from ppl_vae.program.runner import Batch, Runner
from ppl_vae.program.traces import find_data_plate, sample_sites


def with_globals(program: Runner, batch: Batch, num_data: int) -> Runner:
    r"""Replace global latents, which lie outside the data plate, by draws from a posterior.

    .. math::
        q(w) = \mathcal N(\mu, \mathrm{diag}\,\sigma^2) \text{ in unconstrained space}, \qquad
        \mathcal L = \frac1N \sum_i \mathbb E_{q(w)} \bigl[\mathcal L(x_i; w)\bigr]
        - \frac1N \mathrm{KL}(q(w)\,\|\,p(w))

    The posterior's parameters are trained with theta. An objective has the second term as ``shared``, beside its draws.
    For everything else that is done with the program, w is drawn from q(w): its evidence is that of the posterior
    predictive, :math:`\log \mathbb E_{q(w)}\, p(x \mid w)`, given the data that q was fitted to.

    Source: Hoffman et al., Stochastic Variational Inference (2013), section 2; Kucukelbir et al., Automatic
    Differentiation Variational Inference (2017), section 2.4, for the family.

    Args:
        program: what is run; it is returned as it is if there are no global latents that its guide leaves out.
        batch: some data.
        num_data: the number ``N`` of training data.

    Raises:
        InputError: a global latent is discrete, or nothing maps unconstrained space to its support.

    Example:
        >>> import pyro.distributions as dist
        >>> import pyro
        >>> from ppl_vae.program import Program
        >>> def model(x):
        ...     w = pyro.sample("w", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(w, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> program = Program(model).bind((torch.zeros(9),), num_data=9)
        >>> program.structure.latents, program.global_posterior.names
        (('z',), ('w',))
    """
    with torch.no_grad(), program.running(seed="current"):
        guided: set[str] = set()
        try:
            sites = sample_sites(poutine.trace(program.model).get_trace(*batch))
            if program.guide is not None:
                guided = {name for name in sample_sites(poutine.trace(program.guide).get_trace(*batch))}
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
    module = nn.ModuleDict({"model": program.module, "globals": posterior})
    return replace(program, model=posterior.conditioned(program.model), module=module, global_posterior=posterior)
