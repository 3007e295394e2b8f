"""The estimators of the evidence, applied to a program and its data."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from ppl_vae.data import sizes
from ppl_vae.errors import InputError, nearest
from ppl_vae.evaluation.passes import ROWS_PER_PASS, room_for
from ppl_vae.evidence import (
    Annealing,
    Evidence,
    Progress,
    TemperatureSchedule,
    Weights,
    ais,
    bdmc,
    cubo,
    exact,
    iwae,
    num_steps,
    prior,
    weigh,
)
from ppl_vae.evidence.hmc import Beta, ChainState, LogDensities, Propose, trajectory
from ppl_vae.inference import Compiler, FamilyName
from ppl_vae.program import (
    AnnealingPath,
    Batch,
    BoundProgram,
    Start,
    annealing_path,
    check_observations,
    seeded,
    simulate,
    widened,
)
from ppl_vae.program.global_latents import refuse_globals

ESTIMATORS = ("prior", "iwae", "cubo", "ais", "bdmc", "exact")
_FROM_WEIGHTS: dict[str, Callable[[Weights], Evidence]] = {"iwae": iwae, "cubo": cubo, "prior": prior}
Proposal = Literal["guide", "per-sample"]
BAR_AFTER_SECONDS = 2.0
SAVED_A_PASS = 5e-3
"""Seconds that a graph of log weights saves in each pass, about half of it."""


@dataclass(frozen=True)
class Settings:
    """How the evidence is estimated.

    Args:
        num_samples: draws per datum, of prior, iwae and cubo.
        proposal: what iwae and cubo draw from: the guide, or per-sample, a posterior that is optimised for every datum.
        proposal_family: of a per-sample proposal.
        proposal_scale: factor of the scales of the guide's Gaussians, as a proposal of iwae and cubo; above 1 is safer.
        proposal_df: degrees of freedom of a Student-t in the place of each Gaussian of the guide; null leaves them.
        start: where the chains of ais and bdmc start.
        num_temperatures: steps of ais and bdmc from there to the posterior.
        num_chains: chains per datum of ais and bdmc.
        schedule: how the temperatures lie; sigmoidal has more of them at both ends.
        num_leapfrog: leapfrog steps of a Hamiltonian transition.
        num_simulated: data that bdmc simulates, at most as many as are evaluated.
    """

    num_samples: int = 5000
    proposal: Proposal = "guide"
    proposal_family: FamilyName = "full"
    proposal_scale: float = 1.0
    proposal_df: float | None = None
    start: Start = "prior"
    num_temperatures: int = Annealing().num_temperatures
    num_chains: int = Annealing().num_chains
    schedule: TemperatureSchedule = Annealing().schedule
    num_leapfrog: int = Annealing().num_leapfrog
    num_simulated: int = 100

    @property
    def annealing(self) -> Annealing:
        """Those of ais and bdmc."""
        return Annealing(self.num_temperatures, self.num_chains, self.schedule, self.num_leapfrog)


class Estimate(NamedTuple):
    """What an estimator found, and how long it took."""

    evidence: Evidence
    seconds: float


def estimators_for(program: BoundProgram) -> tuple[str, ...]:
    """Those that are taken where none are asked for: ``iwae``, unless nothing is random; ``exact`` if it is known."""
    structure = program.structure
    random = bool(set(structure.latents) - set(structure.summed)) or program.global_posterior is not None
    return (("iwae",) if random else ()) + (("exact",) if program.has_log_evidence else ())


def make_settings(given: Mapping[str, Any]) -> Settings:
    """Settings from what was given by name; raises ``InputError`` for a name that is none."""
    known = [field.name for field in fields(Settings)]
    for name in given:
        if name not in known:
            raise InputError(f"an evaluation has no setting {name!r}; {nearest(name, known)}")
    return Settings(**given)


def check_estimators(names: Collection[str], settings: Settings) -> None:
    """Raise ``InputError`` for an estimator or a number that cannot be, before anything is computed."""
    for name in names:
        if name not in ESTIMATORS:
            raise InputError(f"--estimators: {name!r} is unknown; {nearest(name, ESTIMATORS)}")
    if not names:
        raise InputError(f"--estimators is empty: name one or more of {', '.join(ESTIMATORS)}")
    for option, known in (("proposal", Proposal), ("proposal_family", FamilyName)):
        if (choice := getattr(settings, option)) not in get_args(known):
            raise InputError(f"{option}={choice!r} is unknown; {nearest(str(choice), get_args(known))}")
    for option in ("num_samples", "num_simulated", "num_temperatures", "num_chains", "num_leapfrog"):
        if (value := getattr(settings, option)) < 1:
            raise InputError(f"{option} is {value}: expected 1 or more")


@torch.no_grad()
def estimate(
    program: BoundProgram,
    template: Batch,
    batches: Callable[[int], Iterator[Batch]],
    num_data: int,
    names: Collection[str],
    settings: Settings,
    seed: int,
    compiler: Compiler,
) -> dict[str, Estimate]:
    """Estimate the evidence of every datum in several ways.

    Each estimator begins with the seed, so that its numbers do not depend on which others are asked for.

    Args:
        program: in evaluation mode and in its scope.
        template: a few data.
        batches: all data in order, in batches of a given size.
        num_data: how many there are.
        names: of the estimators.
        settings: how.
        seed: of the draws.
        compiler: runs log weights and transitions as graphs, where that repays.
    """
    found: dict[str, Estimate] = {}
    for together in _groups(names):
        started = time.perf_counter()
        with seeded(seed):
            if together == ["bdmc"]:
                parts = [_bdmc(program, template, batches, min(num_data, settings.num_simulated), settings, compiler)]
            else:
                parts = list(_each_batch(program, template, batches, num_data, together, settings, compiler))
        seconds = time.perf_counter() - started
        for name in together:
            found[name] = Estimate(_join([part[name] for part in parts]), seconds)
    return {name: found[name] for name in names}


def _groups(names: Collection[str]) -> list[list[str]]:
    """Estimators that read the same draws are computed together."""
    from_guide = [name for name in names if name in ("iwae", "cubo")]
    others = [[name] for name in names if name not in from_guide]
    return ([from_guide] if from_guide else []) + others


def _each_batch(
    program: BoundProgram,
    template: Batch,
    batches: Callable[[int], Iterator[Batch]],
    num_data: int,
    names: list[str],
    settings: Settings,
    compiler: Compiler,
) -> Iterator[dict[str, Evidence]]:
    """Evidence of one batch of data after the other, with a bar where it takes long."""
    rows, steps, one_batch = _plan(program, template, names, settings, compiler)
    compiler.plan(sizes(num_data, rows))
    row = 0
    with _bar("+".join(names), steps * num_data) as bar:
        for batch in batches(rows):
            check_observations(program, batch, row)
            yield one_batch(batch, row, _counting(bar, batch))
            row += len(batch[0])


OneBatch = Callable[[Batch, int, Progress], dict[str, Evidence]]


def _plan(
    program: BoundProgram, template: Batch, names: list[str], settings: Settings, compiler: Compiler
) -> tuple[int, int, OneBatch]:
    """How many data at once, how many steps each, and the function that estimates the evidence of a batch."""
    few = len(template[0])
    if names == ["exact"]:
        refuse_globals(program, "its exact evidence is not known")
        return ROWS_PER_PASS, 1, lambda batch, row, progress: {"exact": exact(program.log_evidence(batch), row)}
    if names == ["ais"]:
        rows = _rows_to_anneal(program, template, settings)

        def annealed(batch: Batch, row: int, progress: Progress) -> dict[str, Evidence]:
            path = annealing_path(program, batch, settings.start)
            propose = _proposing(compiler, program, path, batch, settings)
            return {
                "ais": ais(
                    path.draw,
                    path.log_densities,
                    settings.annealing,
                    first_datum=row,
                    progress=progress,
                    propose=propose,
                )
            }

        return rows, num_steps(settings.annealing), annealed
    if names == ["prior"]:
        source = program.log_prior_weights
    else:
        source = widened(program, settings.proposal_scale, settings.proposal_df).log_weights
    room = room_for(partial(source, template), few)
    together = program.global_posterior is None or program.structure.draws_by == "plate"

    def weighed(batch: Batch, row: int, progress: Progress) -> dict[str, Evidence]:
        at_once = min(room.draws(len(batch[0])), settings.num_samples)
        at_once = at_once if together else 1  # repeated data share the draw of a global latent

        def log_weights(num_draws: int) -> Tensor:
            if num_draws < at_once:  # the last pass
                return source(batch, num_draws)
            (found,) = compiler(
                f"the log weights of {program.name}",
                lambda *batch: (source(batch, num_draws),),
                batch,
                module=program.module,
                static=(names == ["prior"], num_draws),
                times=settings.num_samples // at_once,
                saves=SAVED_A_PASS,
            )
            return found

        weights = weigh(log_weights, settings.num_samples, at_once, first_datum=row, progress=progress)
        return {name: _FROM_WEIGHTS[name](weights) for name in names}

    return room.rows(), settings.num_samples, weighed


def _proposing(
    compiler: Compiler, program: BoundProgram, path: AnnealingPath, batch: Batch, settings: Settings
) -> Propose | None:
    """Trajectories as a graph; None where the path cannot be one."""
    if path.of_batch is None:
        return None
    of_batch = path.of_batch

    def propose(
        log_densities: LogDensities, point: ChainState, beta: Beta, step_size: Tensor, num_leapfrog: int
    ) -> tuple[ChainState, Tensor]:
        def function(beta: Tensor, step_size: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            here, batch = ChainState(*rest[: len(point)]), rest[len(point) :]
            end, acceptance = trajectory(lambda u: of_batch(u, batch), here, beta, step_size, num_leapfrog)
            return *end, acceptance

        *end, acceptance = compiler(
            "a transition",
            function,
            (torch.as_tensor(beta, dtype=torch.double).to(point.u), step_size, *point, *batch),
            eager=lambda *_: _flattened(trajectory(log_densities, point, beta, step_size, num_leapfrog)),
            module=program.module,
            times=settings.num_temperatures,
        )
        return ChainState(*end), acceptance

    return propose


def _flattened(found: tuple[ChainState, Tensor]) -> tuple[Tensor, ...]:
    return *found[0], found[1]


def _rows_to_anneal(program: BoundProgram, template: Batch, settings: Settings) -> int:
    path = annealing_path(program, template, settings.start)
    return room_for(lambda k: path.log_densities(path.draw(k)), len(template[0])).rows(settings.num_chains)


def _bdmc(
    program: BoundProgram,
    template: Batch,
    batches: Callable[[int], Iterator[Batch]],
    num_simulated: int,
    settings: Settings,
    compiler: Compiler,
) -> dict[str, Evidence]:
    """Bounds for data that are simulated under the conditions of the first data.

    They are simulated before any is annealed: they are the same whatever the settings, which so can be compared.
    """
    conditions = next(batches(num_simulated))
    starts = range(0, num_simulated, ROWS_PER_PASS)
    simulations = [simulate(program, tuple(x[at : at + ROWS_PER_PASS] for x in conditions)) for at in starts]
    rows = _rows_to_anneal(program, template, settings)
    compiler.plan(sizes(num_simulated, rows))
    parts = []
    with _bar("bdmc", num_steps(settings.annealing, sandwich=True) * num_simulated) as bar:
        for start, simulation in zip(starts, simulations, strict=True):
            for row in range(0, len(simulation.batch[0]), rows):
                batch = tuple(tensor[row : row + rows] for tensor in simulation.batch)
                latents = {name: z[:, row : row + rows] for name, z in simulation.latents.items()}
                path = annealing_path(program, batch, settings.start)
                exact_draw, first = path.flat(latents)[0], start + row
                progress = _counting(bar, batch)
                parts.append(
                    bdmc(
                        path.draw,
                        path.log_densities,
                        exact_draw,
                        settings.annealing,
                        first_datum=first,
                        progress=progress,
                        propose=_proposing(compiler, program, path, batch, settings),
                    )
                )
    return {"bdmc": _join(parts)}


def _bar(name: str, total: int) -> tqdm:
    """A progress bar in terms of data and steps, on a terminal, where it takes longer than a moment."""
    return tqdm(
        desc=name, total=total, disable=None, delay=BAR_AFTER_SECONDS, leave=False, unit_scale=True, unit="draw"
    )


def _counting(bar: tqdm, batch: Batch) -> Progress:
    """A step of an estimator counts for every datum of its batch."""
    return lambda done: bar.update(done * len(batch[0]))


def _join(parts: list[Evidence]) -> Evidence:
    """Evidence of several batches, one behind the other, on the CPU."""

    def joined(tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors).cpu()

    def joined_by_key(maps: list[Mapping]) -> dict:
        return {key: joined([m[key] for m in maps]) for key in maps[0]}

    log_evidence, mcse, ess, doubtful = (joined(list(each)) for each in zip(*(part[:4] for part in parts), strict=True))
    columns = joined_by_key([part.columns for part in parts])
    curve = joined_by_key([part.curve for part in parts])
    return Evidence(log_evidence, mcse, ess, doubtful, parts[0].bound, columns, curve)
