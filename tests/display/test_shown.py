"""What a user sees of long work, and of what is returned: lines off a terminal, bars on it, short forms of results."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from ppl_vae import VariationalInference
from ppl_vae.display import bars
from ppl_vae.display.bars import doing, progress_bar, verbose
from ppl_vae.display.readable import summarize
from ppl_vae.estimator import progress
from ppl_vae.models.factor_analysis import FactorAnalysis
from ppl_vae.program import seeded
from ppl_vae.uses import impute

X = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
HOLES = np.where(np.eye(40, 5) > 0, np.nan, X)


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
    assert line.endswith("nats per datum; compiling the step")  # whose time says nothing about that of steps
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


WORK = {
    "iwae": lambda vi, **options: vi.evaluate(X, **options),
    "gap, full": lambda vi, **options: vi.gap(X, families="full", local_steps=2, num_samples=5, **options),
    "check": lambda vi, **options: vi.check(X, only=["weights"], num_samples=10, **options),
    "impute": lambda vi, **options: impute(vi, HOLES, num_samples=5, method="importance", **options),
}
"""Long work, by the name in its last line."""


@pytest.mark.parametrize("name", WORK)
def test_in_a_notebook_a_plain_line_remains_of_a_bar_unless_it_is_hidden(
    name: str, vi: VariationalInference, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ppl_vae.display.figures.in_notebook", lambda: False)  # there is no IPython to show figures
    monkeypatch.setattr(bars, "in_notebook", lambda: True)
    WORK[name](vi)
    assert f"\n{name}: " not in capsys.readouterr().err  # it took less than two seconds
    monkeypatch.setattr(bars, "AFTER_SECONDS", 0.0)
    WORK[name](vi)
    assert re.search(rf"^{name}: \d+ (draws|data|check) in \d+\.\d s", capsys.readouterr().err, re.MULTILINE)
    WORK[name](vi, verbose=False)
    assert capsys.readouterr().err == ""


def test_the_variable_of_tqdm_hides_bars() -> None:
    code = "from ppl_vae.display import bars; bars.in_notebook = bool; bars.is_watched = lambda: True\n"
    code += "print(bars.make_bar('a', 1, 'draw').disable)"
    printed = subprocess.run([sys.executable, "-c", code], env=os.environ | {"TQDM_DISABLE": "1"}, capture_output=True)
    assert printed.stdout == b"True\n"


def test_what_is_returned_has_short_forms(vi: VariationalInference) -> None:
    evaluation = vi.evaluate(X)
    results = [evaluation, evaluation.evidence["iwae"], vi.posterior(X, num_samples=30), vi.prior(50)]
    for result in results:
        assert len(repr(result)) < 2000
        assert "<table>" in result._repr_html_()
    assert "latents['z']   float32 (30, 40, 2), from -" in repr(results[2])
    assert len(evaluation.plot_bound().axes) == len(evaluation.plot_pareto_k().axes) == 1
    assert summarize(np.array([1.0, np.nan])) == "float64 (2,), from 1 to 1, mean 1, 1 missing"
