"""Steps up an objective: Adam against PyTorch's, as a graph and by Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppl_vae.compile.compiler import Compile
from ppl_vae.inference import Compiler
from ppl_vae.inference.ascent import Adam, Ascent, begin, value_and_gradient
from ppl_vae.inference.average import Average
from tests.helpers.laws import traced
from tests.helpers.scenarios import normal

X = normal(7, 3)


def parameters(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(t.to(dtype)) for t in (normal(3, 2, seed=1), normal(2, seed=2), normal(seed=3))]


def objective_of(matrix: Tensor, vector: Tensor, idle: Tensor) -> Callable[[Tensor], Tensor]:
    """The last parameter has no part in it."""
    return lambda x: -(torch.tanh(x @ matrix) - vector).square().sum() * 5


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", traced)


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {"lr": 0.05},
    "betas": {"lr": 0.2, "betas": (0.5, 0.99)},
    "epsilon": {"lr": 0.05, "eps": 0.1},
    "fused": {"lr": 0.05, "fused": True},
}


QUICK = (("default", None), ("default", 0.5), ("default", 1e9), ("betas", 0.5), ("epsilon", None), ("fused", 0.5))
CASES = [
    pytest.param(name, clip_norm, marks=() if (name, clip_norm) in QUICK else pytest.mark.slow)
    for name in OPTIONS
    for clip_norm in (None, 0.5, 1e9)
]


@pytest.mark.parametrize(("name", "clip_norm"), CASES)
def test_it_is_torchs_adam(name: str, clip_norm: float | None) -> None:
    """Value, parameters and the optimiser's own state, step by step, with a rate that changes between epochs."""
    ours, theirs = parameters(), parameters()
    one, other = torch.optim.Adam(ours, **OPTIONS[name]), torch.optim.Adam(theirs, **OPTIONS[name])
    compiler = Compiler("on", say=pytest.fail)
    for epoch in range(3):
        for optimizer in (one, other):
            optimizer.param_groups[0]["lr"] = OPTIONS[name]["lr"] / (epoch + 1)
        ascend = Ascent("it", one, compiler, clip_norm=clip_norm)
        for row in range(4):
            other.zero_grad()
            expected = objective_of(*theirs)(X[row : row + 3])
            (-expected).backward()
            theirs[2].grad = torch.zeros_like(theirs[2])
            if clip_norm is not None:
                norm = torch.nn.utils.clip_grad_norm_(theirs, clip_norm)
                assert (norm > clip_norm) == (clip_norm == 0.5), "it has to be clipped, or not, to say anything"
            other.step()
            found = ascend(objective_of(*ours), X[row : row + 3])
            assert not found.requires_grad
            torch.testing.assert_close(found, expected.detach(), rtol=1e-13, atol=1e-13)
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
                for key, tensor in other.state[b].items():
                    torch.testing.assert_close(one.state[a][key], tensor, rtol=1e-12, atol=1e-12)
    assert compiler.graphs == {"it"}
    assert one.state[ours[2]]["step"] == 12


def test_the_table_of_rates_goes_on_where_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an epoch that begins within it begins there; the rate is the optimiser's at either time."""
    monkeypatch.setattr("ppl_vae.inference.ascent.TABLE", 4)
    runs = []
    for mode in ("off", "on"):
        own = parameters()
        adam, compiler = torch.optim.Adam(own, lr=0.1), Compiler(mode)
        for num_steps, rate in ((3, 0.1), (7, 0.02), (1, 0.3), (2, 0.05)):
            adam.param_groups[0]["lr"] = rate
            ascend = Ascent("it", adam, compiler)
            for _ in range(num_steps):
                ascend(objective_of(*own), X)
        runs.append(own)
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_state_of_what_has_no_gradient_becomes_zero_instead_of_no_normal_number() -> None:
    """PyTorch keeps the numbers below the least normal one, which are slow; the parameters are the same."""
    ours, theirs = (nn.Parameter(torch.ones(3)) for _ in range(2))
    one, other = torch.optim.Adam([ours], lr=0.05), torch.optim.Adam([theirs], lr=0.05)
    ascend = Ascent("it", one, Compiler("on", say=pytest.fail))
    share, active = torch.tensor([1.0, 1e-18, 1.0]), torch.tensor([1.0, 1.0, 0.0])
    for step in range(1000):
        x = share if step == 0 else share * active
        ascend(lambda x: (ours * x).sum(), x)
        other.zero_grad()
        (-(theirs * x).sum()).backward()
        other.step()
    assert 0 < abs(float(other.state[theirs]["exp_avg"][2])) < torch.finfo(torch.float32).tiny, "or this says nothing"
    for state in (one.state[ours][key] for key in ("exp_avg", "exp_avg_sq")):
        assert state[0] != 0
        assert ((state == 0) | (state.abs() >= torch.finfo(torch.float32).tiny)).all()
    assert one.state[ours]["exp_avg"][2] == 0 != one.state[ours]["exp_avg"][1]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("mode", ["off", "on"])
def test_a_weight_that_decays_without_a_gradient_becomes_zero_instead_of_no_normal_number(mode: Compile) -> None:
    """And so do the mean of its gradient and its average; with PyTorch alone they stay slow numbers."""
    ours, theirs = (nn.Parameter(torch.ones(2)) for _ in range(2))
    one, other = (torch.optim.AdamW([w], lr=0.1, weight_decay=1.0) for w in (ours, theirs))
    average, both, active = Average({"w": ours}, decay=0.8), torch.ones(2), torch.tensor([1.0, 0.0])
    for stretch in range(10):
        ascend = Ascent("it", one, Compiler(mode, say=pytest.fail))
        for step in range(100):
            x = both if stretch == step == 0 else active
            ascend(lambda x: -(ours * x - 3).square().sum(), x)
            average.update()
            other.zero_grad()
            (theirs * x - 3).square().sum().backward()
            other.step()
    for tensor in (theirs.detach(), other.state[theirs]["exp_avg"]):
        assert 0 < abs(float(tensor[1])) < torch.finfo(torch.float32).tiny, "or this says nothing"
    for tensor in (ours, average.averages["w"], one.state[ours]["exp_avg"]):
        assert tensor[1] == 0
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=0)


def test_rates_are_exact_after_many_steps() -> None:
    """1 - beta^t, where beta^t is near one and where it is nothing."""
    adam = Adam.of(torch.optim.Adam(parameters(torch.float32), lr=0.1))
    assert adam is not None
    for taken in (0, 1023, 10**6):
        rates = adam.rates(0.1, taken)
        assert rates.dtype == torch.float32
        for step in (0, 500):
            t = taken + step + 1
            assert rates[step].tolist() == pytest.approx([0.1 / (1 - 0.9**t), (1 - 0.999**t) ** -0.5, 0.1], rel=1e-6)


@pytest.mark.parametrize("mode", ["off", "on"])
def test_what_is_reported_and_what_is_ascended_may_differ(mode: Any) -> None:
    weight, other = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-1.0))
    adam = torch.optim.Adam([weight, other], lr=0.1)
    value = Ascent("it", adam, Compiler(mode))(lambda x: (weight * 10, x.sum() * other), torch.ones(3))
    assert value == 20
    assert not value.requires_grad
    assert (weight.item(), other.item()) == (2.0, pytest.approx(-0.9))


@pytest.mark.parametrize("mode", ["off", "on"])
def test_an_objective_without_parameters_moves_nothing_and_every_parameter_has_a_state(mode: Any) -> None:
    own = parameters()
    adam = torch.optim.Adam(own, lr=0.1)
    assert Ascent("it", adam, Compiler(mode))(lambda x: x.sum(), X) == X.sum()
    for a, b in zip(own, parameters(), strict=True):
        assert torch.equal(a, b)
        assert adam.state[a]["step"] == 1


def test_the_gradient_without_the_step() -> None:
    own = parameters()
    value, gradients = value_and_gradient(objective_of(*own), (X,), list(own))
    expected = objective_of(*own)(X)
    assert value == expected
    assert not value.requires_grad
    for got, answer in zip(gradients[:2], torch.autograd.grad(expected, own[:2]), strict=True):
        assert torch.equal(got, answer)
    assert torch.equal(gradients[2], torch.zeros_like(own[2]))
    assert all(parameter.grad is None for parameter in own)


def test_a_state_that_is_begun_is_that_of_no_steps() -> None:
    """Adam's first step gives the same with it as without; a state that is there stays."""
    one, other = parameters(), parameters()
    adams = [torch.optim.Adam(each, lr=0.1) for each in (one, other)]
    begin(adams[0])
    for _ in range(2):
        for own, adam in zip((one, other), adams, strict=True):
            adam.zero_grad()
            objective_of(*own)(X).backward()
            adam.step()
        begin(adams[0])
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)
