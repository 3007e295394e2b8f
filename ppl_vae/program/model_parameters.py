"""The parameters of a program's model, theta, among all that training moves."""

from __future__ import annotations

import torch

from ppl_vae.errors import InputError
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.global_posterior import SharedDraws
from ppl_vae.program.traces import site_values


def model_parameters(program: BoundProgram) -> tuple[str, ...]:
    """Return the names of theta: the parameters on which log p(x, z) depends at given latents.

    The other ones, as ``BoundProgram.parameters`` names them, are those of the guide and of the posterior of latents
    that all data share. Parameters that both use belong to theta.

    Example:
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> from ppl_vae.program import Program
        >>> program = Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((torch.zeros(3, 4),), guided=False)
        >>> sorted(name.rpartition(".")[2] for name in model_parameters(program))
        ['bias', 'raw_scale', 'weight']
    """
    batch, structure, posterior = program.template, program.structure, program.global_posterior
    with program.running(seed=0, training=False):
        with torch.no_grad(), SharedDraws(posterior) as shared:
            values = {} if program.guide is None else site_values(program.traces(batch, 1).guide)
            sites = site_values(program.run(program.model, batch, 1, values))
            latents = {name: sites[name] for name in structure.latents if name not in structure.summed}
        with torch.enable_grad(), SharedDraws(posterior) as again:
            again.values |= shared.values
            trace = program.run(program.model, batch, 1, latents, summed=structure.summed)
            log_p = structure.log_density(trace, 1).sum()
            named = program.parameters()
            if not log_p.requires_grad:
                return ()
            gradients = torch.autograd.grad(log_p, list(named.values()), allow_unused=True)
    return tuple(name for name, gradient in zip(named, gradients, strict=True) if gradient is not None)


@torch.no_grad()
def hold_model(program: BoundProgram, like: BoundProgram) -> tuple[str, ...]:
    """Give a program the theta of another one that was made of the same definition, and return the names of theta.

    The statistics of its modules, such as those of batch norm, are taken too.

    Raises:
        InputError: the other program has other parameters.
    """
    names, own, theirs = model_parameters(program), program.parameters(), like.parameters()
    for name in names:
        if name not in theirs or theirs[name].shape != own[name].shape:
            raise InputError(f"the parameter {name!r} of {program.name} has another shape in another fit of it")
        own[name].copy_(theirs[name])
    statistics = dict(like.module.named_buffers())
    for name, buffer in program.module.named_buffers():
        if name in statistics and "globals" not in name.split("."):  # which hold the number of data
            buffer.copy_(statistics[name])
    return names
