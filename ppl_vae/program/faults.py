"""Faults of single sites, and disagreements of model and guide, each reported in one sentence with its remedy."""

from __future__ import annotations

import re
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine

from ppl_vae.errors import InputError, reason, warn
from ppl_vae.program.derived_guide import is_auxiliary, is_derived
from ppl_vae.program.partly_observed import PartlyObserved
from ppl_vae.program.rescaled import Rescaled
from ppl_vae.program.supports import is_discrete, is_narrower, measure, support_of
from ppl_vae.program.traces import Site, Structure, is_factor, sample_sites, support

DRAWS = 64
"""The number of draws of a latent of the guide that are compared with the support that the model gives it."""


def check_shape(structure: Structure, site: Site) -> None:
    """Check that a site lies in the data plate, and that its density has one dimension for each of its plates."""
    structure.data_frame(site)
    if not site["is_observed"]:
        structure.value(site, 1)
        if site["value"].numel() == 0:
            raise InputError(
                f"the latent {site['name']!r} of {structure.program} has size 0: give it one dimension or more"
            )
    structure.to_front(site, torch.empty(site["fn"].batch_shape), 1)


def reject_point_mass(program: str, site: Site) -> None:
    """Refuse a guide that puts a point mass at a latent."""
    if not is_derived(site) and isinstance(_base(site["fn"])[0], dist.Delta):
        raise InputError(
            f"the guide of {program} puts a point mass (Delta) at {site['name']!r}: its ELBO is no bound on the "
            f"evidence; give the guide a density, such as a Normal"
        )


def report_factors(program: str, guide: poutine.Trace) -> None:
    """Warn of factors in a guide: they count as a part of its density, whatever their author wants with them."""
    names = [repr(name) for name, site in sample_sites(guide).items() if is_factor(site)]
    if names:
        warn(
            f"the factor {', '.join(names)} in the guide of {program} counts as a part of its density, as in "
            f"pyro.infer.Trace_ELBO: if it is a further loss and no density, elbo and evidence are not of the data"
        )


def reject_subsampling(program: str, site: Site, data_plate: str) -> None:
    """Refuse a plate within a datum that is subsampled."""
    for frame in site["cond_indep_stack"]:
        if frame.name != data_plate and frame.full_size not in (None, -1, frame.size):
            raise InputError(
                f"the plate {frame.name!r} of {program} is subsampled within a datum ({frame.size} of "
                f"{frame.full_size}), so that log p(x) is not that of the whole datum: remove subsample_size"
            )


def compare(program: str, model: poutine.Trace, guide: poutine.Trace) -> None:
    """Compare guide and model: they must have the same latent sites, of the same shapes and on the same support."""
    wanted = {name: site for name, site in sample_sites(model).items() if not site["is_observed"]}
    given = {n: site for n, site in sample_sites(guide).items() if not (is_auxiliary(site) or is_factor(site))}
    for name in sorted(given.keys() - wanted.keys()):
        raise InputError(
            f"guide and model of {program} disagree: the guide samples {name!r}, the model does not (its latents: "
            f"{', '.join(wanted) or 'none'}); give the sites the same names"
        )
    for name, site in wanted.items():
        if name not in given and support(site) is not None:
            continue  # it is summed out
        if name not in given:
            kind = "discrete " if is_discrete(site["fn"]) else ""
            raise InputError(
                f"guide and model of {program} disagree: the model's {kind}latent {name!r} is missing in the "
                f"guide (it samples: {', '.join(given) or 'nothing'}); sample {name!r} there too"
            )
        expected, got = site["value"].shape, given[name]["value"].shape
        if expected != got:
            raise InputError(
                f"guide and model of {program} disagree at {name!r}: shape {tuple(expected)} in the model, "
                f"{tuple(got)} in the guide (the first is the batch); check to_event and the networks' widths"
            )
        if site["fn"].event_dim != given[name]["fn"].event_dim:
            raise InputError(
                f"guide and model of {program} disagree at {name!r}: {site['fn'].event_dim} event dimensions in "
                f"the model, {given[name]['fn'].event_dim} in the guide; use the same to_event in both"
            )
        if not is_derived(given[name]):  # its density has the Jacobian of the transform
            _compare_measures(program, site, given[name])


def _compare_measures(program: str, site: Site, of_guide: Site) -> None:
    """Refuse a guide whose density of a latent is with respect to another measure than the model's."""
    measures = [measure(fn) for fn in (site["fn"], of_guide["fn"])]
    if None in measures or measures[0] == measures[1]:
        return
    family, drawn_from = (type(_base(s["fn"])[0]).__name__ for s in (site, of_guide))
    name = site["name"]
    if measures[0] == "discrete":
        what = f"no probability of a value, which the model's discrete {family} has"
        remedy = (
            f"leave {name!r} out of the guide, so that the program is summed over its values"
            if support(site) is not None
            else "draw it from a discrete distribution"
        )
    else:
        what = f"with respect to another measure than that of the model's {family}"
        remedy = "use a distribution on the same support"
    raise InputError(
        f"guide and model of {program} disagree at {name!r}: the density of the guide's {drawn_from} is {what}, so "
        f"that their ratio means nothing; {remedy}"
    )


def check_support(program: str, site: Site, of_guide: Site | None) -> None:
    """Check that the guide draws a latent from the support that the model gives it, and warn of a narrower one.

    Args:
        program: the program's name.
        site: a site of the model, given the latents that the guide draws.
        of_guide: the site of that name in the guide; None if the guide has none.
    """
    constraint = support_of(site["fn"])
    if site["is_observed"] or constraint is None:
        return
    family, values = type(_base(site["fn"])[0]).__name__, [site["value"]]
    by_itself = of_guide is not None and not is_derived(of_guide)
    if by_itself:
        values.append(of_guide["fn"](torch.Size([DRAWS])))  # type: ignore[index]
    if not all(bool(constraint.check(value).all()) for value in values):
        raise InputError(
            f"guide and model of {program} disagree at {site['name']!r}: the guide draws values outside the "
            f"support of the model's {family}; use a distribution on the same support"
        )
    if by_itself and is_narrower(of_guide["fn"], site["fn"]):  # type: ignore[index]
        warn(
            f"the guide of {program} draws {site['name']!r} from a part of the support of the model's {family}: the "
            f"evidence has that part alone, and stays below; use a distribution on the same support"
        )


def check_observed_shape(structure: Structure, site: Site) -> None:
    """Check that the data have the shape of the distribution under which they are observed."""
    if not site["is_observed"]:
        return
    try:
        site["value"].expand(site["fn"].shape())
    except RuntimeError:
        raise InputError(
            f"site {site['name']!r} of {structure.program} observes data of shape {tuple(site['value'].shape)} under a "
            f"distribution of shape {tuple(site['fn'].shape())} (the first is the batch): the data's width and the "
            f"model's differ; change one of them"
        ) from None


def check_density(structure: Structure, site: Site) -> None:
    """Check that the density of an observation can be computed; its values are checked by ``check_observation``."""
    if site["is_observed"]:
        try:
            site["fn"].log_prob(site["value"])
        except ValueError:  # a value outside the support
            return
        except Exception as error:
            family, kind = type(_base(site["fn"])[0]).__name__, str(site["value"].dtype).removeprefix("torch.")
            raise InputError(
                f"site {site['name']!r} of {structure.program} observes {kind} numbers under a {family}, which has no "
                f"density of them ({reason(error)}): convert them in the model, such as obs=y.float()"
            ) from error


def own_support(site: Site) -> Any | None:
    """Return the support of the distribution inside a site's wrappers; None if it defines none, or has holes."""
    return None if isinstance(site["fn"], PartlyObserved) else support_of(_base(site["fn"])[0])


def check_observation(structure: Structure, site: Site, first_row: int = 0) -> None:
    """Check that an observed value lies in the support of its distribution; masked entries are not checked."""
    base, masks = _base(site["fn"])
    family = type(base.base_dist if isinstance(base, Rescaled) else base).__name__
    if not site["is_observed"] or is_factor(site):
        return
    fn, value, constraint = site["fn"], site["value"].expand(site["fn"].shape()), support_of(base)
    if constraint is None:
        return
    valid = constraint.check(value)
    valid = valid.reshape(valid.shape + (1,) * (value.dim() - valid.dim())).expand(value.shape)
    for mask, whose in ((site["mask"], fn), *masks):
        if mask is not None:
            mask = torch.as_tensor(mask, device=value.device).expand(whose.batch_shape)
            valid = valid | ~mask.reshape(mask.shape + (1,) * whose.event_dim)
    if isinstance(fn, PartlyObserved):
        _check_whole(structure, site, first_row)
        valid = valid | ~fn.seen
    if bool(valid.all()):
        return
    index = (~valid).nonzero()[0]
    bad = f"{value[tuple(index)].item():.4g}"
    row = first_row + int(index[structure.data_frame(site).dim - fn.event_dim])
    if family == "Bernoulli":
        raise InputError(
            f"site {site['name']!r} of {structure.program} observes {bad} (row {row}) under a Bernoulli, whose density "
            f"of grey values is not normalised: binarise them (--binarize threshold, static or dynamic), or use "
            f"another likelihood"
        )
    raise InputError(
        f"site {site['name']!r} of {structure.program} observes {bad} (row {row}), outside the support of its "
        f"{family} ({constraint}): mend the data or use another likelihood"
    )


def _check_whole(structure: Structure, site: Site, first_row: int) -> None:
    """Refuse an event that is seen in part although its numbers depend on each other."""
    broken = site["fn"].is_broken
    if bool(broken.any()):
        row = first_row + int(broken.nonzero()[0][structure.data_frame(site).dim])
        raise InputError(
            f"a number is missing in row {row} of what the site {site['name']!r} of {structure.program} observes, a "
            f"{type(_base(site['fn'])[0]).__name__}, whose numbers depend on each other given the latents: a datum of "
            f"it may be missing as a whole only"
        )


def _base(fn: Any) -> tuple[Any, list[tuple[Any, Any]]]:
    """Return the distribution inside its wrappers, and the masks among the wrappers."""
    masks = []
    wrappers = torch.distributions.Independent | dist.ExpandedDistribution | dist.MaskedDistribution | PartlyObserved
    while isinstance(fn, wrappers):
        if isinstance(fn, dist.MaskedDistribution):
            masks.append((fn._mask, fn))
        fn = fn.base if isinstance(fn, PartlyObserved) else fn.base_dist
    return fn, masks


def fixed_size(error: Exception) -> str | None:
    """Return what to do about an error of Pyro that a site has values for a fixed number of data; None for others.

    Example:
        >>> fixed_size(ValueError("Shape mismatch inside plate('data') at site z dim -1, 7 vs 320"))
        "'z' has values for 320 data where the plate 'data' has 7: compute them ..."
    """
    match = re.search(r"Shape mismatch inside plate\('(.+)'\) at site (\S+) dim \S+, (\d+) vs (\d+)", str(error))
    if match is None:
        return None
    plate, site, wanted, given = match.groups()
    return (
        f"{site!r} has values for {given} data where the plate {plate!r} has {wanted}: compute them from the batch; if "
        f"the guide has a parameter for each datum, leave it out, or fit with --guide per-sample"
    )
