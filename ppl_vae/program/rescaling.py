"""A program whose arguments are standardised, with densities, draws and means in the units of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program.densities import is_tracing
from ppl_vae.program.rescaled import rescaled
from ppl_vae.program.runner import Batch, Runner
from ppl_vae.program.supports import support_of
from ppl_vae.program.traces import is_deterministic, is_factor, sample_sites


class Standard(NamedTuple):
    """Location and scale of the numbers of a datum, for one argument; each has the shape of a datum."""

    location: Tensor
    scale: Tensor
    is_positive: Tensor | None = None
    """True for the numbers whose location is zero all the same unless a site observes them that may draw any number, as
    a Gaussian does, and not positive ones alone; None stands for no number."""


Scalings = Mapping[int, Standard]
"""How arguments are standardised, by their place; an argument that is left as it is has no entry."""


def with_scalings(program: Runner, template: Batch, scalings: Scalings) -> Runner:
    r"""Return the program of data in their own units, if the model and the guide were written for standardised ones.

    .. math::
        s = \frac{x - m}{c}, \qquad \log p(x, z) = \log p_s(s, z) - \sum_d \log c_d, \qquad q(z \mid x) = q_s(z \mid s)

    Model and guide take the standardised arguments. Where the model observes an argument or a part of it, the site has
    the distribution of the numbers in their own units, so that everything that is derived from the program is in these
    units: densities, draws, means, and masks of missing numbers. What ``pyro.sample`` returns to the model is
    standardised. Location and scale are buffers of the program, which are saved with its parameters.

    Args:
        program: the parts of the program.
        template: some data.
        scalings: location m and scale c of each argument that is standardised.

    Raises:
        InputError: a site observes numbers that are computed of a standardised argument, or a factor depends on one, so
            that the Jacobian is not known.
    """
    scales = _Scales(scalings)
    counts = _observed_counts(program, template, scales, scalings)

    def standardised(function: Callable[..., Any] | None) -> Any:
        if function is None:
            return None

        @wraps(function, assigned=(), updated=())
        def in_own_units(*rows: Tensor) -> Any:
            rows = scales.contiguous(rows)
            standard = scales.standardise(rows)
            with _Rescale(scales, rows, standard):
                return function(*standard)

        return in_own_units

    closed_form = program.closed_form
    return replace(
        program,
        model=standardised(program.model),
        guide=standardised(program.guide),
        left_out=standardised(program.left_out),
        closed_form=None if closed_form is None or counts is None else _in_own_units(closed_form, scales, counts),
        module=nn.ModuleDict({"program": program.module, "scales": scales}),
    )


def _in_own_units(
    closed_form: Callable[..., Tensor], scales: _Scales, counts: Mapping[int, Tensor]
) -> Callable[..., Tensor]:
    """Return the exact log evidence of data in their own units, given how often each number is observed."""

    def log_evidence(*rows: Tensor) -> Tensor:
        log_det = [(count * scales.of(place)[1].log()).sum() for place, count in counts.items()]
        return closed_form(*scales.standardise(rows)) - torch.stack(log_det).sum()

    return log_evidence


class _Scales(nn.Module):
    """Location and scale of the arguments that are standardised, as buffers."""

    def __init__(self, scalings: Scalings) -> None:
        super().__init__()
        self.places = tuple(scalings)
        for place, standard in scalings.items():
            held = standard.is_positive
            location = standard.location if held is None else torch.where(held, 0.0, standard.location)
            self.register_buffer(f"location_{place}", location)
            self.register_buffer(f"scale_{place}", standard.scale)

    def move(self, place: int, standard: Standard, is_free: Tensor) -> None:
        """Use the location of those positive numbers that may be negative when they are standardised."""
        if standard.is_positive is not None:
            held = standard.is_positive & ~is_free
            setattr(self, f"location_{place}", torch.where(held, 0.0, standard.location))

    def of(self, place: int) -> tuple[Tensor, Tensor]:
        """Return location and scale of an argument."""
        return getattr(self, f"location_{place}"), getattr(self, f"scale_{place}")

    def contiguous(self, rows: Batch) -> Batch:
        """Return a batch in which the arguments that are standardised have their numbers side by side."""
        return tuple(row.contiguous() if place in self.places else row for place, row in enumerate(rows))

    def standardise(self, rows: Batch) -> Batch:
        """Return a batch with standardised arguments."""
        standard = list(rows)
        for place in self.places:
            location, scale = self.of(place)
            standard[place] = (rows[place] - location) / scale
        return tuple(standard)


class _Rescale(Messenger):
    """A handler that gives a site that observes a part of a standardised argument the units of the data.

    Args:
        scales: locations and scales.
        rows: the arguments in their own units.
        standard: the standardised arguments, which the model is given.
    """

    def __init__(self, scales: _Scales, rows: Batch, standard: Batch) -> None:
        super().__init__()
        self.scales, self.rows, self.standard = scales, rows, standard
        self._sites: dict[str, tuple[Tensor, Tensor]] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"] or is_deterministic(msg) or is_factor(msg):
            return
        place = _place_of(msg["value"], self.standard, self.scales.places)
        if place is not None:
            standard, value = self.standard[place], msg["value"]
            location, scale = (_as_part(of_datum, standard, value) for of_datum in self.scales.of(place))
            self._sites[msg["name"]] = location, scale
            msg["fn"] = rescaled(msg["fn"], location, scale)
            msg["value"] = _same_part(self.rows[place], standard, value, location, scale)

    def _pyro_post_sample(self, msg: Any) -> None:
        """Return the standardised value to the model, after the handlers outside have had the one in its own units."""
        if msg["name"] in self._sites:
            location, scale = self._sites.pop(msg["name"])
            msg["value"] = (msg["value"] - location) / scale


def _place_of(value: Tensor, standard: Batch, places: tuple[int, ...]) -> int | None:
    """Return the place of the argument of which a value is a part, in its memory."""
    return next((p for p in places if value is standard[p] or value._base is standard[p]), None)


def _is_whole(value: Tensor, standard: Tensor) -> bool:
    return value.shape == standard.shape and value.stride() == standard.stride()


def _as_part(of_datum: Tensor, standard: Tensor, value: Tensor) -> Tensor:
    """Return the numbers of a datum ``(...)`` for a part of an argument, to broadcast with it."""
    if _is_whole(value, standard):
        return of_datum
    laid_out = of_datum.expand(standard.shape).contiguous()
    return laid_out.as_strided(value.shape, value.stride(), value.storage_offset())


def _same_part(row: Tensor, standard: Tensor, value: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Return the part of an argument in its own units, in the memory of the argument."""
    if _is_whole(value, standard):
        return row
    if is_tracing():  # a graph would keep the place in memory that its example has
        return location + scale * value
    return row.as_strided(value.shape, value.stride(), row.storage_offset() + value.storage_offset())


def _observed_counts(program: Runner, template: Batch, scales: _Scales, scalings: Scalings) -> dict[int, Tensor] | None:
    """Return how often each number of a datum is observed, by the place of its argument; None if a site is masked.

    The locations of positive numbers are settled, too.

    Raises:
        InputError: as ``with_scalings`` does.
    """
    standard = tuple(
        row.detach().requires_grad_() if place in scales.places else row
        for place, row in enumerate(scales.standardise(scales.contiguous(template)))
    )
    leaves = {place: standard[place] for place in scales.places}
    counts, is_masked = {place: torch.zeros_like(leaf[0]) for place, leaf in leaves.items()}, False
    free = {place: torch.zeros_like(leaf, dtype=torch.bool) for place, leaf in leaves.items()}
    with program.running(seed="current", training=False), torch.enable_grad():
        try:
            sites = sample_sites(poutine.trace(program.model).get_trace(*standard))
        except Exception:  # the check reports it, with a better message
            return counts
        for name, site in sites.items():
            if not site["is_observed"]:
                continue
            observed = site["fn"].log_factor if is_factor(site) else site["value"]
            place = _place_of(observed, standard, scales.places)
            if place is None:
                _refuse_computed(program.name, name, observed, leaves, is_factor(site))
                continue
            with suppress(RuntimeError):  # a value of another shape, which the check reports
                is_masked |= site["mask"] is not None
                part = free[place].as_strided(observed.shape, observed.stride(), observed.storage_offset())
                part.copy_(_takes_negative(site["fn"], observed))
                total = observed.expand(site["fn"].shape()).sum()
                slopes = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, retain_graph=True)
                for reached, slope in zip(leaves, slopes, strict=True):
                    if slope is not None:
                        counts[reached] += slope[0]
    for place, standard_of in scalings.items():
        scales.move(place, standard_of, free[place][0])
    return None if is_masked else counts


def _takes_negative(fn: Any, observed: Tensor) -> Tensor:
    """Return True for the numbers of a site that may be negative, of the shape of what it observes."""
    while isinstance(fn, torch.distributions.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        fn = fn.base_dist
    constraint, below = support_of(fn), torch.full_like(observed, -1.0)
    if constraint is None:
        return torch.zeros_like(observed, dtype=torch.bool)
    valid = constraint.check(below)
    return valid.reshape(valid.shape + (1,) * (below.dim() - valid.dim())).expand(below.shape)


def _refuse_computed(program: str, name: str, value: Tensor, leaves: Mapping[int, Tensor], is_factor: bool) -> None:
    """Refuse a value that is computed of a standardised argument."""
    if not value.requires_grad:
        return
    slopes = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True, retain_graph=True)
    if any(slope is not None for slope in slopes):
        what = f"its factor {name!r} is" if is_factor else f"what its site {name!r} observes is"
        raise InputError(
            f"{program} cannot be fitted with standardize: {what} computed of the data, so that the density in their "
            f"own units is not known; let a site observe an argument, obs=x, or a part of it, or scale the data"
        )
