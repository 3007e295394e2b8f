"""A report: one page about a run, to open in a browser, to print or to send."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ppl_vae.report.content import gather
from ppl_vae.runs import Run
from ppl_vae.runs.files import write_whole

TEMPLATE = "report.html.jinja"


def write_report(folder: str | Path, *, trust: bool = False) -> Path:
    """Write ``report.html`` into a run folder, and return the file.

    The page says what the program is, how training went, how good it is, and how to repeat it, and shows its figures.
    It needs no other file and no network. The same run folder gives the same page.

    Args:
        folder: the run folder that ``fit`` wrote, with what other verbs have added to it.
        trust: if True, a program file inside the run folder, or outside the working tree, is executed too.

    Raises:
        InputError: the folder is no run, may not be written to, or has a file that is damaged.
    """
    run = Run.open(folder)
    run.check_writable()
    path = run.path / "report.html"
    write_whole(path, render(run, trust=trust))
    return path


def render(run: Run, *, trust: bool = False) -> str:
    """Return the page of a run; whatever is not part of the template is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(gather(run, trust=trust))
