"""Test that a data plate has the size of the batch, in whatever form its author writes it."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError
from ppl_vae.program import BoundProgram, Program, check, seeded
from tests.helpers.scenarios import normal

TOTAL = 10

PLATES: dict[str, Callable[[Tensor], pyro.plate]] = {
    "length": lambda x: pyro.plate("data", len(x)),
    "no size": lambda x: pyro.plate("data"),
    "subsample size": lambda x: pyro.plate("data", TOTAL, subsample_size=len(x)),
    "subsample": lambda x: pyro.plate("data", TOTAL, subsample=torch.arange(len(x))),
    "named arguments": lambda x: pyro.plate(name="data", size=TOTAL, subsample_size=len(x), dim=-1),
}


class Plated(nn.Module):
    """A program with a decoder that mixes leading dimensions if it normalises over the batch."""

    def __init__(self, plate: Callable[[Tensor], pyro.plate], normalised: bool) -> None:
        super().__init__()
        self.plate = plate
        self.decoder = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4) if normalised else nn.Tanh(), nn.Linear(4, 3))
        self.encoder = nn.Linear(3, 4)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with self.plate(x):
            with pyro.poutine.scale(scale=0.5):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        loc, scale = self.encoder(x).chunk(2, -1)
        with self.plate(x), pyro.poutine.scale(scale=0.5):
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


def bound(form: str, normalised: bool, rows: int) -> BoundProgram:
    with seeded(0):
        return check(Program(Plated(PLATES[form], normalised).double().eval()), (normal(rows, 3),))


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("form", PLATES)
def test_densities_are_those_of_a_plate_of_the_length_of_the_batch(form: str, normalised: bool) -> None:
    program, plain = bound(form, normalised, 6), bound("length", normalised, 6)
    assert program.structure == plain.structure._replace(program="Plated")
    assert program.structure.draws_by == ("repeat" if normalised else "plate")
    for rows in (6, 1, TOTAL, TOTAL + 7):  # also more than all data
        x = normal(rows, 3)
        for tempered in (False, True):
            weights = []
            for one in (program, plain):
                with one.running(seed=1, training=False):
                    weights.append(one.weighted_draws((x,), 3, tempered=tempered).log_weight)
            assert weights[0].shape == (3, rows)
            torch.testing.assert_close(*weights)


@pytest.mark.parametrize("form", ["no size", "subsample size"])
@pytest.mark.parametrize("guide", ["amortized", "per-sample"])
def test_a_fit_has_the_numbers_of_a_plate_of_the_length_of_the_batch(form: str, guide: str) -> None:
    x, scores = normal(12, 3).float().numpy(), []
    for plate in (PLATES[form], PLATES["length"]):
        with seeded(0):
            program = Plated(plate, normalised=False)
        vi = VariationalInference(program, guide=guide, max_epochs=2, local_steps=2, inference_steps=5, compile="off")
        vi.set_params(num_samples=20).fit(x)
        scores.append(vi.score(x))
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


def test_a_latent_of_a_plate_without_a_size_is_drawn_for_every_datum() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", dim=-2), pyro.plate("columns"):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([1, 3]))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    x = normal(7, 3)
    program = Program(model).bind((x,))
    assert program.structure.data_plate == "data"
    assert program.prior((x,), 5).latents["z"].shape == (5, 7, 3)
    weights = program.log_prior_weights((x,), 4)
    assert weights.shape == (4, 7)


def test_latents_that_all_data_share_count_once_beside_a_plate_with_a_total() -> None:
    class Shared(nn.Module):
        def __init__(self, plate: Callable[[Tensor], pyro.plate]) -> None:
            super().__init__()
            self.plate = plate

        def model(self, x: Tensor) -> None:
            w = pyro.sample("w", dist.Normal(x.new_zeros(()), 10.0))
            with self.plate(x):
                z = pyro.sample("z", dist.Normal(w, 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    x, shared = normal(6), []
    for form in PLATES:
        program = Program(Shared(PLATES[form])).bind((x,), num_data=6)
        assert program.global_posterior is not None
        assert program.structure.latents == ("z",)
        with program.running(seed=0), torch.no_grad():
            shared.append(float(program.log_prior_weights((x,), 3).sum()))
    assert len(set(shared)) == 1


def test_a_model_that_chooses_rows_itself_is_told_to_leave_that_to_the_batches() -> None:
    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.zeros(3))
        with pyro.plate("data", len(x), subsample_size=2) as rows:
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x[rows])

    with pytest.raises(InputError, match=r"plate 'data' takes 2 of the 7 rows .*: remove subsample_size"):
        check(Program(model), (normal(9, 3),))
