"""The use of the latent dimensions: their divergences, and their aggregate beside the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.style import (
    BLUE,
    INK,
    LABEL,
    NOTE,
    PALE,
    blank,
    bulk,
    fullest,
    head,
    legend,
    normal_density,
    note,
    number,
    panels,
    remarked,
    rows,
    single,
    ticks,
)

PANELS = 16
NAMED_BARS, BARS = 25, 60  # up to 25 bars have their dimension's number; past 60, an inactive tail is left out


def divergence_per_dimension(
    kl: ArrayLike, active: ArrayLike, *, errors: ArrayLike | None = None, names: Sequence[str] | None = None
) -> Figure:
    """Draw the KL divergence of each latent dimension from the prior, the largest first.

    Args:
        kl: KL(q(z_d | x) || p(z_d)) averaged over the data, ``(D,)``, nats per datum. A dimension that is not finite
            has no bar, and a note gives the number of such dimensions.
        active: true for active dimensions, ``(D,)``, Boolean; see ``ppl_vae.evidence.active_units``.
        errors: the errors of ``kl``, ``(D,)``, which are drawn if there are at most 25 bars.
        names: the names of the dimensions; their numbers by default.

    Returns:
        A figure with one axes and a bar for each dimension; inactive ones are pale. If there are more than 60
        dimensions, an inactive tail is left out, and a note has its sum. An estimate from draws can be below zero,
        which a divergence is not; then a note says so.

    Raises:
        InputError: the shapes do not agree, or no divergence is finite.

    Example:
        >>> divergence_per_dimension(np.array([0.0, 3.0, 1.5]), np.array([False, True, True])).get_suptitle()
        '2 of 3 latent dimensions active, KL 4.5 nats per datum'
    """
    values, used = rows(kl, "kl").ravel(), np.asarray(active).astype(bool).ravel()
    if values.shape != used.shape:
        raise InputError(f"active: expected one for each of the {len(values)} dimensions, got {len(used)}")
    error = np.full(len(values), np.nan) if errors is None else rows(errors, "errors").ravel()
    if error.shape != values.shape:
        raise InputError(f"errors: expected one for each of the {len(values)} dimensions, got {len(error)}")
    finite = np.isfinite(values)
    if not finite.any():
        raise InputError("kl: no dimension has a finite divergence (did the fit diverge?)")
    order = np.flatnonzero(finite)[np.argsort(-values[finite], kind="stable")]
    count, total = len(values), float(values[finite].sum())
    last_active = int(np.flatnonzero(used[order]).max(initial=-1))
    shown = order[: max(BARS, last_active + 11)]
    rest = values[order[len(shown) :]]

    dims = "dimensions" if count > 1 else "dimension"
    title = f"{used.sum()} of {count} latent {dims} active, KL {number(total)} nats per datum"
    fig, ax = single(title, 5.2 if len(shown) <= 12 else 6.4)
    ax.grid(axis="x", visible=False)
    few = len(shown) <= NAMED_BARS
    edge: dict[str, Any] = {"width": 0.8 if few else 1.0, "edgecolor": "0.45" if few else "none", "linewidth": 0.5}
    ranks = np.arange(1, len(shown) + 1)
    for state, (name, colour) in {True: ("active", BLUE), False: ("inactive", PALE)}.items():
        if (chosen := used[shown] == state).any():
            ax.bar(ranks[chosen], values[shown][chosen], color=colour, label=name, **edge)
    ax.axhline(0, color=INK, linewidth=0.8)
    if few and np.isfinite(error[shown]).any():
        ax.errorbar(ranks, values[shown], error[shown], linestyle="none", color=INK, linewidth=1, capsize=2)
    ax.set_xlim(0.5 - 0.1 * few, len(shown) + 0.5 + 0.1 * few)
    if len(shown) == 1:
        ax.set_xlim(-0.5, 2.5)
    if few:
        labels = [names[d] if names else str(d) for d in shown]
        turn = 90 if max(map(len, labels)) > 3 and len(labels) > 8 else 0
        ax.set_xticks(ranks, labels, rotation=turn)
        ax.set_xlabel("latent dimension, by its KL")
    else:
        ax.xaxis.set_major_locator(ticks(whole=True))
        ax.set_xlabel("rank of the latent dimension")
    ax.set_ylabel("KL from the prior\n(nats per datum, mean over data)")
    notes = []
    if len(rest):
        notes.append(f"{len(rest)} more inactive dimensions, {number(float(rest.sum()), '.2g')} nats in all, left out")
    if not finite.all():
        notes.append(f"not finite at {(~finite).sum()} of {count} dimensions")
    if few and np.isfinite(error[shown]).any():
        notes.append("intervals: ± the error over data")
    if below := int((values[finite] < 0).sum()):
        notes.append(f"{below} below zero, where no KL is: estimated from draws")
    note(fig, notes)
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return fig


def aggregated_posterior(
    draws: ArrayLike,
    prior_draws: ArrayLike,
    divergence: ArrayLike,
    *,
    errors: ArrayLike | None = None,
    gaussian_prior: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw the aggregated posterior beside the prior, for the latent dimensions in which they differ most.

    Args:
        draws: one draw of z for each datum, ``(N, D)``.
        prior_draws: draws from the prior, ``(M, D)``.
        divergence: an estimate of KL(aggregated posterior || prior) for each dimension, ``(D,)``, nats; see
            ``ppl_vae.evidence.marginal_divergence``. One that is not finite counts as the smallest.
        errors: the errors of ``divergence``, ``(D,)``. Of a KL near zero, half of the estimates are below zero.
        gaussian_prior: mean and standard deviation of the prior, ``(2, D)``, which is drawn as a curve; a deviation
            of NaN or zero where it is no Gaussian, and its draws have a histogram.
        names: the names of the dimensions; ``z[0]``, ``z[1]`` and so on by default.

    Returns:
        At most 16 axes, the largest divergence first. A histogram leaves out the outermost draws.

    Raises:
        InputError: the shapes do not agree, or no dimension has finite draws of both.

    Example:
        >>> z = np.random.default_rng(0).normal(size=(500, 2))
        >>> figure = aggregated_posterior(z * [1, 0.5], z[::-1], np.array([0.0, 0.32]), errors=[0.01, 0.02])
        >>> [ax.get_title() for ax in figure.axes]
        ['z[1]: KL 0.32 ± 0.02', 'z[0]: KL 0.00 ± 0.01']
    """
    z, prior, kl = rows(draws, "draws"), rows(prior_draws, "prior_draws"), rows(divergence, "divergence").ravel()
    size = z.shape[1]
    if prior.shape[1] != size or len(kl) != size:
        raise InputError(
            f"draws: expected (N, D) with the D of prior_draws and of divergence, "
            f"got {z.shape}, {prior.shape} and {len(kl)}"
        )
    error = np.full(size, np.nan) if errors is None else rows(errors, "errors").ravel()
    curves = np.full((2, size), np.nan) if gaussian_prior is None else np.asarray(gaussian_prior, float)
    if len(error) != size or curves.shape != (2, size):
        raise InputError(
            f"errors, gaussian_prior: expected (D,) and (2, D) of {size}, got {error.shape}, {curves.shape}"
        )
    drawable = np.isfinite(z).any(0) & np.isfinite(prior).any(0)
    if not drawable.any():
        raise InputError("draws, prior_draws: no dimension has finite draws of both (did the fit diverge?)")
    order = np.argsort(-np.where(np.isfinite(kl), kl, -np.inf), kind="stable")
    shown = [int(d) for d in order if drawable[d]][:PANELS]

    columns = fullest(len(shown), 4 if len(shown) > 9 else 3)
    which = f": the {len(shown)} of {size} dimensions that differ most" if len(shown) < size else ""
    lost = int((~np.isfinite(z)).sum() + (~np.isfinite(prior)).sum())
    remarks = [f"{lost} draws not finite, left out" if lost else ""]
    title = remarked(f"Aggregated posterior and prior{which}; KL in nats", remarks, "\n")
    fig = blank(title, max(5.2, 1.7 * columns + 0.5), max(3.4, 1.4 * -(-len(shown) // columns) + 1.2))
    for d, ax in zip(shown, panels(fig, len(shown), columns), strict=True):
        both = [values[np.isfinite(values)] for values in (z[:, d], prior[:, d])]
        edges = _edges(*both)
        heights, prior_heights = (np.histogram(values, edges)[0] / len(values) for values in both)
        ax.stairs(heights, edges, fill=True, color=BLUE, alpha=0.55)
        mean, sd = curves[:, d]
        if sd > 0:
            at = np.linspace(edges[0], edges[-1], 200)
            prior_heights = normal_density(at, mean, sd) * (edges[1] - edges[0])
            ax.plot(at, prior_heights, color=INK, linewidth=1.3)
        else:
            ax.stairs(prior_heights, edges, color=INK, linewidth=1.3)
        head(ax, f"{names[d] if names else f'z[{d}]'}: {_estimate(kl[d], error[d])}", NOTE, pad=2)
        ax.set_yticks([])
        ax.set_ylim(0, 1.06 * max(heights.max(), prior_heights.max()))
        whole = bool((np.concatenate(both) % 1 == 0).all())
        ax.xaxis.set_major_locator(ticks(4, whole=whole))
    fig.supylabel("share of draws", fontsize=LABEL)
    handles = [Patch(color=BLUE, alpha=0.55, label="aggregated posterior"), Line2D([], [], color=INK, label="prior")]
    legend(fig, handles=handles, loc="outside lower center", ncols=2)
    return fig


def _estimate(kl: float, error: float) -> str:
    """Return an estimate of a divergence with its error, or without if that is not known.

    Example:
        >>> _estimate(0.314, 0.02), _estimate(np.nan, 0.1)
        ('KL 0.31 ± 0.02', 'KL not known')
        >>> _estimate(0.0012, 0.0021)
        'KL 0.001 ± 0.002'
    """
    if not np.isfinite(kl):
        return "KL not known"
    decimals = 3 if error < 0.0095 else 2
    doubt = f" ± {error:.{decimals}f}" if np.isfinite(error) else ""
    return f"KL {number(round(kl, decimals) + 0.0, f'.{decimals}f')}{doubt}"


def _edges(draws: np.ndarray, prior_draws: np.ndarray) -> np.ndarray:
    """Return the edges of common bins: around each value if there are few values, else equal ones over the bulk."""
    values = np.unique(np.concatenate([draws, prior_draws]))
    if len(values) <= 40 and len(values) < 0.5 * min(len(draws), len(prior_draws)):
        between = (values[1:] + values[:-1]) / 2
        half = np.diff(values).min() / 2 if len(values) > 1 else 0.5
        return np.concatenate([[values[0] - half], between, [values[-1] + half]])
    ends = np.array([bulk(values, 0.005, 3.0) for values in (draws, prior_draws)])
    low, high = ends.min(), ends.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, int(np.clip(np.sqrt(min(len(draws), len(prior_draws))), 10, 30)) + 1)
