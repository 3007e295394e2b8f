"""Optimisers by name: their steps against PyTorch's own, what decays, and states that are saved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.inference import Compiler
from ppl_vae.inference.ascent import Ascent
from ppl_vae.inference.optimizers import load_optimizer_state, make_optimizer, optimizer_class, optimizer_state
from ppl_vae.inference.training_options import TrainingOptions
from tests.helpers.laws import traced
from tests.helpers.scenarios import normal

X = normal(8, 3)
CASES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {"betas": [0.8, 0.9]}),
    "adamax": (torch.optim.Adamax, {}),
    "radam": (torch.optim.RAdam, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "torch.optim.RMSprop": (torch.optim.RMSprop, {"centered": True}),
    "torch.optim.Adam": (torch.optim.Adam, {"amsgrad": True}),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppl_vae.compile.compiler.compiled", traced)


def tensors() -> dict[str, Tensor]:
    return {"matrix": nn.Parameter(normal(3, 2, seed=1)), "bias": nn.Parameter(normal(2, seed=2))}


def objective(own: dict[str, Tensor], x: Tensor) -> Tensor:
    return -(torch.tanh(x @ own["matrix"]) - own["bias"]).square().mean() * 5


@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_torch_and_weights_alone_decay(name: str, decay: float, mode: Any) -> None:
    kind, arguments = CASES[name]
    ours, theirs = tensors(), tensors()
    one = make_optimizer(ours, 0.05, name, decay, arguments)
    groups = [{"params": [theirs["matrix"]], "weight_decay": decay}, {"params": [theirs["bias"]], "weight_decay": 0.0}]
    other = kind(groups, lr=0.05, **arguments)  # type: ignore[call-arg]
    compiler = Compiler(mode, say=pytest.fail)
    for stretch in range(2):
        for optimizer in (one, other):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 / (stretch + 1)
        ascend = Ascent("it", one, compiler)
        for row in range(4):
            other.zero_grad()
            (-objective(theirs, X[row : row + 3])).backward()
            other.step()
            ascend(lambda x: objective(ours, x), X[row : row + 3])
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor, rtol=1e-12, atol=1e-12)
    whole = {"it"} if name in ("adam", "adamw") else {"the gradient of it"}
    assert compiler.graphs == (whole if mode == "on" else set())


@pytest.mark.parametrize("name", CASES)
def test_a_state_that_is_loaded_goes_on(name: str) -> None:
    """Four steps are two, a state that is written and read, and two by a new optimiser."""

    def step(own: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        ascend = Ascent("it", optimizer, Compiler("on"))
        for _ in range(2):
            ascend(lambda x: objective(own, x), X)

    whole, parts = tensors(), tensors()
    optimizer, first, second = (make_optimizer(own, 0.05, name, 0.1, CASES[name][1]) for own in (whole, parts, parts))
    step(whole, optimizer)
    step(whole, optimizer)
    step(parts, first)
    saved = {key: tensor.clone() for key, tensor in optimizer_state(first, parts).items()}
    Ascent("it", second, Compiler("on"))  # which may begin a state
    load_optimizer_state(second, parts, saved)
    step(parts, second)
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_gradient_in_parts_is_that_of_the_batch(name: str, mode: Any) -> None:
    runs = []
    for num_parts in (1, 3, 100):  # parts of 3, 3 and 2 rows; of one row each
        own = tensors()
        ascend = Ascent("it", make_optimizer(own, 0.05, name), Compiler(mode), num_parts=num_parts, clip_norm=1.0)
        values = [ascend(lambda x, own=own: objective(own, x), X) for _ in range(4)]
        runs.append((*own.values(), torch.stack(values)))
    for run in runs[1:]:
        for a, b in zip(runs[0], run, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


BAD = {
    "adamm": "did you mean 'adam'?",
    "torch.optim.Adaam": "cannot be imported: AttributeError",
    "no.such.Module": "cannot be imported: ModuleNotFoundError",
    "torch.optim.lr_scheduler": "is no optimiser",
    "torch.optim.LBFGS": "needs more than a gradient",
    "torch.optim.SparseAdam": "needs more than a gradient",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_optimiser_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=BAD[name].replace("?", r"\?")):
        optimizer_class(name)
    with pytest.raises(InputError):
        TrainingOptions(optimizer=name).check()
