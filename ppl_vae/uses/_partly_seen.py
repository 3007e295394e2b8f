"""Data of a call that have holes, as the program of data that are partly seen takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ppl_vae.data import Holes, fill_missing, mask_of
from ppl_vae.estimator import VariationalInference
from ppl_vae.program import BoundProgram, with_missing


def read_partly_seen(
    vi: VariationalInference, arrays: tuple[Any, ...], missing: Mapping[str, np.ndarray]
) -> tuple[Mapping[str, np.ndarray], dict[str, np.ndarray], BoundProgram]:
    """Return the data filled in and with masks, what is missing, and the program of data that are partly seen.

    A fit with holes has this program, and the values of its training part. In another one, the mean of a column of
    these data stands in place of what is missing.
    """
    naming, program = vi.fitted.naming, vi.program_
    given, arguments = naming.rename(arrays), naming.order(vi.argument_names)
    owner, usual = type(vi).__name__, naming.holes.usual
    filled, gaps = fill_missing(owner, given, arguments, missing, vi.template, naming.columns, usual)
    holes = naming.holes
    if program.parts is None:
        real = [index for index, rows in enumerate(vi.template_) if rows.is_floating_point()]
        program = with_missing(program, real)
        assert program.parts is not None
        names = [vi.arguments_[index] for index in real]
        allowed = {name: may.cpu().numpy() for name, may in zip(names, program.parts.allowed, strict=True)}
        holes = Holes(dict.fromkeys(names, np.zeros(())), allowed)
    named: Mapping[str, np.ndarray] = {
        name: filled[name] for name in vi.fitted.checked((filled,)) if name in vi.arguments_ and name in filled
    }
    named = {**named, **{mask_of(name): ~gaps[name] for name in holes.names}}
    holes.check("the data", named, arguments)
    return named, gaps, program
