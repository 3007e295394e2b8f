"""A step of several ranks: the gradient of a batch is that of its parts, for given draws, for every program."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ppl_vae.inference import Compiler
from ppl_vae.inference.ascent import Ascent, flat_gradient, unflatten
from ppl_vae.inference.objectives import elbo
from ppl_vae.parallel import Ranks
from ppl_vae.program import Program, seeded
from tests.helpers.gallery import GALLERY
from tests.helpers.laws import traced
from tests.helpers.ranks import keeping_draws, same_draws
from tests.helpers.scenarios import normal

PARTS = (slice(0, 8), slice(8, 15), slice(15, 21))


@pytest.mark.parametrize("name", GALLERY)
def test_the_gradient_of_a_batch_is_that_of_its_parts(name: str) -> None:
    """Uneven parts of 8, 7 and 6 data, two draws each, in double precision; the gradient of the whole by backward()."""
    case = GALLERY[name]
    batch = tuple(x.double() if x.is_floating_point() else x for x in case.batch)
    with seeded(0):
        program = Program(case.make().double()).bind(batch, num_data=21)
    parameters = list(program.parameters().values())

    def objective(*batch: Tensor) -> Tensor:
        draws = program.weighted_draws(batch, 2, tempered=True)
        return elbo(draws).mean() + draws.shared

    kept: list[Tensor] = []
    with program.running(seed=1, training=False):
        with keeping_draws(kept):
            value = objective(*batch)
        gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        flats = []
        for rows in PARTS:
            with same_draws(kept, rows, 21):
                flats.append(flat_gradient(objective, tuple(x[rows] for x in batch), parameters))
    total, summed = unflatten(sum(flats[1:], flats[0]), parameters)
    assert total.item() == pytest.approx(value.item(), rel=1e-12)
    off = sum(float((a - b).double().square().sum()) for a, b in zip(summed, gradients, strict=True))
    size = sum(float(b.double().square().sum()) for b in gradients)
    assert size > 0
    assert (off / size) ** 0.5 < 1e-11


class OneOfTwo(Ranks):
    """A rank whose fellow has computed the other part of every batch already."""

    size = 2

    def __init__(self, others: list[Tensor]) -> None:
        self.others = others

    def sum_(self, tensor: Tensor) -> None:
        tensor.add_(self.others.pop(0))


@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_a_step_of_two_ranks_is_the_step_of_one(
    mode: Any, clip_norm: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and parameters, step by step, with parts of 4 and 3 data, as graphs and in Python."""
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", traced)
    x, one, two = normal(7, 3), [normal(3, 2, seed=1).requires_grad_()], [normal(3, 2, seed=1).requires_grad_()]

    def objective(weight: list[Tensor]) -> Any:
        return lambda x: -(torch.tanh(x @ weight[0]) - 1).square().sum() / len(x)

    alone = Ascent("it", torch.optim.Adam(one, lr=0.1), clip_norm=clip_norm)
    others: list[Tensor] = []
    compiler = Compiler(mode, say=pytest.fail)
    ascend = Ascent("it", torch.optim.Adam(two, lr=0.1), compiler, clip_norm=clip_norm, ranks=OneOfTwo(others))
    for _ in range(5):
        others.append(flat_gradient(objective(two), (x[4:],), [*two]))
        value = ascend(objective(two), x[:4])
        torch.testing.assert_close(value, alone(objective(one), x), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(one[0], two[0], rtol=1e-9, atol=1e-12)
    assert bool(compiler.graphs) == (mode == "on")
