"""A headless Chromium, driven by the DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 30.0


class Tab:
    """A page in a browser.

    Args:
        connection: the connection to its target.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection, self.last = connection, 0
        self.messages: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its answer; what the page reports meanwhile is kept in ``messages``."""
        self.last += 1
        self.connection.send(json.dumps({"id": self.last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.connection.recv(timeout=SECONDS))
            if message.get("id") == self.last:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self.messages.append(message)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, or of what it promises."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Return the first value of an expression that is true."""
        end = time.monotonic() + SECONDS
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} is never true"
            time.sleep(0.02)
        return value

    def show(self, address: str, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Open an address in a window of this size, and forget what the page before it has reported."""
        self.messages.clear()
        mobile = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete'")

    def drag(self, start: Sequence[float], end: Sequence[float], steps: int = 12) -> None:
        """Press the mouse at a place, move it to another, and release it."""
        self.mouse("mousePressed", start)
        for step in range(1, steps + 1):
            self.mouse("mouseMoved", [a + (b - a) * step / steps for a, b in zip(start, end, strict=True)])
        self.mouse("mouseReleased", end)

    def mouse(self, kind: str, place: Sequence[float]) -> None:
        """Send one event of the mouse."""
        options = {"button": "left", "buttons": 1, "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **options)

    def photograph(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        image = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(image))

    def faults(self) -> list[str]:
        """Return the errors that the page or its policy has reported."""
        self.evaluate("0")
        logged = [m["params"]["entry"] for m in self.messages if m["method"] == "Log.entryAdded"]
        thrown = [str(m["params"]) for m in self.messages if m["method"] == "Runtime.exceptionThrown"]
        return thrown + [entry["text"] for entry in logged if entry["level"] == "error"]


@contextmanager
def open_tab() -> Iterator[Tab]:
    """Start a browser with one tab, and end it."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        command = [CHROMIUM, *options, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port_file = Path(profile, "DevToolsActivePort")
            wait_until(lambda: port_file.is_file() and len(port_file.read_text().split()) > 1)
            port = port_file.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=SECONDS) as answer:
                target = next(page for page in json.load(answer) if page["type"] == "page")
            with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
                yield Tab(connection)
        finally:
            process.terminate()
            process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
