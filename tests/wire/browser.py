"""A headless Chromium, steered by its DevTools protocol: what a page shows, and how it looks."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Tab:
    """One tab.

    Args:
        socket: to it.

    Attributes:
        problems: errors of scripts, and what the browser refused to load or run.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.problems: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._listen(message)

    def _listen(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif message["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def open(self, url: str, width: int = 1280, height: int = 900, *, phone: bool = False) -> None:
        """Opens a page in a window of that size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, timeout_s: float = 15.0) -> None:
        """Waits until an expression of JavaScript is true."""
        deadline = time.monotonic() + timeout_s
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"{expression} is not true of: {self.text()}"
            time.sleep(0.05)

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.value("document.body.innerText"))

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """A browser with one tab, that keeps everything of its own in a folder."""
    assert CHROMIUM is not None
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0")
    place = folder / "browser"
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [CHROMIUM, *flags, f"--user-data-dir={place}", "about:blank"], stdout=log, stderr=log
        )
    try:
        with connect(_tab_url(place / "DevToolsActivePort"), max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(10)


def _tab_url(file: Path) -> str:
    """Where the first tab is reached; the browser writes its port to a file."""
    deadline = time.monotonic() + 30
    while not file.exists() or "\n" not in file.read_text():
        assert time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.05)
    port, path = file.read_text().split("\n")[:2]
    with connect(f"ws://127.0.0.1:{port}{path}") as socket:
        socket.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(socket.recv(timeout=30))["result"]["targetInfos"]
    tab = next(one["targetId"] for one in targets if one["type"] == "page")
    return f"ws://127.0.0.1:{port}/devtools/page/{tab}"
