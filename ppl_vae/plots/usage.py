"""The use of the latent dimensions: their divergences, and their aggregate beside the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.style import BLUE, INK, PALE, blank, bulk, fullest, note, number, panels, remarked, rows, single

PANELS = 16
NAMED_BARS, BARS = 25, 60  # up to 25 bars have their dimension's number; past 60, an inactive tail is left out


def divergence_per_dimension(kl: ArrayLike, active: ArrayLike, *, names: Sequence[str] | None = None) -> Figure:
    """Draw the divergence of each latent dimension from the prior, the largest first.

    Args:
        kl: KL(q(z_d | x) || p(z_d)) averaged over the data, ``(D,)``, nats per datum. A dimension that is not finite
            has no bar, and a note gives the number of such dimensions.
        active: true for active dimensions, ``(D,)``, Boolean; see ``ppl_vae.evidence.active_units``.
        names: the names of the dimensions; their numbers by default.

    Returns:
        A figure with one axes and a bar for each dimension; inactive ones are pale. If there are more than 60
        dimensions, an inactive tail is left out, and a note has its sum.

    Raises:
        InputError: the shapes do not agree, or no divergence is finite.

    Example:
        >>> divergence_per_dimension(np.array([0.0, 3.0, 1.5]), np.array([False, True, True])).get_suptitle()
        '2 of 3 latent dimensions active: KL of 4.5 nats per datum in all'
    """
    values, used = rows(kl, "kl").ravel(), np.asarray(active).astype(bool).ravel()
    if values.shape != used.shape:
        raise InputError(f"active: expected one for each of the {len(values)} dimensions, got {len(used)}")
    finite = np.isfinite(values)
    if not finite.any():
        raise InputError("kl: no dimension has a finite divergence (did the fit diverge?)")
    order = np.flatnonzero(finite)[np.argsort(-values[finite], kind="stable")]
    count, total = len(values), float(values[finite].sum())
    last_active = int(np.flatnonzero(used[order]).max(initial=-1))
    shown = order[: max(BARS, last_active + 11)]
    rest = values[order[len(shown) :]]

    dims = "dimensions" if count > 1 else "dimension"
    title = f"{used.sum()} of {count} latent {dims} active: KL of {number(total)} nats per datum in all"
    fig, ax = single(title, 6.8)
    ax.grid(axis="x", visible=False)
    few = len(shown) <= NAMED_BARS
    edge: dict[str, Any] = {"width": 0.8 if few else 1.0, "edgecolor": "0.45" if few else "none", "linewidth": 0.5}
    ranks = np.arange(1, len(shown) + 1)
    for state, (name, colour) in {True: ("active", BLUE), False: ("inactive", PALE)}.items():
        if (chosen := used[shown] == state).any():
            ax.bar(ranks[chosen], values[shown][chosen], color=colour, label=name, **edge)
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set_xlim(0.5 - 0.1 * few, len(shown) + 0.5 + 0.1 * few)
    if len(shown) == 1:
        ax.set_xlim(-0.5, 2.5)
    if few:
        labels = [names[d] if names else str(d) for d in shown]
        turn = 90 if max(map(len, labels)) > 3 and len(labels) > 8 else 0
        ax.set_xticks(ranks, labels, fontsize="small", rotation=turn)
        ax.set_xlabel("latent dimension, by its divergence")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("rank of the latent dimension")
    ax.set_ylabel("KL(q(z[d] | x) || p(z[d]))\n(nats per datum, mean over data)")
    notes = []
    if len(rest):
        notes.append(f"{len(rest)} more inactive dimensions, {number(float(rest.sum()), '.2g')} nats in all, left out")
    if not finite.all():
        notes.append(f"not finite at {(~finite).sum()} of {count} dimensions")
    note(fig, notes)
    ax.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return fig


def aggregated_posterior(
    draws: ArrayLike, prior_draws: ArrayLike, divergence: ArrayLike, *, names: Sequence[str] | None = None
) -> Figure:
    """Draw the aggregated posterior beside the prior, for the latent dimensions in which they differ most.

    Args:
        draws: one draw of z for each datum, ``(N, D)``.
        prior_draws: draws from the prior, ``(M, D)``.
        divergence: an estimate of KL(aggregated posterior || prior) for each dimension, ``(D,)``, nats; see
            ``ppl_vae.evidence.marginal_divergence``. One that is not finite counts as the smallest.
        names: the names of the dimensions; ``z[0]``, ``z[1]`` and so on by default.

    Returns:
        At most 16 axes, the largest divergence first. A histogram leaves out the outermost draws.

    Raises:
        InputError: the shapes do not agree, or no dimension has finite draws of both.

    Example:
        >>> z = np.random.default_rng(0).normal(size=(500, 2))
        >>> figure = aggregated_posterior(z * [1, 0.5], z[::-1], np.array([0.0, 0.32]))
        >>> [ax.get_title() for ax in figure.axes]
        ['z[1]: KL 0.32 nats', 'z[0]: KL 0.00 nats']
    """
    z, prior, kl = rows(draws, "draws"), rows(prior_draws, "prior_draws"), rows(divergence, "divergence").ravel()
    size = z.shape[1]
    if prior.shape[1] != size or len(kl) != size:
        raise InputError(
            f"draws: expected (N, D) with the D of prior_draws and of divergence, "
            f"got {z.shape}, {prior.shape} and {len(kl)}"
        )
    drawable = np.isfinite(z).any(0) & np.isfinite(prior).any(0)
    if not drawable.any():
        raise InputError("draws, prior_draws: no dimension has finite draws of both (did the fit diverge?)")
    order = np.argsort(-np.where(np.isfinite(kl), kl, -np.inf), kind="stable")
    shown = [int(d) for d in order if drawable[d]][:PANELS]

    columns = fullest(len(shown), 4)
    which = f": the {len(shown)} of {size} dimensions that differ most" if len(shown) < size else ""
    lost = int((~np.isfinite(z)).sum() + (~np.isfinite(prior)).sum())
    remarks = [f"{lost} draws not finite, left out" if lost else ""]
    title = remarked(f"Aggregated posterior and prior{which}", remarks, "\n")
    fig = blank(title, max(5.4, 2.0 * columns + 0.6), max(3.4, 1.5 * -(-len(shown) // columns) + 1.2))
    for d, ax in zip(shown, panels(fig, len(shown), columns), strict=True):
        both = [values[np.isfinite(values)] for values in (z[:, d], prior[:, d])]
        edges = _edges(*both)
        share, prior_share = (np.histogram(values, edges)[0] / len(values) for values in both)
        ax.stairs(share, edges, fill=True, color=BLUE, alpha=0.55)
        ax.stairs(prior_share, edges, color=INK, linewidth=1.3)
        estimate = f"KL {number(round(kl[d], 2) + 0.0, '.2f')} nats" if np.isfinite(kl[d]) else "KL unknown"
        ax.set_title(f"{names[d] if names else f'z[{d}]'}: {estimate}", fontsize="small", color="0.25", pad=2)
        ax.set_yticks([])
        ax.set_ylim(0, 1.06 * max(share.max(), prior_share.max()))
        ax.tick_params(labelsize="small")
        whole = bool((np.concatenate(both) % 1 == 0).all())
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=whole, steps=[1, 2, 5, 10]))
    fig.supylabel("share of draws", fontsize="medium")
    handles = [Patch(color=BLUE, alpha=0.55, label="aggregated posterior"), Patch(fill=False, ec=INK, label="prior")]
    fig.legend(handles=handles, frameon=False, fontsize="small", loc="outside lower center", ncols=2)
    return fig


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
