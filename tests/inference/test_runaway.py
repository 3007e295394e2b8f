"""No datum runs away: many latents, few draws, large rates, and posteriors that are no Gaussians."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ppl_vae.inference import LocalElbo, LocalOptions, Method, proposal
from ppl_vae.inference.families import FamilyName, Full, make_family
from ppl_vae.inference.local import STEADY, LocalSteps, Rows, refine
from ppl_vae.inference.per_datum import FROM_PRIOR
from ppl_vae.inference.semi_amortized import SemiAmortized
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.models.vae import VAE
from ppl_vae.program import Batch, LatentSpace, Program, seeded
from tests.helpers.scenarios import bits

LATENTS, NUMBERS, DATA = 30, 100, 8


def wide(dtype: torch.dtype) -> VAE:
    """Thirty latents and a hundred bits with slopes of order one in each: no posterior of them is a Gaussian."""
    with seeded(0):
        module = VAE(NUMBERS, LATENTS, hidden=())
        with torch.no_grad():
            module.decoder.get_parameter("0.weight").copy_(0.5 * torch.randn(NUMBERS, LATENTS))
            module.decoder.get_parameter("0.bias").zero_()
    return module.to(dtype)


def log_joint(u: Tensor, data: Batch) -> Tensor:
    """Return the log joint of this program in closed form."""
    signs, weight = data[0], data[1][0]
    return -softplus(-signs * (u @ weight.mT)).sum(-1) - 0.5 * (u.square() + math.log(2 * math.pi)).sum(-1)


def reached(kind: FamilyName, dtype: torch.dtype, num_particles: int = 1, **how: Any) -> Tensor:
    """Return the ELBO of each datum after steps from the prior, ``(B,)``, with log q from the noise."""
    family = make_family(kind, LATENTS)
    x, weight = bits(DATA, NUMBERS).to(dtype), wide(dtype).decoder.get_parameter("0.weight").detach()
    data = (2 * x - 1, weight.expand(DATA, NUMBERS, LATENTS))
    start = family.start(torch.zeros(DATA, LATENTS, dtype=dtype), torch.ones(DATA, LATENTS, dtype=dtype))
    with seeded(1):
        options: dict[str, Any] = {"num_steps": 300, "learning_rate": FROM_PRIOR, "num_particles": num_particles} | how
        rows = refine(log_joint, family, Rows.at(start), data, LocalSteps(**options))
    with seeded(2):
        u, log_q = family.draw(rows.lam, torch.randn(400, 1, LATENTS).to(dtype))
    return (log_joint(u, data) - log_q).double().mean(0)


@pytest.mark.parametrize(
    ("kind", "dtype", "num_particles", "slack"),
    [
        ("full", torch.float, 1, 0.0),
        pytest.param("full", torch.double, 1, 0.0, marks=pytest.mark.slow),
        ("full", torch.double, 4, 0.0),
        pytest.param("flow", torch.float, 1, 5.0, marks=pytest.mark.slow),
    ],
)
def test_a_larger_family_ends_no_lower(kind: FamilyName, dtype: torch.dtype, num_particles: int, slack: float) -> None:
    """It has the diagonal Gaussians too. Without a limit to the rate, some data end 25 to 10,000 nats below these."""
    rate = FROM_PRIOR * num_particles**0.5
    best = reached("diagonal", dtype, 4, learning_rate=0.1)
    assert (reached(kind, dtype, num_particles, learning_rate=rate) > best - slack).all()


def steps_of(family: Full, num_particles: int, learning_rate: float) -> Tensor:
    """Lengths of the first step of Adam, ``(P,)``, each as long as its rate."""
    rows = Rows.at(torch.zeros(1, family.width).double())
    weights = torch.linspace(1, 2, family.size).double()
    with seeded(3):
        how: dict[str, Any] = {"learning_rate": learning_rate, "num_particles": num_particles, "num_steps": 1}
        moved = refine(lambda u, data: -(weights * (u - 3).square()).sum(-1), family, rows, steps=LocalSteps(**how))
    return moved.lam[0].abs()


@pytest.mark.parametrize("num_particles", [1, 4])
def test_only_what_is_no_location_or_scale_is_limited_and_only_where_the_rate_is_large(num_particles: int) -> None:
    family = Full(16)
    most = STEADY * num_particles**0.5 / 16
    for rate in (0.01, 0.3, 2.0):
        length = steps_of(family, num_particles, rate)
        torch.testing.assert_close(length[:32], torch.full((32,), rate).double(), rtol=1e-5, atol=0.0)
        rest = torch.full_like(length[32:], min(rate / 4, most))
        torch.testing.assert_close(length[32:], rest, rtol=1e-5, atol=0.0)


# ------------------------------------------------------------------------------------------ back to the start


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_a_datum_that_is_worse_off_goes_back_to_where_it_started(kind: FamilyName, dtype: torch.dtype) -> None:
    """So does a datum whose scale is lost in rounding, for which log q at the points would be arbitrary."""
    with seeded(4):
        module = FactorAnalysis(data_dim=6, latent_dim=3).to(dtype)
        x = torch.randn(8, 6).to(dtype)
    local = LocalElbo(LatentSpace(Program(module).bind((x,), guided=False)), make_family(kind, 3))
    start = local.at_prior((x,))
    moved = Rows(*(tensor.clone() for tensor in start))
    moved.taken.fill_(1)
    moved.lam[0, 3:6] = -60.0  # a point
    moved.lam[1, 3:6] = 8.0
    moved.lam[2, 0] = 1e4
    moved.lam[3, 1] = torch.nan
    moved.lam[4, 4] = 1e5  # its scale is infinite
    moved.lam[5, 0:6] = torch.tensor([1e6, 1e6, 1e6, -60, -60, -60])
    with seeded(5):
        kept = local.unless_worse((x,), start, moved)
        after = torch.rand(1)
    with seeded(5):
        assert torch.equal(after, torch.rand(1))
    assert kept.taken[:, 0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert torch.equal(kept.lam, start.lam)
    back = local.unless_worse((x,), moved, start)  # the other way round: all are better off, or no worse
    assert torch.equal(back.joined(), start.joined())


def make_proposal(module: VAE, x: Tensor, with_guide: bool) -> Method:
    program = Program(module).bind((x,), guided=with_guide)
    return proposal(program, (x,), LocalOptions(), "full")


def elbo(method: Any, x: Tensor, lam: Tensor) -> Tensor:
    with seeded(7), torch.no_grad():
        u, log_q = method.family.draw(lam, torch.randn(400, 1, LATENTS))
        return (method.space.log_joint((x,), u) - log_q).mean(0)


@pytest.mark.parametrize("with_guide", [True, False])
@pytest.mark.parametrize("limited", [True, False])
def test_a_proposal_is_no_worse_than_where_it_begins(
    monkeypatch: pytest.MonkeyPatch, with_guide: bool, limited: bool
) -> None:
    """It is better by tens of nats; if the steps are made to diverge, it is where it began."""
    if not limited:
        monkeypatch.setattr("ppl_vae.inference.local.STEADY", math.inf)
        monkeypatch.setattr("ppl_vae.inference.methods.FROM_AFAR", FROM_PRIOR)
    x = bits(DATA, NUMBERS).float()
    with seeded(6):
        method = make_proposal(wide(torch.float), x, with_guide)
        (*_, lam) = method.infer((x,))
        (*_, start) = (
            (method.local.at_guide(method.program, (x,)).detach(),)
            if isinstance(method, SemiAmortized)
            else method.begin((x,))
        )
    gain = elbo(method, x, lam) - elbo(method, x, start)
    if limited:
        assert (gain > 20.0).all()
    else:  # with a standard deviation of 30 nats, 16 draws cannot distinguish a loss of 20 from none
        assert (gain > -30.0).all()
        assert (lam == start).all(-1).sum() >= DATA - 1
