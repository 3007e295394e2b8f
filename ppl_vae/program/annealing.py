"""A program's posterior as a density of one vector a datum, and a density to start from on the way to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ppl_vae.errors import InputError, nearest, reason
from ppl_vae.program.handlers import Given, Unconstrain, Unconstrained, bijection
from ppl_vae.program.program import Batch, Program, empty_guide
from ppl_vae.program.seeds import seeded
from ppl_vae.program.traces import Site, Structure, sample_sites

Start = Literal["prior", "guide"]


class Path(NamedTuple):
    """From prior or guide to posterior, in unconstrained space; a datum's latents are a vector of ``D`` numbers."""

    draw: Callable[[int], Tensor]
    """``K`` draws from the start, ``(K, B, D)``."""
    log_densities: Callable[[Tensor], tuple[Tensor, Tensor]]
    """At points ``(K, B, D)``, the log densities of the start and of p(x, z), each ``(K, B)``."""
    flat: Callable[[Mapping[str, Tensor]], Tensor]
    """Latents by name, ``(K, B, ...)`` as in ``Draws``, as points ``(K, B, D)``."""


def annealing_path(program: Program, batch: Batch, start: Start = "prior") -> Path:
    r"""The functions of tensors that annealed importance sampling needs.

    .. math::
        \log f_0(u) = \log q_0(T(u)) + \log |\det T'(u)|, \qquad
        \log f_1(u) = \log p(x, T(u)) + \log |\det T'(u)|

    :math:`T` maps unconstrained space to the support of each latent (``torch.distributions.biject_to``). Discrete
    latents are summed out in both.

    Args:
        program: the program.
        batch: the data.
        start: :math:`q_0`, the prior p(z) or the guide q(z | x).

    Raises:
        InputError: a discrete latent cannot be summed out; nothing is left to move; no guide to start from; no map
            from unconstrained space to a latent's support; a guide whose density is known at its own draws only.

    Example:
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> path = annealing_path(Program(FactorAnalysis(data_dim=4, latent_dim=2)), (torch.zeros(3, 4),))
        >>> u = path.draw(5)
        >>> log_start, log_target = path.log_densities(u)
        >>> u.shape, log_target.shape
        (torch.Size([5, 3, 2]), torch.Size([5, 3]))
    """
    if start not in get_args(Start):
        raise InputError(f"the start {start!r} is unknown; {nearest(str(start), get_args(Start))}")
    structure = program.structure(batch)
    names = [name for name in structure.latents if name not in structure.discrete]
    if not names:
        raise InputError(
            f"{program.name} has no continuous latent to anneal: its evidence is known exactly (--estimators exact)"
        )
    if start == "guide" and program.guide is None:
        raise InputError(f"{program.name} has no guide to start from: anneal from the prior")
    with program.scope(), torch.no_grad():
        for name, site in sample_sites(program.run(program.model, batch)):
            if name in names and site["fn"].support.is_discrete:
                raise InputError(
                    f"the latent {name!r} of {program.name} is discrete and cannot be summed out, and annealing moves "
                    f"continuous latents only: estimate the evidence by iwae"
                )
            if name in names:
                _require_bijection(program, site)
    layouts: dict[int, list[_Layout]] = {}

    def layout(num_samples: int) -> list[_Layout]:
        if num_samples not in layouts:
            with torch.no_grad(), Unconstrain(names) as there:
                sites = dict(sample_sites(program.run(program.model, batch, num_samples)))
            layouts[num_samples] = [_layout(structure, sites[n], there.points[n], num_samples) for n in names]
        return layouts[num_samples]

    def points(values: Mapping[str, Tensor], num_samples: int) -> Tensor:
        """Where latents lie, of values as Pyro lays them out; those that are not given are drawn."""
        with torch.no_grad(), Unconstrain(names) as there:
            program.run(program.model, batch, num_samples, values)
        parts = []
        for at in layout(num_samples):
            part = structure.to_front(at.site, there.points[at.site["name"]], num_samples, at.event_dim)
            parts.append(part.reshape(*part.shape[:2], -1))
        return torch.cat(parts, -1)

    def draw(num_samples: int) -> Tensor:
        with program.scope(), torch.no_grad():
            if start == "prior":
                return points({}, num_samples)
            guide = dict(sample_sites(program.run(program.guide or empty_guide, batch, num_samples)))
            return points({name: guide[name]["value"] for name in names}, num_samples)

    def log_densities(u: Tensor) -> tuple[Tensor, Tensor]:
        num_samples = len(u)
        with program.scope():
            at, laid_out = layout(num_samples), {}
            for where, part in zip(at, u.split([prod(where.per_datum) for where in at], -1), strict=True):
                part = part.reshape(*part.shape[:2], *where.per_datum)
                laid_out[where.site["name"]] = structure.from_front(where.site, part, num_samples).reshape(where.shape)
            with Unconstrained(laid_out) as moved:
                model = program.run(program.model, batch, num_samples, summed=structure.discrete)
            log_target = structure.log_density(model, num_samples)
            if start == "prior":
                return structure.log_density(model, num_samples, leave_out=structure.observed), log_target
            with Given(moved.values, moved.log_det):
                guide = program.run(program.guide or empty_guide, batch, num_samples, summed=structure.collapsed)
            return structure.log_density(guide, num_samples), log_target

    def flat(latents: Mapping[str, Tensor]) -> Tensor:
        num_samples = len(latents[names[0]])
        with program.scope(), torch.no_grad():
            values = {}
            for where in layout(num_samples):
                name, shape = where.site["name"], where.site["value"].shape
                values[name] = structure.from_front(where.site, latents[name], num_samples).reshape(shape)
            return points(values, num_samples)

    if start == "guide":
        try:
            with torch.no_grad(), seeded(None):
                log_densities(draw(1))
        except (KeyError, NotImplementedError) as error:  # a normalizing flow without an inverse
            raise InputError(
                f"the guide of {program.name} has no density but at its own draws ({reason(error)}): anneal from the "
                f"prior"
            ) from error
    return Path(draw, log_densities, flat)


class _Layout(NamedTuple):
    """Where a latent's point lies in Pyro's layout, and which numbers of a datum's vector it has."""

    site: Site
    shape: torch.Size
    event_dim: int
    per_datum: torch.Size


def _require_bijection(program: Program, site: Site) -> None:
    try:
        bijection(site["fn"].support)
    except NotImplementedError as error:
        raise InputError(
            f"the latent {site['name']!r} of {program.name} cannot be annealed: nothing maps unconstrained space to "
            f"the support of its {type(site['fn']).__name__}; estimate the evidence by iwae"
        ) from error


def _layout(structure: Structure, site: Site, point: Tensor, num_samples: int) -> _Layout:
    event_dim = point.dim() - len(site["fn"].batch_shape)
    per_datum = structure.to_front(site, point, num_samples, event_dim).shape[2:]
    return _Layout(site, point.shape, event_dim, per_datum)
