"""Test that the modules of a program are those that its runs use, wherever Python keeps them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import module as registered
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError
from ppl_vae.program import Program, check, seeded
from tests.helpers.scenarios import normal

KEPT: dict[str, Any] = {}
Nets = dict[str, nn.Module]
Parts = tuple[Any, Any]


def make_nets() -> Nets:
    return {
        "decoder": nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3)),
        "encoder": nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 4)),
    }


def generate(decoder: nn.Module, x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(decoder(z), 0.5).to_event(1), obs=x)


def infer(encoder: nn.Module, x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        loc, scale = encoder(x).chunk(2, -1)
        pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


class Plain:
    """A program that is no module; its networks may be anywhere in it."""

    def __init__(self, decoder: Callable[[], nn.Module], encoder: Callable[[], nn.Module]) -> None:
        self.get = (decoder, encoder)

    def model(self, x: Tensor) -> None:
        generate(pyro.module("decoder", self.get[0]()), x)

    def guide(self, x: Tensor) -> None:
        infer(pyro.module("encoder", self.get[1]()), x)


class ListInModule(nn.Module):
    def __init__(self, nets: Nets) -> None:
        super().__init__()
        self.nets = list(nets.values())

    def model(self, x: Tensor) -> None:
        generate(pyro.module("decoder", self.nets[0]), x)

    def guide(self, x: Tensor) -> None:
        infer(pyro.module("encoder", self.nets[1]), x)


class ListInClass:
    def __init__(self, nets: Nets) -> None:
        self.nets = list(nets.values())

    model, guide = ListInModule.model, ListInModule.guide


class Slots:
    __slots__ = ("nets",)

    def __init__(self, nets: Nets) -> None:
        self.nets = nets

    def model(self, x: Tensor) -> None:
        generate(pyro.module("decoder", self.nets["decoder"]), x)

    def guide(self, x: Tensor) -> None:
        infer(pyro.module("encoder", self.nets["encoder"]), x)


def in_a_global_dict(nets: Nets) -> Parts:
    KEPT.update(nets)
    return (
        lambda x: generate(pyro.module("decoder", KEPT["decoder"]), x),
        lambda x: infer(pyro.module("encoder", KEPT["encoder"]), x),
    )


def in_partial(nets: Nets) -> Parts:
    def model(decoder: nn.Module, x: Tensor) -> None:
        generate(pyro.module("decoder", decoder), x)

    def guide(x: Tensor, *, encoder: nn.Module) -> None:
        infer(pyro.module("encoder", encoder), x)

    return partial(model, nets["decoder"]), partial(guide, encoder=nets["encoder"])


def in_a_default(nets: Nets) -> Parts:
    def model(x: Tensor, decoder: nn.Module = nets["decoder"]) -> None:
        generate(pyro.module("decoder", decoder), x)

    def guide(x: Tensor, encoder: nn.Module = nets["encoder"]) -> None:
        infer(pyro.module("encoder", encoder), x)

    return model, guide


def from_a_factory(nets: Nets) -> Parts:
    remaining = [nets]
    made = cache(lambda: remaining.pop())
    return Plain(lambda: made()["decoder"], lambda: made()["encoder"]), None


def under_another_name(nets: Nets) -> Parts:
    held = SimpleNamespace(nets=nets)
    return (
        lambda x: generate(registered("a.b", held.nets["decoder"]), x),
        lambda x: infer(registered("encoder", held.nets["encoder"]), x),
    )


def in_the_guide_only(nets: Nets) -> Parts:
    both = [nn.ModuleDict(nets)]

    def guide(x: Tensor) -> None:
        pyro.module("both", both[0])
        infer(both[0]["encoder"], x)

    return (lambda x: generate(nets["decoder"], x)), guide


def for_some_arguments(nets: Nets) -> Parts:
    program = Slots(nets)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        if len(x) > 1:
            program.guide(x)
        else:
            infer(nets["encoder"], x)

    return program.model, guide


PLACES: dict[str, Callable[[Nets], Parts]] = {
    "dict": in_a_global_dict,
    "list of a module": lambda nets: (ListInModule(nets), None),
    "list of a plain class": lambda nets: (ListInClass(nets), None),
    "slots": lambda nets: (Slots(nets), None),
    "closure": lambda nets: (Plain(lambda: nets["decoder"], lambda: nets["encoder"]), None),
    "partial": in_partial,
    "default": in_a_default,
    "factory": from_a_factory,
    "another name of pyro.module": under_another_name,
    "guide only": in_the_guide_only,
    "some arguments": for_some_arguments,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_module_follows_the_program_wherever_python_keeps_it(place: str) -> None:
    nets, x = {name: net.double() for name, net in make_nets().items()}, normal(6, 3)
    statistics, parts = nets["decoder"][1], [part for net in nets.values() for part in net.modules()]
    statistics.running_mean += 1.0
    before = {name: value.clone() for name, value in statistics.state_dict().items()}
    program = Program(*PLACES[place](nets)).bind((x,))
    assert all(part.training for part in parts)
    assert all(torch.equal(value, before[name]) for name, value in statistics.state_dict().items())
    with program.running(seed=3, training=False):
        weights = program.log_weights((x,))[0]
    with program.running(training=True):
        assert all(part.training for part in parts)
        program.log_weights((x,))
    moved = {name: value.clone() for name, value in statistics.state_dict().items()}
    assert not torch.equal(moved["running_mean"], before["running_mean"])
    state = {name: value.clone() for name, value in program.state().items()}
    assert {id(value) for value in state.values()}.isdisjoint(map(id, program.state().values()))
    for net in nets.values():
        for value in net.state_dict().values():
            value.zero_()
    program.load_state(state)
    assert all(torch.equal(value, moved[name]) for name, value in statistics.state_dict().items())
    assert sum(value.numel() for value in state.values()) == sum(
        value.numel() for net in nets.values() for value in net.state_dict().values()
    )
    statistics.load_state_dict(before)
    for net in nets.values():
        net.eval()
    with seeded(3), torch.no_grad():
        loc, scale = nets["encoder"](x).chunk(2, -1)
        q = dist.Normal(loc, scale.exp())
        z = q.sample()
        expected = dist.Normal(nets["decoder"](z), 0.5).log_prob(x).sum(-1)
        expected += (dist.Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(-1)
    torch.testing.assert_close(weights, expected)


def test_modules_without_trained_parameters_and_those_that_are_only_called_follow_too() -> None:
    kept = {"drop": nn.Dropout(0.9), "frozen": nn.Linear(3, 3).requires_grad_(False), "called": nn.Dropout(0.9)}

    def model(x: Tensor) -> None:
        pyro.module("drop", kept["drop"])
        pyro.module("frozen", kept["frozen"])
        loc = pyro.param("loc", lambda: torch.zeros(3)) + nn.Dropout(1.0)(x.new_zeros(3))
        with pyro.plate("data", len(x)):
            loc = kept["called"](kept["drop"](kept["frozen"](torch.ones(3)) + loc))
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    program = Program(model).bind((normal(6, 3).float(),))
    assert set(kept.values()) < set(program.module.modules())
    assert not any(isinstance(part, nn.Dropout) and part.p == 1.0 for part in program.module.modules())
    frozen = {"module.registered.frozen.weight", "module.registered.frozen.bias"}
    assert program.state().keys() == {*frozen, "param.loc"}


def test_a_module_that_is_called_and_not_registered_is_reported() -> None:
    kept = [nn.Linear(3, 3)]

    def model(x: Tensor) -> None:
        pyro.param("loc", torch.zeros(3))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(kept[0](x.new_ones(3)), 1.0).to_event(1), obs=x)

    with pytest.raises(InputError, match=r"Linear_0.weight.* would never be trained: .*pyro.module"):
        check(Program(model), (normal(6, 3).float(),))


def test_a_fit_moves_and_trains_modules_that_no_object_of_the_program_holds() -> None:
    nets, x = make_nets(), normal(12, 3)
    vi = VariationalInference(Plain(lambda: nets["decoder"], lambda: nets["encoder"]), max_epochs=1, compile="off")
    vi.set_params(precision="64-true").fit(x.numpy())
    assert {value.dtype for net in nets.values() for value in net.parameters()} == {torch.float64}
    assert {value.dtype for value in nets["decoder"][1].buffers()} == {torch.float64, torch.int64}


def test_a_state_of_before_lacks_buffers_and_is_refused() -> None:
    nets, x = make_nets(), normal(6, 3).float()
    program = Program(Slots(nets)).bind((x,))
    state = program.state()
    old = {name: value for name, value in state.items() if name.startswith("param.")}
    assert len(old) == sum(len(list(net.parameters())) for net in nets.values())
    with pytest.raises(InputError, match=r"earlier version.* fit it again"):
        program.load_state(old)
