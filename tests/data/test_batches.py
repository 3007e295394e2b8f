from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from ppl_vae.data import Batches, load_dataset, sizes, subset
from ppl_vae.errors import InputError

N = 23


def toy() -> dict[str, np.ndarray]:
    return {
        "x": np.arange(2 * N, dtype=np.float64).reshape(N, 2),
        "y": np.arange(N, dtype=np.int32),
        "is_seen": np.arange(N) % 2 == 0,
    }


@pytest.mark.parametrize("batch_size", [1, 4, 22, 23, 100])
def test_every_datum_occurs_once(batch_size: int) -> None:
    batches = Batches(toy(), ["x", "y"], batch_size)
    for epoch in (batches.in_order(), batches.shuffled(0)):
        tuples = list(epoch)
        assert len(tuples) == len(batches) == -(-N // batch_size)
        assert all(len(x) == len(y) == batch_size for x, y in tuples[:-1])
        x, y = (torch.cat(column) for column in zip(*tuples, strict=True))
        assert sorted(y.tolist()) == list(range(N))
        # Arrays stay row by row together.
        assert torch.equal(x[:, 0], 2.0 * y)
        assert torch.equal(x[:, 1], 2.0 * y + 1)
    assert batches.num_data == N


@pytest.mark.parametrize("batch_size", [1, 4, 22, 23, 24, 100])
def test_batches_are_counted_by_their_number_of_rows(batch_size: int) -> None:
    batches = Batches(toy(), ["x"], batch_size)
    counted = Counter(len(x) for (x,) in batches.shuffled(0))
    assert batches.sizes() == sizes(N, batch_size) == counted
    assert Batches(toy(), ["x"], 7).sizes(batch_size) == counted
    assert sum(rows * times for rows, times in counted.items()) == N


def test_rows_in_order_are_in_order() -> None:
    (y,) = zip(*Batches(toy(), ["y"], 5).in_order(), strict=True)
    assert torch.cat(y).tolist() == list(range(N))


def test_tuple_follows_names_and_dtypes() -> None:
    is_seen, x = next(Batches(toy(), ["is_seen", "x"], 4, dtype=torch.float64).in_order())
    assert (is_seen.dtype, x.dtype) == (torch.bool, torch.float64)
    x, y = next(Batches(toy(), ("x", "y"), 4).in_order())
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def order(batches: Batches, seed: int) -> list[int]:
    return torch.cat([y for (y,) in batches.shuffled(seed)]).tolist()


def test_the_seed_alone_decides_the_order() -> None:
    batches = Batches(toy(), ["y"], 5)
    first = order(batches, 1)
    torch.manual_seed(99)
    assert order(batches, 2) != first
    assert order(batches, 1) == first
    assert order(Batches(toy(), ["y"], 9), 1) == first
    assert first != sorted(first)


def test_interleaved_epochs_do_not_disturb_each_other() -> None:
    batches = Batches({"x": np.full((N, 8), 0.5)}, ["x"], 5, dynamic=["x"])
    alone = [x for (x,) in batches.shuffled(1)]
    pairs = zip(batches.shuffled(1), batches.shuffled(2), strict=True)
    assert all(torch.equal(x, want) for ((x,), _), want in zip(pairs, alone, strict=True))


def test_global_random_state_is_untouched() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    state, numpy_draw = torch.get_rng_state(), np.random.RandomState(0).random()
    batches = Batches({"x": np.full((N, 8), 0.5)}, ["x"], 5, dynamic=["x"])
    for epoch in (batches.shuffled(3), batches.in_order()):
        for _ in epoch:
            pass
    subset(toy(), 3, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.random() == numpy_draw


def test_dynamic_arrays_are_drawn_anew_with_mean_x() -> None:
    grey = np.random.default_rng(0).random((500, 16)).astype(np.float32)
    batches = Batches({"x": grey, "row": np.arange(500)}, ["x", "row"], 64, dynamic=["x"])
    num_epochs = 100
    total = torch.zeros(500, 16)
    for seed in range(num_epochs):
        for x, row in batches.shuffled(seed):
            assert set(x.unique().tolist()) <= {0, 1}
            total[row] += x
    grey_tensor = torch.from_numpy(grey)
    error = (grey_tensor * (1 - grey_tensor) / num_epochs).sqrt()
    z = (total / num_epochs - grey_tensor) / error.clamp_min(0.02)
    assert z.abs().max() < 6
    assert z.mean().abs() < 4 / z.numel() ** 0.5
    # New draws every epoch: the mean over epochs is no bit.
    assert z.std() == pytest.approx(1, abs=0.1)


def test_dynamic_draws_depend_on_the_seed_alone() -> None:
    batches = Batches({"x": np.full((N, 8), 0.5)}, ["x"], 5, dynamic=["x"])
    first, again, other = ([x for (x,) in batches.shuffled(seed)] for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    in_order = [torch.cat([x for (x,) in batches.in_order(*seed)]) for seed in ((), (), (5,))]
    assert torch.equal(in_order[0], in_order[1])
    assert not torch.equal(in_order[0], in_order[2])


def test_dynamic_digits_stay_grey_between_epochs() -> None:
    data = load_dataset("digits", binarize="dynamic")
    want = data.train["x"].copy()
    for (x,) in Batches(data.train, ["x"], 500, dynamic=["x"]).shuffled(0):
        assert ((x == 0) | (x == 1)).all()
    assert np.array_equal(data.train["x"], want)


def test_tensors_do_not_share_the_memory_of_arrays() -> None:
    arrays = {"x": np.zeros((N, 2), dtype=np.float32)}
    batches = Batches(arrays, ["x"], N)
    arrays["x"] += 1
    assert next(batches.in_order())[0].sum() == 0


@pytest.mark.filterwarnings("error")
def test_read_only_arrays_give_no_warning() -> None:
    x = np.zeros((N, 2), dtype=np.float32)
    x.flags.writeable = False
    assert len(Batches({"x": x}, ["x"], N)) == 1


@pytest.mark.parametrize(
    ("arrays", "options", "fact"),
    [
        (toy(), {"names": ["x", "labels"]}, "no array 'labels': known: is_seen, x, y"),
        (toy(), {"names": ["x"], "dynamic": ["z"]}, "no array 'z'"),
        (toy(), {"names": []}, "no names"),
        (toy(), {"names": ["x"], "batch_size": 0}, "batch_size is 0"),
        (toy(), {"names": ["x"], "dynamic": ["x"]}, "ranges from 0 to 45"),
        (toy(), {"names": ["y"], "dynamic": ["y"]}, "'y' has dtype int32"),
        ({"x": np.zeros(3), "y": np.zeros(4)}, {"names": ["x", "y"]}, "'x' 3, 'y' 4"),
        ({"x": np.zeros((0, 3))}, {"names": ["x"]}, "empty"),
    ],
)
def test_bad_input_is_refused(arrays: dict[str, np.ndarray], options: dict, fact: str) -> None:
    with pytest.raises(InputError) as caught:
        Batches(arrays, **{"batch_size": 4, **options})
    assert fact in str(caught.value)
    assert "\n" not in str(caught.value)


def test_subset_is_random_rows_in_order() -> None:
    rows = subset(toy(), 10, seed=0)
    assert len(set(rows["y"].tolist())) == 10
    assert (np.diff(rows["y"]) > 0).all()
    assert rows["y"].max() >= 10
    assert np.array_equal(rows["x"][:, 0], 2 * rows["y"])
    assert np.array_equal(subset(toy(), 10, seed=0)["y"], rows["y"])
    assert not np.array_equal(subset(toy(), 10, seed=1)["y"], rows["y"])


def test_all_rows_are_equally_likely_in_a_subset() -> None:
    count = sum(np.bincount(subset(toy(), 5, seed=seed)["y"], minlength=N) for seed in range(2000))
    p = 5 / N
    assert np.abs(count - 2000 * p).max() < 5 * np.sqrt(2000 * p * (1 - p))


@pytest.mark.parametrize("num_data", [None, N, N + 1])
def test_a_subset_of_all_rows(num_data: int | None) -> None:
    assert np.array_equal(subset(toy(), num_data, seed=0)["x"], toy()["x"])


@pytest.mark.parametrize("num_data", [0, -3])
def test_an_empty_subset_is_refused(num_data: int) -> None:
    with pytest.raises(InputError, match=f"num_data is {num_data}: .*{N} rows"):
        subset(toy(), num_data, seed=0)


def test_rows_are_contiguous_for_any_memory_layout_of_the_array() -> None:
    x = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    (batch,) = next(Batches({"x": x}, ("x",), 2).in_order())
    assert batch.is_contiguous()
    np.testing.assert_array_equal(batch.numpy(), x[:2])
