"""The page about a run: its content, what it reports as missing, and that it opens in any browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from ppl_vae.cli.command import run_verb
from ppl_vae.cli.configuration import make_config, parse_options
from ppl_vae.estimator import describe, load
from ppl_vae.program import sites as described
from ppl_vae.report.tables import MISSING
from ppl_vae.runs import Run
from tests.helpers.own_programs import PLAIN, QUICK
from tests.helpers.runs import run_without_figures

VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}
SECTIONS = ("program", "training", "quality", "checks", "latents", "samples", "uses", "configuration", "commands")
NASTY = "</code><script>alert(1)</script><img src=x onerror='alert(2)'>\"&"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# A program whose every name a user chooses is as bad as it can be.
ILL = f"""\
import pyro
import pyro.distributions as dist
import torch
from torch import nn

NAME = {NASTY!r}


class Ill(nn.Module):
    __doc__ = "Said by " + NAME

    def __init__(self, word: str = "none"):
        super().__init__()
        self.net = nn.Linear(1, 5)

    def model(self, x):
        pyro.module(NAME, self.net)
        with pyro.plate("<b>rows", len(x)):
            z = pyro.sample(NAME.replace("/", ""), dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x & x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x)
"""


class Page(HTMLParser):
    """A page, read strictly: what is opened is closed, in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self.text = ""
        self.section: str | None = None
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["id"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag not in VOID
        assert self.open.pop() == tag, (tag, self.getpos())
        if tag == "section":
            self.section = None

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if self.section:
            self.sections[self.section] = self.sections.get(self.section, "") + data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


def read_report(folder: Path, *options: str) -> Page:
    """Write the report of a folder and return it, after checks that hold for every report."""
    assert run_verb("report", [str(folder), *options]) == 0
    page = Page(folder / "report.html")
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "link", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
        if "href" in attributes:
            assert (attributes["href"] or "").startswith("#")
        for name in ("src", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {(a.get("href") or "#")[1:] for tag, a in page.tags if tag == "a"} == ids == set(SECTIONS)
    for image in page.images():
        assert len(image["alt"] or "") > 10
        kind, _, content = (image["src"] or "").partition(";base64,")
        decoded = base64.b64decode(content, validate=True)
        if kind == "data:image/svg+xml":
            assert ElementTree.fromstring(decoded).tag.endswith("svg")
        else:
            assert kind == "data:image/png"
            assert imread(io.BytesIO(decoded)).std() > 0
    for name in SECTIONS:
        heading, _, rest = page.sections[name].strip().partition("\n")
        assert len(rest.strip()) > 20, f"{heading} is empty"
    for row in page.rows:
        for cell in row:
            assert not re.search(r"\b(nan|inf|None|null)\b", cell), row
    return page


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a run with all its estimates, and what their commands printed."""
    folder, said = tmp_path_factory.mktemp("whole") / "a run", io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", said)
        assert run_verb("fit", ["--output", str(folder), *QUICK]) == 0
        assert (
            run_verb("evaluate", [str(folder), "--num-samples", "20", "--num-data", "30", "--estimators", "iwae,prior"])
            == 0
        )
        assert run_verb("gap", [str(folder), "--num-data", "6", "--local-steps", "5", "--num-samples", "20"]) == 0
    return folder, said.getvalue()


@pytest.fixture
def run(whole: tuple[Path, str], tmp_path: Path) -> Path:
    """Return a copy of the run, which a test may change."""
    return Path(shutil.copytree(whole[0], tmp_path / "run"))


def test_the_tables_are_those_that_the_commands_print(
    whole: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, said = whole
    page = read_report(folder)
    assert capsys.readouterr().out.splitlines()[-1] == f"written to {folder / 'report.html'}"
    printed = [re.split(r"\s{2,}", line.strip()) for line in said.splitlines()]
    rows = [[cell for cell in row if cell] for row in page.rows]
    head = ["estimator", "nats per datum", "Monte Carlo error", "error over data", "effective draws", "doubtful"]
    tables = [i for i, row in enumerate(printed) if row[0] in ("estimator", "posterior")]
    assert len(tables) == 3
    assert printed[tables[1]][:6] == head
    for start, number in ((tables[1], 1 + 3), (tables[2], 1 + 5)):  # elbo, iwae and prior; the encoder to the evidence
        for row in printed[start : start + number]:
            assert row in rows
    for line in said.splitlines():
        if line.startswith(("ELBO = ", "iwae: ", "prior: ", "Pareto k")):
            assert line in page.sections["quality"]
    fitted = printed[tables[0] + 2]
    assert fitted[:4] in rows


def test_a_page_has_all_parts_of_a_run(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    page = read_report(folder)
    figures = list((folder / "figures").glob("*.png"))
    assert len(page.images()) == len(figures) + (shutil.which("dot") is not None)
    for figure in figures:
        assert f"figures/{figure.name}" in page.text
        assert base64.b64encode(figure.read_bytes()).decode() in {
            (i["src"] or "").partition("base64,")[2] for i in page.images()
        }
    summary = json.loads((folder / "summary.json").read_text())
    for version in summary["versions"].values():
        assert version in page.sections["configuration"]
    assert (folder / "config.yaml").read_text().strip() in page.sections["configuration"]
    assert ["z", "latent", "Normal, 2 numbers", "2", "real numbers", "data", "Normal"] in page.rows
    assert ["x", "observed", "Bernoulli, 64 numbers", "64", "0 or 1", "data", ""] in page.rows
    assert ["epochs", "2"] in page.rows
    assert "max_epochs 2, num_samples 10" in page.sections["training"]
    dimensions = json.loads((folder / "evidence.json").read_text())["diagnostics"]["dimensions"]
    assert {row[0] for row in page.rows if row} >= set(dimensions)


def test_the_commands_repeat_the_run(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    lines = read_report(folder).sections["commands"].splitlines()
    made = next(line for line in lines if line.startswith("python -m ppl_vae fit --data"))
    options = parse_options(shlex.split(made)[4:])
    assert make_config(options, options.init_args) == Run.open(folder).config()
    verbs = ("python -m ppl_vae evaluate", "python -m ppl_vae gap")
    estimates = [shlex.split(line)[3:] for line in lines if line.startswith(verbs)]
    (first, *evaluated), (second, *measured) = estimates
    assert (first, second) == ("evaluate", "gap")
    assert " ".join(evaluated[1:]) == "--estimators iwae,prior --num-data 30 --num-samples 20"
    assert " ".join(measured[1:]) == "--num-data 6 --local-steps 5 --num-samples 20"
    assert evaluated[0] == measured[0] == str(folder)


def test_the_same_folder_gives_the_same_page(run: Path) -> None:
    read_report(run)
    first = (run / "report.html").read_bytes()
    read_report(run)
    assert (run / "report.html").read_bytes() == first


def test_figures_of_other_uses_are_shown_where_they_belong(run: Path) -> None:
    source = run / "figures" / "elbo.png"
    for name in (
        "generate.png",
        "traverse.png",
        "latents_posteriors.png",
        "my_own<b>.png",
        ".half_written.png",
        "notes.pdf",
    ):
        shutil.copy(source, run / "figures" / name)
    (run / "figures" / "impute.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (run / "uses").mkdir()
    for name in ("embed.npz", "latents.npz"):
        (run / "uses" / name).write_bytes(b"")
    page = read_report(run)
    assert "figures/generate.png" in page.sections["samples"]
    assert "figures/latents_posteriors.png" in page.sections["latents"]
    for name in ("traverse.png", "impute.svg", "my_own<b>.png"):
        assert f"figures/{name}" in page.sections["uses"]
    assert "half_written" not in page.text
    assert "Arrays: uses/embed.npz, uses/latents.npz." in page.sections["uses"]
    missing = re.findall(r"python -m ppl_vae (\w+)", page.sections["uses"])
    assert missing == ["augment", "interpolate", "manifold", "outliers", "reconstruct"]


def test_a_missing_part_is_named_with_its_command(run: Path) -> None:
    for name in ("evidence.json", "gap.json"):
        (run / name).unlink()
    shutil.rmtree(run / "figures")
    page = read_report(run)
    for section, verbs in {
        "quality": ["evaluate", "gap"],
        "checks": ["check"],
        "latents": ["latents", "evaluate"],
        "samples": ["generate"],
    }.items():
        assert re.findall(r"python -m ppl_vae (\w+)", page.sections[section]) == verbs, section
    images = page.images()
    assert len(images) == 1 + (shutil.which("dot") is not None)  # the course of the fit is drawn from its metrics


def test_a_run_that_was_stopped(run: Path) -> None:
    for name in ("summary.json", "evidence.json", "gap.json", "posterior.nc"):
        (run / name).unlink()
    shutil.rmtree(run / "figures")
    page = read_report(run)
    assert f"python -m ppl_vae fit --resume --output {run}" in page.text
    assert ["epochs", "2"] in page.rows
    assert ["device", MISSING] in page.rows
    (run / "metrics.jsonl").unlink()
    (run / "checkpoint.safetensors").unlink()
    page = read_report(run)
    assert "No epoch has ended yet" in page.sections["training"]
    assert "cannot be shown" in page.sections["program"]
    assert page.images() == []


def test_a_number_that_is_null_is_a_dash(run: Path) -> None:
    for name in ("summary.json", "evidence.json", "gap.json"):
        Run(run).write_json(name, nulled(numbers_of(run, name)))
    page = read_report(run)
    assert ["iwae, 20 draws", *[MISSING] * 7] in page.rows
    assert ["elbo", *[MISSING] * 3, "", "", MISSING, MISSING] in page.rows
    assert ["diagonal", *[MISSING] * 3, "", f"{MISSING} ± {MISSING}", MISSING, MISSING] in page.rows


def numbers_of(folder: Path, name: str) -> dict[str, Any]:
    """Return the numbers of a file of a run, without its digest."""
    numbers = json.loads((folder / name).read_text())
    return {key: value for key, value in numbers.items() if key != "digest"}


def nulled(numbers: Any) -> Any:
    """Replace every real number by null."""
    if isinstance(numbers, dict):
        return {name: each if name == "settings" else nulled(each) for name, each in numbers.items()}
    return None if isinstance(numbers, float) else numbers


def test_only_the_most_used_of_many_dimensions_are_shown(run: Path) -> None:
    numbers = numbers_of(run, "evidence.json")
    each = {f"z[{i}]": {"divergence": i / 10, "active": True, "aggregated_divergence": 0.0} for i in range(60)}
    changed = numbers | {"diagnostics": numbers["diagnostics"] | {"dimensions": each}}
    Run(run).write_json("evidence.json", changed)
    page = read_report(run)
    assert [row[0] for row in page.rows if row[0].startswith("z[")] == [f"z[{i}]" for i in range(59, 9, -1)]
    assert "Latent dimensions, 50 of 60, nats per datum" in page.sections["latents"]


@pytest.mark.parametrize("content", ["{", "[]", '{"num_data": 3}', '{"estimators": {"iwae": 3}}'])
def test_a_damaged_file_is_reported_and_the_old_page_stays(
    content: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_report(run)
    before = (run / "report.html").read_bytes()
    (run / "evidence.json").write_text(content)
    capsys.readouterr()
    assert run_verb("report", [str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {run / 'evidence.json'} is damaged")
    assert error.count("\n") == 1
    assert (run / "report.html").read_bytes() == before
    assert not list(run.glob(".report*"))


def test_bad_input_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("report", [str(tmp_path), "--no-such-option"]) == 2
    assert "unknown option" in capsys.readouterr().err
    assert run_verb("report", [str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err


def fitted(folder: Path, *options: str) -> Path:
    """Return a run of two epochs, without figures."""
    common = ("--max-epochs", "2", "--num-samples", "10", "--output", str(folder / "run"))
    assert run_without_figures("fit", [*common, *options]) == 0
    return folder / "run"


def test_whatever_a_user_wrote_is_escaped(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 5))
    np.savez(tmp_path / "<i>da&ta.npz", x=x)
    (tmp_path / "ill.py").write_text(ILL)
    model = ("--model", f"{tmp_path / 'ill.py'}:Ill", f"--model.word={NASTY}")
    folder = fitted(tmp_path, "--data", str(tmp_path / "<i>da&ta.npz"), *model)
    Run(folder).write_json("summary.json", numbers_of(folder, "summary.json") | {"device": NASTY})
    page = read_report(folder, "--trust")
    for section in ("program", "training", "configuration"):
        assert "alert(1)" in page.sections[section]
    assert f"Said by {NASTY}" in page.sections["program"]
    assert "<i>da&ta.npz" in page.text
    assert ["device", NASTY] in page.rows
    assert {tag for tag, _ in page.tags} & {"script", "i"} == set()


SMALL = ("--model.latent_dim", "2", "--model.emission", "5", "--model.transition", "4", "--model.rnn", "6")
KINDS = {
    "no latents": ("--model", "plain.py:Plain", "--data", "plain.npz"),
    "discrete latents alone": ("--model", "mixture", "--data", "plain.npz", "--model.num_components", "2"),
    "sequences": ("--model", "hmm", "--data", "steps.npz", "--model.features", "3", "--model.num_states", "2"),
    "a latent a step": ("--model", "deep_markov_model", "--data", "steps.npz", "--model.features", "3", *SMALL),
    "per-sample": (
        "--model",
        "factor_analysis",
        "--data",
        "plain.npz",
        "--guide",
        "per-sample",
        "--family",
        "full",
        "--inference-steps",
        "40",
    ),
    "no generation": ("--model", "autoencoder", "--data", "digits"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_programs_of_every_kind(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("plain.npz", x=rng.normal(size=(40, 5)).astype("float32"))
    lengths = rng.integers(1, 7, 40)
    np.savez("steps.npz", x=(rng.random((40, 6, 3)) < 0.5).astype("float32"), lengths=lengths)
    Path("plain.py").write_text(PLAIN)
    folder = fitted(tmp_path, *KINDS[kind])
    assert run_without_figures("evaluate", [str(folder), "--num-samples", "10"]) == 0
    page = read_report(folder)
    description = describe(load(folder))
    assert [row.name for row in description.sites] == [row[0] for row in page.rows if len(row) == 7][1:]
    assert (description.has_latents, description.generates) == (
        kind in ("a latent a step", "per-sample"),
        kind != "no generation",
    )
    said = {
        "no latents": "There are no latents of a datum.",
        "discrete latents alone": "The discrete latents are summed out, exactly.",
        "per-sample": "a Gaussian with a full covariance, is found by at most 40 gradient steps of its own",
        "no generation": "it does not generate new ones",
    }
    assert said.get(kind, "a datum") in page.sections["program"]
    if kind == "no generation":
        assert "this is a reconstruction term, as an autoencoder's" in page.sections["quality"]
        assert "log evidence, nats" not in page.text
    if kind == "per-sample":
        assert page.rows[1][-1] == "part of a joint MultivariateNormal"
    if kind == "sequences":
        assert ["state_0 ... state_5", "summed out", "Categorical, one of 2 values"] in [row[:3] for row in page.rows]
        assert "Only the first three sites are drawn" in page.sections["program"] or shutil.which("dot") is None
    offered = re.findall(r"python -m ppl_vae (\w+)", page.sections["uses"])
    latents = any(row.role in ("latent", "summed out") for row in description.sites)
    assert {"embed" in offered, "traverse" in offered} == {latents}
    assert {"generate" in offered, "impute" in offered} == {description.generates}
    assert ("manifold" in offered) == (latents and description.generates)
    if not description.has_latents:
        assert "no latents that a guide samples" in page.sections["latents"]

    # The data are gone, then the program too.
    if kind == "no latents":
        Path("plain.npz").unlink()
        page = read_report(folder)
        assert f"The data are no longer at {tmp_path / 'plain.npz'}" in page.text
        Path("plain.py").unlink()
        assert "no file" in read_report(folder).sections["program"]


def test_without_graphviz(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described.shutil, "which", lambda _: None)
    assert "The graphical model is not drawn: graphviz is not installed" in read_report(run).sections["program"]


# --------------------------------------------------------------------------------------------------- in a browser

PROBE = """<script>
addEventListener("load", () => {
  for (const image of document.images) if (!image.naturalWidth) console.error("broken image: " + image.alt);
});
</script>"""


@pytest.fixture
def console(tmp_path: Path) -> Callable[[str], list[str]]:
    """What a browser says on its console about a page."""

    def said(html: str) -> list[str]:
        (tmp_path / "page.html").write_text(html)
        profile = tmp_path / f"profile-{len(list(tmp_path.iterdir()))}"
        options = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        options += "disable-component-update disable-sync enable-logging=stderr v=0 dump-dom"
        flags = [f"--{option}" for option in (f"user-data-dir={profile}", *options.split())]
        done = subprocess.run(
            [BROWSER or "", *flags, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120
        )
        assert "Reproducing the run" in done.stdout, done.stderr
        return [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return said


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_it_opens_in_a_browser_without_an_error(run: Path, console: Callable[[str], list[str]]) -> None:
    read_report(run)
    html = (run / "report.html").read_text()
    policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\".*?>", html)
    assert policy is not None
    # What the browser reports is what is put in here, by which the check can fail, and nothing else of the page.
    outside = '<img alt="" src="missing.png">'
    (line,) = console(html.replace("</main>", f"{outside}</main>"))
    assert "missing.png" in line
    free = html.replace(policy.group(), "").replace("</body>", f"{PROBE}</body>")  # the page itself has no script
    wrong = '<img alt="of nothing" src="data:image/png;base64,AAAA"><script>there.is.no.such.thing()</script>'
    lines = console(free.replace("</main>", f"{wrong}</main>"))
    assert len(lines) == 2
    assert any("broken image: of nothing" in line for line in lines)
    assert any("ReferenceError" in line for line in lines)
