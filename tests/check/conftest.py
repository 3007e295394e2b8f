"""Fixtures of the tests of checks."""

from __future__ import annotations

import pytest

from ppl_vae.check.encoder import STEPS
from ppl_vae.evaluation.estimators import Settings
from ppl_vae.evidence import Annealing
from tests.helpers.chains import shorten_pilot


@pytest.fixture
def short_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the checks anneal and refine in a few steps, for tests of pages and not of their numbers."""
    few = Annealing(num_temperatures=3, num_chains=2)
    shorten_pilot(monkeypatch)
    monkeypatch.setattr("ppl_vae.check.annealing.CHAINS", Settings(num_temperatures=3, num_chains=2, num_simulated=4))
    monkeypatch.setattr("ppl_vae.check.calibration.rank_by_annealing.__defaults__", (4, few))
    monkeypatch.setattr("ppl_vae.check.encoder.STEPS", STEPS._replace(num_steps=3))
