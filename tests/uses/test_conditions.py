"""Conditions that are vectors: a category is its one-hot vector, and a number that is none is refused."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import InputError, VariationalInference
from ppl_vae.cli.conditions import condition_rows
from ppl_vae.uses import generate, manifold


class Batched(nn.Module):
    """Data of which each laboratory, a one-hot vector, and each dose, a real vector, has its own shift."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.arange(1.0, width + 1).double()[:, None] * torch.ones(3).double())

    def model(self, x: Tensor, batch: Tensor, dose: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            loc = z.sum(-1, keepdim=True) + batch @ self.shift + 100 * dose.sum(-1, keepdim=True)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)


def fit(width: int) -> VariationalInference:
    random = np.random.default_rng(0)
    batch = np.eye(width)[np.arange(12) % width]
    arrays = random.normal(size=(12, 3)), batch, random.normal(size=(12, 2))
    options = {"max_epochs": 1, "learning_rate": 1e-9, "precision": "64-true", "compile": "off"}
    return VariationalInference(Batched(width), **options).fit(*arrays)


@pytest.fixture(scope="module")
def two() -> VariationalInference:
    return fit(2)


def shift_of(vi: VariationalInference, num_data: int = 4, **conditions: object) -> np.ndarray:
    """Return what the laboratory adds to each of some data."""
    drawn = generate(vi, num_data, dose=np.zeros(2), **conditions)
    return (drawn.means["x"] - drawn.latents["z"].sum(-1, keepdims=True))[:, 0].round(6)


@pytest.mark.parametrize(
    ("batch", "shift"),
    [
        (0, [1] * 4),
        (1, [2] * 4),  # [1, 1], and so 3, is no laboratory
        (1.0, [2] * 4),
        ([0, 1], [2] * 4),
        ([0, 1, 1, 0], [1, 2, 2, 1]),
        (np.eye(2)[[0, 1, 1, 0]], [1, 2, 2, 1]),
        ([[0, 1]], [2] * 4),
    ],
)
def test_a_category_is_its_one_hot_vector(two: VariationalInference, batch: object, shift: list[float]) -> None:
    np.testing.assert_allclose(shift_of(two, batch=batch), shift)


def test_the_manifold_of_a_category_is_that_of_its_vector(two: VariationalInference) -> None:
    one, other = (manifold(two, num_steps=2, dose=np.zeros(2), batch=batch).means["x"] for batch in (1, [0, 1]))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one.mean(), 2)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"batch": 2}, "one of the whole numbers from 0 to 1, or its one-hot vector of width 2"),
        ({"batch": -1}, "from 0 to 1"),
        ({"batch": 0.5}, "from 0 to 1"),
        ({"batch": [[1], [0], [1], [0]]}, r"expected \(4, 2\)"),
        ({"dose": 1}, r"shape \(\): expected \(4, 2\), or the 2 numbers of one datum, shape \(2,\), for all"),
        ({"dose": [1, 2, 3, 4]}, r"expected \(4, 2\), or the 2 numbers"),
        ({"z": 1}, r"expected \(4, 2\), or the 2 numbers"),
    ],
)
def test_a_number_that_is_no_category_is_refused(two: VariationalInference, conditions: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(two, 4, **conditions)


def test_a_vector_that_could_be_categories_is_refused(two: VariationalInference) -> None:
    with pytest.raises(InputError, match=r"one vector for all draws, or a category for each\? .* shape \(2, 2\)"):
        generate(two, 2, batch=[0, 1])
    np.testing.assert_allclose(shift_of(two, 2, batch=[1, 1]), [2, 2])  # no vector of one laboratory


def test_all_categories_of_the_command_line() -> None:
    vi = fit(3)
    data = type("Data", (), {"train": {"batch": np.eye(3)[np.arange(12) % 3], "dose": np.ones((12, 2))}})()
    rows = condition_rows(vi, data, {"batch": "all"})
    assert rows == [{"batch": 0}, {"batch": 1}, {"batch": 2}]
    assert [shift_of(vi, 1, **row).tolist() for row in rows] == [[1], [2], [3]]
    assert condition_rows(vi, data, {"batch": "2,0"}) == [{"batch": 2}, {"batch": 0}]
    with pytest.raises(InputError, match=r"--dose all: its rows, of shape \(2,\), are no one-hot vectors"):
        condition_rows(vi, data, {"dose": "all"})
