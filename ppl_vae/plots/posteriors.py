"""The posteriors of a few data beside the prior, one latent dimension at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.style import (
    NOTE,
    PALE,
    blank,
    bulk,
    entitle,
    first,
    fullest,
    legend,
    normal_density,
    panels,
    remarked,
    rows,
    ticks,
    widest,
)

PANELS, DATA, FEW = 12, 6, 20  # dimensions, data, and the values of a discrete latent
POINTS = 300  # of a density
COLOURS = ("#222222", "#d55e00", "#0072b2", "#009e73", "#882255", "#56b4e9")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (9, 2)), (0, (3, 1, 1, 1, 1, 1)))
BULK = (0.002, 4.0)  # what an axis leaves out: share of draws at either end, and interquartile ranges
HIGHEST = 12.0  # times the prior's peak: a higher density is cut off, so that the prior stays visible


def posteriors_beside_prior(
    draws: ArrayLike,
    prior: ArrayLike,
    *,
    names: Sequence[str] = (),
    data: Sequence[object] = (),
    gaussian: ArrayLike | None = None,
    gaussian_prior: ArrayLike | None = None,
    title: str = "Posteriors of a few data, and the prior",
) -> Figure:
    """Draw the posteriors of a few data beside the prior, one latent dimension at a time.

    A Gaussian whose moments are given is drawn as the curve that it is. Other densities are Gaussian kernel estimates
    with Silverman's bandwidth. They are folded at 0 if no draw is negative, and also at 1 if no draw exceeds it. A
    dimension of at most 20 whole numbers has bars.

    Args:
        draws: K draws from the posteriors of n data, ``(K, n, D)``.
        prior: draws from the prior, ``(M, D)``.
        names: the names of the dimensions; ``z[0]``, ``z[1]`` and so on by default.
        data: the names of the data; ``datum 0`` and so on by default.
        gaussian: mean and standard deviation of the posteriors that are Gaussians, ``(2, n, D)``; a deviation of NaN or
            zero for others.
        gaussian_prior: mean and standard deviation of the prior, ``(2, D)``, likewise.
        title: the title of the figure.

    Returns:
        An axes for each of the first 12 dimensions, with the first 6 data. A density more than 12 times as high as the
        prior's is cut off at the top, and the title says so.

    Raises:
        InputError: the shapes do not agree, or a dimension that is shown has no finite draws of the prior or of a
            datum.

    Source:
        Silverman, Density Estimation for Statistics and Data Analysis (1986), equation 3.31.

    Example:
        >>> z = np.random.default_rng(0).normal(size=(200, 3, 2))
        >>> figure = posteriors_beside_prior(z[:, :2] * 0.3 + 1, z[:, 2], data=["a", "b"])
        >>> [ax.get_xlabel() for ax in figure.axes], [t.get_text() for t in figure.legends[0].get_texts()]
        (['value of z[0]', 'value of z[1]'], ['prior', 'a', 'b'])
        >>> exact = posteriors_beside_prior(z[:, :2], z[:, 2], gaussian=np.stack([np.zeros((2, 2)), np.ones((2, 2))]))
        >>> round(float(max(exact.axes[0].lines[1].get_ydata())), 4)
        0.3989
    """
    z, reference = np.asarray(draws, dtype=float), rows(prior, "prior")
    if z.ndim != 3 or z.size == 0 or z.shape[2] != reference.shape[1]:
        raise InputError(f"draws: expected (K, n, D) with the D of prior {reference.shape}, got {z.shape}")
    _, count, size = z.shape
    for name, labels, expected in [("names", names, size), ("data", data, count)]:
        if len(labels) not in (0, expected):
            raise InputError(f"{name}: expected {expected}, or none, got {len(labels)}")
    curves = _moments(gaussian, (2, count, size), "gaussian")[:, :DATA, :PANELS]
    prior_curves = _moments(gaussian_prior, (2, size), "gaussian_prior")[:, :PANELS]
    z, reference = z[:, :DATA, :PANELS], reference[:, :PANELS]
    dimensions = [str(name) for name in names or [f"z[{d}]" for d in range(size)]]
    data_names = [str(name) for name in data or [f"datum {i}" for i in range(count)]]

    shown = z.shape[2]
    columns = fullest(shown, 4 if shown > 9 else 3)
    n_rows = -(-shown // columns)
    fig = blank(title, max(5.2, 1.9 * columns + 0.6), max(3.4, 1.7 * n_rows + 1.2))
    cut = discrete = 0
    for d, ax in enumerate(panels(fig, shown, columns, grid=False)):
        posteriors = [_finite(z[:, i, d], data_names[i], dimensions[d]) for i in range(z.shape[1])]
        prior_draws = _finite(reference[:, d], "the prior", dimensions[d])
        values = np.unique(np.concatenate([prior_draws, *posteriors]))
        whole = len(values) <= FEW and bool((values % 1 == 0).all()) and len(values) < len(prior_draws)
        discrete += whole
        if whole:
            _bars(ax, posteriors, prior_draws)
        else:
            every = [(prior_draws, prior_curves[:, d]), *zip(posteriors, curves[:, :, d].T, strict=True)]
            cut += _densities(ax, [Curve(draws, *moments) for draws, moments in every])
        ax.set_xlabel(f"value of {dimensions[d]}", fontsize=NOTE)
        ax.set_ylabel("probability" if whole else "density", fontsize=NOTE)
        ax.xaxis.set_major_locator(ticks(8 if whole else 4, whole=whole))
        ax.yaxis.set_major_locator(ticks(4))
    remarks = [first(DATA, count, "data"), first(PANELS, size, "dimensions")]
    remarks += [f"cut off at the top: a density in {cut} of {shown} axes"] if cut else []
    entitle(fig, remarked(title, remarks, "\n"))
    handles: list[Any] = [Patch(facecolor=PALE, edgecolor="0.55", label="prior")]
    for name, colour, dash in zip(data_names[: z.shape[1]], COLOURS, DASHES, strict=False):
        line = Line2D([], [], color=colour, linestyle=dash, linewidth=1.6, label=name)
        handles.append(Patch(facecolor=colour, label=name) if discrete == shown else line)
    columns = int(np.clip(fig.get_figwidth() / (widest(data_names) + 0.75), 1, len(handles)))
    legend(fig, handles=handles, loc="outside lower center", handlelength=3.2, ncols=columns)
    return fig


def density(draws: np.ndarray, at: np.ndarray, ends: tuple[float, float] = (-np.inf, np.inf)) -> np.ndarray:
    """Return a Gaussian kernel estimate of the density of ``draws`` ``(K,)``, folded at the ends of its support.

    Example:
        >>> density(np.linspace(0, 1, 1000), np.array([-0.1, 0.0, 0.5]), ends=(0, 1)).round(1).tolist()
        [0.0, 1.0, 1.0]
    """
    first, third = np.quantile(draws, [0.25, 0.75])
    spread = min(s for s in (float(draws.std()), float(third - first) / 1.34, np.inf) if s > 0)
    width = 0.9 * spread * len(draws) ** -0.2
    mirrored = [draws, *(2 * end - draws for end in ends if np.isfinite(end))]
    apart = (at[:, None] - np.concatenate(mirrored)[None]) / width
    inside = (at >= ends[0]) & (at <= ends[1])
    return np.exp(-0.5 * apart**2).sum(1) / (len(draws) * width * np.sqrt(2 * np.pi)) * inside


def _finite(values: np.ndarray, whose: str, dimension: str) -> np.ndarray:
    """Return the finite draws, of which there must be one."""
    kept = values[np.isfinite(values)]
    if not len(kept):
        raise InputError(f"draws, prior: no finite draw of {whose} at {dimension} (did the fit diverge?)")
    return kept


def _moments(given: ArrayLike | None, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return moments of this shape; NaN if none are given."""
    moments = np.full(shape, np.nan) if given is None else np.asarray(given, dtype=float)
    if moments.shape != shape:
        raise InputError(f"{name}: expected means and standard deviations of shape {shape}, got {moments.shape}")
    return moments


class Curve(NamedTuple):
    """The density of some draws, which is known if mean and standard deviation are."""

    draws: np.ndarray
    mean: float
    sd: float

    @property
    def is_known(self) -> bool:
        """True if the density is that of a Gaussian."""
        return bool(np.isfinite(self.mean) and self.sd > 0)

    @property
    def is_point(self) -> bool:
        """True if there is no density, as all draws are one number."""
        return not self.is_known and float(np.ptp(self.draws)) == 0

    @property
    def ends(self) -> tuple[float, float]:
        """The range of the axis that the curve needs."""
        return (self.mean - 3.2 * self.sd, self.mean + 3.2 * self.sd) if self.is_known else bulk(self.draws, *BULK)

    def heights(self, at: np.ndarray, support: tuple[float, float]) -> np.ndarray:
        """Return the density at points ``(P,)``."""
        return normal_density(at, self.mean, self.sd) if self.is_known else density(self.draws, at, support)


def _densities(ax: Axes, curves: list[Curve]) -> bool:
    """Draw the densities of the prior and of the posteriors, and return true if one is cut off."""
    ends = np.array([curve.ends for curve in curves])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    margin = 0.05 * (high - low) or 0.5
    least, most = min(curve.draws.min() for curve in curves), max(curve.draws.max() for curve in curves)
    is_real = least < 0 or any(curve.is_known for curve in curves)
    support = (-np.inf if is_real else 0.0, np.inf if is_real or most > 1 else 1.0)
    low, high = max(low - margin, support[0]), min(high + margin, support[1])
    grid = np.linspace(low, high, POINTS)
    peaks: list[float] = []
    room = np.inf
    prior, *posteriors = curves
    if not prior.is_point:
        heights = prior.heights(grid, support)
        ax.fill_between(grid, heights, color=PALE, linewidth=0)
        ax.plot(grid, heights, color="0.55", linewidth=0.8)
        peaks.append(float(heights.max()))
        room = HIGHEST * peaks[-1]
    for curve, colour, dash in zip(posteriors, COLOURS, DASHES, strict=False):
        if curve.is_point:
            ax.axvline(curve.draws[0], color=colour, linestyle=dash, linewidth=1.4)
            continue
        # More points near its centre: a narrow density would lie between those of the axis.
        at = np.union1d(grid, np.clip(np.linspace(*curve.ends, POINTS // 2 + 1), low, high))
        heights = curve.heights(at, support)
        ax.plot(at, heights, color=colour, linestyle=dash, linewidth=1.4)
        peaks.append(float(heights.max()))
    top = 1.06 * min(max(peaks, default=1.0), room)
    ax.set(xlim=(low, high), ylim=(0, top))
    return max(peaks, default=0.0) > top


def _bars(ax: Axes, posteriors: list[np.ndarray], prior: np.ndarray) -> None:
    """Draw a bar for the prior's share of each value, and in front of it a bar for each datum."""
    values = np.unique(np.concatenate([prior, *posteriors]))
    width = 0.8 / len(posteriors)
    ax.bar(values, [(prior == v).mean() for v in values], 0.94, color=PALE, edgecolor="0.55", linewidth=0.8)
    for i, (draws, colour) in enumerate(zip(posteriors, COLOURS, strict=False)):
        places = values - 0.4 + (i + 0.5) * width
        ax.bar(places, [(draws == v).mean() for v in values], width, color=colour, edgecolor="white", linewidth=0.4)
    ax.set(xlim=(values[0] - 0.6, values[-1] + 0.6))
