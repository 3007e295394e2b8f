"""Calibration of guide, weights and annealing: programs with known posteriors pass, and wrong guides are described."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from ppl_vae import VariationalInference
from ppl_vae.check.calibration import calibration, rank_by_annealing, rank_by_guide
from ppl_vae.check.latent_ranks import (
    JOINT,
    LIKELIHOOD,
    TOGETHER,
    RanksOfLatents,
    describe,
    judge,
    rank_figures,
    remedy_of_guide,
)
from ppl_vae.check.verdict import Verdict
from ppl_vae.check.width import width_and_shift
from ppl_vae.evidence import Annealing
from tests.helpers import scenarios
from tests.helpers.calibrated import (
    KNOWN,
    THREE_ERRORS,
    EightSchools,
    GaussianFactors,
    checked,
    known_hmm,
    three_errors,
)
from tests.helpers.scenarios import SharedMean

PAGE = 0.05 / 6 / 3
"""The level of one of the three methods on a page of six tests."""


def ranked(program: Any, shape: tuple[int, ...], num_simulations: int, *, weighted: bool = False) -> RanksOfLatents:
    fit = checked(program, np.zeros((8, *shape)), num_simulations=num_simulations, num_samples=99)
    return rank_by_guide(fit.simulated, weighted=weighted)


def in_blocks(ranks: RanksOfLatents, count: int) -> list[RanksOfLatents]:
    """Return the ranks of parts of the data, which are independent repetitions."""
    doubtful = np.split(ranks.doubtful, count) if len(ranks.doubtful) else [ranks.doubtful] * count
    return [ranks._replace(ranks=r, doubtful=d) for r, d in zip(np.split(ranks.ranks, count), doubtful, strict=True)]


@pytest.mark.parametrize("name", KNOWN)
def test_the_exact_posterior_is_calibrated_and_has_equal_weights(name: str) -> None:
    program, shape = KNOWN[name]
    for weighted in (False, True):
        ranks = ranked(program(), shape, 100, weighted=weighted)
        assert np.nanmin(ranks.p_values()) > 1e-3
        assert ranks.num_draws == pytest.approx(99, rel=0.3)  # states that are summed out cost nothing


def test_a_guide_that_is_wrong_is_described_and_mended_by_weights() -> None:
    fit = checked(GaussianFactors(width=1.5, shift=0.5), np.zeros((8, 4)), num_samples=300)
    guide, weights, annealing = calibration(fit).verdicts
    assert [v.status for v in (guide, weights, annealing)] == ["fails", "holds", "holds"]
    assert "too wide by" in guide.meaning
    assert "shifted by +0.5 sd" in guide.meaning
    assert "Reweighting by importance mends it: believe iwae" in guide.remedy
    assert "Reweighting by importance mends" in weights.meaning


def test_the_remedy_of_a_guide_says_what_can_be_believed() -> None:
    holds, fails = (
        Verdict.judged(subject="draws", value=p, threshold=0.05, least=True, meaning="") for p in (0.5, 0.001)
    )
    cases = {
        "believe iwae, and": (holds, holds, True),
        "compare iwae with ais": (holds, holds, False),
        "Pareto's k is too high": (holds, None, False),
        "believe ais, not iwae": (fails, holds, False),
        "Neither": (fails, None, True),
    }
    for words, (weights, annealing, is_trusted) in cases.items():
        assert words in remedy_of_guide(weights, annealing, is_trusted)


def test_the_figure_of_ranks_shows_the_worst_latent_that_all_methods_rank() -> None:
    """Annealing does not rank a state that is summed out."""
    random = np.random.default_rng(0)
    guide = RanksOfLatents("guide", ("state", "z", "w"), random.uniform(size=(20, 3)), 99.0)
    annealing = RanksOfLatents("annealing (AIS)", ("z", "w"), random.uniform(size=(20, 2)), 9.0)
    figure = rank_figures([guide, annealing], [np.array([1e-9, 0.5, 0.1]), np.array([0.4, 0.5])])["ranks"]
    assert figure.arguments["name"] == "w"
    np.testing.assert_array_equal(figure.arguments["ranks"]["annealing (AIS)"], annealing.ranks[:, 1])


def test_a_class_has_no_width_in_words() -> None:
    """A third of the classes are ranked below all draws, and a number lies among draws that are too narrow."""
    random = np.random.default_rng(0)
    scores = norm.cdf(2 * random.normal(size=300))
    classes = np.where(random.uniform(size=300) < 0.3, 1e-3, random.uniform(size=300))
    ranks = RanksOfLatents("guide", ("side", "z"), np.stack([classes, scores], 1), 99.0, discrete=frozenset(["side"]))
    words = describe(ranks, ranks.p_values(), 0.05)
    assert "z is too narrow by 5" in words
    assert "the probabilities of side are wrong" in words
    fit = checked(EightSchools(), np.zeros((8, 8)), num_simulations=10, num_samples=20)
    assert rank_by_guide(fit.simulated).discrete == {"level"}


def test_latents_that_a_mask_hides_do_not_count() -> None:
    fit = checked(scenarios.Sequences(), np.zeros((8, 5)), np.tile([5, 3], 4), num_simulations=40, num_samples=20)
    ranks = rank_by_guide(fit.simulated)
    hidden = np.isnan(ranks.ranks[:, ranks.names.index("z_4")])
    assert hidden.mean() == pytest.approx(0.5)
    assert not np.isnan(ranks.ranks[:, ranks.names.index("z_0")]).any()


def test_states_and_latents_that_a_mask_hides_do_not_make_a_posterior_wrong() -> None:
    lengths = np.tile([5, 2], 4)
    states = checked(known_hmm(), np.zeros((8, 5)), lengths, num_simulations=200, num_samples=99).simulated
    ranks = rank_by_guide(states)
    assert np.isnan(ranks.ranks[:, ranks.names.index("state_4")]).mean() == pytest.approx(0.5)
    assert np.nanmin(ranks.p_values()) > 1e-3
    walks = checked(scenarios.Sequences(), np.zeros((8, 5)), lengths, num_simulations=100, num_samples=2).simulated
    ranks = rank_by_annealing(walks, 100, Annealing(num_temperatures=60, num_chains=8))
    assert ranks.names[-3:] == (TOGETHER, LIKELIHOOD, JOINT)
    assert np.isnan(ranks.ranks[:, ranks.names.index("z_4")]).mean() == pytest.approx(0.5)
    assert np.nanmin(ranks.p_values()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", KNOWN)
def test_right_posteriors_are_rejected_at_the_level(name: str, weighted: bool) -> None:
    program, shape = KNOWN[name]
    blocks = in_blocks(ranked(program(), shape, 200 * 60, weighted=weighted), 200)
    rejected = np.mean([np.nanmin(block.p_values()) <= 0.05 for block in blocks])
    print(f"{200 * rejected:.0f} of 200 repetitions are rejected")
    assert rejected < 0.05 + THREE_ERRORS
    alone = np.mean([RanksOfLatents("", ("q",), b.ranks[:, -1:], 99.0).p_values()[0] <= 0.05 for b in blocks])
    assert abs(alone - 0.05) < THREE_ERRORS  # log p(x, z) alone, without the correction for several quantities


@pytest.mark.slow
@pytest.mark.parametrize("name", ["factor analysis", "gamma-Poisson"])
def test_annealing_is_rejected_at_the_level(name: str) -> None:
    """At the default number of chains and temperatures."""
    program, shape = KNOWN[name]
    fit = checked(program(), np.zeros((8, *shape)), num_simulations=200 * 30, num_samples=2)
    p_values = [np.nanmin(b.p_values()) for b in in_blocks(rank_by_annealing(fit.simulated, 200 * 30), 200)]
    for level in (0.05, PAGE):
        rejected = int((np.array(p_values) <= level).sum())
        print(f"{rejected} of 200 repetitions are rejected at the level {level:.2g}")
        assert rejected / 200 < level + three_errors(200, level)


WRONG = {"narrow by 30 %": (0.7, 0.0), "wide by 50 %": (1.5, 0.0), "shifted by half a deviation": (1.0, 0.5)}
REPETITIONS = 60


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_wrong_guides_are_found_with_their_width_and_mended_by_weights_unless_the_verdict_warns(name: str) -> None:
    """At the default number of data, and at the level of a page of six tests, of which this one has three methods.

    If the variance of the guide is less than half of that of the posterior, the variance of its weights is infinite.
    Where reweighting then fails, the verdict says that it cannot be trusted.
    """
    width, shift = WRONG[name]
    fit = checked(GaussianFactors(width, shift), np.zeros((8, 4)), num_simulations=REPETITIONS * 300)
    guides = in_blocks(rank_by_guide(fit.simulated), REPETITIONS)
    power = np.mean([judge(b, b.p_values(), PAGE, True).status == "fails" for b in guides])
    print(f"the guide fails in {power:.0%} of {REPETITIONS} repetitions")
    assert power > 0.9
    fits = [width_and_shift(block.ranks[:, 0], 1000) for block in guides]
    assert np.mean([f.width for f in fits]) == pytest.approx(width, rel=0.03)
    assert np.mean([f.shift for f in fits]) == pytest.approx(shift, abs=0.03)
    mended = in_blocks(rank_by_guide(fit.simulated, weighted=True), REPETITIONS)
    failing = [v for v in (judge(b, b.p_values(), PAGE, True) for b in mended) if v.status == "fails"]
    print(f"reweighted, it fails in {len(failing)}")
    if width**2 > 0.5:
        assert len(failing) / REPETITIONS < PAGE + three_errors(REPETITIONS, PAGE)
    assert all("Reweighting cannot be trusted" in verdict.meaning for verdict in failing)


@pytest.mark.slow
def test_latents_that_all_data_share_are_calibrated_by_fits_of_their_own() -> None:
    """The posterior of the mean is a Gaussian, which 250 epochs reach and one does not."""
    x = np.random.default_rng(0).normal(1.5, 1.2, 20)
    options: dict[str, Any] = {"validation_fraction": 0.0, "learning_rate": 0.05, "num_particles": 16, "compile": "off"}
    for max_epochs, status in ((250, "holds"), (1, "fails")):
        vi = VariationalInference(SharedMean(local=False), max_epochs=max_epochs, **options).fit(x)
        (verdict,) = vi.check(x, train=x, only=["calibration"], calibration_fits=40).verdicts["calibration"]
        assert verdict.status == status, verdict


def test_latents_that_all_data_share_need_a_number_of_fits() -> None:
    x = np.random.default_rng(0).normal(1.5, 1.2, 6)
    vi = VariationalInference(SharedMean(), max_epochs=1, inference_steps=3, validation_fraction=0.0, compile="off")
    page = vi.fit(x).check(x, train=x, only=["calibration"])
    assert "--calibration-fits 40" in page.text().replace("\n", " ")
    page = vi.check(x, train=x, only=["calibration"], calibration_fits=5)
    (verdict,) = page.verdicts["calibration"]
    assert verdict.subject == "5 fits"
    assert set(page.figures["ecdf"].arguments["names"]["fit"]) == {"w", "z", "all latents (TARP)"}
