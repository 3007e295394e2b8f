"""A use can be added with a file for its function, a file for its verb, a line that imports it, and a line of tests."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ppl_vae.cli
import ppl_vae.uses
from ppl_vae.cli import describe_verb, list_verbs, main
from ppl_vae.uses.description import USES
from tests.helpers.own_programs import QUICK
from tests.helpers.runs import run_without_figures
from tests.helpers.uses import check_use, open_case

USE = '''\
from typing import NamedTuple

import numpy as np

from ppl_vae.uses.description import Caption, describe_use


class Average(NamedTuple):
    mean: dict[str, np.ndarray]


@describe_use("generation", average=Caption("uses", "An average datum", "The mean of new data."))
def average(vi, *, num_data: int = 9) -> Average:
    """Average new data."""
    return Average({name: mean.mean(0, keepdims=True) for name, mean in vi.prior(num_data).means.items()})
'''
VERB = '''\
from ppl_vae import uses
from ppl_vae.cli.opened import OpenRun, Outcome


def average(run: OpenRun, num_data: int = 9) -> Outcome:
    """Draw it.

    Args:
        run: the run.
        num_data: number of data.
    """
    result = uses.average(run.vi, num_data=num_data)
    figure = run.draw_grid(result.mean, 1, "An average datum")
    return run.write("average", result, {"average": figure})
'''
OPTIONS = {"num_data": 4}


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add the use at run time, in a folder of its own."""
    for package, source in ((ppl_vae.uses, USE), (ppl_vae.cli, VERB)):
        folder = tmp_path / package.__name__.rpartition(".")[2]
        folder.mkdir()
        (folder / "average.py").write_text(source)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        monkeypatch.delitem(sys.modules, f"{package.__name__}.average", raising=False)
    monkeypatch.setitem(USES, "average", None)  # so that it is removed at the end
    function = importlib.import_module("ppl_vae.uses.average").average
    monkeypatch.setattr(ppl_vae.uses, "average", function)  # the line in uses/__init__.py
    yield
    for package in (ppl_vae.uses, ppl_vae.cli):
        sys.modules.pop(f"{package.__name__}.average", None)
        vars(package).pop("average", None)


@pytest.mark.parametrize("name", ["vae", "cvae", "hmm", "normal", "autoencoder"])
def test_a_use_that_is_added_obeys_the_law(name: str, added: None, tmp_path: Path) -> None:
    check_use("average", open_case(name, tmp_path / "run"), OPTIONS)


def test_a_use_that_is_added_is_listed_run_and_reported(
    added: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "average" in list_verbs()
    assert describe_verb("average") == "Average new data."
    run = tmp_path / "run"
    assert run_without_figures("fit", [*QUICK, "--output", str(run)]) == 0
    assert main(["report", str(run)]) == 0
    assert (
        f"<li>Average new data: <code>python -m ppl_vae average {run}</code></li>" in (run / "report.html").read_text()
    )
    capsys.readouterr()
    assert main(["average", str(run), "--num-data", "3"]) == 0
    assert [line.rpartition("/")[2] for line in capsys.readouterr().out.splitlines()] == ["average.png", "average.npz"]
    assert main(["report", str(run)]) == 0
    assert "<b>An average datum.</b> The mean of new data." in (run / "report.html").read_text()
    assert main(["average", "--help"]) == 0
    assert "Average new data. Draw it." in capsys.readouterr().out
