"""The README is short, says nothing twice, and its program, its Python and its links work."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ppl_vae import VariationalInference, load
from tests.helpers.pages import ROOT, blocks, links, prose
from tests.helpers.runs import run_without_figures

README = (ROOT / "README.md").read_text()
MOST_WORDS = 900


def test_it_is_read_in_three_minutes() -> None:
    assert len(README.split()) < MOST_WORDS


def test_no_sentence_stands_twice() -> None:
    sentences = re.split(r"(?<=[.:?])\s+|\n\n|\n[-#|]", prose(README))
    counts = Counter(" ".join(sentence.split()) for sentence in sentences)
    assert {text for text, count in counts.items() if count > 1 and len(text) > 25} == set()


def test_the_program_can_be_fitted_and_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = (text for language, text in blocks(README) if language == "python" and text.startswith("# sensors.py"))
    Path("sensors.py").write_text(program)
    rng = np.random.default_rng(0)
    np.savetxt("sensors.csv", np.tanh(rng.normal(size=(120, 2)) @ rng.normal(size=(2, 5))), delimiter=",")
    (command,) = re.findall(r"python -m ppl_vae fit (--model sensors.py.*)", README)
    assert run_without_figures("fit", [*command.split(), "--max-epochs", "3", "--num-samples", "10"]) == 0
    run = "runs/sensors-Sensors-amortized"
    assert run_without_figures("evaluate", [run]) == 0
    assert load(run).program.latent_dim == 3


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer epochs."""
    (lines,) = (text for language, text in blocks(README) if language == "python" and text.startswith("from ppl_vae"))
    monkeypatch.chdir(tmp_path)
    assert run_without_figures("fit", ["--max-epochs", "1", "--num-samples", "2"]) == 0
    names: dict[str, object] = {}
    exec(lines.replace("max_epochs=100", "max_epochs=1, num_samples=2"), names)
    assert np.shape(names["log_p"]) == (1257,)
    assert np.shape(names["new"]) == (16, 64)
    assert np.isfinite(names["filled"].mean["x"]).all()  # type: ignore[attr-defined]
    assert isinstance(names["vi"], VariationalInference)


def test_links_within_the_project_lead_to_files() -> None:
    """The project has no public address, so that links to its files are relative."""
    for link in links(README):
        assert link.startswith("https://") or (ROOT / link.partition("#")[0]).is_file(), link


def test_the_citation_has_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
