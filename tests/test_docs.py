"""The pages of the site: links, commands, Python, words. Notebooks are executed by ``make docs``, not here."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import re
from pathlib import Path

import pytest

from ppl_vae.cli import list_verbs
from ppl_vae.cli.command import run_verb
from tests.helpers.pages import DOCS, ROOT, blocks, commands, headings, links, pages, prose
from tests.helpers.scripts import unknown_imports

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
        run_verb(verb, [*model, "--model.help" if model else "--help"])
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
