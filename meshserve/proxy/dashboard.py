"""The page about the mesh at `/-/dashboard`: one file that needs nothing from elsewhere, and the state it asks for.

It only reads. Everything it shows is put there as text, never as markup, and its own headers forbid the browser to run
or load anything but what is in it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

from meshserve.proxy.dashboard_figures import read_figures
from meshserve.proxy.dashboard_history import History
from meshserve.proxy.dashboard_view import notices_view, view
from meshserve.proxy.discovery import Discovery
from meshserve.proxy.http_answers import Answer, Page
from meshserve.proxy.mesh_metrics import MeshMetrics
from meshserve.proxy.notice_board import NoticeBoard

PATH = "/-/dashboard"
STATE_PATH = f"{PATH}/state"

FRESH_S = 1.0
"""Many may look at the page: the mesh is asked once a second, whoever looks."""

_ALONE = (b"cache-control", b"no-store", b"x-content-type-options", b"nosniff", b"referrer-policy", b"no-referrer")


class Dashboard:
    """See the module. Lives on the I/O thread.

    Args:
        discovery: knows the controller.
        metrics: of all nodes.
        notices: of the processes.
        node_id: of this proxy.

    Attributes:
        pages: by path.
    """

    def __init__(self, discovery: Discovery, metrics: MeshMetrics, notices: NoticeBoard, node_id: str) -> None:
        self._discovery = discovery
        self._metrics = metrics
        self._notices = notices
        self._node_id = node_id
        self._history = History()
        self._state = b""
        self._good_until = 0.0
        self._lock = asyncio.Lock()
        self.pages: Mapping[str, Page] = {PATH: self.page, f"{PATH}/": self.page, STATE_PATH: self.state}

    async def page(self) -> Answer:
        """The page itself."""
        text, policy = await asyncio.to_thread(_page)
        own = (b"content-security-policy", policy, b"x-frame-options", b"DENY")
        return Answer(200, text, b"text/html; charset=utf-8", own_headers=(*_ALONE, *own))

    async def state(self) -> Answer:
        """What it shows, as JSON."""
        async with self._lock:
            if time.monotonic() >= self._good_until:
                self._state = await self._look()
                self._good_until = time.monotonic() + FRESH_S
        return Answer(200, self._state, b"application/json", own_headers=_ALONE)

    async def _look(self) -> bytes:
        status = await self._discovery.status(FRESH_S)
        (text, nodes), notices = await asyncio.gather(self._metrics.text(), self._notices.newest())
        now, silent_s = time.monotonic(), self._discovery.silent_s

        def put_together() -> bytes:
            self._history.add(read_figures(text, now))
            state: dict[str, Any] = {
                "at_s": time.time(),
                "version": _version(),
                "node_id": self._node_id,
                "figures_of": nodes,
                "controller": {"answers": silent_s == 0, "silent_s": silent_s},
                **view(status, self._history),
                "notices": notices_view(notices),
            }
            return json.dumps(state, separators=(",", ":")).encode()

        return await asyncio.to_thread(put_together)


@cache
def _page() -> tuple[bytes, bytes]:
    """The page with its style and its script in it, and what the browser is told to allow."""
    folder = files("meshserve.proxy").joinpath("assets")
    style, script, text = (folder.joinpath(f"dashboard.{kind}").read_text("utf-8") for kind in ("css", "js", "html"))
    text = text.replace("/* style */", style).replace("/* script */", script)
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy.encode()


@cache
def _version() -> str:
    """Of this package; empty where its source runs without having been installed."""
    try:
        return version("meshserve")
    except PackageNotFoundError:
        return ""


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
