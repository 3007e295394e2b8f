"""Parameters are used only with what they were fitted to: a checkpoint that was changed or is another's is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ppl_vae import InputError, VariationalInference
from ppl_vae.runs import read_checkpoint, read_tables, write_checkpoint, write_tables
from tests.helpers.messages import refusal

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")


class Two(nn.Module):
    """A program whose prior, likelihood and latents can change while its parameters stay."""

    def __init__(self, prior: Any = dist.Normal, likelihood: Any = dist.Normal, size: int = 2) -> None:
        super().__init__()
        self.prior, self.likelihood = prior, likelihood
        self.encoder, self.decoder = nn.Linear(3, 2 * size), nn.Linear(size, 3)

    def model(self, x: torch.Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior(x.new_zeros(self.decoder.in_features), 1.0).to_event(1))
            pyro.sample("x", self.likelihood(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x: torch.Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, raw = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


class Other(Two):
    """The same program under another name."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fitted") / "c.safetensors"
    VariationalInference(Two(), max_epochs=2).fit(X).save_checkpoint(path)
    return path


def test_no_bit_of_a_checkpoint_can_be_flipped(checkpoint: Path, tmp_path: Path) -> None:
    content, path = checkpoint.read_bytes(), tmp_path / "c.safetensors"
    places = np.random.default_rng(1).integers(0, 8 * len(content), size=400)
    for place in [*range(8), *places.tolist()]:
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert "fit the run anew" in refusal(read_checkpoint, path)
    path.write_bytes(content)
    read_checkpoint(path)


def test_no_bit_of_a_table_can_be_flipped(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with write_tables(path, 1, {"train": np.random.default_rng(0).normal(size=(4, 3))}) as digests:
        path.write_bytes(b"")
    table = tmp_path / "c.lambda-train-1.npy"
    content = table.read_bytes()
    for place in range(0, 8 * len(content), 5):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        table.write_bytes(flipped)
        try:
            rows = read_tables(path, 1, ["train"], digests)["train"]
        except InputError:
            continue
        np.testing.assert_array_equal(rows, np.random.default_rng(0).normal(size=(4, 3)))  # a space of the header


NUMBERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no row": lambda n: n.pop("row"),
    "no program": lambda n: n.pop("program"),
    "no seconds": lambda n: n.pop("train_seconds"),
    "a row of text": lambda n: n.update(row="3"),
    "a row that lacks its epoch": lambda n: n["row"].pop("epoch"),
    "a row with more": lambda n: n["row"].update(loss=1.0),
    "an epoch in words": lambda n: n["row"].update(epoch="two"),
    "half an epoch": lambda n: n["row"].update(epoch=1.5),
    "a best epoch that is to come": lambda n: n["row"].update(best_epoch=7),
    "a bound that is a list": lambda n: n.update(best_elbo=[1]),
    "seconds below zero": lambda n: n.update(train_seconds=-1.0),
    "seconds that are true": lambda n: n.update(train_seconds=True),
    "another program": lambda n: n.update(program="Three"),
    "a program that is a number": lambda n: n.update(program=3),
    "other sites": lambda n: n["sites"].update({"model z": "latent Laplace (2,)"}),
    "one more site": lambda n: n["sites"].update({"model w": "latent Normal (2,)"}),
}


@pytest.mark.parametrize("fault", NUMBERS)
def test_numbers_that_cannot_be_are_refused(fault: str, checkpoint: Path, tmp_path: Path) -> None:
    tensors, numbers = read_checkpoint(checkpoint)
    numbers = json.loads(json.dumps(numbers))
    NUMBERS[fault](numbers)
    write_checkpoint(tmp_path / "c.safetensors", tensors, numbers)
    refusal(VariationalInference(Two()).load_parameters, tmp_path / "c.safetensors")
    with pytest.raises(InputError):
        VariationalInference(Two()).prepare({"x": X}, resume=tmp_path / "c.safetensors")


@pytest.mark.parametrize("numbers", ["", "[1]", "{", "null", '{"row": null}', "[" * 100_000])
def test_numbers_that_are_no_mapping_are_refused(numbers: str, checkpoint: Path, tmp_path: Path) -> None:
    """A file of the format without a digest, as a stranger may write it."""
    path = tmp_path / "c.safetensors"
    save_file(read_checkpoint(checkpoint)[0], path, metadata={"format": "1", "numbers": numbers})
    refusal(VariationalInference(Two()).load_parameters, path)


def test_a_checkpoint_of_another_program_is_refused(checkpoint: Path) -> None:
    """The parameters have the same names and shapes; what they mean is another thing."""
    assert VariationalInference(Two()).load_parameters(checkpoint).program_.name == "Two"
    for program, part in {
        Two(prior=dist.Laplace): "its site 'model z' was latent Normal (2,) at the fit, and is latent Laplace (2,)",
        Two(likelihood=dist.Laplace): "its site 'model x' was observed Normal (3,) at the fit",
        Other(): "it was written for 'Two'; name its own program",
        Two(size=3): "belong to another model than Two",
    }.items():
        assert part in refusal(VariationalInference(program).load_parameters, checkpoint)
