"""Numbers keep their values on the way from a file or an array to a batch, or are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]
from torch import nn

from ppl_vae import VariationalInference
from ppl_vae.data import Batches, as_condition, check_precision, load_dataset
from ppl_vae.data.precision import to_native, to_tensor
from ppl_vae.uses import impute
from tests.helpers.messages import refusal

FAR = 1e9
RANDOM = np.random.default_rng(0)


class Far(nn.Module):
    """A Gaussian near 1e9, whose mean is a number of Python."""

    def __init__(self, loc: float = FAR) -> None:
        super().__init__()
        self.raw, self.loc = nn.Parameter(torch.zeros(())), loc

    def model(self, x: torch.Tensor) -> None:
        pyro.module("far", self)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.loc, self.raw.exp()).expand([x.shape[1]]).to_event(1), obs=x)

    def guide(self, x: torch.Tensor) -> None: ...


def fitted(precision: str, loc: float = FAR) -> VariationalInference:
    return VariationalInference(
        Far(loc), precision=precision, max_epochs=1, learning_rate=1e-9, compile="off", num_samples=2
    )


def test_real_numbers_far_from_zero_have_the_right_evidence(tmp_path: Path) -> None:
    """In single precision all 1600 of them are one number."""
    x = FAR + RANDOM.normal(size=(2000, 1))
    assert len(np.unique(x.astype(np.float32))) == 1
    np.save(tmp_path / "far.npy", x)
    (tmp_path / "far.csv").write_text("a\n" + "".join(f"{row[0]!r}\n" for row in x.tolist()))
    for suffix in ("npy", "csv"):
        data = load_dataset(tmp_path / f"far.{suffix}")
        vi = fitted("64-true").fit(data.train, validation=data.valid)
        wanted = stats.norm.logpdf(data.test["x"], FAR, vi.program.raw.exp().item()).mean()
        assert vi.score(data.test) == pytest.approx(wanted, abs=1e-9)
        message = refusal(fitted("32-true").fit, data.train)
        assert message.startswith("array 'x', column 0 has ")
        assert "which single precision rounds to 1000000000.0: take --precision 64-true" in message


def test_counts_are_exact_or_refused() -> None:
    for values, dtype, fine in [
        (2**24 + np.arange(4) * 2, "32-true", True),
        (2**24 + np.arange(4), "32-true", False),
        (2**24 + np.arange(4), "64-true", True),
        (2**53 + np.arange(4) * 2, "64-true", True),
        (2**53 + np.arange(4), "64-true", False),
    ]:
        real = torch.float32 if dtype == "32-true" else torch.float64
        x = np.resize(values, (20, 1))
        if fine:
            (batch,) = next(Batches({"x": x}, ["x"], 20, dtype=real).in_order())
            assert [int(value) for value in batch[:, 0].tolist()] == x[:, 0].tolist()
            fitted(dtype, float(values[0])).fit(x)
        else:
            message = refusal(fitted(dtype, float(values[0])).fit, x)
            assert any(f"column 0 has the whole number {value}, which" in message for value in values[1::2])
            assert "--precision 64-true" in message


def test_whole_numbers_in_a_table_of_real_numbers_are_exact_or_refused() -> None:
    x = np.stack([np.arange(20) + 2.0**24, RANDOM.normal(size=20)], 1)
    assert "array 'x', column 0 has 167772" in refusal(check_precision, {"x": x}, ["x"], torch.float32)
    check_precision({"x": x}, ["x"], torch.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "column",
    [
        RANDOM.normal(size=50),
        1e4 + RANDOM.normal(size=50),  # rounded by a two-thousandth of the deviation
        np.full(50, 0.1),
        np.full(50, 0.1) + np.resize([0, 1e-17], 50),  # a constant that was computed in two ways
        RANDOM.random(50) * 1e-30,
    ],
)
def test_rounding_that_does_not_matter_is_accepted(column: np.ndarray, dtype: type) -> None:
    check_precision({"x": column.astype(dtype)}, ["x"], torch.float32)


def test_the_steps_of_an_axis_of_size_one_are_those_of_pytorch() -> None:
    x = np.arange(2 * 8 * 8.0).reshape(2, 8, 8)
    for given in (x[:, None], np.moveaxis(x[..., None], -1, 1), x.reshape(2, 1, 8, 8), x[:, None][:, :, ::-1]):
        tensor = to_tensor("x", given, torch.float64, "cpu")
        assert tensor.stride() == torch.zeros(2, 1, 8, 8).stride()  # (64, 1, 8, 1) would be channels last
        np.testing.assert_array_equal(tensor, given)


def test_the_place_in_an_image_is_named() -> None:
    x = np.where(np.arange(12).reshape(3, 2, 2) == 11, 1e300, 0.0)
    assert "column 1 1 has 1e+300, which single precision cannot hold" in refusal(
        Batches, {"x": x}, ["x"], batch_size=2
    )


def test_labels_and_masks_are_no_real_numbers() -> None:
    arrays = {"x": np.zeros((3, 2), bool), "y": np.array([2**40, 1, 0]), "m": np.ones(3, bool)}
    dtypes = [t.dtype for t in next(Batches(arrays, ["x", "y", "m"], 3).in_order())]
    assert dtypes == [torch.float32, torch.int64, torch.bool]
    assert "18446744073709551615 in row 0" in refusal(to_native, "'y'", np.array([2**64 - 1], np.uint64))


def test_a_first_argument_of_another_name_is_real_too() -> None:
    """The command line and Python used to differ: whole numbers of a file stayed whole in training."""

    def model(counts: torch.Tensor) -> None:
        rate = pyro.param("rate", torch.ones(()), constraint=dist.constraints.positive)
        assert counts.is_floating_point()
        with pyro.plate("data", len(counts)):
            pyro.sample("counts", dist.Poisson(rate), obs=counts)

    counts = np.arange(20)
    vi = VariationalInference((model, lambda counts: None), max_epochs=1, compile="off", num_samples=2)
    vi.prepare({"counts": counts})
    assert np.isfinite(vi.fit(counts).score(counts))


def test_conditions_are_exact_or_refused() -> None:
    like = torch.zeros(2)
    assert as_condition("t", 2**24, like, 2).tolist() == [2**24, 2**24]
    assert "16777217" in refusal(as_condition, "t", 2**24 + 1, like, 2)
    assert "expected 0 or 1" in refusal(as_condition, "t", 2, torch.tensor([True]), 2)
    assert "1e+30" in refusal(as_condition, "t", 1e30, torch.tensor([1]), 2)


def test_completed_data_keep_what_was_seen() -> None:
    x = RANDOM.normal(size=(20, 2))
    vi = fitted("32-true", 0.0).fit(x)
    holes = np.where([[True, False]], x, np.nan)
    completed = impute(vi, holes, num_samples=4, num_draws=1).completed["x"]
    assert np.array_equal(completed[:, 0], x[:, 0])
    assert np.isfinite(completed).all()
