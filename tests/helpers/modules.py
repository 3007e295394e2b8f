"""Modules with parameters that depend on a seed alone."""

from __future__ import annotations

from torch import nn

from ppl_vae.program import seeded


def in_double(cls: type[nn.Module], seed: int = 0, **options: object) -> nn.Module:
    """Return a module in double precision, whose parameters depend on the seed alone."""
    with seeded(seed):
        return cls(**options).double()
