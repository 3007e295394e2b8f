"""The summary of weights that come in passes, compared with all of them at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ppl_vae.errors import Diverged, InputError
from ppl_vae.evidence.pareto import tail_length
from ppl_vae.evidence.weights import weigh
from ppl_vae.program import Program, seeded
from tests.helpers.scenarios import Conjugate, normal


def stream(fixed: Tensor) -> Callable[[int], Tensor]:
    """Return a function that returns the rows of ``fixed``, each once."""
    done = 0

    def log_weights(k: int) -> Tensor:
        nonlocal done
        done += k
        return fixed[done - k : done]

    return log_weights


def blocks(fixed: Tensor, length: int) -> Tensor:
    whole = fixed[: len(fixed) // length * length].reshape(-1, length, *fixed.shape[1:])
    return (whole.logsumexp(1) - math.log(length)).mean(0)


@pytest.mark.parametrize("draws_per_pass", [1, 7, 10, 101, 999, 5000])
def test_the_passes_do_not_matter(draws_per_pass: int) -> None:
    fixed = normal(1234, 5) * 3 - 2000  # the weights themselves underflow
    fixed[normal(1234, 5, seed=1) > 2] = -math.inf
    weights = weigh(stream(fixed), 1234, draws_per_pass)
    assert weights.num_samples == 1234
    for power, kept in ((1, weights.log_sum), (2, weights.log_sum_squares), (4, weights.log_sum_fourths)):
        torch.testing.assert_close(kept, (power * fixed).logsumexp(0), rtol=1e-13, atol=0)
    assert torch.equal(weights.tail, fixed.topk(tail_length(1234) + 1, dim=0).values)


@pytest.mark.parametrize("draws_per_pass", [1, 7, 10, 101, 999, 5000])
@pytest.mark.parametrize(("draws", "lengths"), [(1234, [1, 10, 100, 1000, 1234]), (100, [1, 10, 100]), (9, [1, 9])])
def test_the_curve_averages_disjoint_blocks(draws: int, lengths: list[int], draws_per_pass: int) -> None:
    fixed = normal(draws, 5) * 3 - 2000
    curve = weigh(stream(fixed), draws, draws_per_pass).curve
    assert list(curve) == lengths
    for length, bound in curve.items():
        torch.testing.assert_close(bound, blocks(fixed, length), rtol=1e-13, atol=0)


def test_the_curve_rises_from_the_elbo_to_the_evidence() -> None:
    """By the inequality of Jensen it rises for every datum if each length divides the next."""
    x = normal(500)
    program = Program(Conjugate().double()).bind((x,))
    with seeded(0):
        weights = weigh(lambda k: program.log_weights((x,), k), 1000, 64)
    bounds = torch.stack(list(weights.curve.values()))
    assert (bounds.diff(dim=0) > 0).all()
    exact = Conjugate().log_evidence(x)
    loc, variance = 0.6 * x + 0.1, math.exp(-0.6)  # of the guide; of the posterior 2 x / 3 and 1 / 3
    kl = 0.5 * (3 * variance + 3 * (loc - 2 * x / 3).square() - 1 - math.log(3 * variance))
    # log w is quadratic in z, with a standard deviation below 2 nats for all of these data
    assert (bounds[0] - (exact - kl)).abs().max() < 4.5 * 2 / 1000**0.5
    assert abs((bounds[0] - (exact - kl)).mean()) < 4 * 2 / (1000 * 500) ** 0.5
    torch.testing.assert_close(bounds[-1], exact, rtol=0, atol=4.5 * 0.05)  # 0.05 nats is the largest error


def test_single_precision_is_summed_in_double() -> None:
    fixed = (normal(3000, 2) * 3 - 200).float()
    weights = weigh(stream(fixed), 3000, 100)
    for kept in (
        weights.log_sum,
        weights.log_sum_squares,
        weights.log_sum_fourths,
        weights.tail,
        *weights.curve.values(),
    ):
        assert kept.dtype == torch.double
    torch.testing.assert_close(weights.log_sum, fixed.double().logsumexp(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(weights.curve[1], fixed.double().mean(0), rtol=1e-13, atol=0)


def test_a_single_draw_of_a_single_datum() -> None:
    weights = weigh(lambda k: torch.full((k, 1), -3.0), 1, 10)
    assert weights.log_sum.tolist() == [-3.0]
    assert {draws: bound.tolist() for draws, bound in weights.curve.items()} == {1: [-3.0]}
    assert weights.tail.tolist() == [[-3.0]]


def test_weights_that_are_all_zero_give_no_nan() -> None:
    weights = weigh(lambda k: torch.full((k, 2), -math.inf), 25, 3)
    assert all((bound == -math.inf).all() for bound in weights.curve.values())
    assert (weights.log_sum == -math.inf).all()
    assert (weights.tail == -math.inf).all()


def test_progress_adds_up_to_the_draws() -> None:
    reported: list[int] = []
    weigh(lambda k: torch.zeros(k, 1), 10, 4, progress=reported.append)
    assert reported == [4, 4, 2]


def test_no_graph_is_kept() -> None:
    scale = torch.ones((), requires_grad=True)
    weights = weigh(lambda k: scale * normal(k, 3), 10, 4)
    assert not weights.log_sum.requires_grad


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nan_is_refused_in_any_pass(value: float) -> None:
    fixed = normal(20, 5)
    fixed[17, 3] = value
    with pytest.raises(Diverged, match=rf"the log weights of datum 103 are {value}: "):
        weigh(stream(fixed), 20, 5, first_datum=100)
    assert len(weigh(stream(fixed), 15, 5).curve) == 3


@pytest.mark.parametrize(("num_samples", "draws_per_pass"), [(0, 1), (1, 0), (-3, 5)])
def test_bad_numbers_are_reported_in_one_line(num_samples: int, draws_per_pass: int) -> None:
    name, value = ("num_samples", num_samples) if num_samples < 1 else ("draws_per_pass", draws_per_pass)
    with pytest.raises(InputError, match=f"^{name} is {value}: expected 1 or more$"):
        weigh(lambda k: torch.zeros(k, 1), num_samples, draws_per_pass)
