"""Data with holes in a fit: which arrays have masks, and further holes that are drawn in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ppl_vae.data import Holes, find_holes, mask_of
from ppl_vae.estimator.options import FitOptions
from ppl_vae.inference.options import options_of
from ppl_vae.program import Program


def look_for_holes(program: Program, estimator: Any, parts: Sequence[Mapping[str, Any]]) -> Holes:
    """Return what is needed to live with the holes of the data that a program takes.

    Arrays have masks if they have a hole in any part, if holes are drawn in training, or if the program needs a mask.

    Args:
        program: the program.
        estimator: an object with all options as attributes.
        parts: the parts of the data, of which the first is the training part.
    """
    given = [*parts[0], *(mask_of(name) for name in parts[0])]
    names = [name for name in program.arguments(given) if name in parts[0]]
    also = {name for name in names if mask_of(name) in program.required_names and mask_of(name) not in parts[0]}
    if options_of(estimator, FitOptions).extra_missing:
        also.add("x" if "x" in names else names[0])
    return find_holes(names, parts, also=also)
