"""Test that a site with an ``obs_mask`` is an observation under a mask."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from ppl_vae import VariationalInference
from ppl_vae.program import Program, check
from tests.helpers.scenarios import normal

X, Y, SEEN = normal(8), normal(8, seed=1), torch.tensor([1, 0, 1, 1, 0, 1, 0, 1])


class Partly(nn.Module):
    """z -> x, which is always seen, and z -> y, which is seen where the mask is True."""

    def __init__(self, by: str = "obs_mask") -> None:
        super().__init__()
        self.by, self.w, self.encoder = by, nn.Parameter(torch.tensor(1.2)), nn.Linear(2, 2)

    def model(self, x: Tensor, y: Tensor, seen: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(self.w * z, 0.5), obs=x)
            likelihood = dist.Normal(self.w * z, 0.3)
            if self.by == "obs_mask":
                pyro.sample("y", likelihood, obs=y, obs_mask=seen.bool())
            else:
                with pyro.poutine.mask(mask=seen.bool()):
                    pyro.sample("y", likelihood, obs=y)

    def guide(self, x: Tensor, y: Tensor, seen: Tensor) -> None:
        pyro.module("program", self)
        loc, scale = self.encoder(torch.stack([x, y * seen], -1)).unbind(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()))


def exact(w: float) -> Tensor:
    both = torch.tensor([[w * w + 0.25, w * w], [w * w, w * w + 0.09]], dtype=torch.double)
    joint = dist.MultivariateNormal(torch.zeros(2, dtype=torch.double), both)
    alone = dist.Normal(0.0, both[0, 0].sqrt())
    return torch.where(SEEN.bool(), joint.log_prob(torch.stack([X, Y], -1)), alone.log_prob(X))


def test_it_equals_a_mask_and_keeps_its_name() -> None:
    batch, weights = (X, Y, SEEN), []
    for by in ("obs_mask", "mask"):
        torch.manual_seed(0)
        program = check(Program(Partly(by).double()), batch)
        assert (program.structure.latents, program.structure.observed) == (("z",), ("x", "y"))
        with program.running(seed=1):
            weights.append(program.log_weights(batch, 4000))
        assert program.posterior(batch, 3).observed.keys() == {"x", "y"}
    torch.testing.assert_close(*weights)
    estimate = weights[0].logsumexp(0) - torch.tensor(4000.0).log()
    error = 4 * (weights[0] - estimate).exp().std(0) / 4000**0.5  # four standard errors of the mean weight
    assert ((estimate - exact(1.2)).abs() < error + 1e-6).all()


@pytest.mark.parametrize("guide", ["amortized", "per-sample"])
def test_every_method_fits_it_as_a_mask(guide: str) -> None:
    arrays, scores = (X.float().numpy(), Y.float().numpy(), SEEN.numpy()), []
    for by in ("obs_mask", "mask"):
        torch.manual_seed(0)
        program = Partly(by)
        if guide == "per-sample":
            del program.encoder
        vi = VariationalInference(program, guide=guide, max_epochs=1, local_steps=2, inference_steps=5, compile="off")
        vi.set_params(num_samples=10, validation_fraction=0.0, patience=None).fit(*arrays)
        scores.append(vi.score(*arrays))
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


class Upstream(nn.Module):
    """The part of y that is not seen is a latent on which x depends."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.0))

    def model(self, x: Tensor, y: Tensor, seen: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Normal(x.new_zeros(()), 1.0), obs=y, obs_mask=seen.bool())
            pyro.sample("x", dist.Normal(self.slope * y, 0.5), obs=x)

    def guide(self, x: Tensor, y: Tensor, seen: Tensor) -> None:
        shift = pyro.param("shift", torch.tensor(0.1, dtype=x.dtype))
        with pyro.plate("data", len(x)), pyro.poutine.mask(mask=~seen.bool()):
            pyro.sample("y_unobserved", dist.Normal(shift, 1.0))


@pytest.mark.parametrize("seen", [SEEN, torch.ones(8)])
@pytest.mark.parametrize("guided", [True, False])
def test_a_part_that_other_sites_depend_on_stays_a_latent(seen: Tensor, guided: bool) -> None:
    program = Program(Upstream().double()).bind((X, Y, seen), guided=guided)
    assert program.structure.latents == ("y_unobserved",)
    assert program.structure.observed == ("y_observed", "x")
