"""The gaps of inference, from the encoder's ELBO to the log evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from numpy.typing import ArrayLike

from ppl_vae.errors import InputError
from ppl_vae.plots.style import (
    BLUE,
    HALO,
    INK,
    NOTE,
    ORANGE,
    blank,
    count_of_data,
    head,
    legend,
    note,
    number,
    panels,
)
from ppl_vae.plots.style import rows as as_rows
from ppl_vae.plots.style import ticks as locate_ticks

AMORTIZED: dict[str, Any] = {"color": ORANGE, "linestyle": "-", "marker": "o"}
FAMILIES: tuple[dict[str, Any], ...] = (  # from light to dark, the larger the family
    {"color": "#79aedb", "linestyle": (0, (5, 1.2)), "marker": "^"},
    {"color": BLUE, "linestyle": (0, (4, 1, 1, 1)), "marker": "s"},
    {"color": INK, "linestyle": (0, (1, 0.8)), "marker": "D"},
)
REACH = 30.0  # times the 95 per cent quantile of the largest gap: what is beyond is off the axis
SMALLEST = 1e-6  # nats: differences below are rounding


def gaps(
    log_evidence: ArrayLike,
    families: Mapping[str, ArrayLike],
    *,
    amortized: ArrayLike | None = None,
    by: str = "",
) -> Figure:
    r"""Draw the steps from the amortized ELBO to the log evidence, and the gaps over the data.

    .. math::
        \underbrace{\log p(x) - \mathcal L(q_\phi)}_{\text{inference gap}} =
        \underbrace{\log p(x) - \mathcal L(q^*)}_{\text{approximation gap}} +
        \underbrace{\mathcal L(q^*) - \mathcal L(q_\phi)}_{\text{amortization gap}}

    with the q* of the first family. All means are over the same data: a datum with a number that is not finite is left
    out everywhere, and a note says so. Errors are over data and paired: the standard deviation of the differences,
    divided by the square root of their number. A gap can be below zero by Monte Carlo error; it is drawn as it is, and
    counted.

    Source: Cremer, Li and Duvenaud, Inference Suboptimality in Variational Autoencoders (2018), section 3.

    Args:
        log_evidence: the best estimate of log p(x) of every datum, ``(N,)``, nats.
        families: the ELBO of every datum with its own optimised posterior, ``(N,)``, nats, by the name of the
            variational family; one to three families, from the smallest to the largest.
        amortized: the ELBO with the encoder's posterior, ``(N,)``, nats; without it there is no amortization gap.
        by: the name of the estimator of the log evidence, such as ``"exact"`` or ``"ais"``.

    Returns:
        A figure with two axes. Left, a rung for each mean, nats per datum, and the height of each step with its error.
        Right, for each gap, the share of the data where it is larger; the axis is linear about zero and logarithmic far
        from it, and a note says what is beyond its ends.

    Raises:
        InputError: no family or more than three, numbers of data that differ, or no datum with finite numbers only.

    Example:
        >>> families = {"diagonal": np.array([-21.0, -32.0]), "full": np.array([-20.5, -31.0])}
        >>> figure = gaps([-20.0, -31.0], families, amortized=[-22.0, -36.0], by="exact")
        >>> figure.get_suptitle()
        'Inference gap: 3.5 ± 1.5 nats per datum, mean of 2 data'
        >>> [text.get_text().replace("\n", " ") for text in figure.axes[0].texts]    # amortization gap first
        ['+2.5 ± 1.5', '+0.75 ± 0.25', '+0.25 ± 0.25']
    """
    elbos, count, notes = _kept(log_evidence, families, amortized)
    evidence = elbos.pop("log_evidence")
    styles: dict[str, dict[str, Any]] = dict(zip(families, FAMILIES, strict=False))
    curves = {name: evidence - elbos[name] for name in families}
    named = {name: f"approximation ({name})" for name in families}
    first = next(iter(families))
    what, total = f"Approximation gap ({first})", curves[first]
    if amortized is not None:
        styles, named = {"amortized": AMORTIZED} | styles, {"amortized": "amortization"} | named
        what, total = "Inference gap", evidence - elbos["amortized"]
        curves = {"amortized": elbos[first] - elbos["amortized"]} | curves

    whose = f"per datum, mean of {count_of_data(count)}" if count > 1 else "at the one datum"
    fig = blank(f"{what}: {_with_error(total)} nats {whose}", 9.0, 4.4)
    body: Any = fig.subfigures()  # the legend below both axes lies in it, and the notes below the legend
    left, right = panels(body, 2, 2)
    _ladder(left, elbos, evidence, styles, by)
    notes += _shares(right, {named[key]: (values, styles[key]) for key, values in curves.items()})
    meaning = "Gap: mean (marked) ± its error over data" if count > 1 else None
    legend(body, title=meaning, loc="outside lower center", ncols=2, columnspacing=3)
    note(fig, notes)
    return fig


def _kept(
    log_evidence: ArrayLike, families: Mapping[str, ArrayLike], amortized: ArrayLike | None
) -> tuple[dict[str, np.ndarray], int, list[str]]:
    """Return the ELBOs and the log evidence of the data with finite numbers only, the number of data, and notes."""
    if not 0 < len(families) <= len(FAMILIES):
        raise InputError(f"families: expected one to {len(FAMILIES)}, got {len(families)}: {list(families)}")
    if "amortized" in families or "log_evidence" in families:
        raise InputError(f"families: 'amortized' and 'log_evidence' are not names of a family, got {list(families)}")
    given = {} if amortized is None else {"amortized": amortized}
    arrays = {name: as_rows(values, name) for name, values in {**given, "log_evidence": log_evidence}.items()}
    arrays |= {name: as_rows(values, f"families[{name!r}]") for name, values in families.items()}
    n = len(arrays["log_evidence"])
    for name, values in arrays.items():
        if values.shape != (n, 1):
            where = f"families[{name!r}]" if name in families else name
            got = f"{len(values)}" if values.shape[1] == 1 else f"shape {values.shape}"
            raise InputError(f"{where}: expected one number for each of the {n} data of log_evidence, got {got}")
    flat = {name: arrays[name][:, 0] for name in [*given, *families, "log_evidence"]}
    finite = {name: np.isfinite(values) for name, values in flat.items()}
    kept = np.all(list(finite.values()), axis=0)
    if not kept.any():
        raise InputError("log_evidence, families: no datum has finite numbers only (did the fit diverge?)")
    lost = {name: int((~ok).sum()) for name, ok in finite.items() if not ok.all()}
    names = {"amortized": "ELBO of the encoder", "log_evidence": "evidence"}
    places = ", ".join(f"{names.get(name, f'ELBO of {name}')} at {times}" for name, times in lost.items())
    notes = [f"{(~kept).sum()} of {n} data left out, not finite: {places}"] if lost else []
    return {name: values[kept] for name, values in flat.items()}, int(kept.sum()), notes


def _ladder(
    ax: Axes, elbos: Mapping[str, np.ndarray], evidence: np.ndarray, styles: Mapping[str, dict[str, Any]], by: str
) -> None:
    """Draw a rung for each mean, risers between them, and below each rung its gain over the one before."""
    steps = [*elbos.values(), evidence]
    means = [float(values.mean()) for values in steps]
    low, top = min(means), max(means)
    span = top - low if top - low > SMALLEST else 1.0
    bottom = min(low - 0.1 * span, min(means[1:]) - 0.24 * span)
    above = top + 0.1 * span
    ax.set_ylim(bottom, above)
    ticks = locate_ticks(7).tick_values(bottom, above)
    # Fixed now: the layout needs the width of their labels, and smaller axes would choose other ticks.
    ax.set_yticks([tick for tick in ticks if bottom <= tick <= above])
    ax.set_xlim(-0.6, len(means) - 0.4)
    ax.axhline(means[-1], color=INK, linewidth=0.9, linestyle=":", zorder=1.5)
    for i, (one, other) in enumerate(pairwise(steps)):
        ax.plot([i + 0.5, i + 0.5], means[i : i + 2], color="0.6", linewidth=1.2, zorder=1.8)
        step = _with_error(other - one, "\n", sign="+")
        look: dict[str, Any] = {"fontsize": NOTE, "color": INK, "linespacing": 1.15, "path_effects": HALO}
        ax.annotate(step, (i + 1, means[i + 1]), (0, -7), textcoords="offset points", ha="center", va="top", **look)
    for i, (style, mean) in enumerate(zip([*styles.values(), {"color": INK}], means, strict=True)):
        ax.plot([i - 0.5, i + 0.5], [mean, mean], color=style["color"], linewidth=2.4, solid_capstyle="butt")
        ax.plot([i], [mean], color=style["color"], marker=style.get("marker", ""), markersize=6.5, linestyle="none")
    decimals = int(np.clip(2 - np.floor(np.log10(span)), 2, 5)) if span < 1000 else 0
    names = [*("encoder" if name == "amortized" else name for name in elbos), "evidence"]
    labels = [f"{fill(name, 12)}\n{number(mean, f'.{decimals}f')}" for name, mean in zip(names, means, strict=True)]
    labels[-1] += f"\n({fill(by, 11)})" if by else ""
    ax.set_xticks(range(len(means)), labels, linespacing=1.25)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="x", visible=False)
    ax.ticklabel_format(axis="y", useOffset=False)
    ax.set_ylabel("mean (nats per datum)" if len(evidence) > 1 else "nats")
    head(ax, "ELBO with each posterior, evidence, and the steps", pad=8)


def _shares(ax: Axes, curves: Mapping[str, tuple[np.ndarray, dict[str, Any]]]) -> list[str]:
    """Draw the share of the data with a gap larger than x, and return notes on gaps off the axis or below zero."""
    low, high, width = _range([values for values, _ in curves.values()])
    n = len(next(iter(curves.values()))[0])
    data = count_of_data(n)
    ax.set_xscale("asinh", linear_width=width)
    beyond, below = [], []
    for name, (values, style) in curves.items():
        mean = float(values.mean())
        x = np.sort(values)
        shares = np.r_[1, 1 - np.arange(1, n + 1) / n]
        ax.plot(np.r_[x[0], x], shares, drawstyle="steps-post", linewidth=1.8, **style | {"marker": ""})
        at_mean: dict[str, Any] = style | {"linestyle": "none", "markeredgecolor": "white", "zorder": 3}
        ax.plot([mean], [float((values > mean).mean())], markersize=8.5, **at_mean)
        ax.plot([], [], linewidth=1.8, markersize=6.5, label=f"{name}: {_with_error(values)}", **style)
        off = (values < low) | (values > high)
        if off.any():
            furthest = values[np.abs(values).argmax()]
            beyond.append(f"{name} {off.sum()}, furthest {_short(furthest)}")
        if (values < -SMALLEST).any():
            below.append(f"{name} {(values < -SMALLEST).sum()}")
    ax.axvline(0, color=INK, linewidth=0.9, zorder=1.5)
    ax.dataLim.intervalx = low - SMALLEST, high + SMALLEST
    ax.set(xmargin=0.04, ylim=(-0.02, 1.04))
    ax.autoscale(axis="x")
    ticks = _ticks(*ax.get_xlim(), width)
    ax.set_xticks(ticks, [number(tick, "g") for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="gap (nats)", ylabel="share of data with a larger gap")
    head(ax, "Gap of each datum", pad=8)
    notes = []
    if beyond:
        notes.append(f"beyond the axis, but in the means: {'; '.join(beyond)} (of {data})")
    if below:
        why = "Monte Carlo error, or an optimum or the evidence understated"
        notes.append(f"below zero ({why}): {', '.join(below)} of {data}")
    return notes


def _range(curves: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Return the ends of the axis of the gaps, and the gap at which it turns from linear to logarithmic."""
    sizes = [np.abs(values) for values in curves]
    values = np.concatenate(curves)
    most = REACH * max(float(np.quantile(size, 0.95, method="higher")) for size in sizes) or np.inf
    shown = values[np.abs(values) <= most]
    medians = [float(np.median(size)) for size in sizes]
    largest = max(medians) or float(np.abs(values).max()) or 1.0
    width = max(float(np.clip(min(medians), largest / 20, largest / 3)), SMALLEST)
    return min(float(shown.min()), 0.0), max(float(shown.max()), 0.0), width


def _ticks(low: float, high: float, width: float) -> list[float]:
    """Return zero and the round numbers that have room on an axis linear below ``width`` and logarithmic above.

    Example:
        >>> _ticks(-0.1, 50, 1)
        [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
    """
    ends = np.arcsinh(np.array([low, high]) / width)
    decades = 10.0 ** np.arange(np.floor(np.log10(width)) - 1, np.ceil(np.log10(max(-low, high))) + 1)[::-1]
    placed: dict[float, tuple[float, int]] = {}
    for value in [0.0, *(sign * lead * decade for lead in (1, 5, 2) for decade in decades for sign in (1, -1))]:
        place = (float(np.arcsinh(value / width)) - ends[0]) / (ends[1] - ends[0])
        size = len(number(value, "g"))
        room = all(abs(place - other) > 0.02 + 0.01 * (size + taken) for other, taken in placed.values())
        if low <= value <= high and room:
            placed[value] = (place, size)
    return sorted(float(value) for value in placed)


def _with_error(values: np.ndarray, between: str = " ", sign: str = "") -> str:
    """Return the mean and its standard error over data as text, with one or two digits of the error.

    Example:
        >>> _with_error(np.array([5.0, 7.0, 6.5, 7.5])), _with_error(np.array([2.0]), sign="+")
        ('6.50 ± 0.54', '+2')
    """
    mean = float(values.mean())
    error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0
    if error < SMALLEST:
        return _short(round(mean, 6) + 0.0, sign)
    first = int(max(-np.floor(np.log10(error)), 0))
    decimals = max(first, min(first + (error < 10), 3))
    return f"{number(mean, f'{sign}.{decimals}f')}{between}± {error:.{decimals}f}"


def _short(value: float, sign: str = "") -> str:
    """Return a number as text, with no more than one decimal if it is large."""
    return number(value, sign + (".3g" if abs(value) < 100 else ".1f" if abs(value) < 1000 else ".0f"))
