"""Views of data and of the space that they lie in, as plain numbers, texts and lists that a page draws."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppl_vae.data import Dataset, is_one_hot
from ppl_vae.data.kinds import Variable
from ppl_vae.data.labels import label_codes
from ppl_vae.errors import InputError
from ppl_vae.explore.space import Decoded, ExploredSpace
from ppl_vae.plots.style import limits
from ppl_vae.program import coded_columns
from ppl_vae.uses.pictures import picture_sites

MOST_IN_TABLE = 60
"""The most numbers of a datum that are shown as a table; more are a curve."""
MOST_VALUES = 50
"""The most values of a condition that are listed; of more, a number is asked for."""
MOST_COLOURS = 12
"""The most labels that have a colour each."""
MISSING = 255
"""The byte of a pixel that is missing; the others are from 0 to 254."""


class Views:
    """The way in which the data of a run are shown.

    Args:
        space: the space, whose data set the scale of images.
        data: the data set, which has the shape of an image.
    """

    def __init__(self, space: ExploredSpace, data: Dataset) -> None:
        self.space, self.data, self.fitted = space, data, space.vi.fitted
        self.observed = self.fitted.observed(space.arrays)
        self.classes, self.coded = self.fitted.classes, coded_columns(space.vi.program_)  # each runs the model
        named = self.fitted.naming.columns.values()
        self.columns: dict[str, Variable] = {column.name: column for columns in named for column in columns}
        lengths = self._lengths(np.arange(len(space.places)))
        self.scale = limits(picture_sites(self.observed, data, lengths).array.astype(float))

    def of_decoded(
        self, decoded: Decoded, row: int, conditions: Mapping[str, Any] | None = None
    ) -> list[list[dict[str, Any]]]:
        """Return the views of each decoded point.

        Args:
            decoded: what was decoded.
            row: the datum whose conditions hold.
            conditions: other conditions in their place, of which only lengths matter here.
        """
        shares = {site: self._shares(site, mean, decoded.shares) for site, mean in decoded.means.items()}
        means = {site: mean.argmax(-1) if site in self.classes else mean for site, mean in decoded.means.items()}
        lengths = self._lengths(np.repeat(row, len(decoded.nearest)), conditions)
        return self._views(means, shares, lengths)

    def of_data(self, rows: Sequence[int]) -> list[list[dict[str, Any]]]:
        """Return the views of data."""
        index = np.asarray(rows)
        sites = {site: array[index] for site, array in self.observed.items()}
        return self._views(sites, {}, self._lengths(index))

    def _views(
        self, sites: Mapping[str, np.ndarray], shares: Mapping[str, np.ndarray], lengths: np.ndarray | None
    ) -> list[list[dict[str, Any]]]:
        picture = picture_sites(sites, self.data, lengths)
        if picture.shape is None:
            joined = picture_sites(shares, self.data, lengths).array if shares else np.full(picture.array.shape, np.nan)
            flat = (np.asarray(array, float).reshape(len(array), -1) for array in (picture.array, joined))
            return [[self._numbers(picture.names, values, share)] for values, share in zip(*flat, strict=True)]
        images = [self._image(image, picture.roll, picture.light) for image in picture.array]
        size = 0 if picture.roll else np.prod(picture.shape)
        others = {site: array for site, array in sites.items() if array[0].size != size}
        if picture.roll or not others:
            return [[image] for image in images]
        rest = self._views(others, {site: shares[site] for site in others if site in shares}, lengths)
        return [[image, *views] for image, views in zip(images, rest, strict=True)]

    def _image(self, image: np.ndarray, roll: bool, light: bool) -> dict[str, Any]:
        low, high = self.scale
        scaled = np.clip((image.astype(float) - low) / (high - low), 0, 1) * (MISSING - 1)
        pixels = np.where(np.isnan(scaled), MISSING, np.round(scaled)).astype(np.uint8)
        return {
            "kind": "roll" if roll else "image",
            "shape": list(image.shape),
            "light": light,
            "bytes": base64.b64encode(pixels.tobytes()).decode(),
        }

    def _numbers(self, names: Sequence[str], values: np.ndarray, shares: np.ndarray) -> dict[str, Any]:
        if len(values) > MOST_IN_TABLE:
            return {"kind": "curve", "values": plain(values)}
        rows = zip(names, values, shares, strict=True)
        return {
            "kind": "table",
            "rows": [[name, self._text(name, value), *plain([share])] for name, value, share in rows],
        }

    def _text(self, name: str, value: float) -> str | None:
        """Return a number, or the label of a code, as text; None if it is missing."""
        if not np.isfinite(value):
            return None
        column = self.columns.get(name)
        if column is not None and column.categories:
            return str(label_codes(column, np.array([value]))[0])
        return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")

    def _shares(self, site: str, mean: np.ndarray, coded: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the probability of the most probable value of each number, NaN if it is no class."""
        if site in self.classes:
            return mean.max(-1)
        shares = np.full(mean.shape, np.nan)
        if site in coded and site in self.coded:
            shares[..., list(self.coded[site])] = coded[site].max(-1)
        return shares

    def _lengths(self, rows: np.ndarray, conditions: Mapping[str, Any] | None = None) -> np.ndarray | None:
        if "lengths" not in self.space.vi.arguments_:
            return None
        own = np.asarray(self.space.arrays["lengths"]).ravel()[rows]
        return np.full_like(own, conditions["lengths"]) if conditions and "lengths" in conditions else own


def describe_conditions(space: ExploredSpace) -> list[dict[str, Any]]:
    """Return the conditions that can be changed, each with its values, or with the range of a number."""
    described = []
    for name in space.condition_names:
        rows = np.asarray(space.arrays[name])
        columns = space.vi.fitted.naming.columns.get(name, ())
        control: dict[str, Any] = {"name": name}
        if len(columns) == 1 and columns[0].categories:
            control |= {"kind": "choice", "values": [*columns[0].categories]}
        elif is_one_hot(rows):
            control |= {"kind": "choice", "values": list(range(rows.shape[1]))}
        elif rows.size != len(rows):
            continue  # a vector or an image, which is that of the datum
        elif rows.dtype.kind in "biu" and name != "lengths" and len(np.unique(rows)) <= MOST_VALUES:
            control |= {"kind": "choice", "values": np.unique(rows).tolist()}
        else:
            low, high = float(rows.min()), float(rows.max())
            control |= {"kind": "number", "low": low, "high": high, "whole": rows.dtype.kind in "biu"}
        described.append(control)
    return described


def own_conditions(space: ExploredSpace, controls: Sequence[Mapping[str, Any]], row: int) -> dict[str, Any]:
    """Return the conditions of a datum: the position among the values of a choice, or a number."""
    own = {}
    for control in controls:
        name = control["name"]
        value = np.asarray(space.arrays[name])[row]
        columns = space.vi.fitted.naming.columns.get(name, ())
        if control["kind"] == "number":
            own[name] = float(value.item())
        elif len(columns) == 1 and columns[0].categories:
            own[name] = int(value.item())
        else:
            own[name] = int(value.argmax()) if value.size > 1 else control["values"].index(value.item())
    return own


def chosen_conditions(controls: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of conditions that a page gives, as ``own_conditions`` does.

    Raises:
        InputError: there is no such condition or value.
    """
    known, chosen = {control["name"]: control for control in controls}, {}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"there is no condition {name!r} to change")
        if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value):
            raise InputError(f"the condition {name!r} is {value!r}: expected a number")
        if known[name]["kind"] == "choice":
            values = known[name]["values"]
            if value != int(value) or not 0 <= value < len(values):
                raise InputError(f"the condition {name!r} has the values 0 to {len(values) - 1}, and no {value!r}")
            value = values[int(value)]
        chosen[name] = int(value) if known[name].get("whole") else value
    return chosen


def describe_colours(space: ExploredSpace) -> list[dict[str, Any]]:
    """Return the numbers by which data can be coloured: arrays of single numbers, and the columns of tables."""
    colours = []
    named = space.vi.fitted.naming.columns
    for name, array in space.arrays.items():
        if name != "_row" and np.ndim(array) == 1:
            colours.append(_colour(name, np.asarray(array), next(iter(named.get(name, ())), None)))
    for name, columns in named.items():
        rows = np.asarray(space.arrays.get(name, np.zeros(0)))
        if rows.ndim == 2 and rows.shape[1] == len(columns) <= MOST_IN_TABLE:
            colours += [_colour(column.name, rows[:, at], column) for at, column in enumerate(columns)]
    return colours


def _colour(name: str, values: np.ndarray, column: Variable | None) -> dict[str, Any]:
    labels: list[str] | None = None
    if column is not None and column.categories:
        labels = [*map(str, column.categories)]
    elif values.dtype.kind in "biu" and len(unique := np.unique(values)) <= MOST_COLOURS:
        labels, values = [*map(str, unique.tolist())], np.searchsorted(unique, values)
    if labels is not None and len(labels) > MOST_COLOURS:
        labels = None
    return {"name": name, "values": plain(values), "labels": labels}


def plain(values: Any) -> Any:
    """Return numbers with four digits of their range as nested lists, with None for those that are not finite.

    Example:
        >>> plain(np.array([[1.23456, np.nan], [0.0, 2.0]])), plain([3, 4])
        ([[1.235, None], [0.0, 2.0]], [3.0, 4.0])
    """
    array = np.asarray(values, dtype=float)
    finite = np.isfinite(array)
    largest = np.abs(array[finite]).max(initial=0.0)
    digits = 3 - int(np.floor(np.log10(largest))) if largest > 0 else 0
    listed = np.where(finite, np.round(array, digits), np.nan).astype(object)
    listed[~finite] = None
    return listed.tolist()
