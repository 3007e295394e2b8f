"""Data with missing numbers: their likelihood is masked out inside the program's own observation sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask, sum_rightmost
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.nn.functional import one_hot

from ppl_vae.errors import InputError, reason
from ppl_vae.program.bound import BoundProgram
from ppl_vae.program.known_moments import class_probabilities, known_mean, mixed_columns
from ppl_vae.program.runner import Batch
from ppl_vae.program.simulation import fresh, is_part
from ppl_vae.program.traces import Site, Structure, is_deterministic

GAUSSIAN = (dist.MultivariateNormal, dist.LowRankMultivariateNormal)


class PartlyObserved(dist.TorchDistribution):
    r"""The distribution of what a site observes, given the numbers that were seen.

    .. math:: \log p(x_{\mathrm{seen}} \mid z), \qquad x_{\mathrm{missing}} \sim p(\cdot \mid x_{\mathrm{seen}}, z)

    The density is the density of the seen numbers. Draws and mean keep the seen numbers, and have the others given
    them. Numbers of an event that are independent given z (``Independent``) are treated one by one. For a multivariate
    Gaussian the density is marginal, and draws are conditional: with :math:`O` the diagonal matrix of seen numbers,

    .. math::
        S = O \Sigma O + (I - O), \qquad
        x = \tilde x + \Sigma O S^{-1} O (x_{\mathrm{seen}} - \tilde x), \quad \tilde x \sim \mathcal N(\mu, \Sigma)

    (Doucet, A Note on Efficient Conditional Simulation of Gaussian Distributions, 2010). For every other
    distribution, an event is seen as a whole or not at all.

    Args:
        base: the distribution of all numbers of a site.
        value: the numbers; a missing one may be anything in the support.
        seen: True for the numbers that are not missing, to broadcast with ``value``.

    Example:
        >>> base = dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
        >>> half = PartlyObserved(base, torch.tensor([2.0, 0.0]), torch.tensor([True, False]))
        >>> half.mean, bool(torch.isclose(half.log_prob(half.mean), dist.Normal(0.0, 1.0).log_prob(torch.tensor(2.0))))
        (tensor([2., 1.]), True)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, base: Any, value: Tensor, seen: Tensor) -> None:
        self.base, self.value, self.seen = base, value, seen
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of all numbers."""
        return self.base.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> PartlyObserved:
        """Return the distribution with a larger batch shape."""
        return PartlyObserved(self.base.expand(batch_shape), self.value, self.seen)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of the seen numbers, of batch shape."""
        one_by_one = of_each_number(self.base)
        if one_by_one is not None:
            return sum_rightmost(torch.where(self.seen, one_by_one.log_prob(value), 0.0), self.event_dim)
        if not isinstance(self.base, GAUSSIAN):
            return torch.where(self._whole, self.base.log_prob(value), 0.0)
        seen, between = self.seen.to(value.dtype), self._between
        residual = seen * (value - self.base.loc)
        tril = torch.linalg.cholesky(between)
        scaled = torch.linalg.solve_triangular(tril, residual[..., None], upper=False)[..., 0]
        constant = seen.sum(-1) * torch.log(torch.tensor(2 * torch.pi, dtype=value.dtype))
        return -0.5 * (scaled.square().sum(-1) + constant) - tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return the seen numbers, and draws of the others given them."""
        return self._completed(self.base.sample(torch.Size(sample_shape)))

    @property
    def mean(self) -> Tensor:
        """The seen numbers, and the mean of the others given them."""
        mean = known_mean(self.base)
        if mean is None:
            raise NotImplementedError
        return self._completed(mean)

    @property
    def class_probabilities(self) -> Tensor | None:
        """The probabilities of the classes of a number; one for the class of a number that was seen."""
        shares = class_probabilities(self.base)
        if shares is None:
            return None
        return torch.where(self.seen[..., None], one_hot(self.value.long(), shares.shape[-1]).to(shares), shares)

    @property
    def coded(self) -> tuple[int, ...]:
        """The columns that are categories, if the numbers are the columns of a table."""
        mixed = mixed_columns(self.base)
        return () if mixed is None else mixed.coded

    @property
    def column_probabilities(self) -> Tensor:
        """The probabilities of the categories of these columns, ``(..., n, C)``; one for a category that was seen."""
        mixed, at = mixed_columns(self.base), torch.tensor(self.coded, device=self.value.device)
        assert mixed is not None
        shares = mixed.column_probabilities
        value, seen = (tensor.index_select(-1, at) for tensor in (self.value, self.seen.expand(self.value.shape)))
        codes = torch.arange(shares.shape[-1], device=at.device)
        return torch.where(seen[..., None], (value[..., None] == codes).to(shares), shares)

    def _completed(self, other: Tensor) -> Tensor:
        if isinstance(self.base, GAUSSIAN):
            seen = self.seen.to(other.dtype)
            residual = (seen * (self.value - other))[..., None]
            moved = self.base.covariance_matrix @ (seen[..., None] * torch.linalg.solve(self._between, residual))
            other = other + moved[..., 0]
        elif of_each_number(self.base) is None:
            whole = self._whole.reshape(self._whole.shape + (1,) * self.event_dim)
            return torch.where(whole, self.value.to(other.dtype), other)
        return torch.where(self.seen, self.value.to(other.dtype), other)

    @property
    def _between(self) -> Tensor:
        """The matrix S: the covariance of the seen numbers, and unit variances in place of the missing ones."""
        seen = self.seen.to(self.base.loc.dtype)
        covariance = self.base.covariance_matrix * seen[..., None, :] * seen[..., :, None]
        return covariance + torch.diag_embed(1 - seen)

    @property
    def _whole(self) -> Tensor:
        """True for the events that have been seen as a whole, of batch shape."""
        return self.seen.flatten(self.seen.dim() - self.event_dim).all(-1) if self.event_dim else self.seen


def of_each_number(fn: Any) -> Any | None:
    """Return the distribution of the numbers of an event one by one; None if they are not independent."""
    while isinstance(fn, torch.distributions.Independent):
        fn = fn.base_dist
    return fn if not fn.event_shape else None


class _Missing(Messenger):
    """A handler that gives observed sites the density of their seen numbers; ``poutine.uncondition`` draws the rest.

    Args:
        structure: the structure of the program.
        seen: True for the numbers that are seen, ``(B, ...)`` by observed site.
    """

    def __init__(self, structure: Structure, seen: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.structure, self.seen = structure, seen

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.seen and msg["is_observed"] and not is_deterministic(msg):
            seen = self.structure.from_front(msg, self.seen[msg["name"]][None], 1)
            while seen.dim() > msg["value"].dim() and len(seen) == 1:
                seen = seen[0]
            msg["fn"] = PartlyObserved(msg["fn"], msg["value"], seen)


def with_missing(program: BoundProgram) -> BoundProgram:
    """Return the program of data that are partly seen.

    Batches have a mask for each observed site, as ``seen_parts`` gives.

    Densities are computed from the seen numbers; predictions keep these and draw the others given them. The guide
    takes the values in place of the missing numbers. Parameters and store are shared with ``program``.

    Args:
        program: the program, bound to data without missing numbers.

    Example:
        >>> from ppl_vae.models.factor_analysis import FactorAnalysis
        >>> from ppl_vae.program import Program
        >>> x = torch.zeros(3, 4)
        >>> seen = torch.tensor([True, True, False, False]).expand(3, 4)
        >>> half = with_missing(Program(FactorAnalysis(data_dim=4, latent_dim=2)).bind((x,)))
        >>> half.log_weights((x, seen), 5).shape, half.posterior((x, seen)).observed["x"][0, 0, :2]
        (torch.Size([5, 3]), tensor([0., 0.]))
    """
    structure, model, guide, template = program.structure, program.model, program.guide, program.template
    sites = program.model_sites()
    values = {name: _observed_value(structure, sites[name]) for name in _that_have_numbers(structure, sites)}

    def masked(*rows: Tensor) -> Any:
        with _Missing(structure, dict(zip(values, rows[len(template) :], strict=True))):
            return model(*rows[: len(template)])

    return program.derive(
        model=masked,
        guide=None if guide is None else lambda *rows: guide(*rows[: len(template)]),
        closed_form=None,
        template=(*template, *(torch.ones_like(value, dtype=torch.bool) for value in values.values())),
    )


@torch.no_grad()
def seen_parts(program: BoundProgram, batch: Batch) -> tuple[Tensor, ...]:
    """Return True for the seen numbers of each observed site, ``(B, ...)``; missing numbers of a batch are NaN.

    The model is run on the NaN, and every number that is NaN at an observed site is missing.

    Args:
        program: the program.
        batch: arguments of ``model``.

    Raises:
        InputError: a missing number is observed nowhere, so that the model needs it; or it is a part of an event whose
            numbers depend on each other.
    """
    structure, seen, held = program.structure, [], fresh(batch)
    try:
        sites = program.model_sites(held)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"missing numbers cannot be filled in by {program.name}, whose model computes with the data that it "
            f"observes ({reason(error)})"
        ) from error
    for name in (names := _that_have_numbers(structure, sites)):
        seen.append(~torch.isnan(_observed_value(structure, sites[name])))
        _check_event(program.name, sites[name], seen[-1])
    given, reached = _num_missing(*(torch.isnan(tensor) for tensor in batch)), _num_missing(*(~mask for mask in seen))
    if not all(is_part(sites[name]["value"], sites[name]["fn"].shape(), held) for name in names):
        given, reached = given.clamp(max=1), reached.clamp(max=1)  # a computed number may stand for several
    if (lost := given > reached).any():
        raise InputError(
            f"a number is missing in row {int(lost.nonzero()[0])} that no site of {program.name} observes: it is a "
            f"condition, which the model needs; give it"
        )
    if any(_needs_missing(site) for site in sites.values()):
        raise InputError(
            f"missing numbers cannot be filled in by {program.name}, whose model computes with the data that it "
            f"observes: a distribution depends on a missing number"
        )
    return tuple(seen)


def _needs_missing(site: Site) -> bool:
    """Check if a site's draw, or its density of the seen numbers, depends on a missing number."""
    value, fn = site["value"].expand(site["fn"].shape()), site["fn"]
    if not site["is_observed"]:
        log_prob = torch.where(torch.isnan(value), value, 0.0)
        return bool(torch.isnan(scale_and_mask(sum_rightmost(log_prob, fn.event_dim), mask=site["mask"])).any())
    log_prob = PartlyObserved(fn, value, ~torch.isnan(value)).log_prob(torch.nan_to_num(value))
    return bool(torch.isnan(scale_and_mask(log_prob, mask=site["mask"])).any())


def _num_missing(*missing: Tensor) -> Tensor:
    """Count the missing numbers of each datum, ``(B,)``."""
    return torch.stack([mask.reshape(len(mask), -1).sum(1) for mask in missing]).sum(0)


def _check_event(program: str, site: Site, seen: Tensor) -> None:
    fn = site["fn"]
    if of_each_number(fn) is None and not isinstance(fn, GAUSSIAN):
        rows = seen.flatten(seen.dim() - fn.event_dim)
        if (rows.any(-1) != rows.all(-1)).any():
            raise InputError(
                f"the site {site['name']!r} of {program} is a {type(fn).__name__}, whose numbers depend on each other "
                f"given the latents: a datum of it may be missing as a whole only"
            )


def _observed_value(structure: Structure, site: Site) -> Tensor:
    """Return the data of an observed site, ``(B, ...)``."""
    return structure.value(site | {"value": site["value"].expand(site["fn"].shape())}, 1)[0]


def _that_have_numbers(structure: Structure, sites: Mapping[str, Site]) -> tuple[str, ...]:
    """Return the names of the observed sites, except those of ``pyro.factor``, which observe nothing."""
    return tuple(name for name in structure.observed if sites[name]["value"].numel())
