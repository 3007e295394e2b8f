"""Test that every array that a program names reaches the argument of its name, in whatever order they stand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError, InputWarning
from ppl_vae.program import Program, check_parts
from ppl_vae.program.arguments import array_names, taking

X, Y, W = "the x", "the y", "the w"


def by_default(x: Any, annealing_factor: Any = 1.0, y: Any = None) -> Any:
    return x, annealing_factor, y


def keyword_only(x: Any, *, scale: Any = 2, y: Any = None) -> Any:
    return x, scale, y


def by_place_only(x: Any, scale: Any = 2, y: Any = None, /) -> Any:
    return x, scale, y


def labels_first(y: Any, x: Any) -> Any:
    return x, 0, y


def other_name(data: Any, scale: Any = 2, y: Any = None) -> Any:
    return data, scale, y


def with_the_rest(x: Any, *args: Any, scale: Any = 2, y: Any = None, **kwargs: Any) -> Any:
    return x, scale, y


class Decorated:
    @config_enumerate
    def model(self, x: Any, annealing_factor: Any = 1.0, y: Any = None) -> Any:
        return x, annealing_factor, y


MODELS: dict[str, tuple[Callable[..., Any], Any]] = {
    "after a default": (by_default, 1.0),
    "keyword only": (keyword_only, 2),
    "by place only": (by_place_only, 2),
    "labels first": (labels_first, 0),
    "x of another name": (other_name, 2),
    "partial": (partial(by_default, annealing_factor=3.0), 3.0),
    "star arguments": (with_the_rest, 2),
    "under a handler": (poutine.scale(scale=0.5)(by_default), 1.0),
    "under two handlers": (config_enumerate(poutine.scale(scale=0.5)(keyword_only)), 2),
    "a method under a handler": (Decorated().model, 1.0),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_gets_every_array_that_it_names(case: str) -> None:
    model, between = MODELS[case]
    names = array_names(model, {"y": 0, "x": 0, "w": 0}, "Mine")
    assert set(names) == {"x", "y"}
    arrays = [{"x": X, "y": Y}[name] for name in names]
    assert taking(model, model, names)(*arrays) == (X, between, Y)


def star(*args: Any) -> Any:
    return args


def stars(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def only_x(x: Any) -> Any:
    return x


def swapped(y: Any, x: Any, *, scale: Any = 5) -> Any:
    return x, y, scale


def renamed(x: Any, annealing_factor: Any = 0.5, label: Any = None) -> Any:
    return x, annealing_factor, label


def rest_by_name(x: Any, **rest: Any) -> Any:
    return x, rest


GUIDES: dict[str, tuple[Callable[..., Any], Any]] = {
    "as the model": (by_default, (X, 1.0, Y)),
    "stars": (stars, ((X, 1.0, Y), {})),
    "star": (star, (X, 1.0, Y)),
    "x alone": (only_x, X),
    "another order": (swapped, (X, Y, 5)),
    "another name of the labels": (renamed, (X, 0.5, Y)),
    "the rest by name": (rest_by_name, (X, {"y": Y})),
}


@pytest.mark.parametrize("case", GUIDES)
def test_a_guide_gets_the_arrays_by_its_own_signature(case: str) -> None:
    guide, expected = GUIDES[case]
    assert taking(guide, by_default, ("x", "y"))(X, Y) == expected


def test_what_takes_the_arrays_as_they_come_is_left_as_it_is() -> None:
    for function, names in ((by_default, ("x",)), (labels_first, ("y", "x")), (other_name, ("x",))):
        assert taking(function, function, names) is function
    assert taking(only_x, by_default, ("x",)) is only_x
    assert taking(by_default, by_default, None) is by_default


def test_a_model_that_takes_anything_takes_x() -> None:
    assert array_names(stars, {"x": 0, "y": 0}, "Mine") == ("x",)
    assert taking(stars, stars, ("x",)) is stars
    assert Program(stars).argument_names == ("x",)


def test_an_argument_without_an_array_and_without_a_default_is_named() -> None:
    with pytest.raises(InputError, match=r"model\(y, x\) of Mine needs an array 'y'.*known: w, x"):
        array_names(labels_first, {"x": 0, "w": 0}, "Mine")


class Annealed(nn.Module):
    """A mixture of Gaussians whose component is the label; between x and y stands a factor with a default."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor([[-1.0, 0.0, 0.5], [1.0, 0.5, 0.0]]))
        self.logits = nn.Parameter(torch.tensor([0.3, -0.2]))

    def model(self, x: Tensor, annealing_factor: float = 1.0, y: Tensor | None = None) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=annealing_factor):
            component = pyro.sample("y", dist.Categorical(logits=self.logits), obs=y)
            pyro.sample("x", dist.Normal(self.loc[component], 1.0).to_event(1), obs=x)

    def log_joint(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        loc, logits = (p.detach().double() for p in (self.loc, self.logits))
        labels = torch.from_numpy(y).long()
        log_p = dist.Normal(loc[labels], 1.0).log_prob(torch.from_numpy(x).double()).sum(-1)
        return (log_p + logits.log_softmax(0)[labels]).numpy()


class LabelByKeyword(Annealed):
    def model(self, x: Tensor, *, annealing_factor: float = 1.0, y: Tensor | None = None) -> None:  # type: ignore[override]
        super().model(x, annealing_factor, y)


@pytest.mark.parametrize("kind", [Annealed, LabelByKeyword])
def test_the_score_is_that_of_x_and_the_labels(kind: type[Annealed]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)).astype("float32"), rng.integers(2, size=30)
    vi = VariationalInference(kind(), max_epochs=1, compile="off").fit({"x": x, "y": y})
    assert vi.arguments_ == ("x", "y")
    assert np.allclose(vi.score_samples({"x": x, "y": y}), vi.program.log_joint(x, y), atol=1e-5)
    if kind is Annealed:
        assert np.allclose(vi.score_samples(x, None, y), vi.program.log_joint(x, y), atol=1e-5)


def test_an_array_that_no_argument_takes_is_reported_once() -> None:
    x = np.zeros((20, 3), dtype="float32")
    arrays = {"x": x, "y": np.zeros(20, dtype=int), "w": x}
    vi = VariationalInference(Annealed(), max_epochs=1, compile="off")
    with pytest.warns(InputWarning) as caught:
        vi.fit(arrays)
    assert [str(warning.message) for warning in caught] == [
        "'w' of the data is left out: model(x, annealing_factor, y) of Annealed has no argument of that name"
    ]
    vi.score(arrays)


def test_a_fault_in_a_program_whose_arrays_are_passed_by_name_has_the_users_line() -> None:
    def model(x: Tensor, factor: float = 1.0, y: Tensor | None = None) -> None:
        raise ValueError("a mistake")

    x = torch.zeros(4, 3)
    names = array_names(model, ["x", "y"], "Mine")
    program = Program(model)
    with pytest.raises(InputError, match=r"test_arguments.py:\d+ `raise ValueError"):
        program.bind((x, x), arguments=names, check=check_parts)
