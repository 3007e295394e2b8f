"""The figures of a run folder, inlined, with their titles and captions."""

from __future__ import annotations

import base64
import io
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ppl_vae import plots
from ppl_vae.plots.style import NOTE
from ppl_vae.uses.description import USES

DPI = 150
"""Dots per inch of the figures in a run folder."""
LEGIBLE = 8
"""The least size of text in a figure on a narrow page, CSS pixels."""
HALF = 544
"""The largest width of figures that stand side by side, CSS pixels."""
SUPERSEDED = {"latents": "latent_space", "aggregated": "latent_aggregated", "check_training": "elbo"}
"""Figures that are left out beside others that show the same: ``latents`` shows more than ``fit`` and ``evaluate``."""

CAPTIONS: dict[str, tuple[str, str, str]] = {
    "elbo": ("training", "The bound over the fit", "Training and validation bound of each epoch; higher is better."),
    "bound": (
        "quality",
        "The bound over the number of draws",
        "The estimate rises towards the log evidence as more draws are averaged. If it still rises at the end, it is "
        "too low.",
    ),
    "pareto_k": (
        "quality",
        "Pareto k of the importance weights",
        "The weights of data to the right of the line have such a heavy tail that their estimate should not be "
        "believed.",
    ),
    "sandwich": (
        "quality",
        "Bidirectional Monte Carlo",
        "Bounds from below and from above for data that were simulated from the model.",
    ),
    "worst": ("quality", "The data that are explained worst", "Those with the lowest log evidence, and their means."),
    "gap": ("gap", "The gaps of inference", "What amortization and the posterior's family cost, datum by datum."),
    "check_ecdf": (
        "checks",
        "Ranks of latents of simulated data",
        "A line that leaves the grey band shows draws that are too narrow, too wide or shifted.",
    ),
    "check_ranks": (
        "checks",
        "Ranks of one latent",
        "Bars outside of the dashed lines form a U if the draws are too narrow, and a hill if they are too wide.",
    ),
    "check_coverage": (
        "checks",
        "Expected coverage",
        "The share of latents in the central intervals of their draws; below the diagonal, the draws are too narrow.",
    ),
    "check_statistics": (
        "checks",
        "Statistics of the data",
        "Beside those of data sets that are drawn from the model; orange ones lie outside.",
    ),
    "check_intervals": (
        "checks",
        "Ranks of the data among their predictions",
        "A line that leaves the grey band shows predictions that are too narrow, too wide or shifted.",
    ),
    "check_surprise": (
        "checks",
        "Log evidence of test data and of data from the model",
        "If they differ, the model is not that of the data.",
    ),
    "latents": ("latents", "The latent space", "Posterior means, coloured by label if there are labels."),
    "divergence": (
        "latents",
        "KL of each latent dimension from the prior",
        "The KL divergence of the posterior from the prior, in the mean over data; a dimension near zero is not used.",
    ),
    "aggregated": (
        "latents",
        "Aggregated posterior beside the prior",
        "Where they differ, the decoder gets draws from the prior that are unlike most that it was trained on.",
    ),
    "reconstructions": ("samples", "Reconstructions", "Test data and their posterior-predictive means."),
    "prior": ("samples", "Draws from the prior predictive", "Means of new data, given latents from the prior."),
}
"""The section, the title and the caption of the figures of ``fit``, ``evaluate`` and ``gap``, in their order."""
SECTIONS = ("training", "quality", "checks", "gap", "latents", "samples", "uses")


class InlineFigure(NamedTuple):
    """A figure as part of a page."""

    section: str
    title: str
    caption: str
    file: str
    """Name of the file in the folder ``figures``; empty if the figure was drawn for the report."""
    src: str
    """A data URI."""
    width: int | None
    """Width of the figure in CSS pixels; None if an SVG does not state it."""

    @property
    def min_width(self) -> int | None:
        """The width below which the smallest text is no longer legible; a narrower page scrolls the figure."""
        return None if self.width is None else round(self.width * LEGIBLE / (NOTE * 96 / 72))

    @property
    def is_half(self) -> bool:
        """True if two figures of this width stand side by side on a wide page."""
        return self.width is not None and self.width <= HALF


def collect_figures(
    folder: Path, metrics: Sequence[Any], checks: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> list[InlineFigure]:
    """Return the figures of a folder, as PNG, or as SVG if there is no PNG, in the order of their sections.

    Args:
        folder: the folder ``figures`` of a run.
        checks: titles and captions of the figures of checks, by the names of their files without ``check_``.
        metrics: the rows of a run's metrics, from which the ELBO is drawn if the run was stopped before it drew it.
    """
    of_uses = {name: caption for use in USES.values() for name, caption in use.figures.items()}
    of_checks = {f"check_{name}": ("checks", title, caption) for name, (title, caption) in checks.items() if title}
    captions: dict[str, tuple[str, str, str]] = {**of_uses, **CAPTIONS, **of_checks}
    kinds = ("svg", "png")  # a PNG takes the place of an SVG
    files = {path.stem: path for kind in kinds for path in folder.glob(f"[!.]*.{kind}")}
    figures = []
    for stem, path in files.items():
        if SUPERSEDED.get(stem) in files:
            continue
        key = max((name for name in captions if belongs_to(stem, name)), key=len, default="")
        section, title, caption = captions.get(key, ("uses", stem.replace("_", " ").replace("-", " "), ""))
        if key and stem != key:
            title = f"{title}: {stem[len(key) + 1 :].replace('_', ' ')}"
        content, svg = path.read_bytes(), path.suffix == ".svg"
        width = None if svg or len(content) < 24 else round(struct.unpack(">I", content[16:20])[0] * 96 / DPI)
        figure = InlineFigure(section, title, caption, path.name, data_uri(content, "svg+xml" if svg else "png"), width)
        rank = list(captions).index(key) if key else len(captions)
        figures.append((SECTIONS.index(section), rank, stem, figure))
    ordered = [figure for *_, figure in sorted(figures, key=lambda item: item[:3])]
    drawn = any(figure.section == "training" for figure in ordered)
    return [_draw_elbo(metrics), *ordered] if metrics and not drawn else ordered


def belongs_to(stem: str, name: str) -> bool:
    """Return true if a file is one of a figure or a use, whose name may be followed by more words.

    Example:
        >>> belongs_to("generate_mean", "generate"), belongs_to("generated", "generate")
        (True, False)
    """
    return stem == name or stem.startswith((f"{name}_", f"{name}-", f"{name}."))


def inline_graph(svg: str) -> InlineFigure:
    """Return the graphical model, an SVG that graphviz has drawn, in whose text a point is a point."""
    size = re.search(r'<svg width="(\d+)pt"', svg)
    width = None if size is None else round(int(size.group(1)) * 96 / 72)
    return InlineFigure("program", "The graphical model", "", "", data_uri(svg.encode(), "svg+xml"), width)


def data_uri(content: bytes, kind: str) -> str:
    """Return the data URI of an image, such as ``png``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _draw_elbo(metrics: Sequence[Any]) -> InlineFigure:
    file = io.BytesIO()
    figure = plots.elbo_over_epochs(metrics)
    figure.savefig(file, dpi=DPI, format="png", metadata={"Software": None})
    width = round(float(figure.get_size_inches()[0]) * 96)
    return InlineFigure(*CAPTIONS["elbo"], "", data_uri(file.getvalue(), "png"), width)
