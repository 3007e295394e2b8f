"""Networks that no model uses: the encoder for data of any shape, and its convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ppl_vae.inference import derive_encoder
from ppl_vae.networks import DataEncoder, convolutions
from ppl_vae.program import Program, seeded
from tests.helpers.scenarios import Pictures, Rates, Walks, normal


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (1, 9, 31), (2, 7, 30), (1, 15, 16)])
def test_convolutions_have_the_stated_number_of_features(shape: tuple[int, ...]) -> None:
    network, features = convolutions(shape, channels=4)
    assert network(torch.zeros(5, *shape)).shape == (5, features)
    sizes = [layer.out_channels for layer in network if isinstance(layer, nn.Conv2d)]
    assert sizes == [4 * 2**i for i in range(len(sizes))]
    sides = min(shape[1:]) // 2 ** len(sizes)
    assert sides < 8 <= 2 * sides + 1 or not sizes


def trained(encoder: DataEncoder) -> DataEncoder:
    """Return an encoder as after training, with a last layer that is not zero."""
    with torch.no_grad(), seeded(1):
        nn.init.normal_(encoder.net[-1].weight, std=0.1)  # type: ignore[arg-type]
    return encoder.double()


@pytest.mark.parametrize(
    "shapes", [[(6,)], [()], [(2, 3), ()], [(8, 9)], [(3,), (2, 8, 8)], [(), (10, 10), (4, 4)], [(2, 2, 8, 8)]]
)
def test_an_encoder_accepts_arrays_of_any_shape(shapes: list[tuple[int, ...]]) -> None:
    """At first every datum is mapped to the origin; later its output does not depend on the rest of the batch."""
    origin = normal(7).float()
    encoder = DataEncoder(shapes, origin, hidden=(64,))
    arrays = [normal(4, *shape, seed=i) for i, shape in enumerate(shapes)]
    assert torch.equal(encoder(*arrays), origin.expand(4, 7))
    encoder = trained(encoder)
    numbers = encoder(*arrays)
    assert len(numbers.unique(dim=0)) == 4
    torch.testing.assert_close(encoder(*(array[2:3] for array in arrays)), numbers[2:3])
    assert (encoder.image is not None) == any(len(s) in (2, 3) and min(s[-2:]) >= 8 for s in shapes)


def test_every_array_counts() -> None:
    encoder = trained(DataEncoder([(3,), (1, 8, 8), ()], torch.zeros(2)))
    arrays = [normal(2, 3).requires_grad_(), normal(2, 1, 8, 8).requires_grad_(), normal(2).requires_grad_()]
    for gradient in torch.autograd.grad(encoder(*arrays).sum(), arrays):
        assert (gradient != 0).reshape(2, -1).any(1).all()


def test_inputs_are_standardised_and_clipped() -> None:
    """A constant is only shifted; a missing number becomes the mean; outliers are clipped at five deviations."""
    encoder = trained(DataEncoder([(3,)], torch.zeros(2)))
    plain = trained(DataEncoder([(3,)], torch.zeros(2)))
    plain.load_state_dict(encoder.state_dict())
    mean, scale = torch.tensor([2.0, -1.0, 7.0]).double(), torch.tensor([4.0, 0.5, 0.0]).double()
    encoder.standardise(mean, scale)
    x = torch.tensor([[4.0, -1.5, 7.5], [2.0, -1.0, 7.0], [2.0, 9.0, 7.0], [torch.nan, -1.0, 7.0]]).double()
    seen = torch.tensor([[0.5, -1.0, 0.5], [0, 0, 0], [0, 5, 0], [0, 0, 0]]).double()
    torch.testing.assert_close(encoder(x), plain(seen))


def test_a_derived_encoder_is_standardised_by_the_training_data() -> None:
    """Numbers between 0 and 1, such as pixels, are an exception; integers and Booleans count as numbers."""
    x = 30 + 5 * normal(50).numpy()
    encoder = derive_encoder(Program(Rates()).bind((torch.ones(3),)), (torch.ones(3),), arrays=[x]).module["encoder"]
    assert encoder.loc.item() == pytest.approx(x.mean())
    assert encoder.scale.item() == pytest.approx(x.std())

    lengths = np.arange(50) % 4 + 1
    x = normal(50, 4).numpy()
    x[3, 2] = np.nan
    walks = (torch.zeros(3, 4), torch.tensor([1, 2, 4]))
    encoder = derive_encoder(Program(Walks()).bind(walks), walks, arrays=[x, lengths]).module["encoder"]
    np.testing.assert_allclose(encoder.loc, [*np.nanmean(x, 0), lengths.mean()], rtol=1e-6)
    np.testing.assert_allclose(encoder.scale, [*np.nanstd(x, 0), lengths.std()], rtol=1e-6)

    pixels = np.random.default_rng(0).uniform(size=(50, 1, 8, 8))
    pictures = (torch.zeros(3, 1, 8, 8),)
    encoder = derive_encoder(Program(Pictures()).bind(pictures), pictures, arrays=[pixels]).module["encoder"]
    assert encoder.image == 0
    assert (encoder.loc == 0).all()
    assert (encoder.scale == 1).all()


@pytest.mark.parametrize("family", ["diagonal", "full", "flow"])
def test_a_derived_guide_is_the_prior_before_it_is_trained(family: str) -> None:
    """Then its weights are p(x | z) at its draws, and their mean is p(x)."""
    with seeded(0):
        module, counts = Rates().double(), (torch.ones(3).double(),)
        program = derive_encoder(Program(module).bind(counts), counts, family)  # type: ignore[arg-type]
    x = torch.tensor([0.0, 1.0, 4.0]).double()
    with torch.no_grad():
        with seeded(1):
            log_weights = program.log_weights((x,), 4000)
        with seeded(1):
            rates = program.posterior((x,), 4000).latents["rate"]
        expected = module.closed_form(x).exp()
    torch.testing.assert_close(log_weights, torch.distributions.Poisson(rates).log_prob(x))
    weights = log_weights.exp()
    assert ((weights.mean(0) - expected).abs() < 4 * weights.std(0) / 4000**0.5).all()
