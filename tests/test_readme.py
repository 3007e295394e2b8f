"""The program and the commands of the README work."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ppl_vae import VariationalInference, load
from ppl_vae.cli import list_verbs
from ppl_vae.runs import known_models
from tests.helpers.runs import run_without_figures

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_program_of_the_readme_can_be_fitted_and_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(# sensors.py\n.*?)```", README, re.DOTALL)
    Path("sensors.py").write_text(program)
    rng = np.random.default_rng(0)
    np.savetxt("sensors.csv", np.tanh(rng.normal(size=(120, 2)) @ rng.normal(size=(2, 5))), delimiter=",")
    (command,) = re.findall(r"python -m ppl_vae.fit (--model sensors.py.*)", README)
    assert run_without_figures("fit", [*command.split(), "--max-epochs", "3", "--num-samples", "10"]) == 0
    run = "runs/sensors-Sensors-amortized"
    assert run_without_figures("evaluate", [run]) == 0
    assert load(run).program.latent_dim == 3


def test_the_python_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of the README runs, with fewer epochs and on data that the test makes."""
    (lines,) = re.findall(r"```python\n(from ppl_vae import VariationalInference, load\n.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    quick = ["--max-epochs", "1", "--num-samples", "2"]
    assert run_without_figures("fit", quick) == 0
    x = np.random.default_rng(0).integers(0, 2, size=(30, 64)).astype("float32")
    names: dict[str, object] = {"x": x}
    exec(lines.replace("max_epochs=100", "max_epochs=1, num_samples=2"), names)
    assert np.shape(names["log_p"]) == (30,)
    assert np.shape(names["new"]) == (16, 64)
    assert isinstance(names["vi"], VariationalInference)
    (lines,) = re.findall(r"```python\n(import numpy as np\nfrom ppl_vae.uses import.*?)```", README, re.DOTALL)
    exec(lines, names)
    assert np.isfinite(names["filled"].mean["x"]).all()  # type: ignore[attr-defined]


def test_files_and_verbs_that_it_names_exist() -> None:
    for link in re.findall(r"\]\((?!http|#)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
    titles = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors
    layout = README.split("## Layout")[1]
    for name in re.findall(r"^  (\w+(?:\.py|/))", layout, re.MULTILINE):
        assert (ROOT / "ppl_vae" / name).exists(), name
    assert sorted(_first_column("## The models")) == known_models()
    modules = set(re.findall(r"python -m ppl_vae\.(\w+)", README))
    assert modules == {"fit", "evaluate", "gap", "compare"}, "only these verbs are modules of their own"
    verbs = modules | set(re.findall(r"python -m ppl_vae ([a-z]+)", README))
    assert verbs | set(_first_column("## Using a fitted model")) == set(list_verbs())


def _first_column(heading: str) -> list[str]:
    """Return the names in code font in the first column of the first table under a heading."""
    rows = README.split(f"{heading}\n")[1].split("|---|---|\n")[1].split("\n\n")[0]
    return [name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
