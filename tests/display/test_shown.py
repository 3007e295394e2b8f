"""What a user sees of long work, and of what is returned: lines off a terminal, bars on it, short forms of results."""

from __future__ import annotations

import io
import sys
import time

import numpy as np
import pytest

from ppl_vae import VariationalInference
from ppl_vae.display.bars import doing, progress_bar, verbose
from ppl_vae.display.readable import summarize
from ppl_vae.estimator import progress
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded

X = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def vi() -> VariationalInference:
    with seeded(0):
        program = FactorAnalysis(data_dim=5, latent_dim=2)
    return VariationalInference(program, max_epochs=2, num_samples=20, compile="off").fit(X)


def test_off_a_terminal_a_line_states_the_progress(
    vi: VariationalInference, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.02)
    vi.prepare({"x": X}, {"x": X})
    with progress.FitProgress(vi) as shown:
        for row in vi.stretches(shown.watched):
            assert row is not None
            shown.note(row)
            with doing("compiling the step"):
                time.sleep(0.2)
    *_, line = capsys.readouterr().err.splitlines()
    bounds = f"ELBO train {row.elbo_train:.2f}, valid {row.elbo_valid:.2f} nats per datum"
    assert line.startswith(f"epoch 2 of at most 2; {bounds}; ")
    assert line.endswith("data/s; 0 s left; compiling the step")
    for hidden in (True, False):
        with verbose(not hidden), progress.FitProgress(vi, is_shown=hidden):
            time.sleep(0.1)
        assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_a_bar_unless_it_is_hidden(
    vi: VariationalInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_shown in (True, False):
        monkeypatch.setattr(sys, "stderr", Terminal())
        vi.fit(X, verbose=is_shown)
        assert ("data/s" in sys.stderr.getvalue()) == is_shown  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar("gap", 10) as bar:  # which appears after two seconds
        bar.update(10)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_what_is_returned_has_short_forms(vi: VariationalInference) -> None:
    evaluation = vi.evaluate(X)
    results = [evaluation, evaluation.evidence["iwae"], vi.posterior(X, num_samples=30), vi.prior(50)]
    for result in results:
        assert len(repr(result)) < 2000
        assert "<table>" in result._repr_html_()
    assert "latents['z']   float32 (30, 40, 2), from -" in repr(results[2])
    assert len(evaluation.plot_bound().axes) == len(evaluation.plot_pareto_k().axes) == 1
    assert summarize(np.array([1.0, np.nan])) == "float64 (2,), from 1 to 1, mean 1, 1 missing"
