"""A program that is bound to data: its structure is known, and its densities are functions of tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack

import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program.binding import empty_guide, read_structure, run, with_draws
from ppl_vae.program.draws import Draws, WeightedDraws, joined_draws
from ppl_vae.program.factor_term import FactorTerm
from ppl_vae.program.global_posterior import SharedDraws, sharing
from ppl_vae.program.handlers import Detached, Generate, Given, is_scored, posterior_of_discrete
from ppl_vae.program.observed_parts import ObservedParts
from ppl_vae.program.runner import Batch, Runner
from ppl_vae.program.traces import Structure, sample_sites, site_values

T = TypeVar("T")


class ProgramChanges(TypedDict, total=False):
    """The fields of a program that a variation of it can change, see ``BoundProgram``."""

    model: Callable[..., Any]
    guide: Callable[..., Any] | None
    module: nn.Module
    closed_form: Callable[..., Tensor] | None
    left_out: Callable[..., Any] | None
    template: Batch
    structure: Structure
    parts: ObservedParts | None


class Traces(NamedTuple):
    """One run of the guide, and one of the model on its draws."""

    guide: poutine.Trace
    model: poutine.Trace
    shared: Tensor | float
    """As in ``WeightedDraws``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundProgram(Runner):
    """A program with the structure that one run on data has shown, as functions of tensors.

    Tensors have the draws in front and the data behind them: ``(K, B)`` log weights, ``(K, B, ...)`` draws. It is made
    by ``Program.bind``.

    Attributes:
        template: the data that it has been run on.
        structure: its data plate and its sites.
        parts: what its sites observe of arrays with masks; None if its data have no holes, see ``with_missing``.

    Example:
        >>> import pyro
        >>> import pyro.distributions as dist
        >>> from ppl_vae.program import Program
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x):
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
        >>> program = Program(model, guide).bind((torch.zeros(3),))
        >>> log_weights = program.log_weights((torch.zeros(3),), num_samples=5)
        >>> log_weights.shape                          # the guide is the posterior: every weight is log p(x)
        torch.Size([5, 3])
        >>> bool(torch.allclose(log_weights, dist.Normal(0.0, 2**0.5).log_prob(torch.zeros(3))))
        True
    """

    template: Batch
    structure: Structure
    parts: ObservedParts | None = None

    def derive(self, **changes: Unpack[ProgramChanges]) -> BoundProgram:
        """Return a variation of the program, which shares all that is not changed.

        Args:
            changes: the fields that change. If ``structure`` is not among them, it is read from one run of the
                variation on its template.
        """
        derived = replace(self, **changes)
        if "structure" in changes:
            return derived
        return replace(derived, structure=read_structure(derived, derived.template))

    # ------------------------------------------------------------------------------------------ densities

    def weighted_draws(
        self, batch: Batch, num_samples: int = 1, *, tempered: bool = False, reparameterised: bool = True
    ) -> WeightedDraws:
        """Draw ``K`` times from the guide, and return log p(x, z) - log q(z | x) for every draw and datum.

        Differentiable: through reparameterised draws by the path, and for other sites by the score function, whose
        log q is therefore detached in ``log_weight`` and returned as ``score`` (as ``pyro.infer.Trace_ELBO`` does).

        Args:
            batch: the arguments of ``model`` and ``guide``.
            num_samples: the number ``K`` of draws per datum.
            tempered: if True, keep the scales of ``poutine.scale``, as a training objective does; else the density is
                the program's own, as evidence needs. The scale of the data plate is undone in both.
            reparameterised: if False, no gradient follows the path: every site of the guide has the score function,
                except point masses, which are functions of the sites before them.
        """
        with self.running():
            structure = self.structure
            if self.closed_form is not None and self.guide is None and structure.summed and self.has_log_evidence:
                return WeightedDraws(self.closed_form(*batch).expand(num_samples, -1), None)  # the sum over the latents
            guide, model, shared = self.traces(batch, num_samples, reparameterised=reparameterised)
            scored = [name for name, site in sample_sites(guide).items() if is_scored(site)]
            log_p = structure.log_density(model, num_samples, tempered=tempered)
            log_q = structure.log_density(guide, num_samples, tempered=tempered, leave_out=scored)
            if not scored:
                return WeightedDraws(log_p - log_q, None, shared)
            others = [name for name in sample_sites(guide) if name not in scored]
            score = structure.log_density(guide, num_samples, tempered=tempered, leave_out=others)
            return WeightedDraws(log_p - log_q - score.detach(), score, shared)

    def log_weights(self, batch: Batch, num_samples: int = 1) -> Tensor:
        """Return log p(x, z) - log q(z | x) of ``K`` draws from the guide without plate scales: ``(K, B)``, nats.

        Discrete latents are summed out where they can be, in q as well as in p, so that only the others are random.
        """
        return self.log_weights_and_terms(batch, num_samples)[0]

    def log_weights_and_terms(self, batch: Batch, num_samples: int = 1) -> tuple[Tensor, ...]:
        r"""Return ``log_weights``, and the terms of the ELBO of the same draws if these are other numbers.

        They are others if the guide samples a discrete latent y that can be summed out:

        .. math::
            \log \frac{\sum_y p(x, z, y)}{\sum_y q(z, y \mid x)} \quad \text{(the weights)}, \qquad
            \log \frac{p(x, z, y)}{q(z, y \mid x)} \quad \text{(the terms)}

        The mean of the terms is the ELBO as ``pyro.infer.Trace_ELBO`` defines it; the mean of the weights is a higher
        bound.

        Returns:
            tuple: one or two tensors ``(K, B)``, nats.
        """
        with self.running():
            return self.each_draw(lambda count: self._weights_and_terms(batch, count), num_samples)

    def _weights_and_terms(self, batch: Batch, num_samples: int) -> tuple[Tensor, ...]:
        structure = self.structure
        with sharing(self.global_posterior):
            if not structure.collapsed:
                return (self.weighted_draws(batch, num_samples).log_weight,)
            drawn, model, _ = self.traces(batch, num_samples)
            terms = structure.log_density(model, num_samples) - structure.log_density(drawn, num_samples)
            values = {name: z for name, z in site_values(drawn).items() if name not in structure.collapsed}
            model = self.run(self.model, batch, num_samples, values, summed=structure.discrete)
            guide = self.guide_trace(batch, num_samples, values, summed=structure.collapsed)
            return structure.log_density(model, num_samples) - structure.log_density(guide, num_samples), terms

    def log_prior_weights(self, batch: Batch, num_samples: int = 1) -> Tensor:
        """Return log p(x | z) of ``K`` draws z from the prior: ``(K, B)``, nats; discrete latents are summed out."""
        with self.running():
            return self.each_draw(lambda count: self._prior_weights(batch, count), num_samples)

    def _prior_weights(self, batch: Batch, num_samples: int) -> Tensor:
        structure = self.structure
        with sharing(self.global_posterior):
            model = self.run(self.model, batch, num_samples)
            if structure.discrete:  # drawn first: beside an enumerated latent, every value of it would draw another z
                known = structure.discrete + structure.observed
                values = {name: site["value"] for name, site in sample_sites(model).items() if name not in known}
                model = self.run(self.model, batch, num_samples, values, summed=structure.discrete)
            log_joint = structure.log_density(model, num_samples)
            return log_joint - structure.log_density(model, num_samples, leave_out=structure.observed)

    @property
    def draws_take_runs(self) -> bool:
        """True if each draw of the latents that all data share takes a run of its own, see ``Structure.shared_by``."""
        return self.global_posterior is not None and self.structure.shared_by == "runs"

    def each_draw(self, function: Callable[[int], T], num_samples: int) -> T:
        """Return what a function of a number of draws computes, by one draw after the other if each takes a run.

        Args:
            function: a function whose tensors have the draws in front.
            num_samples: the number ``K`` of draws.
        """
        if num_samples == 1 or not self.draws_take_runs:
            return function(num_samples)
        return joined_draws([function(1) for _ in range(num_samples)])

    @torch.no_grad()
    def shared_log_ratios(self) -> Tensor:
        """Return log p(w) - log q(w) of ``K`` draws of the latents w that all data share, ``(K,)``, nats.

        The mean is minus the divergence of their posterior from the prior.
        """
        few = tuple(tensor[:1] for tensor in self.template)

        def log_ratios(count: int) -> Tensor:
            with SharedDraws(self.global_posterior) as shared:
                self.run(self.model, few, count)
            return shared.log_ratio.reshape(-1)

        with self.running():
            return self.each_draw(log_ratios, 200 if self.draws_take_runs else 1000)

    @property
    def has_log_evidence(self) -> bool:
        """True if the exact evidence is known, so that ``log_evidence`` can be called."""
        structure = self.structure
        known = self.closed_form is not None or set(structure.latents) <= set(structure.discrete)
        return known and self.global_posterior is None

    def log_evidence(self, batch: Batch) -> Tensor:
        """Return the exact log p(x), ``(B,)``, nats.

        It is the program's own ``log_evidence``, or the sum over the discrete latents.

        Raises:
            InputError: the program has no ``log_evidence``, and a latent that cannot be enumerated.
        """
        with self.running():
            if self.closed_form is not None:
                return self.closed_form(*batch)
            structure = self.structure
            if others := [name for name in structure.latents if name not in structure.discrete]:
                raise InputError(
                    f"the exact evidence of {self.name} is not known: its latent {others[0]!r} cannot be enumerated; "
                    f"write log_evidence(self, x), or estimate it (iwae, ais)"
                )
            return structure.log_density(self.run(self.model, batch, 1, summed=structure.discrete), 1)[0]

    def traces(self, batch: Batch, num_samples: int, *, reparameterised: bool = True) -> Traces:
        """Run the guide, and the model on the guide's draws; latents that the guide leaves out are enumerated."""
        with FactorTerm(self.shared_factors) as factors, sharing(self.global_posterior) as shared:
            with nullcontext() if reparameterised else Detached():
                guide = self.guide_trace(batch, num_samples)
            model = self.run(self.model, batch, num_samples, site_values(guide), summed=self.structure.summed)
            return Traces(guide, model, shared.value + factors.value)

    def run(
        self,
        fn: Callable[..., Any],
        batch: Batch,
        num_samples: int = 1,
        values: Mapping[str, Tensor] | None = None,
        *,
        summed: Collection[str] = (),
    ) -> poutine.Trace:
        """Trace the model or the guide with ``K`` draws; some latents are given, some discrete ones are enumerated."""
        return run(self.structure, fn, batch, num_samples, values, summed=summed)

    def model_sites(self, batch: Batch | None = None, *, training: bool | None = False) -> dict[str, Any]:
        """Run the model once without moving the random generator, and return its sites by name.

        Args:
            batch: the data; by default those that the program is bound to.
            training: the mode of the modules; None leaves it as it is.
        """
        with torch.no_grad(), self.running(seed="current", training=training):
            return sample_sites(self.run(self.model, self.template if batch is None else batch))

    def guide_trace(
        self,
        batch: Batch,
        num_samples: int = 1,
        values: Mapping[str, Tensor] | None = None,
        *,
        summed: Collection[str] = (),
    ) -> poutine.Trace:
        """Trace the guide, as ``run`` does.

        Raises:
            InputError: the program has no guide, and a latent that is not summed out.
        """
        if self.guide is None and set(self.structure.latents) - set(self.structure.summed):
            raise InputError(f"{self.name} has no guide: write guide(self, x), which samples the model's latent sites")
        return self.run(self.guide or empty_guide, batch, num_samples, values, summed=summed)

    # ------------------------------------------------------------------------------------------ draws

    @torch.no_grad()
    def prior(self, batch: Batch, num_samples: int = 1) -> Draws:
        """Draw from p(z) p(x | z); the batch only gives its size and conditions such as labels."""
        with self.running():
            return self.each_draw(
                lambda count: self.draws(self.run(Generate()(self.model), batch, count), count), num_samples
            )

    @torch.no_grad()
    def posterior(self, batch: Batch, num_samples: int = 1) -> Draws:
        """Draw from the guide q(z | x), and from the posterior predictive p(x' | z) of every observed site."""
        return self.weighted_posterior(batch, num_samples, weighted=False)[1]

    @torch.no_grad()
    def weighted_posterior(
        self, batch: Batch, num_samples: int = 1, *, weighted: bool = True, completed: bool = False
    ) -> tuple[Tensor, Draws]:
        """Return log weights ``(K, B)``, nats, and draws as ``posterior`` does; weights are zero unless ``weighted``.

        Discrete latents that the guide leaves out are summed out of the weights, and drawn given the others. If
        ``completed`` is true, numbers of the data that were seen stay, and the missing ones are drawn given them.
        """
        with self.running():
            return self.each_draw(lambda count: self._posterior(batch, count, weighted, completed), num_samples)

    def _posterior(self, batch: Batch, num_samples: int, weighted: bool, completed: bool) -> tuple[Tensor, Draws]:
        structure = self.structure
        with sharing(self.global_posterior):
            guide = self.guide_trace(batch, num_samples)
            values = site_values(guide)
            log_weight = torch.zeros(num_samples, len(batch[0]))
            if weighted:
                model = self.run(self.model, batch, num_samples, values, summed=structure.summed)
                log_p, log_q = (structure.log_density(trace, num_samples) for trace in (model, guide))
                log_weight = (log_p - log_q).expand(num_samples, len(batch[0]))
            if structure.summed:
                outer, repeated = with_draws(structure, batch, num_samples)
                given = Given(values)(outer(self.model))
                values |= posterior_of_discrete(given, structure.summed, -2 - structure.plate_nesting, repeated)
            trace = self.run(Generate(completed=completed)(self.model), batch, num_samples, values)
            return log_weight, self.draws(trace, num_samples)

    def draws(self, trace: poutine.Trace, num_samples: int) -> Draws:
        """Return the draws of a run of the model by site."""
        structure, draws = self.structure, Draws({}, {}, {}, {}, {})
        for name, site in sample_sites(trace).items():
            value = structure.value(site, num_samples)
            if not site["infer"].get("was_observed"):
                draws.latents[name] = value
            elif value.numel():  # pyro.factor has nothing to draw
                draws.observed[name] = value
                draws.means[name] = structure.mean(site, num_samples).detach()  # it may be a parameter itself
                if (shares := structure.shares(site, num_samples)) is not None:
                    draws.shares[name] = shares.detach()
                draws.data[name] = structure.data(site, site["infer"]["obs"], num_samples)
        return draws
