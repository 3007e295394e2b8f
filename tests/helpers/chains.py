"""Short chains of annealing, for tests of what is done with estimates and not of their numbers."""

from __future__ import annotations

from importlib import import_module

import pytest


def shorten_pilot(patch: pytest.MonkeyPatch) -> None:
    """Let annealing look for its step sizes in six moves or so, instead of a hundred and twenty."""
    for name in ("WARM_UP_MOVES", "MIN_PILOT_MOVES"):
        patch.setattr(import_module("ppl_vae.evidence.ais"), name, 3)
