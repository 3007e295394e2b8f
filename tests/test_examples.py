"""The examples as files: length, docstring, picture, imports, and the gallery. Nothing is trained."""

import ast
import re

import pytest

from tests.helpers.scripts import ROOT, import_scripts, unknown_imports

FOLDER = ROOT / "examples"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.name != "run_all.py" and not path.name.startswith("_"))
LONGEST, LARGEST = 80, 150_000


def test_there_are_fifteen_examples():
    assert len(SCRIPTS) == 15


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_has_a_docstring_and_a_picture(path):
    source = path.read_text()
    assert len(source.splitlines()) < LONGEST
    docstring = ast.get_docstring(ast.parse(source))
    assert docstring is not None
    assert 3 <= len(docstring.splitlines()) <= 9
    assert re.search(r"\b(19|20)\d\d\b", docstring), "a source has its year"
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


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_what_an_example_imports_from_the_package_exists(path):
    assert unknown_imports(path.read_text()) == []


def test_all_examples_are_run():
    (run_all,) = import_scripts(FOLDER / "run_all.py")
    assert run_all.scripts() == SCRIPTS
