"""The variances of the gradient's estimators, against a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.polynomial import Polynomial

from ppl_vae.errors import InputError
from ppl_vae.inference.families import Full, make_family
from ppl_vae.inference.gradient_variance import gradient_variance
from ppl_vae.inference.objectives import DECAY
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import LatentSpace, Program, seeded, with_lambda, without_guide
from tests.helpers import scenarios
from tests.helpers.scenarios import normal

SIGMAS = 5
"""Standard errors that a variance may be off."""


def factor_analysis() -> FactorAnalysis:
    with seeded(0):
        return FactorAnalysis(data_dim=4, latent_dim=2).double().eval()


def moment(polynomial: Polynomial) -> float:
    """The expectation of a polynomial of a standard normal number."""
    odd_factorials = [0.0 if n % 2 else math.prod(range(1, n, 2)) for n in range(len(polynomial.coef))]
    return float(polynomial.coef @ np.array(odd_factorials, float))


def variances(loc: float, scale: float, mean: float, width: float, constant: float, k: int) -> dict[str, float]:
    r"""Return the variances of all estimators for q = N(loc, scale^2), lambda = (loc, log scale), and
    log p(x, u) = constant - (u - mean)^2 / (2 width^2).

    With u = loc + scale e and d = loc - mean, all is a polynomial in the standard normal e:

        log w      = constant - (d + scale e)^2 / (2 width^2) + e^2 / 2 + log scale + log(2 pi) / 2
        total      = -(d + scale e) / width^2 * (1, scale e) + (0, 1)
        score      = (e / scale, e^2 - 1)
        path       = total + score

    The mean of K independent terms has 1/K of a term's variance. A baseline b that is independent of the draws and has
    the mean of log w adds Var(b) E[score^2] / K, and a decaying average of signals, each a mean of K, has
    Var(b) = Var(log w) / K * (1 - beta) / (1 + beta). Leave-one-out is the sample covariance of log w and the score,
    whose variance is mu22 / K - (K - 2) / (K (K - 1)) mu11^2 + mu20 mu02 / (K (K - 1)) in central moments.
    """
    e, d = Polynomial([0.0, 1.0]), loc - mean
    log_w = constant - (d + scale * e) ** 2 / (2 * width**2) + e**2 / 2 + math.log(scale * math.sqrt(2 * math.pi))
    pull = -(d + scale * e) / width**2
    scores = (e / scale, e**2 - 1)
    totals = (pull, pull * scale * e + 1)
    centred = log_w - moment(log_w)
    of_average = moment(centred**2) / k * (1 - DECAY) / (1 + DECAY)
    answer = dict.fromkeys(
        ["total derivative", "path derivative", "score function", "score function, decaying average"]
        + ["score function, leave-one-out"] * (k > 1),
        0.0,
    )
    for total, score in zip(totals, scores, strict=True):
        path = total + score
        cross, both = moment(centred * score), moment(centred**2 * score**2)
        assert math.isclose(moment(total), cross)  # unbiased, all of them: the two coordinates of the gradient
        assert math.isclose(moment(path), cross)
        answer["total derivative"] += (moment(total**2) - moment(total) ** 2) / k
        answer["path derivative"] += (moment(path**2) - moment(path) ** 2) / k
        answer["score function"] += (moment((log_w * score) ** 2) - cross**2) / k
        answer["score function, decaying average"] += (both - cross**2) / k + of_average * moment(score**2) / k
        if k > 1:
            product = moment(centred**2) * moment(score**2)
            answer["score function, leave-one-out"] += (
                both / k - (k - 2) / (k * (k - 1)) * cross**2 + product / (k * (k - 1))
            )
    return answer


def test_variances_are_those_of_a_closed_form() -> None:
    """z ~ N(0, 1), x | z ~ N(z, 1/2): log p(x, z) is a parabola about 2 x / 3 of width 3^-1/2, below log p(x)."""
    x, model = torch.tensor([1.5], dtype=torch.double), scenarios.Conjugate().double()
    lam = torch.tensor([[0.6, math.log(0.8)]], dtype=torch.double)
    program = Program(model).bind((x,))
    with seeded(0):
        rows = gradient_variance(program, (x,), [1, 2, 5, 16], lam=lam, num_draws=40_000)
    width = (1 / 3) ** 0.5
    constant = float(model.log_evidence(x)) - math.log(width * math.sqrt(2 * math.pi))
    assert len(rows) == 4 * 5 - 1
    for row in rows:
        exact = variances(0.6, 0.8, 1.0, width, constant, row.num_particles)[row.estimator]
        assert abs(row.variance - exact) < SIGMAS * row.standard_error, row
        assert row.standard_error < 0.1 * exact


def test_leave_one_out_never_adds_variance_here_and_a_baseline_takes_most_of_it() -> None:
    x = normal(4, 4)
    program = Program(factor_analysis()).bind((x,))
    with seeded(0):
        rows = gradient_variance(program, (x,), [2, 3, 8], num_draws=6000)
    at = {(row.estimator, row.num_particles): row.variance for row in rows}
    for k in (2, 3, 8):
        assert at["score function, leave-one-out", k] < at["score function", k]
        assert at["score function, decaying average", k] < at["score function", k]
        assert at["path derivative", k] < at["score function, leave-one-out", k]


def test_the_path_derivative_does_not_vary_at_the_posterior() -> None:
    """If q is exact, log w and its gradient along the path are constant; the total derivative still varies."""
    x = normal(3)
    program = Program(scenarios.Conjugate().double()).bind((x,))
    lam = torch.stack([2 * x / 3, torch.full_like(x, -0.5 * math.log(3))], -1)
    with seeded(0):
        rows = gradient_variance(program, (x,), [1, 4], lam=lam, num_draws=1000)
    at = {(row.estimator, row.num_particles): row.variance for row in rows}
    for k in (1, 4):
        assert at["path derivative", k] < 1e-20
        assert at["total derivative", k] > 0.1 / k
    assert at["score function, leave-one-out", 4] < 1e-20


def test_lambda_is_the_guide_s_where_none_is_given() -> None:
    x, model = normal(3), scenarios.Conjugate().double()
    loc, log_scale = model.encoder(x[:, None]).detach().unbind(-1)
    answers = []
    for lam in (None, torch.stack([loc, log_scale], -1)):
        with seeded(0):
            answers.append(gradient_variance(Program(model).bind((x,)), (x,), [2], lam=lam, num_draws=500))
    for a, b in zip(*answers, strict=True):
        assert a.variance == pytest.approx(b.variance)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_particles": []}, "num_particles is"),
        ({"num_particles": [0, 2]}, "num_particles is"),
        ({"num_particles": [64], "num_draws": 1000}, "num_draws is 1000"),
    ],
)
def test_bad_input(options: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        gradient_variance(Program(factor_analysis()).bind((normal(3, 4),)), (normal(3, 4),), **options)


def test_a_derived_guide_has_the_lambda_of_its_moments() -> None:
    x = normal(3, 4)
    program = Program(factor_analysis()).bind((x,))
    space, full, flow = LatentSpace(without_guide(program)), Full(2), make_family("flow", 2)
    lam = full.start(0.3 * normal(3, 2), normal(3, 2).exp())
    joint = with_lambda(space, full.distribution, lam)
    answers = []
    for batch, chosen in (((x, lam), None), ((x, lam), lam[:, :4])):
        with seeded(0):
            answers.append(gradient_variance(joint, batch, [2], lam=chosen, num_draws=500))
    for a, b in zip(*answers, strict=True):
        assert a.variance == pytest.approx(b.variance)
    unknown = with_lambda(space, flow.distribution, torch.zeros(3, flow.width).double())
    with pytest.raises(InputError, match="give lam"):
        gradient_variance(unknown, (x, torch.zeros(3, flow.width).double()), [2])
