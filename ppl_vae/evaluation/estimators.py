"""The estimators of the evidence: what each of them needs, and the settings that they share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ppl_vae.errors import InputError, nearest
from ppl_vae.evidence import (
    Annealing,
    Evidence,
    TemperatureSchedule,
    ais,
    bdmc,
    can_tell,
    cubo,
    exact,
    iwae,
    prior,
    smc,
    threshold,
)
from ppl_vae.inference import FamilyName
from ppl_vae.inference.options import Count, check_values, from_names
from ppl_vae.inference.per_datum import InferenceSteps
from ppl_vae.program import BoundProgram, Start, chain_length

EstimatorNeed = Literal["prior", "guide", "steps", "chains", "simulated data", "closed form"]


class Estimator(NamedTuple):
    """An estimator of the evidence, as evaluations, tables and warnings know it."""

    function: Callable[..., Evidence]
    """The function in ``ppl_vae.evidence``."""
    needs: EstimatorNeed
    """The source of its numbers. Of draws of the prior or of the guide, the function takes the weights; of steps of a
    sequence, the ``Filters``; of chains, the ``Chains``, and with simulated data the latents that they came from; of a
    closed form, the log evidence of every datum."""
    is_bound: bool = False
    """True if, on average, it is not above the evidence: estimates of the same data can be compared."""
    is_default: bool = False
    """True if it is taken unless others are asked for, if the program has what it needs."""
    doubt: str = ""
    """A warning for estimates that are doubtful; it may have the fields share, limit and verdict."""


_TAIL = "Pareto k above {limit:.2f} for {share}: "
ESTIMATORS: dict[str, Estimator] = {
    "prior": Estimator(
        prior,
        "prior",
        is_bound=True,
        doubt=_TAIL + "too few draws of the prior come near their posterior, and the estimate {verdict}; take iwae",
    ),
    "iwae": Estimator(
        iwae,
        "guide",
        is_bound=True,
        is_default=True,
        doubt=_TAIL + "the proposal misses a part of their posterior, and the estimate {verdict}; try --proposal-scale "
        "1.2 or --proposal-df 5, or check it by ais, and that of a sequence by smc",
    ),
    "cubo": Estimator(
        cubo,
        "guide",
        doubt=_TAIL + "the squares of their weights have too heavy a tail, and the estimate {verdict}; take more "
        "--num-samples, and do not call it a bound",
    ),
    "ais": Estimator(
        ais,
        "chains",
        is_bound=True,
        doubt="Monte Carlo error above 0.5 nats for {share}: the chains disagree; take more --num-temperatures or "
        "--num-chains",
    ),
    "smc": Estimator(
        smc,
        "steps",
        is_bound=True,
        doubt="Monte Carlo error above 0.5 nats for {share}: the particle filters disagree; take more --num-samples",
    ),
    "bdmc": Estimator(
        bdmc,
        "simulated data",
        doubt="the bounds are more than 1 nat apart, or the chains disagree, for {share}: this annealing is too fast; "
        "take more --num-temperatures",
    ),
    "exact": Estimator(exact, "closed form", is_bound=True, is_default=True),
}
"""All estimators by name. Of those that are bounds, a later one is nearer to the evidence on average."""
WITH_ELBO = "iwae"
"""The estimator that also has the ELBO of its draws."""
OF_DRAWS = {"elbo": "elbo", "elbo_collapsed": "elbo, some latents summed out", "elbo_joint": "elbo, joint"}
"""Bounds that come with the draws of an estimator, and their labels. ``elbo`` is that of ``pyro.infer.Trace_ELBO``."""

if TYPE_CHECKING:
    PerDatum = str
else:
    PerDatum = Literal[tuple(name for name, estimator in ESTIMATORS.items() if estimator.needs != "simulated data")]
"""The estimators that estimate the evidence of given data."""

Proposal = Literal["guide", "per-sample"]


@dataclass(frozen=True)
class Settings:
    """The settings of the estimators of the evidence.

    Args:
        num_samples: number of draws per datum for prior, iwae, cubo and smc.
        proposal: the distribution from which iwae and cubo draw. "guide" is that of the program; "per-sample" is a
            posterior that is optimised for every datum.
        proposal_family: family of the proposal per-sample.
        inference_steps: largest number of steps in the lambda of a datum, if each has its own; "auto" takes steps until
            it has settled. The default null takes the number of the fit.
        proposal_scale: factor of the scales of the guide's Gaussians for iwae and cubo. A proposal that is too wide is
            safer than one that is too narrow.
        proposal_df: degrees of freedom of a Student-t that replaces each Gaussian of the guide. The default null keeps
            the Gaussians.
        num_filters: number of particle filters of smc, which share the draws; their spread is its error.
        start: distribution from which the chains of ais and bdmc start.
        num_temperatures: number of steps of ais and bdmc from the start to the posterior.
        num_chains: number of chains per datum for ais and bdmc.
        schedule: spacing of the temperatures. "sigmoidal" has more of them at both ends; "linear" spaces them evenly.
        num_leapfrog: number of leapfrog steps in a transition of Hamiltonian Monte Carlo.
        num_simulated: number of data that bdmc simulates, at most the number that are evaluated.
    """

    num_samples: Count = 5000
    proposal: Proposal = "guide"
    proposal_family: FamilyName = "full"
    inference_steps: InferenceSteps | None = None
    proposal_scale: float = 1.0
    proposal_df: float | None = None
    num_filters: Count = 10
    start: Start = "prior"
    num_temperatures: Count = Annealing().num_temperatures
    num_chains: Count = Annealing().num_chains
    schedule: TemperatureSchedule = Annealing().schedule
    num_leapfrog: Count = Annealing().num_leapfrog
    num_simulated: Count = 100

    @property
    def num_particles(self) -> int:
        """The number of particles of each filter of smc."""
        return self.num_samples // self.num_filters

    @property
    def annealing(self) -> Annealing:
        """The settings of ais and bdmc."""
        return Annealing(self.num_temperatures, self.num_chains, self.schedule, self.num_leapfrog)


def bounds_first(names: Collection[str]) -> list[str]:
    """Return those that are bounds, the one that is nearest to the evidence first.

    Example:
        >>> bounds_first(["elbo", "prior", "cubo", "exact", "iwae"])
        ['exact', 'iwae', 'prior']
    """
    return [name for name in reversed(ESTIMATORS) if name in names and ESTIMATORS[name].is_bound]


def estimators_for(program: BoundProgram) -> tuple[str, ...]:
    """Return the estimators that are taken by default: ``iwae`` if anything is random, ``exact`` if it is known."""
    structure = program.structure
    has = {
        "guide": bool(set(structure.latents) - set(structure.summed)) or program.global_posterior is not None,
        "closed form": program.has_log_evidence,
    }
    return tuple(
        name for name, estimator in ESTIMATORS.items() if estimator.is_default and has.get(estimator.needs, True)
    )


def estimators_to_check(program: BoundProgram) -> tuple[str, ...]:
    """Return the estimators by which ``iwae`` is best checked: particle filters if the latents are a chain."""
    try:
        chain_length(program)
    except InputError:
        return ("iwae", "ais", "bdmc")
    return ("iwae", "smc")


def make_settings(given: Mapping[str, Any]) -> Settings:
    """Make settings from values by name; raises ``InputError`` for an unknown name."""
    return from_names(Settings, given, "an evaluation")


def check_estimators(names: Collection[str], settings: Settings) -> None:
    """Raise ``InputError`` for an unknown estimator or a setting that cannot be, before anything is computed."""
    for name in names:
        if name not in ESTIMATORS:
            raise InputError(f"--estimators: {name!r} is unknown; {nearest(name, ESTIMATORS)}")
    if not names:
        raise InputError(f"--estimators is empty: name one or more of {', '.join(ESTIMATORS)}")
    check_values(settings)
    if "smc" in names and settings.num_particles < 2:
        raise InputError(
            f"--num-samples {settings.num_samples} are too few for {settings.num_filters} filters of smc, which "
            f"need 2 particles each: take more of them, or fewer --num-filters"
        )


def label(name: str, settings: Settings, num_data: int, of: str | None = None) -> str:
    """Return an estimator's name with its effort, and with what it estimates if that is not the evidence.

    Example:
        >>> label("iwae", Settings(), 100), label("bdmc", Settings(num_chains=1), 1), label("exact", Settings(), 100)
        ('iwae, 5000 draws', 'bdmc, 1 chain of 300, 1 simulated datum', 'exact')
    """
    needs = ESTIMATORS[name].needs if name in ESTIMATORS else None
    parts = [OF_DRAWS.get(name, name), *(["predictive given the fit"] if of == "predictive" else [])]
    if needs in ("prior", "guide"):
        parts.append(counted(settings.num_samples, "draw"))
    if needs == "guide" and settings.proposal == "per-sample":
        parts.append(f"{settings.proposal_family} per-sample")
    if needs == "steps":
        parts.append(f"{counted(settings.num_filters, 'filter')} of {counted(settings.num_particles, 'particle')}")
    if needs in ("chains", "simulated data"):
        parts.append(f"{counted(settings.num_chains, 'chain')} of {settings.num_temperatures}")
    if needs == "simulated data":
        parts.append(f"{num_data} simulated {'datum' if num_data == 1 else 'data'}")
    return ", ".join(parts)


def doubts(name: str, share: float, settings: Settings) -> list[str]:
    """Return what to doubt about an estimator's numbers, if a share of the data is doubtful."""
    if share == 0:
        return []
    needs, sentence = ESTIMATORS[name].needs, ESTIMATORS[name].doubt
    if needs in ("prior", "guide") and not can_tell(settings.num_samples):
        draws = counted(settings.num_samples, "draw")
        return [f"{name}: {draws} are too few for an error of the estimates; take more --num-samples"]
    if needs in ("chains", "simulated data") and settings.num_chains == 1:
        return [f"{name}: one chain has no error estimate; take more --num-chains"]
    if needs == "steps" and settings.num_filters == 1:
        return [f"{name}: one filter has no error estimate; take more --num-filters"]
    if not sentence:
        return []
    verdict = "should not be trusted" if share > 0.5 else "is unreliable there"
    limit = threshold(settings.num_samples)
    return [f"{name}: {sentence.format(share=f'{share:.1%} of the data', limit=limit, verdict=verdict)}"]


def counted(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
