"""``python -m ppl_vae.report``: one page about a run, to open in a browser, to print or to send."""

from __future__ import annotations

import ppl_vae.cli.process  # noqa: F401

# isort: split
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ppl_vae.cli.parser import Parser, command
from ppl_vae.report.content import gather
from ppl_vae.runs import Run
from ppl_vae.runs.files import write_whole

TEMPLATE = "report.html.jinja"


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""

    def verb(args: Sequence[str]) -> None:
        parser = Parser(
            prog="python -m ppl_vae.report",
            description="Write one page about a run: the program, its training, how good it is, and its figures.",
        )
        parser.add_function_arguments(report, as_positional=True)
        print(f"written to {report(**parser.parse_args(args).as_dict())}")

    return command(verb, args)


def report(folder: str) -> Path:
    """Write ``report.html``: what the program is, how training went, how good it is, its figures, how to repeat it.

    The page needs no other file and no network. The same run folder gives the same page.

    Args:
        folder: what ``fit`` wrote, with what ``evaluate``, ``gap`` and other verbs have added to it.

    Returns:
        The file.
    """
    run = Run.open(folder)
    run.check_writable()
    path = run.path / "report.html"
    write_whole(path, page(run))
    return path


def page(run: Run) -> str:
    """The page of a run; whatever is not part of the template is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(gather(run))
