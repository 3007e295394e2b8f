"""A point is dragged in headless Chromium, and what the page draws is what the program decodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from ppl_vae.explore import ExploredSpace, Explorer, Views, write_page
from ppl_vae.explore.server import make_app
from tests.helpers.browser import CHROMIUM, Tab, open_tab, wait_until
from tests.helpers.uses import open_case

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
TOKEN = "a-token-of-this-test"
STATE = "document.getElementById('status').textContent"
HANDLE = "(() => { const box = document.querySelector('#handle .dot').getBoundingClientRect();"
HANDLE += " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
PLANE = "(() => { const box = document.getElementById('plane').getBoundingClientRect();"
PLANE += " return [box.x, box.y, box.width, box.height]; })()"
PIXELS = "(() => { const canvas = document.querySelector('#decoded canvas');"
PIXELS += " return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]; })()"


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    """The page of a conditional VAE of images of two by three pixels."""
    run = open_case("cvae", tmp_path_factory.mktemp("page") / "run")
    object.__setattr__(run.data, "image_shape", (2, 3))
    space = ExploredSpace(run.vi, run.data.test)
    return Explorer(space, Views(space, run.data), "digits", [f"row {row}" for row in range(21)], "test")


@contextmanager
def served(explorer: Explorer) -> Iterator[str]:
    """Serve a page in a thread, and yield its address."""
    server = uvicorn.Server(uvicorn.Config(make_app(explorer, TOKEN), port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/?token={TOKEN}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with open_tab() as tab:
        yield tab


def inked(tab: Tab) -> np.ndarray:
    """Return what the canvas of the decoded image shows, as values from 0 to 1: dark is high."""
    return 1 - np.array(tab.evaluate(PIXELS)).reshape(-1, 4)[:, 0] / 255


def drag_to(tab: Tab, across: float, down: float, within: float = 1.0) -> dict[str, float]:
    """Drag the point to a place of the plane, in shares of its size, and return its coordinates in the page.

    Args:
        tab: the tab that shows the page.
        across: the place from left to right.
        down: the place from top to bottom.
        within: the largest distance at which the point may be put down, in pixels.
    """
    x, y, width, height = tab.evaluate(PLANE)
    tab.drag(tab.evaluate(HANDLE), end := (x + across * width, y + down * height))
    assert np.abs(np.subtract(tab.evaluate(HANDLE), end)).max() <= within
    point: dict[str, float] = tab.wait_for("isAsking || isBehind ? null : state.point")
    return point


def check_drags(tab: Tab, address: str, explorer: Explorer) -> None:
    """Drag the point to three places, and compare the canvas with what the program decodes there."""
    tab.show(address)
    tab.wait_for("decoded !== null")
    shown: list[np.ndarray] = []
    for across, down in [(0.8, 0.2), (0.3, 0.3), (0.5, 0.8)]:
        point = drag_to(tab, across, down)
        row = tab.evaluate("state.row")
        expected = ExploredSpace.decode(explorer.space, [point], row).means["x"][0]
        np.testing.assert_allclose(inked(tab), expected, atol=1.1 / 255)
        assert all(np.abs(shown_before - inked(tab)).max() > 2 / 255 for shown_before in shown)
        shown.append(inked(tab))
    assert "answered in" in tab.evaluate(STATE)
    assert tab.faults() == []


def test_what_is_dragged_is_what_the_program_decodes(tab: Tab, explorer: Explorer) -> None:
    with served(explorer) as address:
        check_drags(tab, address, explorer)


def test_a_decoder_that_is_a_constant_is_noticed(tab: Tab, explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    constant = explorer.decode({"row": 0, "point": {}})
    monkeypatch.setattr(explorer, "decode", lambda request: constant)
    with served(explorer) as address, pytest.raises(AssertionError):
        check_drags(tab, address, explorer)


def test_a_datum_and_a_condition_are_chosen(tab: Tab, explorer: Explorer) -> None:
    with served(explorer) as address:
        tab.show(address, width=400)
        tab.wait_for("decoded !== null")
        tab.evaluate("choose(7)")
        tab.wait_for("state.row === 7 && !isAsking")
        expected = explorer.space.decode([{}], 7).means["x"][0]
        np.testing.assert_allclose(inked(tab), expected, atol=2.1 / 255)  # places have four digits
        other = (int(explorer.space.arrays["y"][7]) + 1) % 4
        tab.evaluate(
            f"(() => {{ const select = document.querySelector('#conditions select'); select.value = {other};"
            " select.dispatchEvent(new Event('change')); })()"
        )
        tab.wait_for(f"state.conditions.y === {other} && !isAsking && !isBehind")
        expected = explorer.space.decode([{}], 7, {"y": other}).means["x"][0]
        np.testing.assert_allclose(inked(tab), expected, atol=2.1 / 255)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400
        assert tab.evaluate("fetch('/?token=another').then((answer) => answer.status)") == 403


def test_a_file_needs_no_server(tab: Tab, explorer: Explorer, tmp_path: Path) -> None:
    path = write_page(explorer, tmp_path / "page.html", num_steps=5)
    tab.show(path.as_uri())
    tab.wait_for("decoded !== null")
    seen: list[Any] = []
    for across, down in [(0.8, 0.2), (0.3, 0.6)]:
        point = drag_to(tab, across, down, within=80)
        expected = explorer.space.decode([point], 0, around_prior=True).means["x"][0]
        np.testing.assert_allclose(inked(tab), expected, atol=1.1 / 255)
        seen.append(point)
    assert seen[0] != seen[1]
    assert tab.faults() == []
