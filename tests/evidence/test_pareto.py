"""The shape of the tail, against ArviZ on all the weights and against distributions whose tail is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.evidence.pareto import _psislw, believable, pareto_k, tail_length, threshold
from tests.helpers.scenarios import normal


def tail_of(log_weights: Tensor) -> Tensor:
    draws = len(log_weights)
    return log_weights.topk(min(tail_length(draws) + 1, draws), dim=0).values


def exponential(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.empty(shape, dtype=torch.double).exponential_(generator=generator)


@pytest.mark.parametrize("draws", [21, 22, 25, 99, 100, 224, 225, 226, 1000, 5000, 12345])
def test_the_tail_is_all_that_counts(draws: int) -> None:
    """The same number as of ArviZ on all the weights: light, heavy, far off, with zeros, ties, a giant."""
    log_weights = normal(draws, 12)
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
    with np.errstate(all="ignore"):
        expected = _psislw()(log_weights.T.numpy().copy())[1]
    torch.testing.assert_close(
        pareto_k(tail_of(log_weights), draws), torch.from_numpy(expected), rtol=0, atol=1e-10, equal_nan=True
    )


@pytest.mark.parametrize("k", [0.1, 0.5, 0.9])
def test_finds_the_shape_of_pareto_weights(k: float) -> None:
    estimates = pareto_k(tail_of(k * exponential(5000, 200)), 5000)
    spread = (1 + k) / 213**0.5  # of the maximum likelihood estimate from M = 213
    assert estimates.std().item() == pytest.approx(spread, rel=0.2)  # known to 5 percent; the prior pulls it in
    assert estimates.mean().item() == pytest.approx((213 * k + 5) / 223, abs=4 * spread / 200**0.5 + 0.01)


def test_many_data_are_many_single_ones() -> None:
    tail = tail_of(normal(25, 2300))
    together = pareto_k(tail, 25)
    assert torch.equal(together[:2], pareto_k(tail[:, :2], 25))
    assert torch.equal(together[-1:], pareto_k(tail[:, -1:], 25))
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


@pytest.fixture
def untried() -> Iterator[None]:
    _psislw.cache_clear()
    yield
    _psislw.cache_clear()


@pytest.mark.usefixtures("untried")
def test_another_sign_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import arviz

    original = arviz.psislw
    monkeypatch.setattr(arviz, "psislw", lambda log_weights, **options: original(-log_weights, **options))
    for _ in range(2):
        with pytest.raises(InputError, match=r"^ArviZ .*'s psislw takes weights of the other sign.*'arviz<1'$"):
            pareto_k(tail_of(normal(100, 1)), 100)


@pytest.mark.usefixtures("untried")
def test_other_arguments_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import arviz

    def renamed(log_weights: np.ndarray, r_eff: float = 1.0) -> Any:
        raise AssertionError

    monkeypatch.setattr(arviz, "psislw", renamed)
    with pytest.raises(InputError, match="arviz<1"):
        pareto_k(tail_of(normal(100, 1)), 100)
    monkeypatch.delattr(arviz, "psislw")
    with pytest.raises(InputError, match="arviz<1"):
        pareto_k(tail_of(normal(100, 1)), 100)
