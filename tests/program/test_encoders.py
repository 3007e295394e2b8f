"""Noise on the input of a guide: which numbers it changes, and what never sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_vae import VariationalInference
from ppl_vae.errors import InputError
from ppl_vae.inference import AmortizedOptions, amortized_steps
from ppl_vae.models.conv_vae import ConvVAE
from ppl_vae.models.flow_prior_vae import FlowPriorVAE
from ppl_vae.models.resnet_vae import ResNetVAE
from ppl_vae.models.vae import VAE
from ppl_vae.program import Program, seeded, with_encoder_noise
from tests.helpers.scenarios import bits, normal

X = normal(2000, 3)
SEEN: dict[str, Tensor] = {}


def model(x: Tensor) -> None:
    SEEN["model"] = x
    scale = pyro.param("scale", torch.ones((), dtype=torch.double), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, scale).to_event(1), obs=x)


def guide(x: Tensor) -> None:
    SEEN["guide"] = x
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.7).to_event(1))


def test_the_guide_sees_some_numbers_of_the_datum_before_and_the_model_sees_none() -> None:
    program = Program(model, guide).bind((X[:3],))
    with seeded(0):
        list(amortized_steps(program, [(X,)], torch.optim.Adam(program.parameters().values()), noisy(0.2)))
    assert torch.equal(SEEN["model"], X)
    changed = SEEN["guide"] != X
    assert torch.equal(SEEN["guide"][changed], X.roll(1, 0)[changed])
    assert changed.double().mean().item() == pytest.approx(0.2, abs=5 * (0.2 * 0.8 / X.numel()) ** 0.5)
    program.log_weights((X,))
    assert torch.equal(SEEN["guide"], X)


def noisy(share: float) -> AmortizedOptions:
    return AmortizedOptions(encoder_noise=share)


def test_both_runs_of_the_importance_weighted_bound_have_the_same_noise() -> None:
    seen = list[Tensor]()

    def watched(x: Tensor) -> None:
        seen.append(x)
        guide(x)

    program = Program(model, watched).bind((X[:3],))
    options = AmortizedOptions(encoder_noise=0.5, bound="iwae", num_particles=2)
    seen.clear()
    with seeded(0):
        list(amortized_steps(program, [(X,)], torch.optim.Adam(program.parameters().values()), options))
    assert len(seen) == 2
    assert torch.equal(*seen)
    assert not torch.equal(seen[0], X)


@pytest.mark.parametrize("make", [VAE, FlowPriorVAE, ConvVAE, ResNetVAE])
def test_dropout_is_in_the_encoder_and_in_training_alone(make: Callable[..., Any]) -> None:
    x = bits(9, 64)
    with seeded(0):
        module = make(encoder_dropout=0.5).double()
    program = Program(module).bind((x,))
    means: dict[bool, list[Tensor]] = {True: [], False: []}
    for training, seed in ((True, 0), (True, 1), (False, 0), (False, 1)):
        with program.running(seed=seed, training=training), torch.no_grad():
            traces = program.traces((x,), 1)
            means[training].append(traces.guide.nodes["z"]["fn"].base_dist.loc)
            z = traces.guide.nodes["z"]["value"]
            assert torch.equal(*(module.decoder(z) for _ in range(2)))
    assert not torch.equal(*means[True])
    assert torch.equal(*means[False])


def test_a_guide_with_dropout_is_refused_by_the_importance_weighted_bound() -> None:
    x = bits(40, 6).float().numpy()
    options = {"max_epochs": 1, "validation_fraction": 0}
    dropping = VAE(data_dim=6, latent_dim=2, encoder_dropout=0.5)
    VariationalInference(dropping, **options).fit(x)
    with pytest.raises(InputError, match="it draws more than its latents, as dropout does"):
        VariationalInference(dropping, bound="iwae", num_particles=2, **options).fit(x)


def test_a_program_without_a_guide_is_refused() -> None:
    def alone(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=x)

    with pytest.raises(InputError, match="no guide whose input could be noisy"):
        with_encoder_noise(Program(alone).bind((X[:3],)), X, 0.1)
