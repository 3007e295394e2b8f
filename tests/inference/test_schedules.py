"""Courses of the learning rate against PyTorch's schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import lr_scheduler

from ppl_vae.inference.place import Validation
from ppl_vae.inference.schedules import STAIRS, one_cycle_share, warmup_share
from ppl_vae.inference.training_options import TrainingOptions

EPOCHS = 3280
MILESTONES = [1, 4, 13, 40, 121, 364, 1093]


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)


def test_cosine_and_milestones_are_those_of_torch() -> None:
    sgd = [optimizer(), optimizer()]
    schedulers = {
        "cosine": lr_scheduler.CosineAnnealingLR(sgd[0], EPOCHS),
        "milestones": lr_scheduler.MultiStepLR(sgd[1], MILESTONES, gamma=10 ** (-1 / 7)),
    }
    options = {name: TrainingOptions(EPOCHS, learning_rate=0.3, schedule=name) for name in schedulers}  # type: ignore[arg-type]
    for epoch in range(EPOCHS):
        for (name, scheduler), each in zip(schedulers.items(), sgd, strict=True):
            expected = scheduler.get_last_lr()[0]
            assert options[name].rate_after(epoch, 0, 10 * epoch, 10) == pytest.approx(expected, rel=1e-6, abs=1e-9)
            each.step()
            scheduler.step()


def test_one_cycle_is_that_of_torch() -> None:
    """PyTorch has its peak at step 29 of 0..99, and its end at step 99."""
    sgd = optimizer()
    scheduler = lr_scheduler.OneCycleLR(sgd, max_lr=0.3, total_steps=100)
    for step in range(100):
        done = 0.3 * step / 29 if step < 29 else 0.3 + 0.7 * (step - 29) / 70
        assert 0.3 * one_cycle_share(done) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        sgd.step()
        if step < 99:
            scheduler.step()


def test_plateau_is_that_of_torch() -> None:
    sgd = optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(sgd, mode="max", factor=0.5, patience=4, threshold=0)
    options, history = TrainingOptions(100, learning_rate=0.3, schedule="plateau"), list[Validation]()
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0)).tolist()
    for epoch in range(100):
        history.append(Validation(epoch + 1, 10 * epoch, noise[epoch] - 50 / (epoch + 1)))
        scheduler.step(history[-1].elbo_valid)
        rate = options.rate_after(epoch + 1, 0, 10 * epoch, 10, history)
        assert rate == sgd.param_groups[0]["lr"]
    assert 0 < rate < 0.05


@pytest.mark.parametrize("steps", [1, 7, 32, 33, 1000])
def test_the_warm_up_rises_in_equal_steps_to_the_schedule(steps: int) -> None:
    shares = [warmup_share(taken, steps) for taken in range(steps + 5)]
    assert sorted(shares) == shares
    assert len(set(shares)) <= STAIRS
    assert shares[steps:] == [1.0] * 5
    stair = math.ceil(steps / STAIRS)
    assert all(abs(share - min(1, (taken + stair) / steps)) < stair / steps for taken, share in enumerate(shares))
    options = TrainingOptions(10, learning_rate=0.3, warmup_steps=steps)
    plain = TrainingOptions(10, learning_rate=0.3)
    assert options.rate_after(2, 0, 0, 10) == pytest.approx(plain.rate_after(2, 0, 0, 10) * shares[0])
