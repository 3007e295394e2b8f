"""Statistics among replicates, the classifier test, and the statistics of data: levels, powers, closed forms."""

from __future__ import annotations

import numpy as np

from ppl_vae.check.among_replicates import among_replicates
from ppl_vae.check.classifier import classifier_test
from ppl_vae.check.data_statistics import StatisticsOfSite


def test_the_smallest_adjusted_p_value_keeps_its_level_for_dependent_statistics() -> None:
    random = np.random.default_rng(0)
    sets = random.standard_t(3, size=(600, 100, 4)) + random.normal(size=(600, 100, 1))
    smallest = np.array([among_replicates(rows[0], rows[1:]).adjusted.min() for rows in sets])
    for level in (0.05, 0.2):
        assert abs((smallest <= level).mean() - level) < 4 * (level * (1 - level) / 600) ** 0.5


def test_a_statistic_that_does_not_vary_differs_only_if_the_data_have_another() -> None:
    draws = np.stack([np.full(99, 0.2), np.linspace(-1, 1, 99)], 1)
    assert among_replicates([0.2, 0.0], draws).adjusted.min() == 1.0
    assert among_replicates([0.3, 0.0], draws).adjusted[0] == 0.01


def test_the_classifier_test_keeps_its_level_and_finds_another_mode() -> None:
    random, rejected = np.random.default_rng(1), []
    for _ in range(100):
        pairs = random.normal(size=(2, 60, 2)) + 3 * random.normal(size=(60, 1))  # alike given their condition
        rejected.append(classifier_test(*pairs, random, num_permutations=99, paired=True).p_value <= 0.05)
    assert np.mean(rejected) < 0.05 + 3 * (0.05 * 0.95 / 100) ** 0.5
    data = random.normal(size=(200, 5)) + 2 * (random.uniform(size=(200, 1)) < 0.2)
    assert classifier_test(data, random.normal(size=(200, 5)), random).p_value < 0.01


def test_points_at_one_place_have_their_neighbours_at_random() -> None:
    random = np.random.default_rng(2)
    zeros = np.zeros((100, 1))
    assert abs(classifier_test(zeros, zeros, random).accuracy - 0.5) < 0.1


def test_statistics_of_data_are_their_definitions() -> None:
    random = np.random.default_rng(3)
    x = random.poisson(1.0, (50, 4)).astype(float)
    values = StatisticsOfSite.of(random.poisson(1.0, (50, 4)).astype(float), None).compute(x)
    correlations = np.corrcoef(x.T)[~np.eye(4, dtype=bool)]
    expected = {
        "mean": x.mean(), "standard deviation": np.sqrt(x.var(0).mean()), "zeros": (x == 0).mean(),
        "whole numbers": 1.0, "largest": x.max(), "smallest": 0.0, "sd of the data's means": x.mean(1).std(),
        "correlations": np.sqrt(np.square(correlations).mean()),
    }  # fmt: skip
    assert values.keys() == expected.keys()
    np.testing.assert_allclose([values[name] for name in expected], list(expected.values()))


def test_missing_numbers_do_not_count() -> None:
    random = np.random.default_rng(4)
    x = random.normal(size=(40, 3))
    holes = np.where(random.uniform(size=x.shape) < 0.3, np.nan, x)
    values = StatisticsOfSite.of(random.normal(size=(40, 3)), None).compute(holes)
    assert np.isclose(values["mean"], np.nanmean(holes))
    assert np.isclose(values["standard deviation"], np.sqrt(np.nanvar(holes, 0).mean()))


def test_images_have_an_active_area_and_classes_have_shares() -> None:
    image = np.zeros((2, 4, 5))
    image[0, 1:3, 2:5] = 1
    values = StatisticsOfSite.of(np.eye(20), (4, 5)).compute(image.reshape(2, -1))
    assert np.isclose(values["active area"], (6 / 20 + 0) / 2)
    assert StatisticsOfSite.of(np.zeros((3, 1)), None, 3).compute(np.array([[0.0], [2.0], [2.0], [1.0]])) == {
        "share of 0": 0.25, "share of 1": 0.25, "share of 2": 0.5,
    }  # fmt: skip
