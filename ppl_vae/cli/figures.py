"""What a fit and an evaluation leave to look at: posterior draws of some test data, and the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ppl_vae.data import Dataset, as_images, subset
from ppl_vae.estimator import Evaluation, Gap, PosteriorDraws, VariationalInference, names_of
from ppl_vae.plots import (
    aggregated_posterior,
    bound_over_samples,
    divergence_per_dimension,
    elbo_over_epochs,
    gaps,
    latent_space,
    pareto_k_histogram,
    prior_samples,
    reconstructions,
    sandwich,
    worst_explained,
)
from ppl_vae.runs import Run, write_posterior

POSTERIOR_DATA, POSTERIOR_DRAWS = 256, 32
RECONSTRUCTIONS, PRIOR_DRAWS, LATENT_DATA = 20, 64, 5000
WORST_DATA = 20
EVIDENCE_FIGURES = ("bound", "pareto_k", "sandwich", "worst", "divergence", "aggregated")


def write_posterior_draws(run: Run, vi: VariationalInference, data: Dataset) -> None:
    """``posterior.nc``: posterior and posterior-predictive draws of some test data, drawn at random."""
    chosen = numbered(data, "test", POSTERIOR_DATA, vi.seed)
    draws = vi.posterior(chosen, num_samples=POSTERIOR_DRAWS)
    write_posterior(
        run.path / "posterior.nc",
        posterior=draws.latents,
        posterior_predictive={name: _compact(array) for name, array in draws.observed.items()},
        observed_data={name: _compact(array) for name, array in draws.data.items()},
        rows=chosen["_row"],
    )


def write_figures(run: Run, vi: VariationalInference, data: Dataset) -> None:
    """``figures/``: the ELBO over epochs, reconstructions, draws from the prior, the latent space."""
    run.write_figure("elbo", elbo_over_epochs(run.metrics()))

    chosen = numbered(data, "test", RECONSTRUCTIONS, vi.seed)
    draws = vi.posterior(chosen, num_samples=32)
    *pair, shape = pictures(draws, data, chosen.get("lengths"))
    run.write_figure("reconstructions", reconstructions(*pair, image_shape=shape))
    if vi.generates:
        conditions = {}
        if "lengths" in vi.arguments_:
            conditions["lengths"] = np.resize(chosen["lengths"], PRIOR_DRAWS)
        samples = vi.sample(PRIOR_DRAWS, mean=True, **conditions)
        sites = samples if isinstance(samples, dict) else {"": samples}
        drawn = picture(sites, data.image_shape, conditions.get("lengths"))
        run.write_figure("prior", prior_samples(drawn.array, image_shape=drawn.shape))

    if vi.has_latents:
        chosen = numbered(data, "test", LATENT_DATA, vi.seed)
        labels = chosen.get("y")
        run.write_figure(
            "latents", latent_space(vi.transform(chosen), labels if labels is not None and labels.ndim == 1 else None)
        )


def write_evidence_figures(
    run: Run, vi: VariationalInference, data: Dataset, arrays: dict[str, np.ndarray], evaluation: Evaluation
) -> None:
    """``figures/``: what an evaluation says of the evidence and of the latents; those of an earlier one are removed.

    Args:
        run: where to.
        vi: the fitted program.
        data: where the data are from.
        arrays: the data that were evaluated, with ``_row``.
        evaluation: of these data.
    """
    evidence, rows = evaluation.evidence, evaluation.rows
    figures: dict[str, Figure] = {}
    curves = {name: {k: v.numpy() for k, v in each.curve.items()} for name, each in evidence.items() if each.curve}
    if curves:
        exact = rows["exact"].log_evidence if "exact" in rows else None
        references = {"ais": rows["ais"].log_evidence} if "ais" in rows else {}
        ordered = {name: curves[name] for name in sorted(curves)}  # iwae, whose first point is the ELBO, then prior
        figures["bound"] = bound_over_samples(ordered, exact=exact, references=references)
    if "iwae" in evidence:
        k = evidence["iwae"].columns["pareto_k"].numpy()
        figures["pareto_k"] = pareto_k_histogram(k, evaluation.highest_pareto_k)
    if "bdmc" in evidence:
        figures["sandwich"] = sandwich(*(evidence["bdmc"].columns[side].numpy() for side in ("lower", "upper")))
    if best := next((name for name in ("exact", "ais", "iwae", "prior") if name in evidence), None):
        log_evidence = evidence[best].log_evidence.numpy()
        worst = np.argsort(log_evidence)[:WORST_DATA]
        draws = vi.posterior({name: array[worst] for name, array in arrays.items()}, num_samples=32)
        lengths = arrays["lengths"][worst] if "lengths" in arrays else None
        seen, means, shape = pictures(draws, data, lengths)
        labels = arrays["_row"][worst]
        figures["worst"] = worst_explained(seen, means, log_evidence[worst], image_shape=shape, rows=labels)
    if (used := evaluation.diagnostics) is not None:
        by_dimension, names = used.divergence_by_dimension.numpy(), used.dimensions
        if np.isfinite(by_dimension).all() and used.active is not None:
            figures["divergence"] = divergence_per_dimension(by_dimension, used.active.numpy(), names=names)
        columns = (used.draws.numpy(), used.prior_draws.numpy(), used.aggregated_divergence.numpy())
        figures["aggregated"] = aggregated_posterior(*columns, names=names)
    run.write_figures(figures, among=EVIDENCE_FIGURES)


def write_gap_figure(run: Run, gap: Gap) -> None:
    """``figures/gap.png``: the gaps over data."""
    families = {name: fit.elbo.numpy() for name, fit in gap.families.items()}
    amortized = None if gap.amortized is None else gap.amortized.numpy()
    run.write_figure("gap", gaps(gap.log_evidence.numpy(), families, amortized=amortized, by=gap.by))


class Picture(NamedTuple):
    """What is drawn of data."""

    array: np.ndarray
    """``(N, ...)``."""
    shape: tuple[int, ...] | None
    """Of a datum that is an image or a sequence."""
    roll: bool
    """Whether it is a sequence, with time from left to right and the first feature lowest."""
    names: tuple[str, ...]
    """Of the numbers of a datum that is neither."""


def pictures(
    draws: PosteriorDraws, data: Dataset, lengths: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...] | None]:
    """Data ``(N, ...)``, their posterior-predictive means, and their shape where they are images or sequences."""
    means = {name: mean.mean(0) for name, mean in draws.means.items()}
    seen = picture(draws.data, data.image_shape, lengths)
    return seen.array, picture(means, data.image_shape, lengths).array, seen.shape


def picture(
    sites: Mapping[str, np.ndarray], image_shape: tuple[int, ...] | None, lengths: np.ndarray | None = None
) -> Picture:
    """What is drawn of observed sites ``(N, ...)``.

    The one site that is an image; a sequence as a roll, with nothing past its end; or all of them as one vector, which
    is no image.
    """
    for x in sites.values():
        if image_shape is not None and _is_image(x, image_shape):
            return Picture(as_images(x, image_shape), image_shape, False, ())
    arrays = list(sites.values())
    if lengths is not None:
        steps = arrays[0] if len(arrays) == 1 else np.stack(arrays, 1)  # a site, or one for each step
        if steps.ndim == 3 and steps.shape[2] > 1:
            steps = np.where(np.arange(steps.shape[1])[:, None] < lengths[:, None, None], steps, 0)
            roll = steps[:, : lengths.max(), ::-1].swapaxes(1, 2)
            return Picture(roll, roll.shape[1:], True, ())
    joined = arrays[0] if len(arrays) == 1 else np.concatenate([x.reshape(len(x), -1) for x in arrays], 1)
    names = tuple(name for site, x in sites.items() for name in names_of(site, x.shape[1:]))
    return Picture(joined, None, False, names)


def _is_image(x: np.ndarray, shape: tuple[int, ...]) -> bool:
    return x[0].size == np.prod(shape)


def numbered(data: Dataset, part: str, num_data: int | None, seed: int) -> dict[str, np.ndarray]:
    """Some data of a part drawn at random, for they may be sorted, or all; ``_row`` is the row of each."""
    arrays = data.part(part)
    rows = np.arange(len(next(iter(arrays.values()))))
    return subset({**arrays, "_row": rows}, num_data, seed)


def _compact(array: np.ndarray) -> np.ndarray:
    """Bits as bytes, which take a quarter of the room."""
    return array.astype(np.int8) if np.isin(array, (0, 1)).all() else array
