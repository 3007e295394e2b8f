"""Test guides with wider tails: they are still densities, and nothing else changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.program import BoundProgram, Program, seeded, widened
from tests.helpers import scenarios
from tests.helpers.scenarios import normal, switch_evidence


class FullCovariance(scenarios.PPCA):
    """A program whose guide is its posterior, a Gaussian with a covariance."""

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        precision = torch.eye(2).to(x) + self.loading.T @ self.loading / self.noise**2
        covariance = torch.linalg.inv(precision)
        return x @ self.loading @ covariance / self.noise**2, covariance

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(*self.posterior(x)))


class LowRank(FullCovariance):
    """A guide with the same mean, whose covariance is a diagonal and a column."""

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            factor, diagonal = x.new_tensor([[0.3], [-0.2]]), x.new_tensor([0.15, 0.2])
            pyro.sample("z", dist.LowRankMultivariateNormal(self.posterior(x)[0], factor, diagonal))


class Rates(nn.Module):
    """A Gamma prior, a Poisson likelihood, and a LogNormal guide: p(x) is negative binomial."""

    def __init__(self, masked: bool = False) -> None:
        super().__init__()
        self.masked, self.shift = masked, nn.Parameter(torch.tensor([0.1, -0.1]))

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            prior = dist.Gamma(x.new_tensor([2.0, 3.0]), x.new_tensor([1.0, 0.5]))
            z = pyro.sample("z", prior.mask(True).to_event(1))
            pyro.sample("x", dist.Poisson(z).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            q = dist.LogNormal((0.7 * x + 0.5).log() + self.shift, x.new_tensor([0.7, 0.6]))
            pyro.sample("z", (q.mask(True) if self.masked else q).to_event(1))

    def log_evidence(self, x: Tensor) -> Tensor:
        rate = x.new_tensor([1.0, 0.5])
        return dist.NegativeBinomial(x.new_tensor([2.0, 3.0]), probs=1 / (1 + rate)).to_event(1).log_prob(x)


class Shares(nn.Module):
    """A Dirichlet prior and a LogisticNormal guide, whose Gaussian lies deep inside."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.9, 0.8]))

    def model(self, x: Tensor) -> None:
        pyro.module("program", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Dirichlet(x.new_tensor([1.5, 2.0, 3.0])))
            pyro.sample("x", dist.Multinomial(total_count=6, probs=z, validate_args=False), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.LogisticNormal(((x[:, :2] + 1.5) / (x[:, 2:] + 3.0)).log(), self.scale))

    def log_evidence(self, x: Tensor) -> Tensor:
        return dist.DirichletMultinomial(x.new_tensor([1.5, 2.0, 3.0]), 6, validate_args=False).log_prob(x)


def own_log_evidence(module: Any, x: Tensor) -> Tensor:
    return module.log_evidence(x)


COUNTS = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [1.0, 1.0, 4.0]], dtype=torch.double)
PROGRAMS: dict[str, tuple[Callable[[], Any], Tensor, Callable[[Any, Tensor], Tensor]]] = {
    "ppca": (scenarios.PPCA, normal(3, 5), own_log_evidence),
    "full covariance": (FullCovariance, normal(3, 5), own_log_evidence),
    "low rank": (LowRank, normal(3, 5), own_log_evidence),
    "counts": (lambda: scenarios.Counts(1), COUNTS, own_log_evidence),
    "counts of two": (lambda: scenarios.Counts(2), COUNTS, own_log_evidence),
    "log-normal": (Rates, COUNTS[:, 1:], own_log_evidence),
    "log-normal, masked": (lambda: Rates(masked=True), COUNTS[:, 1:], own_log_evidence),
    "logistic-normal": (Shares, torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0]], dtype=torch.double), own_log_evidence),
    "switch": (scenarios.Switch, normal(3), switch_evidence),
    "summed switch": (scenarios.SummedSwitch, normal(3), switch_evidence),
    "softmax": (scenarios.SoftmaxDecoder, normal(3, 3) / 2, None),  # the draws repeat the data
}


@pytest.mark.parametrize(("scale", "df"), [(1.5, None), (1.0, 5.0), (1.3, 3)])
@pytest.mark.parametrize("name", PROGRAMS)
def test_weights_average_to_the_evidence(name: str, scale: float, df: float | None) -> None:
    make, x, log_evidence = PROGRAMS[name]
    with torch.no_grad(), seeded(2):
        module = make().double()
        program = Program(module).bind((x,))
        wider = widened(program, scale, df)
        expected = program.log_prior_weights((x,), 40000).logsumexp(0) - math.log(40000)
        of_prior = 0.03
        if log_evidence is not None:
            expected, of_prior = log_evidence(module, x), 0.0
        weights = wider.log_weights((x,), 20000)
        estimate = weights.logsumexp(0) - math.log(20000)
        error = (weights - estimate).exp().std(0) / 20000**0.5
        assert not torch.allclose(weights.std(0), program.log_weights((x,), 20000).std(0), rtol=0.01)
    assert (error < 0.1).all()
    assert ((estimate - expected).abs() < 4.5 * (error + of_prior)).all()  # for all 99 with probability 0.9993


def site(program: BoundProgram, x: Tensor, name: str = "z") -> Any:
    with program.running(), torch.no_grad():
        return poutine.trace(program.guide).get_trace(x).nodes[name]["fn"]


def test_a_gaussian_becomes_a_wider_student_t() -> None:
    x = normal(3, 5)
    program = Program(scenarios.PPCA().double()).bind((x,))
    q = site(program, x)
    wide, heavy = site(widened(program, 1.5), x), site(widened(program, 1.5, 4.0), x)
    torch.testing.assert_close(wide.mean, q.mean)
    torch.testing.assert_close(wide.stddev, 1.5 * q.stddev)
    torch.testing.assert_close(heavy.mean, q.mean)
    torch.testing.assert_close(heavy.variance, 2 * (1.5 * q.stddev) ** 2)  # df / (df - 2) = 2
    far = q.mean + 1e4 * q.stddev
    # density ~ |z|^-(df + 1) in each dimension
    slope = (heavy.log_prob(q.mean + 2e4 * q.stddev) - heavy.log_prob(far)) / math.log(2)
    torch.testing.assert_close(slope, torch.full((3,), -10.0).double(), rtol=1e-3, atol=0)
    assert (wide.log_prob(far) < -1e6).all()


@pytest.mark.parametrize("cls", [FullCovariance, LowRank])
def test_a_covariance_is_kept(cls: type[nn.Module]) -> None:
    x = normal(3, 5)
    program = Program(cls().double()).bind((x,))
    q = site(program, x)
    wide, heavy = site(widened(program, 1.5), x), site(widened(program, 1.5, 4.0), x)
    torch.testing.assert_close(wide.covariance_matrix, 2.25 * q.covariance_matrix)
    torch.testing.assert_close(heavy.covariance_matrix, 2.25 * q.covariance_matrix)  # Pyro's name for its scale
    assert torch.equal(heavy.loc, q.loc)
    slope = (heavy.log_prob(q.loc + 2e6) - heavy.log_prob(q.loc + 1e6)) / math.log(2)
    torch.testing.assert_close(slope, torch.full((3,), -6.0).double(), rtol=1e-3, atol=0)  # -(df + 2), jointly


def test_a_discrete_site_does_not_change() -> None:
    x = normal(50)
    with seeded(0):
        program = Program(scenarios.Switch().double()).bind((x,))
    wider = widened(program, 1.5, 5.0)
    assert torch.equal(site(wider, x, "c").logits, site(program, x, "c").logits)
    assert type(site(wider, x)) is dist.StudentT
    assert wider.structure.collapsed == ("c",)


def test_a_factor_of_one_returns_the_same_program() -> None:
    program = Program(scenarios.PPCA()).bind((normal(3, 5).float(),))
    assert widened(program) is program
    assert widened(program, 1, None) is program


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("ran_before", [False, True])
def test_state_is_shared_and_the_original_is_not_disturbed(inside: bool, ran_before: bool) -> None:
    """``TwoLatents`` has a parameter of Pyro's own beside its modules."""
    with seeded(0):
        module, x = scenarios.TwoLatents().double(), normal(3, 4).abs()
    program, untouched = Program(module).bind((x,)), None
    with torch.no_grad():
        if ran_before:
            program.log_weights((x,), 2)
        if inside:
            with program.running(training=False):
                wider = widened(program, 1.2, 5.0)
                first = wider.log_weights((x,), 2)
                assert program.log_weights((x,), 2).shape == first.shape
                assert not module.training
            assert module.training
        else:
            wider = widened(program, 1.2, 5.0)
            wider.log_weights((x,), 2)
        assert len(pyro.get_param_store()) == 0, "left in the global store"
        with seeded(3):
            untouched = program.log_weights((x,), 5)
        with seeded(3):
            torch.testing.assert_close(untouched, Program(module).bind((x,)).log_weights((x,), 5))
        parameters, of_wider = program.parameters(), wider.parameters()
        assert parameters.keys() == of_wider.keys()
        assert all(parameters[name] is of_wider[name] for name in parameters)
        with seeded(4):
            before = wider.log_weights((x,), 5)
        program.load_state({name: tensor + 0.1 for name, tensor in program.state().items()})
        with seeded(4):
            assert not torch.allclose(before, wider.log_weights((x,), 5))


def test_a_parameter_of_pyro_is_shared() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        loc = pyro.param("loc", x.new_tensor(0.3))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 0.8))

    x = normal(3)
    program = Program(model, guide).bind((x,))
    wider = widened(program, 2.0)
    assert wider.parameters()["loc"] is program.parameters()["loc"]
    with torch.no_grad():
        program.load_state({"param.loc": torch.tensor(-4.0).double()})
    torch.testing.assert_close(site(wider, x).mean, torch.full((3,), -4.0).double())


class HalfNormalGuide(Rates):
    """A guide with a folded Gaussian, which has no inverse."""

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.HalfNormal(x + 1.0).to_event(1))


@pytest.mark.parametrize(
    ("module", "batch", "message"),
    [
        (scenarios.Proportions(), (torch.full((3, 3), 2.0), torch.ones(3)), "guide of Proportions draws 'p' from a Di"),
        (HalfNormalGuide(), (COUNTS[:, 1:].float(),), "guide of HalfNormalGuide draws 'z' from a HalfNormal"),
    ],
)
@pytest.mark.parametrize("ran_before", [False, True])
def test_a_guide_without_gaussians_is_reported_in_one_line(
    module: nn.Module, batch: tuple[Tensor, ...], message: str, ran_before: bool
) -> None:
    program = Program(module).bind(batch)
    if ran_before:
        program.log_weights(batch)
    with pytest.raises(InputError, match=message) as raised:
        widened(program, 1.5).log_weights(batch)
    assert "\n" not in str(raised.value)
    assert program.log_weights(batch, 3).shape == (3, 3)


@pytest.mark.parametrize(
    ("scale", "df", "message"),
    [
        (0.0, None, "proposal_scale is 0.0"),
        (-1.0, None, "proposal_scale is -1.0"),
        (math.nan, None, "proposal_scale is nan"),
        (math.inf, None, "proposal_scale is inf"),
        (1.0, 0.0, "proposal_df is 0.0"),
        (1.0, math.nan, "proposal_df is nan"),
    ],
)
def test_bad_settings_are_refused(scale: float, df: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        widened(Program(scenarios.PPCA()).bind((normal(3, 5).float(),)), scale, df)


def test_a_program_without_a_guide_is_refused() -> None:
    with pytest.raises(InputError, match="Mixture has no guide to widen"):
        widened(Program(scenarios.Mixture()).bind((normal(3, 2).float(),)), 1.5)
