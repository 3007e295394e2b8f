"""Where the text of a figure lies, and which of it is cut off or covered."""

from __future__ import annotations

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

Boxes = list[tuple[str, Bbox]]


def shown_ticks(axis) -> list[Text]:
    """Return the labels of an axis that are drawn, on either side of the axes."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [label for tick in ticks for label in (tick.label1, tick.label2) if label.get_visible()]


def text_boxes(figure: Figure) -> Boxes:
    """Lay a figure out, and return each of its texts with its box in pixels; a legend is one text."""
    canvas = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    texts = [figure._suptitle, figure._supxlabel, figure._supylabel]
    for ax in figure.axes:
        texts += [*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label, *shown_ticks(ax.xaxis), *shown_ticks(ax.yaxis)]
        texts += [cell.get_text() for table in ax.tables for cell in table.get_celld().values()]
    # Text's extent, not Annotation's, which has the leader line in it.
    boxes = [(text.get_text(), Text.get_window_extent(text, canvas)) for text in texts if text and text.get_text()]
    keys = [key for part in (figure, *figure.subfigs) for key in part.legends]
    keys += [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    return boxes + [("legend", key.get_window_extent(canvas)) for key in keys]


def misplaced(boxes: Boxes, figure: Figure) -> list[str | tuple[str, str]]:
    """Return the texts that are cut off, and the pairs of texts that overlap."""
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
