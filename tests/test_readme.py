"""The README's program and commands do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ppl_vae import VariationalInference, load
from ppl_vae.__main__ import VERBS
from ppl_vae.cli import evaluate, fit
from ppl_vae.runs import known_models

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_program_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(# sensors.py\n.*?)```", README, re.DOTALL)
    Path("sensors.py").write_text(program)
    rng = np.random.default_rng(0)
    np.savetxt("sensors.csv", np.tanh(rng.normal(size=(120, 2)) @ rng.normal(size=(2, 5))), delimiter=",")
    (command,) = re.findall(r"python -m ppl_vae.fit (--model sensors.py.*)", README)
    assert fit.main([*command.split(), "--max-epochs", "3", "--num-samples", "10"]) == 0
    run = "runs/sensors-Sensors-amortized"
    assert evaluate.main([run]) == 0
    assert load(run).program.latent_dim == 3


def test_the_python_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line by line, on data and in a folder of the test's own."""
    (lines,) = re.findall(r"```python\n(from ppl_vae import VariationalInference, load\n.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    quick = ["--max-epochs", "1", "--num-samples", "2"]
    assert fit.main(quick) == 0
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
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
    layout = README.split("## Layout")[1]
    for name in re.findall(r"^  (\w+(?:\.py|/))", layout, re.MULTILINE):
        assert (ROOT / "ppl_vae" / name).exists(), name
    models = README.split("## The models")[1].split("What a datum")[0]
    assert sorted(re.findall(r"`(\w+)`(?=[^|]*\|[^|]*\|$)", models, re.MULTILINE)) == known_models()
    uses = README.split("## What one does with a fit")[1].split("## Repeating")[0]
    named = set(re.findall(r"python -m ppl_vae\.(\w+)", README)) | set(
        re.findall(r"^\| `(\w+)` \|", uses, re.MULTILINE)
    )
    assert named - {"VERB"} == set(VERBS)
