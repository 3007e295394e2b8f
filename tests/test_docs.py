"""The pages of the site: links, commands, Python, words. Notebooks are executed by ``make docs``, not here."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pytest
import torch

from ppl_vae import VariationalInference
from ppl_vae.cli import list_verbs, main
from ppl_vae.models.cvae import CVAE
from ppl_vae.runs import known_models
from tests.helpers.pages import DOCS, ROOT, blocks, commands, headings, links, pages, prose
from tests.helpers.runs import run_without_figures
from tests.helpers.scripts import import_scripts, unknown_imports

PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in pages()}
WRITTEN = {name: text for name, text in PAGES.items() if "{include}" not in text} | {
    name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")
}
CONDITIONS = {"--y", "--c", "--region"}
"""Options that depend on the program: conditions and latents by name."""


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_pages_and_headings(name: str) -> None:
    for link in links(PAGES[name]):
        if link.startswith(("http", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (DOCS / name).parent / file if file else DOCS / name
        assert target.exists(), link
        assert not anchor or anchor in headings(target.read_text()), link


@functools.cache
def options_of(verb: str, *model: str) -> set[str]:
    """Return the options in the help of a verb, in the spelling with hyphens."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        main([verb, *model, "--model.help" if model else "--help"])
    return {option.replace("_", "-") for option in re.findall(r"--[a-z][\w.-]*", text.getvalue())}


@pytest.mark.parametrize("name", WRITTEN)
def test_commands_have_verbs_and_options_that_exist(name: str) -> None:
    for verb, words in commands(WRITTEN[name]):
        assert verb in list_verbs()
        options = {word.partition("=")[0].replace("_", "-") for word in words if re.match(r"--[a-z]", word)}
        model = words[words.index("--model") + 1] if "--model" in words else "vae"
        if ":" in model:  # a program that the page writes; its own options are not known here
            options, model = {option for option in options if not option.startswith("--model.")}, "vae"
        known = options_of(verb, "--model", model) if verb == "fit" else options_of(verb)
        assert options - known - CONDITIONS - {"--model.help"} == set(), (verb, words)


@pytest.mark.parametrize("name", WRITTEN)
def test_python_is_valid_and_imports_what_exists(name: str) -> None:
    for language, text in blocks(WRITTEN[name]):
        if language == "python":
            ast.parse(text)
            assert unknown_imports(text) == []
        elif language == "{code-cell}":
            assert unknown_imports(re.sub(r"^:.*\n|^[!%].*\n", "", text, flags=re.MULTILINE)) == []


def test_every_extra_is_on_the_page_about_installing() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"`ppl-vae\[(\w+)\]`", PAGES["install.md"])) == set(extras) - {"dev"}


TEXTS = [name for name in PAGES if re.match(r"(guide|how-to|tutorials)/|index|install|faq", name)]


@pytest.mark.parametrize("name", TEXTS)
def test_lambda_is_explained_where_it_is_used_first(name: str) -> None:
    uses = re.findall(r"\{term\}`lambda`|\blambdas?\b", prose(PAGES[name]))
    assert not uses or uses[0].startswith("{term}"), "the first lambda of a page links to the glossary"


@pytest.mark.parametrize("path", sorted((DOCS / "how-to").glob("*.md")), ids=lambda path: path.stem)
def test_a_how_to_page_has_one_title(path: Path) -> None:
    assert len(re.findall(r"^# ", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M), re.MULTILINE)) == 1


def test_lists_of_verbs_and_models_are_complete() -> None:
    verbs = set(list_verbs())
    rows = PAGES["guide/uses.md"].split("|---|---|\n")[1].split("\n\n")[0]
    used = {name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    others = {"fit", "evaluate", "gap", "compare", "merge", "check", "sweep", "explore", "watch"}
    assert used <= verbs
    assert verbs - used <= others
    (listed,) = re.findall(r"Verbs: ([\w, \n]+)\.", (DOCS / "llms.txt").read_text())
    assert set(re.split(r"[,\s]+", listed)) == verbs


def test_every_model_has_a_page_and_a_fit_for_its_numbers() -> None:
    (extension,) = import_scripts(DOCS / "_ext" / "gallery.py")
    (fits,) = import_scripts(ROOT / "benchmarks" / "gallery.py")
    assert sorted(fits.FITS) == known_models()
    assert all(f"autoclass:: ppl_vae.models.{name}." in extension.page(name) for name in known_models())
    assert all((DOCS / f"{page}.md").exists() for page in extension.EXTRA.values())
    for kind in ("numbers", "pictures"):
        assert {path.stem for path in (DOCS / "models" / kind).iterdir()} <= set(known_models())


LEFT = {
    "choose-an-estimator": {
        "estimate.log_evidence.shape": (40,),
        "(estimate.log_evidence.isfinite() & (estimate.log_evidence < 0)).all()": True,
    },
    "draw-data-of-one-class": {"threes.shape": (16, 64), "set(threes.ravel().tolist())": {0.0, 1.0}},
    "explore-a-latent-space": {"decoded.means['x'].shape": (2, 64), "decoded.nearest.shape": (2, 6)},
    "fit-big-data": {
        "type(rows).__name__": "memmap",
        "vi.transform(rows).shape": (40, 10),
    },
    "impute-a-table": {
        "filled.mean['x'].shape": (40, 2),
        "np.isfinite(filled.mean['x']).all()": True,
        "(filled.lower['x'] <= filled.upper['x']).all()": True,
        "(filled.lower['x'] < filled.upper['x'])[:, 0].tolist() == frame['size'].isna().tolist()": True,
        "np.allclose(filled.mean['x'][:, 1], frame['price'])": True,
    },
    "read-the-posterior": {
        "tuple(draws.latents['z'].shape)": (500, 40, 10),
        "mean.shape": (40, 10),
        "'posterior' in posterior.groups() and 'log_likelihood' in posterior.groups()": True,
    },
    "use-a-program-trained-by-svi": {
        "vi.program is program": True,
        "len(vi.evidence(x).log_evidence)": 40,
    },
    "use-scikit-learn": {
        "search.best_params_['program'] in recipes": True,
        "search.best_score_ < 0": True,
        "search.best_estimator_.transform(x).shape[1] == search.best_params_['program'].keywords['latent_dim']": True,
    },
    "watch-a-long-run": {
        "row.epoch": 1,
        "sorted(path.name for path in Path('logs/vae').iterdir())": ["metrics.csv", "settings.csv", "summary.csv"],
        "len(Path('logs/vae/metrics.csv').read_text().splitlines())": 2,
    },
    "write-a-likelihood": {
        "type(vi.program.likelihood).__name__": "StudentT",
        "vi.sample(3).shape": (3, 5),
        "vi.score(x) < 0": True,
    },
}
"""How-to pages whose Python is run, each with what it must leave: expressions of its names, and their values."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the run and the data that the pages name."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_without_figures("fit", ["--max-epochs", "1", "--num-samples", "2"], with_posterior=True) == 0
        np.save("rows.npy", np.random.default_rng(0).integers(0, 2, (40, 64)).astype("float32"))
    return folder


@pytest.mark.parametrize("name", LEFT)
def test_the_python_of_a_page_runs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer epochs, temperatures and draws, on data that the test makes."""
    monkeypatch.chdir(folder)
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (40, 64)).astype("float32")
    real = name in ("use-scikit-learn", "write-a-likelihood")
    names: dict[str, Any] = {
        "x": rng.normal(size=(40, 5)).astype("float32") if real else bits,
        "x_tensor": torch.from_numpy(bits),
        "frame": pd.DataFrame(
            {"size": np.where(bits[:, 0] > 0, np.nan, rng.normal(size=40)), "price": bits[:, 1] * 3.5}
        ),
    }
    if name == "draw-data-of-one-class":
        cvae = VariationalInference(CVAE(latent_dim=2), max_epochs=1)
        names["vi"] = cvae.fit(bits, rng.integers(0, 10, 40))
    elif name == "read-the-posterior":
        names["vi"] = VariationalInference("vae", max_epochs=1).fit(bits)
    with pyro.get_param_store().scope():  # plain SVI leaves its parameters in the store
        programs = [text for language, text in blocks(PAGES[f"how-to/{name}.md"]) if language == "python"]
        assert programs
        for text in programs:
            text = re.sub(r"max_epochs=\d+", "max_epochs=1", text)
            exec(re.sub(r"num_temperatures=\d+", "num_temperatures=3, num_chains=2", text), names)
        for expression, value in LEFT[name].items():
            assert eval(expression, {"np": np, "Path": Path, **names}) == value, expression
