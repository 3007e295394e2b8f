"""The examples as files: their length, docstrings, pictures, and the gallery of them. Nothing is trained."""

import ast
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.name != "run_all.py" and not path.name.startswith("_"))
LONGEST, LARGEST = 80, 150_000


def test_there_is_one_for_every_story():
    assert len(SCRIPTS) == 13


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_told_and_pictured(path):
    source = path.read_text()
    assert len(source.splitlines()) < LONGEST
    told = ast.get_docstring(ast.parse(source))
    assert told is not None
    assert 3 <= len(told.splitlines()) <= 9
    assert re.search(r"\b(19|20)\d\d\b", told), "a source has its year"
    picture = FOLDER / "figures" / f"{path.stem}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < LARGEST


def test_the_gallery_names_every_example_and_no_other_file():
    gallery = (FOLDER / "README.md").read_text()
    named = re.findall(r"\]\(([^)#]+)\)", gallery)
    files = {name for name in named if "://" not in name}
    assert {name for name in files if not (FOLDER / name).exists()} == set()
    assert {name for name in files if name.endswith(".py")} == {path.name for path in SCRIPTS}
    assert {name for name in files if name.endswith(".png")} == {f"figures/{path.stem}.png" for path in SCRIPTS}
    assert {f"figures/{path.name}" for path in (FOLDER / "figures").iterdir()} <= files


def test_all_of_them_are_run(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import run_all

    assert run_all.scripts() == SCRIPTS
