"""Bidirectional Monte Carlo: bounds in expectation, exact time reversal, and signs of doubt."""

from __future__ import annotations

import math
import sys
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ppl_vae.errors import Diverged
from ppl_vae.evidence.ais import (
    MIN_PILOT_MOVES,
    WARM_UP_MOVES,
    Annealing,
    Chains,
    ais,
    num_steps,
    temperatures,
)
from ppl_vae.evidence.bdmc import NUM_MOVES, bdmc
from ppl_vae.evidence.hmc import evaluate, move, trajectory
from ppl_vae.program import seeded
from tests.helpers.densities import Bimodal, Counts, LinearGaussian, standard_error


@pytest.mark.parametrize(
    "case",
    [LinearGaussian(300, 3, loading=0.5), LinearGaussian(300, 5, start="guide"), Bimodal(300), Counts(300)],
    ids=["prior", "guide", "bimodal", "counts"],
)
@pytest.mark.parametrize("num_temperatures", [5, 100])
def test_the_bounds_are_bounds(case: LinearGaussian | Bimodal | Counts, num_temperatures: int) -> None:
    with seeded(0):
        estimate = bdmc(Chains(case.draw, case.log_densities, Annealing(num_temperatures, 8)), case.latents)
    below, above = case.log_evidence - estimate.columns["lower"], estimate.columns["upper"] - case.log_evidence
    assert below.mean() > -3 * standard_error(below)
    assert above.mean() > -3 * standard_error(above)
    if num_temperatures == 100:
        assert (below + above).mean() < 0.12
        middle = estimate.log_evidence - case.log_evidence
        assert abs(middle.mean()) < 4 * standard_error(middle) + 0.02


@pytest.mark.parametrize(("num_temperatures", "start"), [(1, "guide"), (2, "prior"), (3, "guide"), (8, "prior")])
def test_the_weights_of_both_directions_are_unbiased(num_temperatures: int, start: str) -> None:
    """The mean of w is Z, the mean of 1 / w' is 1 / Z, and the weights are related by the identity of Crooks.

    As the reverse chain is the time reversal of the forward one, the log weights satisfy
    E[w h(log w)] / Z = E[h(log w')] for any function h, here a bounded one.
    """
    case = LinearGaussian(5000, 2, loading=0.4, start=start)
    with seeded(1):
        estimate = bdmc(Chains(case.draw, case.log_densities, Annealing(num_temperatures, 1)), case.latents)
    forward, reverse = (estimate.columns[side] - case.log_evidence for side in ("lower", "upper"))
    for ratio in (forward.exp(), (-reverse).exp()):
        assert abs(ratio.mean() - 1) < 4 * standard_error(ratio)
    for h in (torch.tanh, lambda a: (3 * a).cos()):
        left, right = forward.exp() * h(forward), h(reverse)
        assert abs(left.mean() - right.mean()) < 4 * (standard_error(left) ** 2 + standard_error(right) ** 2) ** 0.5
    assert standard_error(forward) > 1e-4  # the weights vary


def test_a_chain_that_stays_has_the_same_weight_in_both_directions() -> None:
    case, betas = LinearGaussian(4, 2), temperatures(6)
    with seeded(2):
        chains = Chains(case.draw, case.log_densities, Annealing(6, 3))
        state = evaluate(case.log_densities, case.draw(3))
        forward = chains.anneal(state, betas, torch.zeros(5, 4).double())
        reverse = chains.anneal(state, betas.flip(0), torch.zeros(5, 4).double())
    torch.testing.assert_close(forward.log_weight, state.log_target - state.log_start)
    torch.testing.assert_close(reverse.log_weight, -forward.log_weight)


def test_both_directions_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every temperature, the reverse chains have the step size of the forward chains."""
    taken: list[tuple[float, Tensor]] = []

    def spy(log_densities, point, beta, step_size, num_leapfrog, propose):
        taken.append((beta, step_size))
        return move(log_densities, point, beta, step_size, num_leapfrog, propose)

    case = LinearGaussian(3, 2)
    with seeded(3):
        steps = Chains(case.draw, case.log_densities, Annealing(6, 4)).adapt()
    monkeypatch.setattr(sys.modules["ppl_vae.evidence.ais"], "move", spy)  # the package's attribute is the function
    with seeded(3):
        bdmc(Chains(case.draw, case.log_densities, Annealing(6, 4)), case.latents)
    forward, at_target, reverse = taken[-10 - NUM_MOVES : -5 - NUM_MOVES], taken[-5 - NUM_MOVES : -5], taken[-5:]
    assert all(beta == 1 and torch.equal(step, steps[-1]) for beta, step in at_target)
    assert [beta for beta, _ in forward] == temperatures(6)[1:-1].tolist()
    for (beta, step), (beta_back, step_back), adapted in zip(forward, reversed(reverse), steps, strict=False):
        assert beta == beta_back
        assert torch.equal(step, step_back)
        assert torch.equal(step, adapted)


def test_more_temperatures_close_the_sandwich() -> None:
    case, widths = LinearGaussian(200, 5, loading=0.5), []
    with seeded(4):
        for num_temperatures in (5, 20, 80):
            estimate = bdmc(Chains(case.draw, case.log_densities, Annealing(num_temperatures, 8)), case.latents)
            widths.append(estimate.columns["upper"] - estimate.columns["lower"])
    for wide, narrow in pairwise(widths):
        assert wide.mean() > narrow.mean() + 3 * standard_error(wide - narrow)


def test_a_wide_sandwich_is_doubtful() -> None:
    case = LinearGaussian(50, 5)
    with seeded(5):
        short = bdmc(Chains(case.draw, case.log_densities, Annealing(3, 8)), case.latents)
        long = bdmc(Chains(case.draw, case.log_densities, Annealing(200, 16)), case.latents)
        single = bdmc(Chains(case.draw, case.log_densities, Annealing(20, 1)), case.latents)
    assert short.doubtful.double().mean() > 0.9
    wide = short.columns["upper"] - short.columns["lower"] > 1
    assert short.doubtful[wide].all()
    assert long.doubtful.double().mean() < 0.1
    assert single.doubtful.all()
    assert (single.mcse == math.inf).all()


def test_the_reported_numbers_are_consistent() -> None:
    case = LinearGaussian(1, 2)
    with seeded(6):
        estimate = bdmc(Chains(case.draw, case.log_densities, Annealing(50, 8)), case.latents)
    assert estimate.bound == "sandwich"
    assert set(estimate.columns) == {"lower", "upper", "acceptance"}
    torch.testing.assert_close(estimate.log_evidence, (estimate.columns["lower"] + estimate.columns["upper"]) / 2)
    fields = (estimate.log_evidence, estimate.mcse, estimate.ess, *estimate.columns.values())
    assert all(field.shape == (1,) and field.dtype == torch.double for field in fields)
    assert 0 < estimate.mcse < 0.5
    assert 1 <= estimate.ess <= 8
    assert 0.4 < estimate.columns["acceptance"] < 0.9


def test_progress_is_reported_for_every_temperature() -> None:
    case, steps, settings = LinearGaussian(2, 2), [], Annealing(7, 3)
    bdmc(Chains(case.draw, case.log_densities, settings, progress=steps.append), case.latents)
    assert steps == [1] * num_steps(settings, sandwich=True)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_the_datum_of_an_impossible_latent_is_named(value: float) -> None:
    case = LinearGaussian(3, 2)

    def log_densities(u: Tensor) -> tuple[Tensor, Tensor]:
        log_start, log_target = case.log_densities(u)
        return log_start, torch.where(u.sum(-1) > 90, value, log_target)

    exact = torch.cat([case.latents[:2], torch.full((1, 2), 50.0, dtype=torch.double)])
    with pytest.raises(Diverged, match="datum 7 "):
        bdmc(Chains(case.draw, log_densities, Annealing(5, 4), first_datum=5), exact)


def test_all_transitions_may_be_computed_in_another_way() -> None:
    """This includes the pilot run, both directions, and moves at the target; the estimate is the same."""
    case, calls, settings = LinearGaussian(3, 2), [], Annealing(6, 8)

    def propose(log_densities, point, beta, step_size, num_leapfrog):
        calls.append(len(point.u))
        return trajectory(log_densities, point, beta, step_size, num_leapfrog)

    estimates = []
    for how in (None, propose):
        with seeded(7):
            estimates.append(bdmc(Chains(case.draw, case.log_densities, settings, propose=how), case.latents))
    assert torch.equal(estimates[0].log_evidence, estimates[1].log_evidence)
    pilot = WARM_UP_MOVES + 6 * math.ceil(MIN_PILOT_MOVES / 6)
    assert calls == [2] * pilot + [8] * (2 * 5 + NUM_MOVES)
    calls.clear()
    with seeded(7):
        ais(Chains(case.draw, case.log_densities, settings, propose=propose))
    assert calls == [2] * pilot + [8] * 5
