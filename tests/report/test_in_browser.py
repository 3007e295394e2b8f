"""A report in headless Chromium: no element is wider than the page, and the text of figures is legible."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ppl_vae.cli.command import run_verb
from ppl_vae.plots.style import NOTE
from ppl_vae.report import render
from ppl_vae.runs import Run
from tests.helpers.own_programs import QUICK

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (1280, 400)
SMALLEST = 7.9
"""CSS pixels."""

PROBE = """<script>
addEventListener("load", () => {
  const page = document.documentElement.clientWidth, what = (e) => e.tagName + "." + e.className + "#" + e.id;
  if (document.documentElement.scrollWidth > page) console.error("the page scrolls at " + page);
  const scrolls = (e) => e && (["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  for (const e of document.body.querySelectorAll("*")) {
    const box = e.getBoundingClientRect();
    const outside = box.right > page + 1 || box.left < -1;
    if (outside && !scrolls(e.parentElement)) console.error("outside at " + page + ": " + what(e));
    const hides = getComputedStyle(e).overflowX == "hidden";
    if (hides && e.scrollWidth > e.clientWidth + 1) console.error("clipped at " + page + ": " + what(e));
  }
  for (const image of document.images) {
    const text = NOTE * image.clientWidth / image.getAttribute("width");
    if (text < SMALLEST) console.error("small text at " + page + ": " + text + " in " + image.alt);
  }
  console.error("probed at " + page);
});
</script>""".replace("NOTE", str(NOTE * 96 / 72)).replace("SMALLEST", str(SMALLEST))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the report of a run with all its estimates and checks, without its policy, which allows no probe."""
    folder = tmp_path_factory.mktemp("browsed") / "run"
    assert run_verb("fit", ["--output", str(folder), *QUICK]) == 0
    few = ("--num-samples", "20", "--num-data", "30")
    assert run_verb("evaluate", [str(folder), *few]) == 0
    assert run_verb("gap", [str(folder), "--num-data", "6", "--local-steps", "5", "--num-samples", "20"]) == 0
    assert run_verb("latents", [str(folder), "--num-data", "50"]) == 0
    assert run_verb("traverse", [str(folder)]) == 0
    assert run_verb("check", [str(folder), *few]) in (0, 1)
    return re.sub(r"<meta http-equiv=\"Content-Security-Policy\".*?>", "", render(Run.open(folder)))


def wrong(html: str, folder: Path) -> list[str]:
    """Return what the probe finds in frames of both widths: a browser's own window may not be narrow enough."""
    (folder / "page.html").write_text(html.replace("</body>", f"{PROBE}</body>"))
    frames = "".join(f'<iframe src="page.html" width="{width}" height="900"></iframe>' for width in WIDTHS)
    (folder / "frames.html").write_text(f"<!DOCTYPE html><style>iframe {{ border: 0 }}</style>{frames}")
    options = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking hide-scrollbars "
    options += "disable-component-update disable-sync enable-logging=stderr v=0 dump-dom window-size=1800,1000"
    flags = [f"--{option}" for option in (f"user-data-dir={folder / 'profile'}", *options.split())]
    command = [BROWSER or "", *flags, (folder / "frames.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = re.findall(r'CONSOLE.*?"(.*?)", source', done.stderr)
    assert sorted(line for line in lines if line.startswith("probed")) == sorted(f"probed at {w}" for w in WIDTHS), (
        lines
    )
    return [line for line in lines if not line.startswith("probed")]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_nothing_is_wider_than_the_page_and_the_figures_are_legible(page: str, tmp_path: Path) -> None:
    assert wrong(page, tmp_path) == []

    # The probe can fail.
    wide = '<p><span id="wide" style="display: inline-block; width: 1500px">wide</span></p>'
    found = wrong(page.replace("</main>", f"{wide}</main>"), tmp_path)
    assert {line for line in found if "#wide" in line} == {f"outside at {width}: SPAN.#wide" for width in WIDTHS}
    assert {line for line in found if "scrolls" in line} == {f"the page scrolls at {width}" for width in WIDTHS}
    free = re.sub(r' style="min-width: \d+px"', "", page)
    assert {line.split(":")[0] for line in wrong(free, tmp_path)} == {"small text at 400"}
    hidden = '<div style="width: 90px; overflow: hidden"><div style="width: 200px">hidden</div></div>'
    assert any(line.startswith("clipped") for line in wrong(page.replace("</main>", f"{hidden}</main>"), tmp_path))
