"""Figures of every kind, of usual and of awkward data, by name; each is a function that draws it."""

from __future__ import annotations

import numpy as np

from ppl_vae.plots import (
    aggregated_posterior,
    bound_over_samples,
    bound_over_trials,
    coverage,
    divergence_per_dimension,
    ecdf_differences,
    elbo_over_epochs,
    elbo_over_rates,
    evidence_of_two,
    filled_columns,
    gaps,
    latent_space,
    pareto_k_histogram,
    posteriors_beside_prior,
    prior_samples,
    rank_histograms,
    reconstructions,
    sandwich,
    sheet,
    statistics_among_draws,
    variance_over_particles,
    worst_explained,
)
from ppl_vae.plots.imputation import FilledColumn

RNG = np.random.default_rng(3)
INF, NAN = np.inf, np.nan
KS = (1, 2, 5, 10, 100, 1000)
LONG = "a label that is much longer than its datum is wide"
TITLE = "A title that is much longer than its figure is wide, so that it needs several lines; " * 2
UNIT = RNG.uniform(size=(7, 12))
WIDE = RNG.normal(size=(300, 4))
IMAGES = RNG.uniform(size=(2, 3, 4, 5))
MANY_IMAGES = RNG.uniform(size=(24, 12))
GRID = RNG.uniform(size=(14, 14, 16))
ROLLS = (RNG.uniform(size=(3, 4, 30, 40)) < 0.1).astype(float)
NUMBERS = RNG.normal(size=(4, 3, 6)) * [1, 1e-5, 1900, 1, 1, 1]
Z = RNG.normal(size=(200, 20))
CROWD = np.random.default_rng(6).normal(size=(4000, 2))
PRIOR = RNG.normal(size=(500, 14))
DRAWS = np.array([-1.0, 0.5, 2.0])[:, None] + 0.4 * RNG.normal(size=(300, 3, 14))
CLASSES = RNG.integers(0, 4, size=(500, 3, 1))


def with_holes(cells, share=0.3):
    """Return data of which a share is missing."""
    return np.where(RNG.uniform(size=cells.shape) < share, NAN, cells)


def metrics(train, valid=()):
    """Return the metrics of a fit, one row an epoch."""
    table = [{"epoch": i + 1, "elbo_train": value} for i, value in enumerate(train)]
    for row, value in zip(table, valid, strict=False):
        row["elbo_valid"] = value
    return table


def curve(top, gap, count=50):
    """Return the bounds of some data by the number of draws."""
    noise = RNG.normal(size=count)
    return {k: top + noise - gap / k**0.5 for k in KS}


def gap_case(count=300, families=("diagonal", "full", "flow"), scale=1.0, seed=3):
    """Return log evidence, ELBOs by family and amortized ELBOs; some amortization gaps are 30 times the mean."""
    rng = np.random.default_rng(seed)
    evidence = rng.normal(-85, 20, count)
    gap = {"diagonal": rng.exponential(1.5, count)}
    gap["full"] = gap["diagonal"] * rng.beta(4, 3, count)
    gap["flow"] = gap["full"] * rng.beta(2, 6, count)
    elbos = {name: scale * (evidence - gap[name] + rng.normal(0, 0.03, count)) for name in families}
    cost = rng.exponential(5, count) * np.where(np.arange(count) % 100 == 99, 30, 1)
    return scale * evidence, elbos, elbos[families[0]] - scale * (cost + rng.normal(0, 0.03, count))


def gap_figure(count=300, families=("diagonal", "full", "flow"), scale=1.0, by="iwae with the encoder", encoder=True):
    """Return the figure of the gaps of such a case."""
    evidence, elbos, amortized = gap_case(count, families, scale)
    return gaps(evidence, elbos, amortized=amortized if encoder else None, by=by)


def gap_notes():
    """Return a figure of the gaps that needs every note."""
    evidence, elbos, amortized = gap_case(2000)
    evidence[:30], amortized[50], amortized[60] = -INF, NAN, -1e6
    elbos["diagonal"][70:80], elbos["full"][70:90] = INF, -INF
    noise = np.random.default_rng(0).normal(0, 1, 2000)
    return gaps(evidence, {name: elbo + 3 * noise for name, elbo in elbos.items()}, amortized=amortized, by="ais")


def gap_exact():
    """Return gaps of which one is zero; the third family has not converged, the first is as good as the encoder."""
    evidence, elbos, _ = gap_case()
    noise = np.random.default_rng(5).normal(0, 0.02, (3, len(evidence)))
    families = {"diagonal": elbos["diagonal"], "full": evidence + noise[0], "flow": evidence - 0.1 + noise[1]}
    return gaps(evidence, families, amortized=elbos["diagonal"] + noise[2], by="exact")


def variances(top, ks=(1, 2, 4, 8, 16, 32, 64)):
    """Return a variance by the number of particles."""
    return {k: top / k for k in ks}


METHODS = ("guide", "guide, reweighted", "annealing (AIS)")


def ranks_figure(methods=METHODS, size=7, bad=0, names=None):
    """Return the figure of ranks of some latents, of which the first ``bad`` are too narrow."""
    points = np.linspace(0.01, 1, 100)
    band = 2 * np.sqrt(points * (1 - points) / 300)
    u = RNG.uniform(size=(300, size))
    u[:, :bad] = RNG.beta(0.6, 0.6, (300, bad))
    p_values = np.where(np.arange(size) < bad, 1e-9, 0.5)
    names = names or [f"z[{i}]" for i in range(size)]
    return ecdf_differences(
        dict.fromkeys(methods, u),
        dict.fromkeys(methods, names),
        dict.fromkeys(methods, (points, points - band, points + band)),
        dict.fromkeys(methods, p_values),
    )


def statistics_figure(size=9, far=0, given=True, label="sd of the data's means"):
    """Return the figure of some statistics, of which the first ``far`` are far outside."""
    draws = RNG.normal(size=(199, size)) * 10.0 ** (np.arange(size) % 7 - 3)
    observed = draws[0] + np.where(np.arange(size) < far, 1e5, 0)
    p_values = np.where(np.arange(size) < far, 0.005, 0.6)
    names = [f"{label} {i}" for i in range(size)]
    return statistics_among_draws(names, observed, draws, p_values, given_data=draws[:50] if given else ())


def trials_figure(count=40, parameters=5, long=False):
    """Return the figure of a sweep; some trials were stopped early, some have no bound, and one is far below."""
    rng = np.random.default_rng(4)
    bounds = np.where(rng.uniform(size=count) < 0.1, NAN, -90 - rng.exponential(3, count))
    bounds[0], bounds[-1] = -90, -5000
    values = {
        "learning_rate": (10 ** rng.uniform(-4, -2, count)).tolist(),
        "narrow": (10 ** rng.uniform(-3.2, -3, count)).tolist(),
        "latent_dim": rng.integers(2, 64, count).tolist(),
        "hidden": [[[256, 128, 64], [64], [512, 512]][i] for i in rng.integers(0, 3, count)],
        "family": [["diagonal", "full" + " and long" * long][i] for i in rng.integers(0, 2, count)],
        **{f"option_{i}": rng.uniform(0, 1e-5, count).tolist() for i in range(5)},
    }
    few = dict(list(values.items())[:parameters])
    return bound_over_trials(bounds, few, pruned=np.arange(count) % 3 == 1, log=["learning_rate", "narrow"])


def filled_figure(count=60, names=("price",), categories=0, long=False):
    """Return the figure of columns with holes; with ``categories``, the last one is a column of these."""
    mean = np.random.default_rng(1).normal(size=count)
    columns = [FilledColumn(name, mean[::2], mean, mean - 1, mean + 2) for name in names]
    if categories:
        shares = np.random.default_rng(2).dirichlet(np.ones(categories), count)
        labels = [f"category {i}" + " with a long name" * long for i in range(categories)]
        columns.append(FilledColumn("kind", np.array([0.0, 1, 1, NAN]), shares, mean, mean, labels))
    return filled_columns(columns)


FIGURES = {
    "filled": filled_figure,
    "filled, one number": lambda: filled_figure(1),
    "filled, many": lambda: filled_figure(2000, [f"a long name of a column {i}" for i in range(14)], 3),
    "filled, large": lambda: filled_columns([FilledColumn("x", 1e6 * Z[:, 0], *(1e6 * Z[:50, i] for i in (0, 1, 2)))]),
    "filled, categories": lambda: filled_figure(9, (), 12, long=True),
    "filled, nothing seen": lambda: filled_columns([FilledColumn("x", np.zeros(0), *Z[:9, :3].T)]),
    "filled, both": lambda: filled_figure(30, ["size", "price", "rooms"], 2),
    "trials": trials_figure,
    "trials, many parameters": lambda: trials_figure(200, 10, long=True),
    "trials, one parameter": lambda: trials_figure(12, 1),
    "trials, two": lambda: bound_over_trials([-3.0, -3.0], {"a": [2, 2]}, pruned=[False, True]),
    "trials, one": lambda: bound_over_trials([-3.0], {"rate": [0.1], "b": [None]}, pruned=[True], log=["rate"]),
    "elbo": lambda: elbo_over_epochs(metrics([-9, -5, -4], [-9, -6, -5])),
    "elbo, one epoch": lambda: elbo_over_epochs(metrics([-9], [-9.5])),
    "rates": lambda: elbo_over_rates(np.logspace(-6, 0, 60), -9 - np.linspace(-2, 3, 60) ** 2, 1e-3),
    "elbo, not finite": lambda: elbo_over_epochs(metrics([-9, NAN], [-9.5, -INF])),
    "images": lambda: reconstructions(UNIT, UNIT**2, image_shape=(3, 4)),
    "images, light": lambda: reconstructions(UNIT, np.where(UNIT < 0.1, NAN, UNIT**2), image_shape=(3, 4), light=True),
    "images, coloured": lambda: reconstructions(UNIT * 9, UNIT**2, image_shape=(2, 2, 3)),
    "images, one": lambda: reconstructions(UNIT[:1], UNIT[:1] * 2, image_shape=(3, 4)),
    "images, four bands": lambda: reconstructions(WIDE, WIDE, image_shape=(2, 2)),
    "vectors": lambda: reconstructions(UNIT, UNIT**2),
    "points": lambda: reconstructions(np.where(WIDE > 1, NAN, WIDE)[:, :2], WIDE[:, 2:]),
    "scalars": lambda: reconstructions(WIDE[:, 0], WIDE[:, 1]),
    "drawn images": lambda: prior_samples(UNIT, image_shape=(4, 3), title=TITLE),
    "drawn images, long numbers": lambda: prior_samples(WIDE * -1.234e-4, image_shape=(2, 2)),
    "drawn vectors": lambda: prior_samples(UNIT),
    "drawn points": lambda: prior_samples(WIDE[:, :2], title=TITLE),
    "drawn points, many": lambda: prior_samples(CROWD),
    "drawn points, few places": lambda: prior_samples(np.repeat(WIDE[:3, :2], (30, 2, 9), axis=0)),
    "drawn scalars": lambda: prior_samples(WIDE[:, :1]),
    "latent, classes": lambda: latent_space(WIDE * 9, np.arange(300) % 3, title=TITLE),
    "latent, floats": lambda: latent_space(WIDE[:, :2], WIDE[:, 3]),
    "latent, one dimension": lambda: latent_space(WIDE[:, 0]),
    "latent, one dimension, classes": lambda: latent_space(WIDE[:, 0], np.arange(300) % 3),
    "latent, one dimension, floats": lambda: latent_space(WIDE[:, 0], WIDE[:, 1]),
    "latent, many": lambda: latent_space(CROWD, title=TITLE),
    "latent, many classes": lambda: latent_space(CROWD, np.arange(4000) % 3),
    "latent, many floats": lambda: latent_space(CROWD, CROWD[:, 0]),
    "latent, one dimension, many floats": lambda: latent_space(CROWD[:, 0], CROWD[:, 1]),
    "latent, one datum": lambda: latent_space(WIDE[:1]),
    "latent, not finite": lambda: latent_space(np.where(WIDE > 1, NAN, WIDE)),
    "latent, collapsed": lambda: latent_space(np.zeros((20, 4)), np.zeros(20, int)),
    "ranks": ranks_figure,
    "ranks, narrow": lambda: ranks_figure(bad=5),
    "ranks, many": lambda: ranks_figure(METHODS[:1], 300, 100),
    "ranks, long names": lambda: ranks_figure(METHODS[:2], 3, 3, ["all latents (TARP)", "log p(x | z)", "theta[1, 2]"]),
    "rank histograms": lambda: rank_histograms(dict.fromkeys(METHODS, RNG.beta(0.5, 0.5, 300)), "z[12]"),
    "rank histograms, few": lambda: rank_histograms({"guide": np.r_[NAN, RNG.uniform(size=20)]}, "z"),
    "coverage": lambda: coverage(
        UNIT[0], {m: UNIT[0] ** (i + 1) for i, m in enumerate(METHODS)}, dict.fromkeys(METHODS, 99)
    ),
    "statistics": statistics_figure,
    "statistics, far": lambda: statistics_figure(far=4, given=False),
    "statistics, one": lambda: statistics_figure(1, 1),
    "statistics, many": lambda: statistics_figure(40, 10, label="a long name of a statistic"),
    "evidence of two": lambda: evidence_of_two(RNG.normal(-30, 4, 300), RNG.normal(-27, 3, 300)),
    "evidence of two, not finite": lambda: evidence_of_two([-INF, -3.0, -1e5], [-3.0, NAN]),
    "bound": lambda: bound_over_samples({"iwae": curve(-17, 2), "prior": curve(-17.5, 90)}, references={"ais": -16.9}),
    "bound, crowded ends": lambda: bound_over_samples(
        {name: curve(-17, 2) for name in "abcdef"}, exact=-17.0, references={"ais": -17.0, "bdmc": -16.99}
    ),
    "bound, one draw": lambda: bound_over_samples({"iwae": {1: [-20.0]}}),
    "bound, two numbers": lambda: bound_over_samples({"iwae": {2: [-20.0], 3: [-19.0]}}, exact=-INF),
    "bound, not finite": lambda: bound_over_samples(
        {"iwae": curve(-17, 2), "prior": {1: np.full(50, -INF), 10: np.r_[-INF, NAN, np.full(48, -20.0)]}}
    ),
    "bound, flat": lambda: bound_over_samples({"iwae": dict.fromkeys(KS, np.full(3, -4.0))}, exact=-4.0),
    "pareto": lambda: pareto_k_histogram(np.r_[RNG.normal(0.5, 0.2, 300), -INF, INF, NAN, 9], 0.7),
    "pareto, one": lambda: pareto_k_histogram([0.2], 0.7),
    "pareto, equal weights": lambda: pareto_k_histogram(np.full(9, -INF), 0.7),
    "pareto, cannot tell": lambda: pareto_k_histogram(np.full(9, NAN), 0.7),
    "pareto, too few draws": lambda: pareto_k_histogram([0.1, 0.2, -INF, NAN], -INF),
    "pareto, many": lambda: pareto_k_histogram(RNG.normal(0.1, 0.9, 10000), 0.67),
    "worst, images": lambda: worst_explained(
        MANY_IMAGES, MANY_IMAGES**2, np.linspace(-1161, -90, 24), image_shape=(3, 4), rows=np.arange(24) + 1000
    ),
    "worst, one image": lambda: worst_explained(MANY_IMAGES[:1], MANY_IMAGES[:1], [-INF], image_shape=(4, 3)),
    "worst, tall, missing": lambda: worst_explained(
        np.where(MANY_IMAGES > 0.9, NAN, MANY_IMAGES), MANY_IMAGES, np.full(24, -161.2), image_shape=(12, 1),
        rows=np.arange(24) + 990,
    ),
    "worst, vectors": lambda: worst_explained(MANY_IMAGES, MANY_IMAGES**2, np.full(24, NAN), rows=np.arange(24)),
    "worst, scalars": lambda: worst_explained(MANY_IMAGES[:5, 0], MANY_IMAGES[:5, 1], np.zeros(5)),
    "sandwich": lambda: sandwich(Z[:, 0] * 9, Z[:, 0] * 9 + 0.01 + 0.02 * Z[:, 1]),
    "sandwich, one": lambda: sandwich([-30.0], [-29.9]),
    "sandwich, not finite": lambda: sandwich([-30.0, -INF, -31.0], [-29.9, -3.0, NAN]),
    "sandwich, exact": lambda: sandwich([-30.0, -20.0], [-30.0, -20.0]),
    "divergence": lambda: divergence_per_dimension(
        np.arange(20) / 9, np.arange(20) > 9, names=[f"theta[{i}]" for i in range(20)]
    ),
    "divergence, errors": lambda: divergence_per_dimension(
        np.arange(12) / 9 - 0.02, np.arange(12) > 2, errors=np.full(12, 0.03)
    ),
    "divergence, one": lambda: divergence_per_dimension([2.0], [False]),
    "divergence, none": lambda: divergence_per_dimension(np.zeros(5), np.zeros(5, bool)),
    "divergence, 200": lambda: divergence_per_dimension(np.r_[NAN, np.arange(199)], np.arange(200) > 190),
    "aggregate": lambda: aggregated_posterior(Z * 0.4, Z[::-1], np.arange(20)),
    "aggregate, errors": lambda: aggregated_posterior(
        Z[:, :9] * 0.4, Z[:, :9], np.arange(9) - 0.02, errors=np.full(9, 0.03),
        names=[f"theta[{i}, 0]" for i in range(9)], gaussian_prior=np.stack([np.zeros(9), np.ones(9)]),
    ),
    "aggregate, one": lambda: aggregated_posterior(Z[:1, 0], Z[:, 1], [NAN]),
    "aggregate, constant": lambda: aggregated_posterior(np.zeros((50, 2)), np.zeros((60, 2)), [0, 0]),
    "aggregate, discrete": lambda: aggregated_posterior(Z[:, :5] > 0, np.round(Z[:, :5]), np.arange(5)),
    "aggregate, not finite": lambda: aggregated_posterior(
        np.where(Z[:, :3] > 2, NAN, Z[:, :3]), Z[:, :3], np.arange(3)
    ),
    "posteriors, one": lambda: posteriors_beside_prior(DRAWS[:, :1, :1], PRIOR[:, :1]),
    "posteriors, many": lambda: posteriors_beside_prior(np.tile(DRAWS, (1, 3, 1)), PRIOR, title="mine"),
    "posteriors, classes": lambda: posteriors_beside_prior(
        CLASSES, CLASSES[:, 0], names=["class"], data=["row 17 (label 3)"] * 3
    ),
    "posteriors, Gaussian": lambda: posteriors_beside_prior(
        DRAWS[..., :5], PRIOR[:, :5], gaussian=np.full((2, 3, 5), 0.7), gaussian_prior=np.eye(2, 5)[::-1] + 1
    ),
    "posteriors, constant": lambda: posteriors_beside_prior(np.full((9, 2, 2), 0.25), PRIOR[:, :2]),
    "posteriors, narrow": lambda: posteriors_beside_prior(
        DRAWS[..., :2] * [1e-3, 1], PRIOR[:, :2], data=["a long name " * 2] * 3, title=TITLE
    ),
    "posteriors, one draw": lambda: posteriors_beside_prior(DRAWS[:1, :, :2], PRIOR[:1, :2]),
    "posteriors, heavy tails": lambda: posteriors_beside_prior(DRAWS[..., :1], RNG.standard_cauchy((500, 1))),
    "gap": gap_figure,
    "gap, few": lambda: gap_figure(7),
    "gap, one": lambda: gap_figure(1),
    "gap, two families": lambda: gap_figure(families=("diagonal", "flow"), by=""),
    "gap, large": lambda: gap_figure(scale=1000.0),
    "gap, small": lambda: gap_figure(scale=1e-3),
    "gap, no encoder": lambda: gap_figure(encoder=False),
    "gap, no encoder, one": lambda: gap_figure(1, families=("diagonal",), encoder=False),
    "gap, all notes": gap_notes,
    "gap, exact": gap_exact,
    "gap, none": lambda: gaps(np.full(9, -85.0), {"diagonal": np.full(9, -85.0)}, amortized=np.full(9, -85.0)),
    "gap, rounding": lambda: gaps([-85.0, -84.0], {"full": [-85 - 1e-13, -84 + 1e-13]}, amortized=[-85.0, -84.0]),
    "gap, constant": lambda: gaps(np.full(9, -85.0), {"diagonal": np.full(9, -86.0)}, amortized=np.full(9, -90.0)),
    "gap, upside down": lambda: gaps(
        [-9.0, -8.0], {"diagonal": [-7.0, -6.5], "full": [-7.5, -6.6]}, amortized=[-5.0, -5.5]
    ),
    "variance": lambda: variance_over_particles(
        {
            "path derivative": variances(8.4),
            "total derivative": variances(57),
            "score function, leave-one-out": {k: 80 / (k - 1) for k in (2, 4, 8, 16, 32, 64)},
            "score function, decaying average": variances(82),
            "score function": variances(18_900),
        }
    ),
    "variance, one number of particles": lambda: variance_over_particles({"a": {4: 1.0}, "b": {4: 1.0}}),
    "variance, the same": lambda: variance_over_particles({name: variances(2) for name in "abcdef"}),
    "variance, zero": lambda: variance_over_particles(
        {"a": variances(2), "b": dict.fromkeys(variances(2), 0.0), "c": {1: INF, 2: 3.0}}
    ),
    "variance, many": lambda: variance_over_particles({"a": variances(1, range(1, 101))}),
    "sheet": lambda: sheet(IMAGES, title="t", rows="ab", columns=["x", "mean", LONG], image_shape=(4, 5)),
    "sheet, light": lambda: sheet(
        with_holes(IMAGES), title="t", columns=["x", "sd", "y"], image_shape=(4, 5), own_scale=[1], light=True
    ),
    "sheet, own scale": lambda: sheet(
        with_holes(IMAGES), title="t", columns=["x", "standard deviation", LONG], image_shape=(4, 5), own_scale=[1, 2]
    ),
    "sheet, one": lambda: sheet(IMAGES[:1, :1], title=TITLE, image_shape=(4, 5), note="and its note; " * 12),
    "sheet, large": lambda: sheet(
        GRID, title="t", rows=np.linspace(-2, 2, 14), columns=np.linspace(-2.125, 2, 14) / 1e3, image_shape=(4, 4),
        row_title="z[1]", column_title="z[0]",
    ),
    "sheet, many rows": lambda: sheet(
        np.repeat(GRID, 2, 0)[:, :1], title="t", rows=[f"row {i}" for i in range(28)], image_shape=(4, 4)
    ),
    "sheet, many columns": lambda: sheet(
        GRID[:1], title="t", columns=[f"column {i}" for i in range(14)], image_shape=(4, 4)
    ),
    "sheet, colour": lambda: sheet(RNG.uniform(0, 255, (4, 6, 48)), title="t", image_shape=(4, 4, 3), own_scale=[0]),
    "sheet, wide": lambda: sheet(
        IMAGES, title="t", rows=["row 1711 (label 13)"] * 2, image_shape=(1, 20), row_title="datum"
    ),
    "sheet, rolls": lambda: sheet(
        ROLLS, title="t", rows="abc", image_shape=(30, 40), roll=True, row_title="chorale", note="a note"
    ),
    "sheet, many rolls": lambda: sheet(ROLLS.reshape(12, 1, 30, 40), title="t", image_shape=(30, 40), roll=True),
    "sheet, tiny rolls": lambda: sheet(ROLLS.reshape(1, 12, 30, 40), title="t", image_shape=(30, 40), roll=True),
    "table": lambda: sheet(
        with_holes(NUMBERS), title="t", rows="abcd", columns=["x", "mean", "standard deviation"], own_scale=[2],
        names=["price (thousands of pounds)", *"bcdef"], row_title="datum", column_title="what",
    ),
    "table, long": lambda: sheet(GRID.reshape(98, 2, 16)[:49], title="t", rows=range(49), columns=["x", "mean"]),
    "table, one value": lambda: sheet(
        with_holes(NUMBERS[..., 0]), title="t", rows="abcd", columns=["x", LONG, "y"], column_title="draw"
    ),
    "table, one number": lambda: sheet([[-3.25]], title="t"),
    "colours of one value": lambda: sheet(GRID[..., :1], title="t", rows=range(14), columns=range(14)),
    "strips": lambda: sheet(
        with_holes(RNG.normal(size=(4, 3, 64))), title="t", rows=range(4), columns=["x", "mean", LONG], own_scale=[2],
        row_title="datum",
    ),
    "one strip": lambda: sheet(GRID.reshape(1, 1, -1), title="t"),
}  # fmt: skip
