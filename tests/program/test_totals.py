"""New counts have the totals of data, although PyTorch's multinomial draws one total for all."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.program.simulation import simulate
from ppl_vae.program.totals import WithTotals, with_totals
from ppl_vae.uses import generate, reconstruct

OPTIONS = {"max_epochs": 1, "learning_rate": 1e-12, "precision": "64-true", "compile": "off"}


class Topics(nn.Module):
    """Documents whose words have the shares of one of two topics, with the largest total of the batch, as ProdLDA."""

    def __init__(self, dirichlet: bool = False) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([[0.0, 1, 2, 3], [3, 0, 0, 1]]).double())
        self.dirichlet = dirichlet

    def model(self, x: Tensor) -> None:
        pyro.module("topics", self)
        most = int(x.sum(-1).max())
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(logits=x.new_zeros(2)))
            shares = self.logits[c].softmax(-1)
            words = (
                dist.DirichletMultinomial(50 * shares, most, validate_args=False)
                if self.dirichlet
                else dist.Multinomial(most, shares, validate_args=False)
            )
            pyro.sample("x", words, obs=x)


@pytest.mark.parametrize("dirichlet", [False, True])
def test_new_documents_are_as_long_as_those_of_the_data(dirichlet: bool) -> None:
    random = np.random.default_rng(0)
    totals = random.integers(1, 60, 48)
    x = np.stack([random.multinomial(total, np.full(4, 0.25)) for total in totals]).astype(float)
    vi = VariationalInference(Topics(dirichlet), **OPTIONS).fit(x)
    kept = vi.template["x"].sum(-1)
    np.testing.assert_array_equal(vi.sample(20).sum(-1), np.resize(kept, 20))
    result = generate(vi, 96, x)
    np.testing.assert_array_equal(result.draws["x"].sum(-1), np.tile(totals, 2))  # before: 59 in every draw
    np.testing.assert_allclose(result.means["x"].sum(-1), np.tile(totals, 2))
    again = reconstruct(vi, x)
    np.testing.assert_array_equal(again.draws["x"].sum(-1), np.tile(totals, (5, 1)))
    np.testing.assert_allclose(again.mean["x"].sum(-1), totals)
    with vi.program_.running(seed=0):
        simulated = simulate(vi.program_, (torch.tensor(x),)).batch[0]
    np.testing.assert_array_equal(simulated.sum(-1), totals)


@pytest.mark.parametrize("kind", ["multinomial", "dirichlet"])
def test_draws_with_one_total_are_those_of_pytorch(kind: str) -> None:
    shares = torch.tensor([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]).double()
    base = dist.Multinomial(6, shares) if kind == "multinomial" else dist.DirichletMultinomial(9 * shares, 6)
    same = WithTotals(base, torch.tensor([6.0, 6.0]).double())
    torch.manual_seed(0)
    expected = base.sample((5,))
    torch.manual_seed(0)
    drawn = same.sample((5,))
    assert torch.equal(drawn, expected)
    assert torch.allclose(same.mean, base.mean)
    assert torch.equal(same.log_prob(drawn), base.log_prob(drawn))
    many = WithTotals(base, torch.tensor([2.0, 6.0]).double()).sample((20000,))
    assert set(many.sum(-1).unique(dim=0).flatten().tolist()) == {2, 6}
    assert torch.allclose(many.mean(0), torch.tensor([[2.0], [6.0]]) * shares, atol=4.5 * 1.5 / 20000**0.5)


def test_only_counts_with_a_total_change() -> None:
    normal = dist.Normal(torch.zeros(3, 4), 1.0).to_event(1)
    assert with_totals(normal, torch.zeros(3, 4)) is normal
    nested = with_totals(dist.Multinomial(5, torch.ones(2, 3, 4)).to_event(1), torch.ones(2, 3, 4))
    assert nested.batch_shape == (2,)
    assert (nested.sample().sum(-1) == 4).all()
