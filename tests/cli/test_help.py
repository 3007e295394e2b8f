"""The help of every verb, read from the sources, states what the parser takes, in 80 columns and at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from ppl_vae.cli import list_verbs, main
from ppl_vae.cli.command import add_options
from ppl_vae.cli.configuration import make_parser
from ppl_vae.cli.help import describe, groups_of, written
from ppl_vae.cli.launching import IN_SHARDS
from ppl_vae.cli.parser import Parser
from ppl_vae.cli.signatures import REQUIRED, StatedOption
from ppl_vae.cli.spelling import hyphenated
from ppl_vae.display.docstrings import first_sentence
from ppl_vae.estimator.usual_names import MEANT, hint
from ppl_vae.runs import known_models, program_class
from tests.helpers.pages import ROOT

PROCESSES = {"--processes", "--max-restarts"}
"""Options of the launcher, which takes them before the parser."""


def stated(verb: str, *args: str) -> dict[str, StatedOption]:
    return {written(option): option for group in groups_of(verb, args).values() for option in group}


def parsed(parser: Parser) -> dict[str, Any]:
    actions = (action for action in parser._actions if "help" not in action.dest and action.dest != "print_config")
    return {hyphenated(name): action for action in actions for name in action.option_strings if not name.endswith("+")}


def choices(kind: Any) -> set[str]:
    parts = [kind, *get_args(kind)]
    return {str(value) for part in parts if get_origin(part) is Literal for value in get_args(part)}


def check_agrees(options: dict[str, StatedOption], parser: Parser) -> None:
    actions = parsed(parser)
    assert actions.keys() == {name for name in options if name.startswith("--")} - PROCESSES
    defaults = parser.get_defaults()
    for name, action in actions.items():
        option = options[name]
        assert option.help, name
        if option.choices or not isinstance(action.default, str):
            assert set(option.choices) in (choices(getattr(action, "_typehint", None)), set()), name
        if name not in ("--output", "--config", "--model", "--trust") and option.default is not REQUIRED:
            expected = defaults.get(action.dest)
            assert option.default == (tuple(expected) if isinstance(option.default, tuple) else expected), name


@pytest.mark.parametrize("model", known_models())
def test_the_help_of_fit_states_what_its_parser_takes(model: str) -> None:
    check_agrees(stated("fit", "--model", model), make_parser(program_class(model), model))


@pytest.mark.parametrize("verb", [verb for verb in list_verbs() if verb != "fit"])
def test_the_help_of_a_verb_states_what_its_parser_takes(verb: str) -> None:
    module, parser = import_module(f"ppl_vae.cli.{verb}"), Parser(verb)
    positional = ("runs",) if verb == "compare" else ()
    add_options(parser, getattr(module, verb), skip=(*positional, *getattr(module, "LEFT_OUT", ())))
    options = stated(verb)
    assert PROCESSES.issubset(options) == (verb in IN_SHARDS)
    check_agrees(options, parser)


@pytest.mark.parametrize("verb", list_verbs())
def test_help_fits_a_terminal(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: python -m ppl_vae {verb}")
    assert max(map(len, out.splitlines())) <= 80
    assert len(out.splitlines()) <= 120
    for option in re.split(r"\n  (?=--|\w)", out)[1:]:
        sentences = " ".join(option.split())
        assert len(re.findall("default", sentences)) <= 1, sentences
        assert "Literal" not in sentences
        assert not re.search(r"\w- \w", sentences), sentences  # a word that a line break has cut at its hyphen


@pytest.mark.parametrize(("verb", "stated_default"), [("gap", "(1000)"), ("evaluate", "(default: all)")])
def test_a_default_is_that_of_the_verb(verb: str, stated_default: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"sampled at random {stated_default}" in " ".join(capsys.readouterr().out.split())


def test_the_options_of_fit_are_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help"]) == 0
    titles = ["Run", "Data", "Model", "Objective", "Local inference", "Optimiser", "Hardware"]
    assert re.findall(r"^(\w[\w ]*):$", capsys.readouterr().out, re.MULTILINE) == titles
    for topic, part in {"patience": "null (None in Python) trains to the end", "hardware": "--memory"}.items():
        assert main(["fit", "--help", topic]) == 0
        assert part in " ".join(capsys.readouterr().out.split())
    assert main(["fit", "--help", "patiense"]) == 2
    assert "did you mean 'patience'?" in capsys.readouterr().err


def test_an_argument_of_the_program_without_a_default_is_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "mine.py"
    program.write_text("class Mine:\n    def __init__(self, width: int): ...\n    def model(self, x): ...\n")
    assert main(["fit", "--model", str(program), "--help"]) == 0
    usage, *_, option = re.findall(r"^usage.*|^ .*width.*", capsys.readouterr().out, re.MULTILINE)
    assert usage == "usage: python -m ppl_vae fit [options]"
    assert option.split() == ["--model.width", "N"]


def test_a_verb_is_described_in_a_line() -> None:
    for verb in list_verbs():
        assert len(first_sentence(describe(verb))) <= 100, verb


def test_help_imports_no_library_that_takes_a_second() -> None:
    code = (
        "import sys\nfrom ppl_vae.cli import main\n"
        "assert main(['fit', '--help']) == main(['--version']) == main([]) == main(['gap', '-h']) == 0\n"
        "slow = {'torch', 'pyro', 'numpy', 'pandas', 'sklearn', 'matplotlib', 'jsonargparse'} & set(sys.modules)\n"
        "print(sorted(slow))\n"
        "assert not slow, slow"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_versions_are_stated(capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["--version"], ["fit", "--version"]):
        assert main(args) == 0
        assert re.fullmatch(r"ppl-vae [\d.]+ \(Python [\d.]+, PyTorch \S+, Pyro \S+\)\n", capsys.readouterr().out)


def test_usual_names_mean_options_that_exist_and_are_none_themselves() -> None:
    options = {*stated("fit"), "--processes"}
    assert {option.partition(" ")[0] for option in MEANT} <= options
    names = [name for names in MEANT.values() for name in names.split()]
    assert len(names) == len(set(names))
    assert not {f"--{name.replace('_', '-')}" for name in names} & options
    assert hint("Learning-Rate") is None


def test_help_that_nobody_reads_to_its_end_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "ppl_vae", "fit", "--help"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
