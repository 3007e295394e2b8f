"""The likelihood of a table's kinds: densities compared with SciPy, draws, the evidence by quadrature, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats

from ppl_vae import VariationalInference
from ppl_vae.data import table_columns
from ppl_vae.data.frames import read_frame
from ppl_vae.errors import InputError
from ppl_vae.models.table_vae import TableVAE
from ppl_vae.networks import MixedLikelihood, TableFeatures
from ppl_vae.program import LatentSpace, Program, seeded
from ppl_vae.uses import impute
from tests.helpers.modules import in_double
from tests.helpers.scenarios import normal
from tests.helpers.tables import COLUMNS, mixed_rows

FAMILIES = [
    {"positive": "log-normal", "count": "negative-binomial"},
    {"positive": "gamma", "count": "zero-inflated-poisson"},
]
CITY, HEIGHT, VISITS, GRADE, INCOME, MEMBER, MOOD = range(7)


def by_scipy(out: np.ndarray, x: np.ndarray, positive: str, count: str) -> np.ndarray:
    """Return the log density of each number of rows ``(7,)`` at outputs ``(..., width)`` of the decoder."""
    rest = out
    taken: list[Any] = []
    for width in (2, 2, 2, 1, 3, 4, 1):  # real, positive, count, binary, categorical, two ordinal ones
        taken.append(np.moveaxis(rest[..., :width], -1, 0))
        rest = rest[..., width:]
    assert rest.shape[-1] == 0
    real, money, visits, member, city, grade, mood = taken

    def ordered(o: np.ndarray, code: int) -> np.ndarray:
        thresholds = o[0] + np.concatenate([0 * o[:1], np.logaddexp(0, o[1:]) + 1e-6]).cumsum(0)
        edges = np.concatenate([0 * o[:1], special.expit(thresholds), 1 + 0 * o[:1]])
        return np.log(edges[code + 1] - edges[code])

    log_mean, spread = 6.5 + 0.4 * money[0], 0.4 * (np.logaddexp(0, money[1]) + 1e-2)
    bounded = 2 * np.tanh(spread / 2)
    gamma = stats.gamma(spread**-2, scale=np.exp(log_mean) * spread**2)
    mean = np.exp(1 + 0.5 * visits[0])
    inflated = special.expit(visits[1]) * (x[VISITS] == 0) + special.expit(-visits[1]) * stats.poisson.pmf(
        x[VISITS], mean
    )
    return np.stack(
        [
            special.log_softmax(city, 0)[int(x[CITY])],
            stats.norm.logpdf(x[HEIGHT], 170 + 12 * real[0], 12 * (np.logaddexp(0, real[1]) + 1e-2)),
            np.log(inflated)
            if count == "zero-inflated-poisson"
            else stats.nbinom.logpmf(x[VISITS], np.exp(visits[1]), 1 / (1 + mean / np.exp(visits[1]))),
            ordered(grade, int(x[GRADE])),
            gamma.logpdf(x[INCOME])
            if positive == "gamma"
            else stats.lognorm.logpdf(x[INCOME], bounded, scale=np.exp(log_mean)),
            stats.bernoulli.logpmf(x[MEMBER], special.expit(member[0])),
            ordered(mood, int(x[MOOD])),
        ],
        -1,
    )


@pytest.mark.parametrize("families", FAMILIES)
def test_densities_equal_scipy_with_free_leading_dimensions(families: dict[str, str]) -> None:
    likelihood, rows = MixedLikelihood(COLUMNS, **families).double(), mixed_rows(9)
    out = normal(4, 9, likelihood.width)
    found = likelihood(out).log_prob(rows)
    assert found.shape == (4, 9, 7)
    for row in range(9):
        expected = by_scipy(out[:, row].numpy(), rows[row].numpy(), **families)
        np.testing.assert_allclose(found[:, row].detach(), expected, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(likelihood(out[2, row]).log_prob(rows[row]), found[2, row])


def test_large_counts_have_exact_densities_in_single_precision() -> None:
    likelihood = MixedLikelihood([{"kind": "count", "center": 13.0}])
    out, x = torch.tensor([[0.3, -0.2]]), torch.tensor([[500_001.0]])
    mean, shape = np.exp(np.float64(13.0) + np.float32(0.3)), np.exp(np.float64(np.float32(-0.2)))
    expected = stats.nbinom.logpmf(500_001, shape, shape / (shape + mean))
    assert likelihood(out).log_prob(x).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("families", FAMILIES)
def test_draws_have_the_means_and_the_probabilities(families: dict[str, str]) -> None:
    likelihood, size = MixedLikelihood(COLUMNS, **families).double(), 20000
    with torch.no_grad(), seeded(2):
        mixed = likelihood(0.5 * normal(likelihood.width, seed=1))
        draws = mixed.expand((size, 7)).sample()
    assert bool(mixed.support.check(draws).all())
    assert mixed.coded == (CITY, GRADE, MEMBER, MOOD)
    shares = mixed.column_probabilities
    assert shares is not None
    for column, share in zip(mixed.coded, shares, strict=True):
        assert share.sum().item() == pytest.approx(1)
        frequency = np.bincount(draws[:, column].long(), minlength=5) / size
        assert (
            np.abs(frequency - share.numpy()) < 4.5 * np.sqrt(share.numpy() * (1 - share.numpy()) / size) + 1e-12
        ).all()
        assert mixed.mean[column] == share.argmax()
    for column in (HEIGHT, VISITS, INCOME):
        error = (draws[:, column].mean() - mixed.mean[column]) / draws[:, column].std() * size**0.5
        assert error.abs() < 4.5


def test_a_value_outside_its_column_has_no_support() -> None:
    likelihood = MixedLikelihood(COLUMNS).double()
    good = mixed_rows(1)[0]
    wrong = {CITY: 3.0, VISITS: 1.5, GRADE: 5.0, INCOME: 0.0, MEMBER: 0.5, MOOD: 2.0}
    support = likelihood(normal(likelihood.width)).support
    assert bool(support.check(good).all())
    for column, value in wrong.items():
        valid = support.check(torch.where(torch.arange(7) == column, value, good))
        assert valid.tolist() == [at != column for at in range(7)]


@pytest.mark.parametrize("families", FAMILIES)
@pytest.mark.parametrize("num_components", [1, 2])
def test_the_evidence_of_mixed_kinds_equals_quadrature(families: dict[str, str], num_components: int) -> None:
    """The joint density of the program is summed over a grid, and so is that of SciPy with the decoder by NumPy."""
    module = in_double(TableVAE, columns=COLUMNS, latent_dim=1, hidden=(5,), num_components=num_components, **families)
    for seed, parameter in enumerate(module.decoder.parameters()):
        parameter.data = 0.3 * normal(*parameter.shape, seed=seed)
    rows = mixed_rows(4)
    program, grid = Program(module).bind((rows,)), torch.linspace(-9, 9, 4001).double()
    with torch.no_grad():
        joint = LatentSpace(program).log_joint((rows,), grid[:, None, None].expand(-1, 4, 1)).numpy()
    step = np.log((grid[1] - grid[0]).item())
    found = special.logsumexp(joint + step, axis=0)
    z = grid.numpy()
    layers = [layer for layer in (module.decoder.linear, *module.decoder.mlp) if hasattr(layer, "weight")]
    (a, a0), (w1, b1), (w2, b2) = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers]
    out = z[:, None] @ a.T + a0 + np.maximum(z[:, None] @ w1.T + b1, 0) @ w2.T + b2
    prior = stats.norm.logpdf(z)
    if num_components > 1:
        loc, raw = (module.prior[name].detach().numpy()[:, 0] for name in ("loc", "raw_scale"))
        prior = special.logsumexp(stats.norm.logpdf(z[:, None], loc, np.logaddexp(0, raw) + 1e-2) - np.log(2), axis=1)
    for row in range(4):
        log_joint = prior + by_scipy(out, rows[row].numpy(), **families).sum(-1)
        assert found[row] == pytest.approx(special.logsumexp(log_joint + step), abs=1e-6)


def test_what_is_filled_in_is_the_conditional_distribution_by_quadrature() -> None:
    module = in_double(TableVAE, columns=COLUMNS, latent_dim=1, hidden=(5,))
    vi = VariationalInference(module, max_epochs=1, compile="off", precision="64-true").fit(mixed_rows(40).numpy())
    rows = mixed_rows(3, seed=5)
    hidden = torch.tensor([True, False, True, True, False, False, True])
    imputation = impute(vi, torch.where(hidden, torch.nan, rows).numpy(), method="importance", num_samples=20000)
    grid = torch.linspace(-7, 7, 2001).double()[:, None, None].expand(-1, 3, 1)
    with torch.no_grad():
        mixed = module.likelihood(module.decoder(grid))
        joint = torch.where(hidden, 0.0, mixed.log_prob(rows)).sum(-1) - grid[..., 0].square() / 2
        weights = joint.softmax(0)
        shares, mean = mixed.column_probabilities, (weights[..., None] * mixed.mean).sum(0)
    assert shares is not None
    expected = (weights[..., None, None] * shares).sum(0).numpy()
    found = imputation.probabilities["x"]
    for place, column in enumerate(mixed.coded):
        if hidden[column]:
            np.testing.assert_allclose(found[:, place], expected[:, place], atol=0.02)
            assert (imputation.mean["x"][:, column] == found[:, place].argmax(-1)).all()
        else:
            np.testing.assert_allclose(found[np.arange(3), place, rows[:, column].long()], 1)
    np.testing.assert_allclose(imputation.mean["x"][:, VISITS], mean[:, VISITS], rtol=0.03)
    assert (imputation.completed["x"][:, [HEIGHT, INCOME, MEMBER]] == rows[:, [HEIGHT, INCOME, MEMBER]].numpy()).all()


def test_a_weak_relation_is_learned_beside_a_strong_one() -> None:
    """Two columns have a correlation of 0.72, and a residual of 0.69; a plain MLP leaves 1.01 after these steps."""
    with seeded(0):
        strong = torch.randn(1000, 1) + 0.15 * torch.randn(1000, 8)
        x = torch.cat([strong, 0.85 * torch.randn(1000, 1) + 0.53 * torch.randn(1000, 2)], 1)
        table = TableVAE(data_dim=10, latent_dim=4, hidden=(64, 64))
    settings: dict[str, Any] = {"max_epochs": 30, "batch_size": 100, "learning_rate": 5e-3, "patience": None}
    vi = VariationalInference(table, compile="off", **settings).fit(x[:800].numpy())
    truth = x[800:, 9].numpy()
    holes = torch.where(torch.arange(10) == 9, torch.nan, x[800:]).numpy()
    filled = impute(vi, holes, num_samples=100).mean["x"][:, 9]
    assert np.sqrt(np.square(filled - truth).mean()) / truth.std() < 0.8  # the error of 200 numbers is 0.035


def test_inputs_are_typical_numbers_and_zeros_for_what_is_missing() -> None:
    features, rows = TableFeatures(COLUMNS).double(), mixed_rows(50)
    inputs = features(rows)
    assert inputs.shape == (50, features.width)
    assert inputs.abs().max() < 4
    mask = torch.arange(7) != INCOME
    hidden = features(torch.where(mask, rows, torch.nan), mask)
    different = (hidden != inputs).any(0)
    assert torch.isfinite(hidden).all()
    assert different.sum() == 2  # its number, and that it is known


def test_standardised_numbers_change_nothing() -> None:
    """The program takes the typical values of the columns as they are, or standardised: it is the same program."""
    frame = pd.DataFrame(mixed_rows(60).numpy()[:, [HEIGHT, INCOME, VISITS]], columns=["height", "income", "visits"])
    found = []
    for standardize in (False, True):
        columns = table_columns(frame, standardize=standardize)
        vi = VariationalInference(
            in_double(TableVAE, columns=columns, latent_dim=2, hidden=(5,)), standardize=standardize, compile="off"
        )
        vi.prepare(read_frame(frame).arrays())
        with torch.no_grad(), seeded(1):
            found.append(vi.program_.log_weights(vi.template_, 3))
    assert [column["kind"] for column in columns] == ["positive", "positive", "count"]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)  # typical values are in single precision


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ({"columns": [{"name": "a", "kind": "date"}]}, ["'a'", "'date'"]),
        ({"columns": [{"name": "a", "kind": "real"}], "positive": "weibull"}, ["positive='weibull'", "log-normal"]),
        ({"columns": [{"name": "a", "kind": "count"}], "count": "geometric"}, ["'geometric'"]),
        ({"columns": [], "data_dim": 0}, ["without columns"]),
    ],
)
def test_an_error_is_reported_in_one_line(arguments: dict[str, Any], facts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        TableVAE(**arguments)
    assert "\n" not in str(caught.value)
    assert all(fact in str(caught.value) for fact in facts), str(caught.value)
