"""The encoder trained on the data that are evaluated: the model stays, and the bound reaches the evidence."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from ppl_vae import InputError, VariationalInference
from ppl_vae.evaluation.refit import refit_encoder
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vamp_vae import VampVAE
from ppl_vae.program import Program, encoder_parameters
from tests.helpers.scenarios import Conjugate, bits, normal

X = 1.5**0.5 * normal(400).numpy()


class Scaled(Conjugate):
    """The same with a parameter of the model, which a fit would move."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def model(self, x: Tensor) -> None:
        pyro.module("model", torch.nn.ParameterList([self.factor]))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(self.factor * z, 0.5**0.5), obs=x)


def test_the_bound_reaches_the_evidence_of_the_same_model() -> None:
    """The family of the guide has the posterior, so that the ELBO can be the evidence."""
    vi = VariationalInference(Scaled().double(), max_epochs=1, learning_rate=1e-12, validation_fraction=0).fit(X)
    before = {name: tensor.clone() for name, tensor in vi.program_.state().items()}
    first = vi.evaluate(X, num_samples=200).rows["elbo"]
    refit_encoder(vi.fitted, {"x": X}, num_epochs=12, learning_rate=0.1)
    after, last = vi.program_.state(), vi.evaluate(X, num_samples=200).rows["elbo"]
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved == {"module.encoder.weight", "module.encoder.bias"}
    evidence = Scaled().double().log_evidence(torch.from_numpy(X)).mean().item()
    assert first.log_evidence < evidence - 0.05
    assert last.log_evidence == pytest.approx(evidence, abs=0.01)


def test_what_cannot_be_refitted_is_refused() -> None:
    x = bits(8, 6)
    with pytest.raises(InputError, match="no parameter that its model does not use"):
        encoder_parameters(Program(VampVAE(data_dim=6, latent_dim=2).double()).bind((x,)))
    vi = VariationalInference(FactorAnalysis(data_dim=6), guide="per-sample", max_epochs=1, validation_fraction=0)
    with pytest.raises(InputError, match="no encoder to refit"):
        refit_encoder(vi.fit(normal(20, 6).float().numpy()).fitted, {"x": x.float().numpy()}, 1)
