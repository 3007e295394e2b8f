"""The page of an explored space: its content, its answers to requests, and the file that needs no server."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ppl_vae.errors import InputError
from ppl_vae.explore.space import Decoded, ExploredSpace
from ppl_vae.explore.views import (
    Views,
    chosen_conditions,
    describe_colours,
    describe_conditions,
    own_conditions,
    plain,
)
from ppl_vae.runs.files import write_whole

PAGE = Path(__file__).with_name("page.html")
MOST_POINTS = 4000
"""The most points of the grid of a file."""
AT_ONCE = 128
"""Number of points that are decoded at once."""
MOST_DRAWN = 8
"""The most coordinates whose posteriors are in a file."""


class Explorer:
    """The content of a page about a space, and its answers.

    Args:
        space: the space.
        views: the way in which data are shown.
        title: the title of the page.
        rows: the names of the data.
        part: the part of the data set that they are from.
    """

    def __init__(self, space: ExploredSpace, views: Views, title: str, rows: list[str], part: str) -> None:
        self.space, self.views, self.title, self.rows, self.part = space, views, title, rows, part
        self.controls = describe_conditions(space)
        self.values = {name: space.values_of(name) for name in space.names}
        self.content = self._content()

    def _content(self) -> dict[str, Any]:
        """Return what the page has to know before it asks for anything."""
        space, vi = self.space, self.space.vi
        first = space.neighbourhood(0)
        known = zip(space.places.T, first.prior.T, space.spread.T, strict=True)
        spans = [self._span(np.concatenate(parts)) for parts in known]
        return {
            "title": self.title,
            "part": self.part,
            "size": space.size,
            "what": f"{vi.fitted.name_of_means} of x given z",
            "hasPrior": space.has_prior,
            "generates": vi.generates or not space.has_prior,
            "coordinates": [
                {"name": name, "divergence": None if np.isnan(kl) else round(float(kl), 3), "span": span}
                | {"values": self.values[name], "moved": space.is_moved(name)}
                for name, kl, span in zip(space.names, space.divergence, spans, strict=True)
            ],
            "places": plain(space.places.T),
            "rows": self.rows[: len(space.places)],
            "colours": describe_colours(space),
            "conditions": self.controls,
        }

    def decode(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the views of a point and the numbers of the nearest data.

        Args:
            request: ``row``, the datum whose other coordinates and conditions hold; ``point``, some coordinates by
                name; ``conditions``, positions among the values of a choice, or numbers, by name.

        Raises:
            InputError: the request has another form, or something in it does not exist.
        """
        row, point, conditions = request.get("row", 0), request.get("point", {}), request.get("conditions", {})
        if not (isinstance(row, int) and isinstance(point, Mapping) and isinstance(conditions, Mapping)):
            raise InputError('expected a request such as {"row": 0, "point": {"z[0]": 1.5}, "conditions": {}}')
        chosen = chosen_conditions(self.controls, conditions)
        decoded = self.space.decode([point], row, chosen)
        rows = decoded.nearest[0].tolist()
        nearest = [{"row": near, "views": views} for near, views in zip(rows, self.views.of_data(rows), strict=True)]
        return {"views": self.views.of_decoded(decoded, row, chosen)[0], "nearest": nearest}

    def datum(self, row: int) -> dict[str, Any]:
        """Return the views of a datum, its place, its conditions, and draws from its posterior and its prior."""
        near = self.space.neighbourhood(row)
        return {
            "views": self.views.of_data([row])[0],
            "point": near.point,
            "prior_mean": self.space.prior_mean(row),
            "conditions": own_conditions(self.space, self.controls, row),
            "posterior": plain(near.posterior.T),
            "prior": plain(near.prior.T),
        }

    def answers(self, num_steps: int) -> dict[str, Any]:
        """Return the answers that a page without a server needs: a grid over the plane, for each choice of conditions.

        The other coordinates are at the mean of the prior, or at the first value of a discrete latent.

        Args:
            num_steps: number of points of the grid in each direction.

        Raises:
            InputError: there are too many points.
        """
        axes = self._axes()
        choices = [control for control in self.controls if control["kind"] == "choice"]
        count = num_steps ** len(axes) * int(np.prod([len(control["values"]) for control in choices]))
        if num_steps < 2 or count > MOST_POINTS:
            raise InputError(
                f"--num-steps {num_steps} makes a grid of {count} points with all conditions: expected 2 steps or more "
                f"and {MOST_POINTS} points or fewer"
            )
        spans = {axis["name"]: axis["span"] for axis in self.content["coordinates"] if axis["name"] in axes}
        ticks = {name: np.linspace(span[0], span[1], num_steps) for name, span in spans.items()}
        grid = [dict(zip(ticks, map(float, values), strict=True)) for values in product(*ticks.values())]
        names, positions = [control["name"] for control in choices], [range(len(c["values"])) for c in choices]
        decoded = [self._decode_grid(grid, dict(zip(names, at, strict=True))) for at in product(*positions)]
        return {
            "steps": num_steps,
            "axes": list(ticks),
            "conditions": names,
            "decoded": decoded,
            "data": [self._small_datum(row) for row in range(len(self.space.places))],
        }

    def _decode_grid(self, grid: list[dict[str, float]], conditions: Mapping[str, Any]) -> list[dict[str, Any]]:
        chosen, answers = chosen_conditions(self.controls, conditions), []
        for start in range(0, len(grid), AT_ONCE):
            part = grid[start : start + AT_ONCE]
            decoded = self.space.decode(part, 0, chosen, around_prior=True)
            views = self.views.of_decoded(decoded, 0, chosen)
            answers += [
                {"views": view, "nearest": near} for view, near in zip(views, decoded.nearest.tolist(), strict=True)
            ]
        return answers

    def _small_datum(self, row: int) -> dict[str, Any]:
        """Return the answer about a datum with fewer draws, and the decoded posterior mean."""
        decoded: Decoded = self.space.decode([{}], row)
        answer = self.datum(row)
        few = {name: [draws[:100] for draws in answer[name][:MOST_DRAWN]] for name in ("posterior", "prior")}
        return answer | few | {"decoded": self.views.of_decoded(decoded, row)[0]}

    def _axes(self) -> list[str]:
        """Return the first two continuous coordinates, or the only one."""
        return [name for name in self.space.names if self.values[name] is None][:2]

    @staticmethod
    def _span(values: np.ndarray) -> list[float]:
        """Return the range of a coordinate, and a little more."""
        low, high = float(values.min()), float(values.max())
        more = 0.05 * (high - low) or 0.5
        return plain([low - more, high + more])


def render(content: Mapping[str, Any], answers: Mapping[str, Any] | None = None) -> str:
    """Return the page with its content, and with its answers if it must work without a server.

    Nothing in the page is loaded from elsewhere, and its script is the only one that its policy allows.
    """
    page = PAGE.read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = json.dumps({**content, "answers": answers}, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return page.replace("SCRIPT_HASH", known).replace("PAGE_CONTENT", text)


def write_page(explorer: Explorer, path: str | Path, num_steps: int = 21) -> Path:
    """Write a page that needs no server, and return the file.

    Args:
        explorer: the content of the page.
        path: the file.
        num_steps: number of points of the grid in each direction.

    Raises:
        InputError: the file cannot be written, or the grid has too many points.
    """
    file = Path(path).expanduser()
    page = render(explorer.content, explorer.answers(num_steps))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, page)
    except OSError as error:
        raise InputError(f"{file} cannot be written ({error.strerror}): name another file") from error
    return file
