"""Annealed importance sampling and its errors, compared with closed forms and quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_vae.errors import Diverged, InputError
from ppl_vae.evidence.ais import Annealing, Chains, ais, num_steps, temperatures
from ppl_vae.program import seeded
from tests.helpers.densities import Bimodal, Counts, LinearGaussian, log_normal, standard_error

CASES: dict[str, Callable[[int], LinearGaussian | Bimodal | Counts]] = {
    "2 from the prior": lambda n: LinearGaussian(n, 2, loading=0.5),
    "3 from the prior": lambda n: LinearGaussian(n, 3, loading=0.5),
    "5 from the guide": lambda n: LinearGaussian(n, 5, start="guide"),
    "bimodal": Bimodal,
    "counts": Counts,
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_exact_evidence(name: str) -> None:
    case = CASES[name](100)
    with seeded(0):
        estimate = ais(Chains(case.draw, case.log_densities, Annealing(100, 100)))
    errors = estimate.log_evidence - case.log_evidence
    assert (errors.abs() <= 3 * estimate.mcse).double().mean() >= 0.99
    squares = (errors / estimate.mcse).square()  # of standard Gaussian numbers: mean 1, standard error (2 / 100)^(1/2)
    assert abs(squares.mean() - 1) < 4 * (2 / 100) ** 0.5
    # The bias is minus half the variance, which the mcse estimates.
    assert abs(errors.mean()) < 0.01
    assert abs(errors.mean()) < 4 * standard_error(errors) + estimate.mcse.square().mean()
    assert not estimate.doubtful.any()
    assert estimate.bound == "lower"


@pytest.mark.parametrize("start", ["prior", "guide"])
def test_the_interval_covers(start: str) -> None:
    case = LinearGaussian(200, 3, start=start, repeat=True, loading=0.5)
    with seeded(1):
        estimate = ais(Chains(case.draw, case.log_densities, Annealing(60, 50)))
    inside = (estimate.log_evidence - case.log_evidence).abs() <= 1.96 * estimate.mcse
    assert 0.90 <= inside.double().mean() <= 0.99
    spread = estimate.log_evidence.std().item()  # of 200 repetitions: known to 5 percent
    assert estimate.mcse.square().mean().sqrt().item() == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize("num_temperatures", [1, 2, 5, 20])
def test_the_weights_are_unbiased(num_temperatures: int) -> None:
    """The mean weight is the evidence for any path, however short, and for bad mixing."""
    case = LinearGaussian(3000, 2, loading=0.4)
    with seeded(2):
        estimate = ais(Chains(case.draw, case.log_densities, Annealing(num_temperatures, 4)))
    ratio = (estimate.log_evidence - case.log_evidence).exp()
    assert abs(ratio.mean() - 1) < 4 * standard_error(ratio)


def test_more_temperatures_shrink_the_gap() -> None:
    case = LinearGaussian(300, 5)
    with seeded(3):
        estimates = [ais(Chains(case.draw, case.log_densities, Annealing(t, 8))) for t in (3, 10, 40, 200)]
    gaps = [(case.log_evidence - e.log_evidence) for e in estimates]
    for wide, narrow in pairwise(gaps):
        assert wide.mean() > narrow.mean() + 3 * standard_error(wide - narrow)
    assert gaps[-1].mean() > -4 * standard_error(gaps[-1])
    assert gaps[-1].mean() < gaps[0].mean() / 10


def test_every_datum_gets_its_own_step_size() -> None:
    """Posteriors with scales from 0.001 to 1000 are in one batch; all have the same acceptance and are right."""
    scale = torch.logspace(-3, 3, 7, dtype=torch.double).repeat(20)[:, None]

    def draw(num_chains: int) -> Tensor:
        return scale * torch.randn(num_chains, 140, 3, dtype=torch.double)

    def log_densities(u: Tensor) -> tuple[Tensor, Tensor]:
        return log_normal(u, 0.0, scale), log_normal(u, 0.5 * scale, 0.2 * scale) + 7

    with seeded(4):
        steps = Chains(draw, log_densities, Annealing(100, 16)).adapt()
        estimate = ais(Chains(draw, log_densities, Annealing(100, 16)))
    assert steps.shape == (100, 140)
    for acceptance in estimate.columns["acceptance"].view(20, 7).mean(0).tolist():
        assert acceptance == pytest.approx(0.65, abs=0.05)
    assert (steps[-1] / scale[:, 0]).log().std() < 0.5
    errors = estimate.log_evidence - 7
    assert abs(errors.mean()) < 4 * standard_error(errors) + estimate.mcse.square().mean()


def test_a_datum_does_not_depend_on_the_others() -> None:
    """The same problem with and without other data in its batch has the same distribution of estimates."""
    alone, among = LinearGaussian(400, 2, repeat=True), LinearGaussian(800, 2, repeat=True)
    among.x = torch.cat([alone.x, 20 * alone.x])
    with seeded(5):
        first = ais(Chains(alone.draw, alone.log_densities, Annealing(30, 8)))
        second = ais(Chains(among.draw, among.log_densities, Annealing(30, 8)))
    for a, b in (
        (first.log_evidence, second.log_evidence[:400]),
        (first.columns["acceptance"], second.columns["acceptance"][:400]),
    ):
        assert abs(a.mean() - b.mean()) < 4 * (standard_error(a) ** 2 + standard_error(b) ** 2) ** 0.5
        assert (a.std() / b.std()).item() == pytest.approx(1, abs=4 / 400**0.5)


def test_one_temperature_is_importance_sampling() -> None:
    case, drawn = LinearGaussian(50, 2, start="guide"), []

    def draw(num_chains: int) -> Tensor:
        drawn.append(case.draw(num_chains))
        return drawn[-1]

    with seeded(6):
        estimate = ais(Chains(draw, case.log_densities, Annealing(1, 200)))
    log_start, log_target = case.log_densities(drawn[-1])
    weights = (log_target - log_start).exp()
    torch.testing.assert_close(estimate.log_evidence, weights.mean(0).log())
    torch.testing.assert_close(estimate.mcse, weights.std(0) / weights.mean(0) / 200**0.5)
    torch.testing.assert_close(estimate.ess, weights.sum(0) ** 2 / (weights**2).sum(0))
    assert estimate.columns["acceptance"].isnan().all()


def test_one_chain_and_one_datum() -> None:
    case = LinearGaussian(1, 2)
    with seeded(7):
        single = ais(Chains(case.draw, case.log_densities, Annealing(200, 1)))
    assert single.log_evidence.item() == pytest.approx(case.log_evidence.item(), abs=2)
    assert single.mcse.tolist() == [math.inf]
    assert single.ess.tolist() == [1.0]
    assert single.doubtful.tolist() == [True]


def test_an_impossible_datum_has_no_evidence() -> None:
    case = LinearGaussian(3, 2)

    def log_densities(u: Tensor) -> tuple[Tensor, Tensor]:
        log_start, log_target = case.log_densities(u)
        return log_start, torch.where(torch.tensor([False, True, False]), -math.inf, log_target)

    with seeded(8):
        estimate = ais(Chains(case.draw, log_densities, Annealing(100, 16)))
        everywhere = ais(
            Chains(case.draw, lambda u: (log_densities(u)[0], torch.full(u.shape[:2], -math.inf)), Annealing(100, 16))
        )
    assert estimate.log_evidence.isneginf().tolist() == [False, True, False]
    assert estimate.doubtful.tolist() == [False, True, False]
    assert estimate.ess[1] == 0
    assert estimate.mcse[1] == math.inf
    assert everywhere.log_evidence.isneginf().all()
    assert not everywhere.columns["acceptance"].isnan().any()


@pytest.mark.parametrize("num_temperatures", [1, 10])
def test_chains_that_start_where_the_target_is_impossible_have_no_weight(num_temperatures: int) -> None:
    """The target is the upper half of the start density, so half of the chains count, wherever they move."""

    def log_densities(u: Tensor) -> tuple[Tensor, Tensor]:
        log_start = log_normal(u, 0.0, 1.0)
        return log_start, torch.where(u[..., 0] < 0, -math.inf, log_start)

    with seeded(9):
        estimate = ais(
            Chains(lambda c: torch.randn(c, 2000, 1).double(), log_densities, Annealing(num_temperatures, 16))
        )
    evidence = estimate.log_evidence.exp()
    assert abs(evidence.mean() - 0.5) < 4 * standard_error(evidence)
    torch.testing.assert_close(estimate.ess, 16 * evidence)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_datum_of_a_nan_target_is_named(value: float) -> None:
    case = LinearGaussian(3, 2)

    def log_densities(u: Tensor) -> tuple[Tensor, Tensor]:
        log_start, log_target = case.log_densities(u)
        return log_start, torch.where(torch.tensor([False, False, True]), value, log_target)

    with pytest.raises(Diverged, match=f"datum 66 are {value}"):
        ais(Chains(case.draw, log_densities, Annealing(5, 4), first_datum=64))


def test_works_in_the_dtype_of_the_draws() -> None:
    def log_densities(u: Tensor) -> tuple[Tensor, Tensor]:
        assert u.dtype == torch.float
        return log_normal(u, 0.0, 1.0), log_normal(u, 1.0, 0.5) - 1000

    with seeded(10):
        estimate = ais(Chains(lambda c: torch.randn(c, 50, 2), log_densities, Annealing(100, 16)))
    fields = (estimate.log_evidence, estimate.mcse, estimate.ess, estimate.columns["acceptance"])
    assert all(field.dtype == torch.double for field in fields)
    assert estimate.log_evidence.mean().item() == pytest.approx(-1000, abs=0.03)


def test_progress_is_reported_for_every_temperature() -> None:
    case, steps = LinearGaussian(2, 2), []
    settings = Annealing(7, 3)
    ais(Chains(case.draw, case.log_densities, settings, progress=steps.append))
    assert steps == [1] * num_steps(settings)


def test_temperatures() -> None:
    for schedule in ("linear", "sigmoidal"):
        for num in (1, 2, 5, 1000):
            betas = temperatures(num, schedule)
            assert betas.shape == (num + 1,)
            assert (betas[0].item(), betas[-1].item()) == (0, 1)
            assert (betas.diff() > 0).all()
            torch.testing.assert_close(betas + betas.flip(0), torch.ones(num + 1, dtype=torch.double))
    gaps = temperatures(100, "sigmoidal").diff()
    # The slope of the sigmoid at the ends against that in the middle.
    end, middle = (1 / (2 + 2 * math.cosh(a)) for a in (4 * 0.99, 4 * 0.01))
    assert (gaps[0] / gaps[50]).item() == pytest.approx(end / middle, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_temperatures": 0}, "--num-temperatures is 0: expected a whole number, 1 or more"),
        ({"num_chains": 2.5}, "--num-chains is 2.5: expected a whole number, 1 or more"),
        ({"num_leapfrog": True}, "--num-leapfrog is True: expected a whole number, 1 or more"),
        ({"schedule": "sigmoid"}, "--schedule 'sigmoid' is unknown; did you mean 'sigmoidal'?"),
    ],
)
def test_bad_settings(change: dict[str, object], message: str) -> None:
    case = LinearGaussian(2, 2)
    with pytest.raises(InputError) as error:
        ais(Chains(case.draw, case.log_densities, Annealing()._replace(**change)))
    assert str(error.value).startswith(message)


def test_whole_numbers_of_numpy_are_accepted() -> None:
    case = LinearGaussian(2, 2)
    assert ais(Chains(case.draw, case.log_densities, Annealing(np.int64(3), np.int64(2)))).mcse.shape == (2,)


def test_linear_schedule_agrees_too() -> None:
    case = LinearGaussian(200, 2)
    with seeded(11):
        estimate = ais(Chains(case.draw, case.log_densities, Annealing(200, 32, "linear", 1)))
    errors = estimate.log_evidence - case.log_evidence
    assert abs(errors.mean()) < 4 * standard_error(errors) + estimate.mcse.square().mean()
    assert estimate.mcse.max() < 0.5
