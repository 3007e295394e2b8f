"""The shape of the tail, against ArviZ on all the weights and against distributions whose tail is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_vae.evidence.pareto import believable, pareto_k, tail_length, threshold
from tests.helpers.arviz_versions import VERSION, pareto_shapes
from tests.helpers.scenarios import normal

with_arviz_0 = pytest.mark.skipif(
    VERSION > 0, reason="ArviZ 1 rounds the length of a tail down and refuses tied tails and weights of zero"
)


def tail_of(log_weights: Tensor) -> Tensor:
    draws = len(log_weights)
    return log_weights.topk(min(tail_length(draws) + 1, draws), dim=0).values


def exponential(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.empty(shape, dtype=torch.double).exponential_(generator=generator)


def arviz_k(log_weights: Tensor) -> Tensor:
    """Return the Pareto k that ArviZ finds from all weights ``(K, B)``."""
    with np.errstate(all="ignore"):
        return torch.from_numpy(pareto_shapes(log_weights.T.numpy()))


@pytest.mark.parametrize("draws", [100, 225, 400, 2500, 10_000])  # the lengths of their tails are whole
def test_the_shape_is_that_of_every_arviz(draws: int) -> None:
    log_weights = normal(draws, 4) * torch.tensor([1.0, 5.0, 300.0, 1e-3])
    torch.testing.assert_close(pareto_k(tail_of(log_weights), draws), arviz_k(log_weights), rtol=0, atol=1e-10)


@with_arviz_0
@pytest.mark.parametrize("draws", [21, 22, 25, 99, 100, 224, 225, 226, 1000, 5000, 12345])
def test_the_shape_is_that_of_arviz(draws: int) -> None:
    """Weights that are light, heavy, far from one, zero, tied, or dominated by a single one; the tail alone counts."""
    log_weights = normal(draws, 16)
    log_weights[:, 1] *= 5
    log_weights[:, 2] -= 1e4
    log_weights[:, 3] *= 300  # most underflow next to the largest
    log_weights[:, 4] = torch.where(log_weights[:, 4] > 0, log_weights[:, 4], -math.inf)
    log_weights[6:, 5] = -math.inf
    log_weights[3:, 6] = -math.inf
    log_weights[:, 7] = (2 * log_weights[:, 7]).round()
    log_weights[0, 8] += 1e3
    log_weights[:, 9] = -log_weights[:, 9].square()
    log_weights[:, 10] = 0.7 * exponential(draws)
    log_weights[:, 11] += 1e4
    log_weights[:, 12] = 3 * exponential(draws)  # an infinite mean
    log_weights[:, 13] = log_weights[:, 13].round()
    log_weights[:, 14] *= 1e-3
    log_weights[: draws // 2, 15] = log_weights[:, 15].max()  # half of the weights are the largest
    k = pareto_k(tail_of(log_weights), draws)
    torch.testing.assert_close(k[:15], arviz_k(log_weights)[:15], rtol=0, atol=1e-10, equal_nan=True)
    assert k[15] == -math.inf


@with_arviz_0
@pytest.mark.parametrize("seed", range(4))
def test_the_shape_is_that_of_arviz_for_random_weights(seed: int) -> None:
    """Student-t, Pareto and Gaussian log weights of any scale, rounded or not, some of them zero."""
    generator = np.random.default_rng(seed)
    draws = int(generator.integers(21, 3000))
    kinds = (
        generator.standard_t(2, (draws, 40)),
        generator.exponential(size=(draws, 40)),
        generator.normal(size=(draws, 40)),
    )
    log_weights = np.concatenate(kinds, 1) * generator.lognormal(0, 1.5, 120)
    log_weights = np.where(generator.uniform(size=120) < 0.3, log_weights.round(1), log_weights)
    log_weights = torch.from_numpy(np.where(generator.uniform(size=log_weights.shape) < 0.02, -np.inf, log_weights))
    tail = tail_of(log_weights)
    k, different = pareto_k(tail, draws), tail[0] - tail[-1] > 1e-6 * (1 + tail[0].abs())
    torch.testing.assert_close(k[different], arviz_k(log_weights)[different], rtol=0, atol=1e-10)
    assert (k[~different] == -math.inf).all()


@pytest.mark.parametrize("k", [0.1, 0.5, 0.9])
def test_finds_the_shape_of_pareto_weights(k: float) -> None:
    estimates = pareto_k(tail_of(k * exponential(5000, 200)), 5000)
    spread = (1 + k) / 213**0.5  # of the maximum likelihood estimate from M = 213
    assert estimates.std().item() == pytest.approx(spread, rel=0.2)  # known to 5 percent; the prior pulls it in
    assert estimates.mean().item() == pytest.approx((213 * k + 5) / 223, abs=4 * spread / 200**0.5 + 0.01)


def test_many_data_are_many_single_ones() -> None:
    """They differ by rounding: the logarithms at the end of an array are those of no vector."""
    tail = tail_of(normal(25, 2300))
    together = pareto_k(tail, 25)
    torch.testing.assert_close(together[:2], pareto_k(tail[:, :2], 25), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(together[-1:], pareto_k(tail[:, -1:], 25), rtol=1e-12, atol=1e-12)
    assert together.isfinite().all()


def test_what_a_fit_cannot_tell() -> None:
    few = normal(20, 3)
    assert pareto_k(tail_of(few), 20).isnan().all()
    assert pareto_k(tail_of(torch.zeros(20, 1)), 20).isnan().all()
    assert pareto_k(torch.zeros(1, 2), 1).isnan().all()
    log_weights = normal(1000, 4)
    log_weights[:, 0] = -math.inf
    log_weights[4:, 1] = -math.inf  # four weights in all
    log_weights[:, 2] = -7.0
    k = pareto_k(tail_of(log_weights), 1000)
    assert k[0].isnan()
    assert k[1] == math.inf
    assert k[2] == -math.inf
    assert k[3].isfinite()


def test_equal_up_to_single_precision_is_equal() -> None:
    """A proposal that is the posterior, in a model of single precision: what differs is rounding."""
    log_weights = (normal(1000, 3) * 3e-5 - 300).float()
    assert log_weights.unique().numel() > 1
    assert (pareto_k(tail_of(log_weights), 1000) == -math.inf).all()
    assert pareto_k(tail_of(normal(1000, 3) * 0.01 - 300), 1000).isfinite().all()


def test_the_threshold_is_that_of_the_paper() -> None:
    assert threshold(100) == pytest.approx(0.5)
    assert threshold(2000) == pytest.approx(1 - 1 / 3.30103)
    assert threshold(10_000) == 0.7
    assert threshold(10) == 0
    assert threshold(2) < 0
    assert threshold(1) == -math.inf
    k = torch.tensor([-math.inf, 0.49, 0.51, math.inf, math.nan])
    assert believable(k, 100).tolist() == [True, True, False, False, False]
