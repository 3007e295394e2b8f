"""The positions of the texts in a figure."""

from __future__ import annotations

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

Boxes = list[tuple[str, Bbox]]


def shown_ticks(axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    params = axis.get_tick_params()
    if not params.get("labelbottom", params.get("labelleft")):
        return []
    return [label for at, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True) if low <= at <= high]


def text_boxes(figure: Figure) -> tuple[Boxes, Figure]:
    """Return the texts of a drawn figure and their positions."""
    agg = FigureCanvasAgg(figure)
    agg.draw()
    canvas = agg.get_renderer()
    texts = [figure._suptitle, figure._supxlabel, figure._supylabel]
    for ax in figure.axes:
        texts += [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label, *shown_ticks(ax.xaxis), *shown_ticks(ax.yaxis)]
    # Text's extent, not Annotation's, which has the leader line in it.
    boxes = [(text.get_text(), Text.get_window_extent(text, canvas)) for text in texts if text and text.get_text()]
    keys = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return boxes + [("legend", key.get_window_extent(canvas)) for key in keys], figure


def misplaced(boxes: Boxes, figure: Figure) -> list[str | tuple[str, str]]:
    """Return texts that are cut off, and pairs of texts that overlap."""
    page = figure.bbox
    wrong: list[str | tuple[str, str]] = [
        text for text, box in boxes if box.x0 < -1 or box.y0 < -1 or box.x1 > page.x1 + 1 or box.y1 > page.y1 + 1
    ]
    for (one, box), (other, second) in combinations(boxes, 2):
        across = min(box.x1, second.x1) - max(box.x0, second.x0)
        up = min(box.y1, second.y1) - max(box.y0, second.y0)
        if min(across, up) >= 1.5:
            wrong.append((one, other))
    return wrong
