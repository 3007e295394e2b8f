"""The verb ``explore``."""

from __future__ import annotations

from contextlib import suppress

from ppl_vae.cli.opened import OpenRun, Outcome, Selection, name_row
from ppl_vae.explore import ExploredSpace, Explorer, Views, write_page
from ppl_vae.imports import import_extra


def explore(
    run: OpenRun,
    selection: Selection = Selection(num_data=500),
    port: int = 0,
    browser: bool = True,
    export: str | None = None,
    num_steps: int = 21,
) -> Outcome:
    """Open a local page in which a point of the latent space is dragged and decoded.

    The page has the data in the plane of two latent dimensions, sliders for the others, the conditions, the nearest
    data, and the posterior of a datum beside the prior. It is served to this machine alone until Ctrl-C.

    Args:
        run: the run.
        selection: the data in the page.
        port: port of the page. With 0 any free one is taken.
        browser: open the page in a browser if there is a graphical one.
        export: file to write instead, such as page.html. It needs no server and shows a grid over the plane.
        num_steps: number of points of the grid of that file in each direction.

    Returns:
        Outcome: with the file, if one is written.
    """
    if export is None:
        for module in ("uvicorn", "starlette"):
            import_extra(module, "explore", "explore")
    arrays = run.select(selection)
    space = ExploredSpace(run.vi, arrays)
    rows = [name_row(arrays, index) for index in range(len(space.places))]
    title = f"Latent space: {run.vi.program_.name} on {run.data.name}"
    explorer = Explorer(space, Views(space, run.data), title, rows, selection.part)
    if export is not None:
        path = write_page(explorer, export, num_steps)
        return Outcome(path, [], [path])
    from ppl_vae.explore.server import serve  # with uvicorn, which only this line needs

    with suppress(KeyboardInterrupt):
        serve(explorer, port, browser=browser)
    return Outcome(None, ["the page is closed"])
