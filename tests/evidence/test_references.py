"""Every estimator against programs whose evidence is known: a new program, or a new estimator, adds a line.

The errors that estimators report are tested too: 99 percent of the estimates are within three errors of the exact
value, the mean squared error in units of the reported one is 1, and over 200 repetitions the interval of 95 percent
contains the exact value in 90 to 99 percent of the cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppl_vae.evaluation.estimate import Work, estimate
from ppl_vae.evaluation.estimators import Settings
from ppl_vae.evidence import Annealing, Chains, Evidence, bdmc
from ppl_vae.inference import Compiler
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import Batch, Program, annealing_path, seeded, simulate
from tests.helpers.batches import as_batches
from tests.helpers.scenarios import (
    HMM,
    PPCA,
    Conjugate,
    Counts,
    Mixture,
    Proportions,
    SummedSwitch,
    Switch,
    normal,
    switch_evidence,
)


def factor_analysis() -> nn.Module:
    """Return two factors of six variables, whose encoder has the posterior mean and slightly too large scales."""
    program = FactorAnalysis(data_dim=6, latent_dim=2, min_noise=0.0).double()
    with torch.no_grad():
        loading, noise = program.decoder.linear.weight, torch.linspace(0.5, 1.0, 6).double()
        program.decoder.raw_scale.copy_(noise.expm1().log())
        precision = torch.eye(2).double() + loading.T @ (loading / noise[:, None] ** 2)
        gain = torch.linalg.solve(precision, loading.T / noise**2)
        linear = program.encoder.net[0]
        linear.weight.zero_()
        linear.weight[:2], linear.bias[:2] = gain, -gain @ program.decoder.linear.bias
        linear.bias[2:] = (1.2 * torch.linalg.inv(precision).diagonal().sqrt()).expm1().log()
    return program


def switch(cls: type[Switch]) -> nn.Module:
    """Return a program with an encoder that is roughly right."""
    program = cls().double()
    with torch.no_grad():
        program.encoder.weight.copy_(torch.tensor([[1.0], [0.6], [0.0]]))
        program.encoder.bias.copy_(torch.tensor([-0.5, 0.0, -0.2]))
    return program


SEQUENCES = (normal(300, 6), 1 + torch.arange(300) % 6)
Reference = tuple[Callable[[], nn.Module], Batch, Callable[..., Tensor]]
CONTINUOUS: dict[str, Reference] = {
    "conjugate": (lambda: Conjugate().double(), (normal(300),), Conjugate.log_evidence),
    "factor_analysis": (factor_analysis, (normal(300, 6),), FactorAnalysis.log_evidence),
    "ppca": (lambda: PPCA().double(), (normal(300, 5),), PPCA.log_evidence),
    "counts_1": (lambda: Counts(1).double(), (torch.ones(300, 3).double(),), Counts.log_evidence),
    "counts_2": (lambda: Counts(2).double(), (torch.ones(300, 3).double(),), Counts.log_evidence),
    "proportions": (
        lambda: Proportions().double(),
        (torch.tensor([[3.0, 3.0, 2.0]]).double().repeat(300, 1), torch.ones(300).double()),
        Proportions.log_evidence,
    ),
    "switch": (lambda: switch(Switch), (normal(300),), switch_evidence),
    "summed_switch": (lambda: switch(SummedSwitch), (normal(300),), switch_evidence),
}
DISCRETE: dict[str, Reference] = {
    "mixture": (lambda: Mixture().double(), (normal(300, 2),), Mixture.closed_form),
    "hmm": (lambda: HMM().double(), SEQUENCES, HMM.closed_form),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "prior": {"num_samples": 30000},
    "iwae": {"num_samples": 5000},
    "ais": {"num_temperatures": 50, "num_chains": 192},
}


def prepared(reference: Reference, num_data: int = 300) -> tuple[nn.Module, Batch, Tensor]:
    """Return a program, data drawn from it, and their exact evidence."""
    make, like, closed_form = reference
    with seeded(0), torch.no_grad():
        module = make()
        batch = tuple(tensor[:num_data] for tensor in simulate(Program(module).bind(like), like).batch)
        return module, batch, closed_form(module, *batch)


def estimated(module: nn.Module, batch: Batch, name: str, seed: int = 3, **settings: Any) -> Evidence:
    program = Program(module).bind(tuple(tensor[:8] for tensor in batch))
    with program.running(training=False):
        estimates = estimate(Work(program, as_batches(batch), Settings(**settings), Compiler()), [name], seed)
    return estimates[name].evidence


def assert_right(estimated: Evidence, exact: Tensor) -> None:
    """Compare estimates of independent data, and the errors that they report, with the exact evidence.

    The mean of ``N`` squared standard Gaussian numbers has a standard error of the root of 2 / N.
    """
    error = estimated.log_evidence - exact
    units = error / estimated.mcse
    assert (units.abs() < 3).double().mean() >= 0.99
    assert abs(units.square().mean() - 1) < 4 * (2 / len(units)) ** 0.5
    assert abs(error.mean()) < 0.01


IN_SECONDS = {
    ("proportions", "prior"),
    *((name, "ais") for name in ("factor_analysis", "ppca", "counts_1", "proportions")),
}
"""Pairs that take seconds; ``test_intervals_cover`` and programs that are alike test the same with fewer draws."""
PAIRS = [(program, estimator) for program in CONTINUOUS for estimator in SETTINGS]


@pytest.mark.parametrize(
    ("program", "estimator"),
    [pytest.param(*pair, marks=pytest.mark.slow if pair in IN_SECONDS else ()) for pair in PAIRS],
)
def test_agrees_with_the_exact_evidence(program: str, estimator: str) -> None:
    module, batch, exact = prepared(CONTINUOUS[program], num_data=100)
    evidence = estimated(module, batch, estimator, **SETTINGS[estimator])
    assert_right(evidence, exact)
    assert evidence.bound == "lower"


@pytest.mark.parametrize("program", ["factor_analysis", "counts_2", "switch"])
def test_annealing_from_the_guide_agrees_too(program: str) -> None:
    module, batch, exact = prepared(CONTINUOUS[program], num_data=100)
    assert_right(estimated(module, batch, "ais", start="guide", num_temperatures=40, num_chains=64), exact)


@pytest.mark.parametrize("program", DISCRETE)
@pytest.mark.parametrize("estimator", ["exact", "iwae"])
def test_programs_of_discrete_latents_are_exact(program: str, estimator: str) -> None:
    module, batch, exact = prepared(DISCRETE[program])
    evidence = estimated(module, batch, estimator, num_samples=30)
    torch.testing.assert_close(evidence.log_evidence, exact, rtol=1e-9, atol=1e-9)
    assert (evidence.mcse < 1e-7).all()
    assert not evidence.doubtful.any()


@pytest.mark.parametrize("program", ["factor_analysis", "ppca", "counts_2", "proportions"])
def test_the_closed_form_of_a_program_is_taken_as_exact(program: str) -> None:
    module, batch, exact = prepared(CONTINUOUS[program])
    torch.testing.assert_close(estimated(module, batch, "exact").log_evidence, exact)


@pytest.mark.parametrize("estimator", SETTINGS)
@pytest.mark.parametrize("program", ["factor_analysis", "counts_1", "proportions"])
def test_intervals_cover(program: str, estimator: str) -> None:
    """The 200 repetitions are copies of one datum with separate draws."""
    module, batch, exact = prepared(CONTINUOUS[program])
    copies = tuple(tensor[3:4].repeat(200, *[1] * (tensor.dim() - 1)) for tensor in batch)
    settings = {"prior": {"num_samples": 3000}, "iwae": {"num_samples": 300}, "ais": {"num_temperatures": 20}}
    evidence = estimated(module, copies, estimator, seed=5, **settings[estimator])
    assert 0.9 <= ((evidence.log_evidence - exact[3]).abs() < 1.96 * evidence.mcse).double().mean() <= 0.99


def test_bounds_are_in_order() -> None:
    """The ELBO is below IWAE-K, which rises in K to the exact value, and the bounds of BDMC enclose that."""
    for name in ("factor_analysis", "counts_2"):
        module, batch, exact = prepared(CONTINUOUS[name])
        curve = estimated(module, batch, "iwae", num_samples=1000).curve
        means = [bound.mean().item() for bound in curve.values()]
        assert list(curve) == [1, 10, 100, 1000]
        assert means == sorted(means)
        assert means[0] < means[1] < exact.mean()
        lower, upper = sandwiched(module, batch, CONTINUOUS[name][2])
        assert lower.mean() < -3 * lower.std() / 300**0.5  # so coarse that the bounds are clearly apart
        assert upper.mean() > 3 * upper.std() / 300**0.5


def sandwiched(module: nn.Module, batch: Batch, closed_form: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Return both bounds of BDMC minus the exact evidence of simulated data, with far too few temperatures."""
    program = Program(module).bind(batch)
    with program.running(seed=7, training=False), torch.no_grad():
        simulation = simulate(program, batch)
        path = annealing_path(program, simulation.batch)
        exact_draw = path.flat(simulation.latents)[0]
        evidence = bdmc(Chains(path.draw, path.log_densities, Annealing(num_temperatures=3, num_chains=2)), exact_draw)
        exact = closed_form(module, *simulation.batch)
    return evidence.columns["lower"] - exact, evidence.columns["upper"] - exact


def test_a_guide_that_is_too_narrow_is_caught() -> None:
    module, batch, _ = prepared(CONTINUOUS["factor_analysis"])
    with torch.no_grad():
        module.encoder.net[0].bias[2:] -= 2.0
    evidence = estimated(module, batch, "iwae", num_samples=5000)
    assert (evidence.columns["pareto_k"] > 0.7).double().mean() > 0.5
    assert evidence.doubtful.double().mean() > 0.5
    wider = estimated(module, batch, "iwae", num_samples=5000, proposal_scale=6.0)
    assert wider.doubtful.double().mean() < 0.1
