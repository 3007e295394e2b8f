"""Programs with latents that all data share: they are found in a run, and get a posterior or keep their guide's."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide, AutoGuideList
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program.faults import fixed_size
from ppl_vae.program.global_posterior import GlobalPosterior, GuidedLatents, SharedLatents
from ppl_vae.program.moments import unwrapped
from ppl_vae.program.runner import Batch, Runner
from ppl_vae.program.supports import is_discrete
from ppl_vae.program.traces import Site, find_data_plate, lies_in, sample_sites


def with_globals(program: Runner, batch: Batch, num_data: int) -> Runner:
    r"""Replace global latents, which lie outside the data plate, by draws from a posterior.

    .. math::
        \mathcal L = \frac1N \sum_i \mathbb E_{q(w)} \bigl[\mathcal L(x_i; w)\bigr]
        - \frac1N \mathrm{KL}(q(w)\,\|\,p(w))

    The posterior is that of the program's own guide, if the guide samples the global latents. Otherwise it is
    :math:`q(w) = \mathcal N(\mu, \mathrm{diag}\,\sigma^2)` in unconstrained space. Its parameters are trained with
    theta. An objective has the second term as ``shared``, beside its draws. Everything else that is done with the
    program draws w from q(w): its evidence is the posterior predictive density, :math:`\log \mathbb E_{q(w)}\, p(x \mid
    w)`, given the data that q was fitted to.

    Source: Hoffman et al., Stochastic Variational Inference (2013), section 2; Kucukelbir et al., Automatic
    Differentiation Variational Inference (2017), section 2.4, for the family.

    Args:
        program: the parts of the program; they are returned unchanged if there is no global latent.
        batch: some data.
        num_data: the number ``N`` of training data.

    Raises:
        InputError: a global latent is discrete, or nothing maps unconstrained space to its support; the guide samples
            only some of them, or puts a point mass there; or an ``AutoGuide`` has parameters for the data of a batch.

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
        try:
            sites = sample_sites(poutine.trace(program.model).get_trace(*batch))
            guide = program.guide
            guided = {} if guide is None else sample_sites(poutine.trace(guide).get_trace(*batch))
        except Exception as error:  # the check reports it, with a better message
            _refuse_two_plates(program, error)
            if why := fixed_size(error):
                raise InputError(f"{program.name} fails on a batch of {len(batch[0])} data: {why}") from error
            return program
        if not any(site["is_observed"] for site in sites.values()):
            return program
        plate = find_data_plate(program.name, sites, len(batch[0]), program.data_plate)
        _refuse_auto_guides_of_data(program, plate, len(batch[0]))
        outside = {name: site for name, site in sites.items() if not site["is_observed"] and not lies_in(site, plate)}
        sampled = {name: site for name, site in guided.items() if not lies_in(site, plate)}
        if not outside:
            return program
        for name, site in outside.items():
            if is_discrete(site["fn"]):
                raise InputError(
                    f"the latent {name!r} of {program.name} lies outside the data plate {plate!r} and is discrete: "
                    f"only continuous latents can be shared by all data; move it inside, or make it a parameter"
                )
        posterior: SharedLatents
        if outside.keys() & guided.keys():
            posterior = _of_guide(program, outside, sampled, num_data)
        else:
            posterior = GlobalPosterior(outside, num_data)
    posterior = posterior.to(batch[0].device)
    module = nn.ModuleDict({"model": program.module, "globals": posterior})
    program = replace(program, module=module, global_posterior=posterior, model=posterior.conditioned(program.model))
    if isinstance(posterior, GuidedLatents):
        program = replace(program, guide=_hiding(posterior, program.guide))
    return program


def _hiding(posterior: GuidedLatents, guide: Any) -> Any:
    """Return the guide with its global latents hidden."""

    @wraps(guide, assigned=(), updated=())
    def hiding(*rows: Tensor) -> Any:
        return posterior.guide(*rows)

    return hiding


def _of_guide(
    program: Runner, outside: Mapping[str, Site], sampled: Mapping[str, Site], num_data: int
) -> GuidedLatents:
    """Return the posterior that the guide gives the global latents."""
    for name in outside:
        if name not in sampled:
            raise InputError(
                f"the guide of {program.name} samples some of the latents that all data share, but not {name!r}: "
                f"sample all of {', '.join(map(repr, outside))} there, outside the data plate, or none, so that each "
                f"gets a Gaussian posterior"
            )
    auxiliary = {name: site for name, site in sampled.items() if site["infer"].get("is_auxiliary")}
    own = {name: sampled[name] for name in outside} | auxiliary
    for name, site in own.items():
        if not (site["fn"].has_rsample or isinstance(unwrapped(site["fn"]), dist.Delta)):
            raise InputError(
                f"the guide of {program.name} draws {name!r}, which all data share, from a "
                f"{type(unwrapped(site['fn'])).__name__}, whose draws have no path gradient: use a distribution that "
                f"is reparameterised, such as a transformed Normal"
            )
    if all(isinstance(unwrapped(site["fn"]), dist.Delta) for site in own.values()):
        raise InputError(
            f"the guide of {program.name} puts a point mass (Delta) at {next(iter(outside))!r}: its ELBO is no bound "
            f"on the evidence; give the guide a density, such as AutoNormal or AutoMultivariateNormal"
        )
    assert program.guide is not None
    return GuidedLatents(outside, auxiliary, program.guide, num_data)


def _refuse_auto_guides_of_data(program: Runner, plate: str, num_data: int) -> None:
    """Refuse an ``AutoGuide`` that has parameters of its own for every datum of one batch."""
    for guide in _auto_guides(program.guide and inspect.unwrap(program.guide)):
        trace = guide.prototype_trace
        for name, site in () if trace is None else trace.iter_stochastic_nodes():
            if lies_in(site, plate):
                raise InputError(
                    f"the guide of {program.name} is an {type(guide).__name__}, which has parameters of its own for "
                    f"{name!r} of each datum of the first batch ({num_data} here), and fits no other batch: leave the "
                    f"guide out, so that an encoder is derived, or fit each datum, --guide per-sample; in an "
                    f"AutoGuideList, take a function for {name!r}"
                )


def _refuse_two_plates(program: Runner, error: Exception) -> None:
    """Refuse an ``AutoGuideList`` whose functions make a plate that the list makes, as Pyro does with less words."""
    is_list = program.guide is not None and isinstance(inspect.unwrap(program.guide), AutoGuideList)
    if is_list and (plate := re.match(r"Multiple sample sites named '(.*)'", str(error))):
        name = plate[1]
        raise InputError(
            f"the AutoGuideList of {program.name} makes the plate {name!r}, and one of its functions makes it again: "
            f"write `with guide.plates[{name!r}]:` there, and AutoGuideList(model, create_plates=lambda x: "
            f"pyro.plate({name!r}, len(x))), so that it has the size of every batch"
        ) from error


def _auto_guides(guide: Any) -> Iterator[Any]:
    if isinstance(guide, AutoGuideList):
        for part in guide:
            yield from _auto_guides(part)
    elif isinstance(guide, AutoGuide):
        yield guide
