"""The structure of a program, by which Pyro traces are read as tensors ``(K, B, ...)``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.ops.contract import contract_tensor_tree
from pyro.ops.packed import broadcast_all, pack, unpack
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.errors import InputError, nearest
from ppl_vae.program import densities
from ppl_vae.program.known_moments import class_probabilities, known_mean, mixed_columns

Site = dict[str, Any]


class Structure(NamedTuple):
    """The structure that one trace shows of a program, by which later traces are read."""

    program: str
    data_plate: str
    plate_nesting: int
    """The number of dimensions, counted from the right, that plates take."""
    latents: tuple[str, ...]
    observed: tuple[str, ...]
    summed: tuple[str, ...] = ()
    """Discrete latents that the guide leaves out: their sum is part of every density."""
    collapsed: tuple[str, ...] = ()
    """Discrete latents that the guide samples and that can be summed out too, when the evidence is estimated."""
    draws_by: str = "plate"
    """``"plate"``: draws are an outer plate. ``"repeat"``: the networks mix leading dimensions, so that every datum
    is repeated ``K`` times instead; the same numbers, but slower."""
    shared_by: str = "draws"
    """``"draws"``: a run with ``K`` draws has as many of the latents that all data share. ``"runs"``: it has one, as
    the model was written; a matrix product, for example, does not accept more. Then ``K`` draws take ``K`` runs."""

    @property
    def discrete(self) -> tuple[str, ...]:
        """All latents that are summed out when the evidence is estimated."""
        return self.summed + self.collapsed

    def data_frame(self, site: Site) -> Any:
        """Return the frame of the data plate at a site."""
        for frame in site["cond_indep_stack"]:
            if frame.name == self.data_plate and frame.vectorized:
                return frame
        raise InputError(
            f"site {site['name']!r} of {self.program} lies outside the data plate {self.data_plate!r}: move it "
            f"inside, so that every datum has its own, or make it a parameter with pyro.param"
        )

    def log_density(
        self, trace: poutine.Trace, num_samples: int, *, tempered: bool = False, leave_out: Collection[str] = ()
    ) -> Tensor:
        """Sum the log densities of the sites per draw and datum, ``(K, B)``; zero if there is no site.

        Masks count. Scales count only if ``tempered``, and the data plate's own never does.
        """
        sites = [site for name, site in sample_sites(trace).items() if name not in leave_out]
        if any("_enumerate_dim" in site["infer"] for site in sites):
            terms = self._summed_out(trace, sites)
        else:
            terms = [(site, self.site_log_prob(site, tempered)) for site in sites]
        total = torch.zeros(())
        for site, log_prob in terms:
            log_prob = self.to_front(site, log_prob, num_samples)
            total = total + (log_prob.flatten(2).sum(-1) if log_prob.dim() > 2 else log_prob)
        return total

    def site_log_prob(self, site: Site, tempered: bool = False) -> Tensor:
        """Return a site's log density as Pyro lays it out, in unconstrained space if a handler has moved it there."""
        log_prob = densities.log_prob(site["fn"], site["value"], *site["args"], **site["kwargs"])
        log_prob = log_prob + site["infer"].get("_log_det", 0.0)
        if "_enumerate_dim" not in site["infer"]:  # a discrete latent that is masked sums to one by itself
            log_prob = scale_and_mask(log_prob, mask=site["mask"])
        return log_prob * self.own_scale(site) if tempered else log_prob

    def own_scale(self, site: Site) -> Any:
        """Return the scale that ``poutine.scale`` has given a site, without the scale of the data plate."""
        frame = self.data_frame(site)
        return site["scale"] * frame.size / (frame.full_size or frame.size)

    def _summed_out(self, trace: poutine.Trace, sites: list[Site]) -> list[tuple[Site, Tensor]]:
        """Sum the enumerated sites out by variable elimination, and return log densities, each with its plates.

        Scales are left out: they have no one meaning inside and outside a sum.
        """
        trace.symbolize_dims()
        symbols = trace.plate_to_symbol
        frames = {symbols[f.name]: f for site in sites for f in site["cond_indep_stack"] if f.vectorized}
        factors: OrderedDict[frozenset[str], list[Tensor]] = OrderedDict()
        for site in sites:
            plates = frozenset(symbols[f.name] for f in site["cond_indep_stack"] if f.vectorized)
            factors.setdefault(plates, []).append(pack(self.site_log_prob(site), site["infer"]["_dim_to_symbol"]))
        summed = {site["infer"]["_enumerate_symbol"] for site in sites if "_enumerate_dim" in site["infer"]}
        factors = OrderedDict((plates, _merged(terms, summed)) for plates, terms in factors.items())
        terms = []
        for plates, contracted in contract_tensor_tree(factors, summed).items():
            site = {"name": " and ".join(self.latents), "cond_indep_stack": tuple(frames[p] for p in plates)}
            terms += [(site, unpack(term, {p: frames[p].dim for p in plates})) for term in contracted]
        return terms

    def to_front(self, site: Site, tensor: Tensor, num_samples: int, event_dim: int = 0) -> Tensor:
        """Convert ``(draws, plates..., event...)``, Pyro's layout, to ``(K, B, other plates..., event...)``."""
        nesting = self.plate_nesting
        draws = num_samples if self.draws_by == "plate" else 1
        missing = nesting + 1 + event_dim - tensor.dim()
        if missing < 0 or (missing == 0 and tensor.shape[0] != draws):
            raise InputError(
                f"site {site['name']!r} of {self.program} has dimensions that are no plate's: its batch shape is "
                f"{tuple(site['fn'].batch_shape)}; close those of one datum with .to_event(1), or mend the data's shape"
            )
        tensor = tensor.reshape((1,) * missing + tensor.shape)
        tensor = tensor.movedim(self._data_dim(site), 1)
        if idle := self._idle(site):
            tensor = tensor.squeeze(idle)
        if self.draws_by == "repeat" and num_samples > 1:
            tensor = tensor[0].unflatten(0, (num_samples, -1))
        return tensor

    def from_front(self, site: Site, tensor: Tensor, num_samples: int) -> Tensor:
        """Convert ``(K, B, other plates..., event...)`` to Pyro's layout: the inverse of ``to_front``."""
        if self.draws_by == "repeat" and num_samples > 1:
            tensor = tensor.flatten(0, 1)[None]
        for dim in self._idle(site):
            tensor = tensor.unsqueeze(dim)
        return tensor.movedim(1, self._data_dim(site))

    def _data_dim(self, site: Site) -> int:
        """Return the dimension of the data plate in Pyro's layout, counted from the left, after the draws."""
        return self.plate_nesting + 1 + self.data_frame(site).dim

    def _idle(self, site: Site) -> list[int]:
        """List the dimensions of plates without the site, ascending, after the data plate's has moved to 1."""
        nesting, data = self.plate_nesting, self._data_dim(site)
        used = {nesting + 1 + f.dim for f in site["cond_indep_stack"] if f.vectorized}
        return [d + (d < data) for d in range(1, nesting + 1) if d not in used]

    def value(self, site: Site, num_samples: int) -> Tensor:
        """Return the draws of a site, ``(K, B, ...)``."""
        return self.to_front(site, site["value"], num_samples, event_dim=site["fn"].event_dim)

    def drawn(self, sites: Mapping[str, Site], num_samples: int) -> dict[str, Tensor]:
        """Return the draws of the latents by name, ``(K, B, ...)``, given the sites of a trace."""
        return {name: self.value(sites[name], num_samples) for name in self.latents}

    def mean(self, site: Site, num_samples: int) -> Tensor:
        """Return the mean of a site's distribution, ``(K, B, ...)``, or its draw if the mean is not known.

        The number of a class has no mean: for classes, return their probabilities, ``(K, B, ..., C)``.
        """
        if (shares := class_probabilities(site["fn"])) is not None:
            return self.to_front(site, shares, num_samples, event_dim=site["fn"].event_dim + 1)
        mean = known_mean(site["fn"])
        if mean is None:
            value = self.value(site, num_samples)
            return value if value.is_floating_point() else value.to(torch.get_default_dtype())
        return self.to_front(site, mean, num_samples, event_dim=site["fn"].event_dim)

    def data(self, site: Site, observed: Tensor, num_samples: int) -> Tensor:
        """Return what a site observes, given as Pyro lays it out, as ``(B, ...)``, NaN where a number is missing."""
        shape, event_dim = site["fn"].shape(), site["fn"].event_dim
        data = self.to_front(site, observed.expand(shape), num_samples, event_dim)[0]
        if (seen := site["infer"].get("_seen")) is None:
            return data
        return torch.where(self.to_front(site, seen.expand(shape), num_samples, event_dim)[0], data, torch.nan)

    def shares(self, site: Site, num_samples: int) -> Tensor | None:
        """Return the probabilities of the categories of the columns of a table that have some, ``(K, B, n, C)``."""
        if (mixed := mixed_columns(site["fn"])) is None:
            return None
        return self.to_front(site, mixed.column_probabilities, num_samples, event_dim=site["fn"].event_dim + 1)

    def folded(self, site: Site) -> Tensor:
        """Return a value drawn under the outer plate as the value of ``K * B`` data: draws become data."""
        data = self._data_dim(site)
        return site["value"].movedim(0, data - 1).flatten(data - 1, data)


def _merged(terms: list[Tensor], summed: Collection[str]) -> list[Tensor]:
    """Add each factor of an enumerated latent to one that has its dimensions, so that they are exponentiated together.

    Pyro's contraction exponentiates each factor by itself, so that every value can underflow if two are far apart.
    """
    merged: list[Any] = []
    having: dict[str, list[int]] = {}  # the factors that have each enumerated dimension
    for term in sorted(terms, key=lambda term: -len(term._pyro_dims)):  # type: ignore[attr-defined]
        dims = set(term._pyro_dims)  # type: ignore[attr-defined]
        enumerated = [dim for dim in dims if dim in summed]
        beside = having.get(enumerated[0], []) if enumerated else []
        at = next((i for i in beside if dims <= set(merged[i]._pyro_dims)), None)
        if at is None:
            for dim in enumerated:
                having.setdefault(dim, []).append(len(merged))
            merged.append(term)
        else:
            one, other = broadcast_all(merged[at], term)
            merged[at] = one + other
            merged[at]._pyro_dims = one._pyro_dims
    return merged


def read_plates(
    program: str,
    model: Callable[..., Any],
    batch: tuple[Tensor, ...],
    data_plate: str | None = None,
    trace: poutine.Trace | None = None,
) -> Structure:
    """Read the plates and sites of a model from its traces on a batch and on one datum less.

    Args:
        program: the name of the program, for messages.
        model: the model.
        batch: the batch.
        data_plate: the name of the plate of the data, if it is known.
        trace: the trace of the model on the batch, if there is one.

    Raises:
        InputError: nothing is observed, or no plate or more than one can be the data plate.
    """
    sites, num_data = sample_sites(trace or poutine.trace(model).get_trace(*batch)), len(batch[0])
    try:
        less = poutine.trace(model).get_trace(*(tensor[:-1] for tensor in batch)) if num_data > 1 else None
    except Exception:  # a plate of a fixed size, for example, which is reported for the first trace
        less = None
    frames = [f for site in sample_sites(less).values() for f in site["cond_indep_stack"]] if less is not None else []
    fewer = {f.name for f in frames if f.vectorized and f.size == num_data - 1}
    return Structure(
        program=program,
        data_plate=find_data_plate(program, sites, num_data, data_plate, fewer),
        plate_nesting=max(-f.dim for s in sites.values() for f in s["cond_indep_stack"] if f.vectorized),
        latents=tuple(name for name, site in sites.items() if not site["is_observed"]),
        observed=tuple(name for name, site in sites.items() if site["is_observed"]),
    )


def sample_sites(trace: poutine.Trace) -> dict[str, Any]:
    """Return the sample statements of a trace by name, without plates' indices and ``pyro.deterministic``."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site_is_subsample(site) and not is_deterministic(site)
    }


def lies_in(site: Site, plate: str) -> bool:
    """Check if a site lies in a plate."""
    return plate in {frame.name for frame in site["cond_indep_stack"]}


def site_values(trace: poutine.Trace) -> dict[str, Tensor]:
    """Return the values of the sample statements of a trace by name, as Pyro lays them out."""
    return {name: site["value"] for name, site in sample_sites(trace).items()}


def can_enumerate(trace: poutine.Trace) -> tuple[str, ...]:
    """Return the names of the discrete latents of a trace whose values can be listed."""
    latents = {name: site for name, site in sample_sites(trace).items() if not site["is_observed"]}
    return tuple(name for name, site in latents.items() if support(site) is not None)


def support(site: Site) -> Tensor | None:
    """Return the ``V`` values of a discrete site, ``(V, 1, ..., event...)``; None if they cannot be listed."""
    try:
        return site["fn"].enumerate_support(expand=False) if site["fn"].has_enumerate_support else None
    except NotImplementedError:  # several discrete values in one event
        return None


def is_factor(site: Any) -> bool:
    """Check if a site is a ``pyro.factor``, which Pyro writes as an observation of nothing."""
    return isinstance(site["fn"], dist.Unit)


def is_deterministic(site: Any) -> bool:
    """Check if a site is a value that ``pyro.deterministic`` recorded, which Pyro writes as an observation."""
    return bool(site["infer"] and site["infer"].get("_deterministic"))


def find_data_plate(
    program: str, sites: Mapping[str, Site], num_data: int, wanted: str | None = None, fewer: Collection[str] = ()
) -> str:
    """Find the vectorized plate of the batch's size that holds every observation; one called "data" wins a tie.

    Args:
        program: the program's name, for the message.
        sites: the sites of a trace on ``num_data`` data.
        num_data: the size of the batch.
        wanted: the plate that the user named, if any.
        fewer: plates whose size followed that of a smaller batch; if one of these fits, no other plate does.

    Raises:
        InputError: nothing is observed, or no plate or more than one fits.
    """
    observed = {name: site for name, site in sites.items() if site["is_observed"] and not is_factor(site)}
    observed = observed or {name: site for name, site in sites.items() if site["is_observed"]}
    if not observed:
        raise InputError(f"{program}.model observes nothing: give the data to a site, pyro.sample(..., obs=x)")
    plates = [{f.name: f for f in site["cond_indep_stack"]} for site in observed.values()]
    common = [f for name, f in plates[0].items() if all(name in p for p in plates)]
    fitting = [f.name for f in common if f.vectorized and f.size == num_data]
    fitting = [name for name in fitting if name in fewer] or fitting
    if wanted is not None:
        if wanted in fitting:
            return wanted
        raise InputError(
            f"data_plate={wanted!r} is no plate of {program} that has the batch's size {num_data} and holds every "
            f"observed site; {nearest(wanted, fitting) if fitting else 'there is none'}"
        )
    if len(fitting) == 1 or "data" in fitting:
        return fitting[0] if len(fitting) == 1 else "data"
    if fitting:
        raise InputError(
            f"{program} has {len(fitting)} plates of the batch's size {num_data} ({', '.join(fitting)}): "
            f"name the one of the data, data_plate={fitting[0]!r}"
        )
    site = next(iter(observed))
    if loops := [f.name for f in common if not f.vectorized]:
        raise InputError(
            f"the plate {loops[0]!r} of {program} is a Python loop: write `with pyro.plate({loops[0]!r}, len(x)):` "
            f"around the sites, so that the data are computed at once"
        )
    for inside, held in zip(observed, plates, strict=True):
        for plate in (f.name for f in held.values() if f.vectorized and f.size == num_data):
            outside = next(name for name, others in zip(observed, plates, strict=True) if plate not in others)
            raise InputError(
                f"the observed site {outside!r} of {program} lies outside the plate {plate!r}, which holds {inside!r}: "
                f"move it inside, so that it belongs to a datum, or leave it out of the model"
            )
    held_by = ", ".join(f"{f.name!r} of the fixed size {f.size}" for f in plates[0].values()) or "no plate"
    raise InputError(
        f"no plate covers the batch of {num_data} in {program}: the observed site {site!r} lies in {held_by}; "
        f'put latents and observation in `with pyro.plate("data", len(x)):`'
    )
