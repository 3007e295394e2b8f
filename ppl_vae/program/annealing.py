"""The path from the prior or the guide to the posterior of a program, as densities of one vector per datum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from ppl_vae.errors import InputError, nearest, reason
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.derived_guide import DerivedGuide, is_auxiliary
from ppl_vae.program.latent_space import LatentSpace, Start
from ppl_vae.program.runner import Batch
from ppl_vae.program.traces import sample_sites


class AnnealingPath(NamedTuple):
    """A path from prior or guide to posterior in unconstrained space; the latents of a datum are ``D`` numbers."""

    draw: Callable[[int], Tensor]
    """A function of ``K`` that returns ``K`` draws from the start, ``(K, B, D)``."""
    log_densities: Callable[[Tensor], tuple[Tensor, Tensor]]
    """A function of points ``(K, B, D)`` that returns the log densities of start and p(x, z), each ``(K, B)``, nats."""
    flat: Callable[[Mapping[str, Tensor]], Tensor]
    """A function from latents by name, ``(K, B, ...)`` as in ``Draws``, to points ``(K, B, D)``."""
    values: Callable[[Tensor], dict[str, Tensor]]
    """The inverse of ``flat``; discrete latents are not among the values."""
    of_batch: Callable[[Tensor, Batch], tuple[Tensor, Tensor]] | None = None
    """``log_densities`` as a function of the batch, too; None if the start is made once per batch."""


def annealing_path(program: BoundProgram, batch: Batch, start: Start = "prior") -> AnnealingPath:
    r"""Return the functions of tensors that annealed importance sampling needs.

    .. math::
        \log f_0(u) = \log q_0(T(u)) + \log |\det T'(u)|, \qquad
        \log f_1(u) = \log p(x, T(u)) + \log |\det T'(u)|

    :math:`T` maps unconstrained space to the support of each latent (``torch.distributions.biject_to``). Discrete
    latents are summed out in both.

    Args:
        program: the program.
        batch: the data.
        start: :math:`q_0`, either the prior p(z) or the guide q(z | x).

    Raises:
        InputError: a discrete latent cannot be summed out; nothing is left to move; no guide to start from; no map
            from unconstrained space to the support of a latent; the density of the guide is known at its draws only.

    Example:
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 4)
        >>> path = annealing_path(Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((x,)), (x,))
        >>> u = path.draw(5)
        >>> log_start, log_target = path.log_densities(u)
        >>> u.shape, log_target.shape
        (torch.Size([5, 3, 2]), torch.Size([5, 3]))
    """
    if start not in get_args(Start):
        raise InputError(f"the start {start!r} is unknown; {nearest(str(start), get_args(Start))}")
    if start == "guide" and program.guide is None:
        raise InputError(f"{program.name} has no guide to start from: anneal from the prior")
    program.refuse_globals("annealing moves the latents of each datum")
    structure = program.structure
    if set(structure.latents) <= set(structure.discrete):
        raise InputError(
            f"{program.name} has no continuous latent to anneal: its evidence is known exactly (--estimators exact)"
        )
    space = LatentSpace(program, otherwise="estimate the evidence by iwae")
    if start == "guide" and isinstance(program.guide, DerivedGuide):
        return _from_derived(program.guide, space, batch)

    def draw(num_samples: int) -> Tensor:
        values: dict[str, Tensor] = {}
        with program.running(), torch.no_grad():
            if start == "guide":
                guide = sample_sites(program.guide_trace(batch, num_samples))
                values = {name: guide[name]["value"] for name in space.names}
            return space.points(batch, values, num_samples)

    def of_batch(u: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return space.log_densities(batch, u, start)

    def log_densities(u: Tensor) -> tuple[Tensor, Tensor]:
        return of_batch(u, batch)

    if start == "guide":
        _reject_auxiliary(program, batch)
        try:
            with torch.no_grad(), program.running(seed="current"):
                log_densities(draw(1))
        except (KeyError, NotImplementedError) as error:  # a normalizing flow without an inverse
            raise InputError(
                f"the guide of {program.name} has no density but at its own draws ({reason(error)}): anneal from the "
                f"prior"
            ) from error
    return AnnealingPath(draw, log_densities, partial(space.flat, batch), partial(space.values, batch), of_batch)


def _from_derived(guide: DerivedGuide, space: LatentSpace, batch: Batch) -> AnnealingPath:
    """Return the path from a derived guide, which draws points of the path itself."""
    with space.program.running(), torch.no_grad():
        q = guide.points(*batch)

    def draw(num_samples: int) -> Tensor:
        return q.sample((num_samples,))

    def log_densities(u: Tensor) -> tuple[Tensor, Tensor]:
        return q.log_prob(u), space.log_joint(batch, u)

    return AnnealingPath(draw, log_densities, partial(space.flat, batch), partial(space.values, batch))


def _reject_auxiliary(program: BoundProgram, batch: Batch) -> None:
    with program.running(seed="current"), torch.no_grad():
        sites = sample_sites(program.guide_trace(batch))
    for name, site in sites.items():
        if is_auxiliary(site):
            raise InputError(
                f"the guide of {program.name} draws its latents by way of {name!r}, so that it has no density of them "
                f"alone: anneal from the prior"
            )
