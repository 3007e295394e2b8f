"""From a program and data to estimates of the evidence."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.compile.compiler import REPAID_BY
from ppl_vae.compile.private import tree_map
from ppl_vae.data import Batches, one_step, sizes, trim
from ppl_vae.display.bars import progress_bar
from ppl_vae.evaluation.estimators import ESTIMATORS, EstimatorNeed, Settings
from ppl_vae.evaluation.passes import Room, room_for
from ppl_vae.evidence import Chains, Evidence, Filters, Progress, num_steps, weigh
from ppl_vae.evidence.hmc import Beta, ChainState, LogDensities, Propose, trajectory
from ppl_vae.inference import Compiler
from ppl_vae.parallel import ALL, RowSpan, seed_at
from ppl_vae.program import (
    AnnealingPath,
    Batch,
    BoundProgram,
    annealing_path,
    chain_length,
    chain_steps,
    check_chain_steps,
    check_observations,
    seeded,
    simulate,
    widened,
)

SAVED_A_PASS = 5e-3
"""Seconds that a graph of log weights saves in each pass, about half of it."""


class Estimate(NamedTuple):
    """The evidence that an estimator has found, and the seconds that it took."""

    evidence: Evidence
    seconds: float


@dataclass(frozen=True)
class Work:
    """A program and data whose evidence is estimated, and how."""

    program: BoundProgram
    """The program, in evaluation mode and in its scope."""
    batches: Batches
    """The data."""
    settings: Settings
    """The settings of the estimators."""
    compiler: Compiler
    """A compiler that runs log weights and transitions as graphs if that saves time."""
    place: RowSpan = ALL
    """The place of the data among all those that are evaluated."""
    names: Collection[str] = ()
    """Estimators that read the same draws."""
    seed: int = 0
    """The seed of the draws."""
    trims: bool = False
    """True if the padding of sequences can be cut off, where the latents need not have the shape of the fit."""

    @property
    def num_data(self) -> int:
        """The number of all data that are evaluated."""
        return self.place.num_data or self.batches.num_data


Parts = Iterable[Mapping[str, Evidence]]


@torch.no_grad()
def estimate(work: Work, names: Collection[str], seed: int) -> dict[str, Estimate]:
    """Estimate the evidence of every datum in several ways.

    The draws of a batch depend on the seed and on the place of the batch among all data. So its numbers depend neither
    on the other estimators that are asked for, nor on who computes the other batches.

    Args:
        work: the program, the data and the settings.
        names: the estimators.
        seed: seed of the draws.
    """
    groups: dict[str, list[str]] = {}  # of estimators that read the same draws
    for name in names:
        needs = ESTIMATORS[name].needs
        groups.setdefault(needs if needs in ("prior", "guide") else name, []).append(name)
    estimates: dict[str, Estimate] = {}
    for group in groups.values():
        started = time.perf_counter()
        parts = list(_COMPUTE[ESTIMATORS[group[0]].needs](replace(work, names=group, seed=seed)))
        seconds = time.perf_counter() - started
        if parts:  # simulated data are the first ones only, so that later rows have none
            estimates |= {name: Estimate(join_evidence([part[name] for part in parts]), seconds) for name in group}
    return {name: estimates[name] for name in names if name in estimates}


@torch.no_grad()
def rows_at_once(program: BoundProgram, settings: Settings, name: str) -> int:
    """Return the number of data that an estimator takes at once, a power of two; a shard has whole batches of them."""
    return _ROWS[ESTIMATORS[name].needs](program, settings)


def _closed_form(work: Work) -> Parts:
    work.program.refuse_globals("its exact evidence is not known")

    def known(batch: Batch, row: int, progress: Progress) -> dict[str, Evidence]:
        log_evidence = work.program.log_evidence(batch)
        return {name: ESTIMATORS[name].function(log_evidence, row) for name in work.names}

    return _each_batch(work, _rows_of_any(), 1, known, trims=work.trims)


LogWeights = Callable[[Batch, int], tuple[Tensor, ...]]


def _log_weights(program: BoundProgram, settings: Settings, from_prior: bool) -> tuple[LogWeights, Room]:
    """Return the function from a batch and a number of draws to log weights, and the room that it takes."""
    proposal = program if from_prior else widened(program, settings.proposal_scale, settings.proposal_df)

    def source(batch: Batch, num_draws: int) -> tuple[Tensor, ...]:
        if from_prior:
            return (proposal.log_prior_weights(batch, num_draws),)
        return proposal.log_weights_and_terms(batch, num_draws)

    return source, room_for(partial(source, program.template), len(program.template[0]))


def _rows_to_weigh(program: BoundProgram, settings: Settings, from_prior: bool) -> int:
    _, room = _log_weights(program, settings, from_prior)
    return room.rows() if program.draws_take_runs else room.rows_to_weigh(settings.num_samples)


def _weighed(work: Work, from_prior: bool) -> Parts:
    program, settings = work.program, work.settings
    source, room = _log_weights(program, settings, from_prior)

    def weighed(batch: Batch, row: int, progress: Progress) -> dict[str, Evidence]:
        share = batch[0][0].numel() / program.template[0][0].numel()  # of a sequence without its padding
        at_once = min(room.draws(len(batch[0]), share), settings.num_samples)
        at_once = 1 if program.draws_take_runs else at_once
        num_passes = settings.num_samples // at_once
        once = work.trims and num_passes * SAVED_A_PASS < REPAID_BY  # few batches have the same number of steps

        def log_weights(num_draws: int) -> tuple[Tensor, ...]:
            if once or num_draws < at_once:  # the last pass
                return source(batch, num_draws)
            return work.compiler(
                f"the log weights of {program.name}",
                lambda *batch: source(batch, num_draws),
                batch,
                module=program.module,
                static=(from_prior, num_draws),
                times=num_passes,
                saves=SAVED_A_PASS,
            )

        weights = weigh(log_weights, settings.num_samples, at_once, first_datum=row, progress=progress)
        return {name: ESTIMATORS[name].function(weights) for name in work.names}

    rows = _rows_to_weigh(program, settings, from_prior)
    return _each_batch(work, rows, settings.num_samples, weighed, trims=work.trims)


def _rows_to_filter(program: BoundProgram, settings: Settings) -> int:
    _, room = _log_weights(program, settings, from_prior=False)
    return Room(max(1.0, room.numbers / chain_length(program))).rows(settings.num_samples)


def _filtered(work: Work) -> Parts:
    program, settings = work.program, work.settings
    step_of, longest = partial(one_step, work.batches.names), chain_length(program)
    check_chain_steps(program, step_of)

    def filtered(batch: Batch, row: int, progress: Progress) -> dict[str, Evidence]:
        num_particles = settings.num_filters * settings.num_particles
        steps = chain_steps(program, batch, step_of, num_particles)

        def extend(z: Tensor | None, step: int) -> tuple[Tensor, Tensor]:
            if z is None or not steps.is_shared:
                return steps.extend(z, step)
            name, inputs = f"the steps of particles of {program.name}", (z, *steps.inputs(step))
            planned: dict[str, Any] = {"static": num_particles, "times": steps.num_steps, "saves": SAVED_A_PASS}
            drawn, log_weight = work.compiler(name, steps.move, inputs, module=program.module, **planned)
            return drawn, log_weight

        filters = Filters(extend, steps.num_steps, settings.num_filters, row, progress)
        estimates = {name: ESTIMATORS[name].function(filters) for name in work.names}
        progress(longest - steps.num_steps)
        return estimates

    return _each_batch(work, _rows_to_filter(program, settings), longest, filtered, trims=work.trims)


def _annealed(work: Work) -> Parts:
    return _each_batch(
        work, _rows_to_anneal(work.program, work.settings), num_steps(work.settings.annealing), partial(_anneal, work)
    )


SIMULATED, ANNEALED = 1, 2
"""The streams of the draws that simulate data and of those that anneal to them, which have to be independent."""


def _simulated(work: Work) -> Parts:
    """Simulate data under the conditions of the first data, and anneal to them and back.

    The simulated data are the same whatever the settings, whose results can be compared.
    """
    first, rows, whole = work.place.first_row, _rows_to_anneal(work.program, work.settings), _rows_of_any()
    wanted = min(work.num_data, work.settings.num_simulated)
    num_data = max(0, min(work.batches.num_data, wanted - first))
    work.compiler.plan(sizes(wanted, rows))
    with progress_bar("+".join(work.names), num_steps(work.settings.annealing, sandwich=True) * num_data) as bar:
        for start in range(0, num_data, whole):
            conditions = next(work.batches.in_order(batch_size=min(num_data, start + whole)))
            with seeded(seed_at(work.seed, first + start, SIMULATED)):
                simulation = simulate(work.program, tuple(x[start:] for x in conditions))
            for row in range(0, len(simulation.batch[0]), rows):
                batch = tuple(tensor[row : row + rows] for tensor in simulation.batch)
                latents = {name: z[:, row : row + rows] for name, z in simulation.latents.items()}
                at = first + start + row
                with seeded(seed_at(work.seed, at, ANNEALED)):
                    part = _anneal(work, batch, at, _counting(bar, batch), latents)
                yield part


def _each_batch(
    work: Work,
    rows: int,
    steps: int,
    function: Callable[[Batch, int, Progress], dict[str, Evidence]],
    *,
    trims: bool = False,
) -> Iterator[dict[str, Evidence]]:
    """Apply a function to one batch of data after the other, with a bar if it takes long.

    Args:
        work: the program and its data.
        rows: number of data at once.
        steps: number of steps for each of them.
        function: takes a batch, the row of its first datum, and a function that counts steps.
        trims: if True, the padding of sequences is cut off.
    """
    work.compiler.plan(sizes(work.num_data, rows))
    row = work.place.first_row
    with progress_bar("+".join(work.names), steps * work.batches.num_data) as bar:
        for batch in work.batches.in_order(batch_size=rows):
            batch = trim(work.batches.names, batch) if trims else batch
            check_observations(work.program, batch, row)
            with seeded(seed_at(work.seed, row)):
                part = function(batch, row, _counting(bar, batch))
            yield part
            row += len(batch[0])


def _anneal(
    work: Work, batch: Batch, row: int, progress: Progress, latents: Mapping[str, Tensor] | None = None
) -> dict[str, Evidence]:
    """Estimate the evidence of a batch by chains; if it was simulated, by chains from its latents too."""
    path = annealing_path(work.program, batch, work.settings.start)
    exact_draw = () if latents is None else (path.flat(latents)[0],)
    propose = _proposing(work, path, batch)
    chains = Chains(path.draw, path.log_densities, work.settings.annealing, row, progress, propose)
    return {name: ESTIMATORS[name].function(chains, *exact_draw) for name in work.names}


def _proposing(work: Work, path: AnnealingPath, batch: Batch) -> Propose | None:
    """Return a function that computes trajectories as a graph; None if the path cannot be one."""
    if path.of_batch is None:
        return None
    of_batch = path.of_batch

    def propose(
        log_densities: LogDensities, point: ChainState, beta: Beta, step_size: Tensor, num_leapfrog: int
    ) -> tuple[ChainState, Tensor]:
        def function(beta: Tensor, step_size: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            start, batch = ChainState(*rest[: len(point)]), rest[len(point) :]
            return _flat(trajectory(lambda u: of_batch(u, batch), start, beta, step_size, num_leapfrog))

        *end, acceptance = work.compiler(
            "a transition",
            function,
            (torch.as_tensor(beta, dtype=torch.double).to(point.u), step_size, *point, *batch),
            eager=lambda *_: _flat(trajectory(log_densities, point, beta, step_size, num_leapfrog)),
            module=work.program.module,
            times=work.settings.num_temperatures,
        )
        return ChainState(*end), acceptance

    return propose


def _flat(proposed: tuple[ChainState, Tensor]) -> tuple[Tensor, ...]:
    """Return states and acceptances as one tuple, as a graph has them."""
    return *proposed[0], proposed[1]


def _rows_to_anneal(program: BoundProgram, settings: Settings) -> int:
    template = program.template
    path = annealing_path(program, template, settings.start)
    room = room_for(lambda k: path.log_densities(path.draw(k)), len(template[0]))
    return room.rows(settings.num_chains)


def _rows_of_any(*_: object) -> int:
    return Room(numbers=1).rows()


_COMPUTE: dict[EstimatorNeed, Callable[[Work], Parts]] = {
    "prior": partial(_weighed, from_prior=True),
    "guide": partial(_weighed, from_prior=False),
    "steps": _filtered,
    "chains": _annealed,
    "simulated data": _simulated,
    "closed form": _closed_form,
}
_ROWS: dict[EstimatorNeed, Callable[[BoundProgram, Settings], int]] = {
    "prior": partial(_rows_to_weigh, from_prior=True),
    "guide": partial(_rows_to_weigh, from_prior=False),
    "steps": _rows_to_filter,
    "chains": _rows_to_anneal,
    "simulated data": _rows_of_any,
    "closed form": _rows_of_any,
}


def _counting(bar: Any, batch: Batch) -> Progress:
    """Return a function that counts a step of an estimator for every datum of its batch."""
    return lambda done: bar.update(done * len(batch[0]))


def join_evidence(parts: Sequence[Evidence]) -> Evidence:
    """Join the evidence of several batches on the CPU."""

    def join(*values: Any) -> Any:  # the side of the bound is the same in all parts
        return torch.cat(values).cpu() if isinstance(values[0], Tensor) else values[0]

    return tree_map(join, *(part._replace(columns=dict(part.columns), curve=dict(part.curve)) for part in parts))
