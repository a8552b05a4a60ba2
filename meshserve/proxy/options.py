"""What the HTTP ingress may be told: the fields of `http_options`."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Options of the HTTP ingress. Durations are seconds, sizes bytes.

    Attributes:
        host: the address to bind; None for no HTTP at all.
        port: the port; 0 for any free one.
        root_path: the path under which a server in front of this one shows everything here; requests are
            understood with it and without it.
        request_timeout_s: from the arrival of a request to the last byte of its response; None or not positive for
            no limit. A client may set its own in the header `x-request-timeout-seconds`.
        keep_alive_timeout_s: how long an idle connection stays open.
        receive_timeout_s: how long a client may take for a request's head, and may fall silent within its body.
        max_header_bytes: the longest head of a request; 431 above.
        max_body_bytes: the largest body of a request; 413 above. None for no limit.
        max_websocket_message_bytes: the largest message of a WebSocket; it is closed with 1009 above.
        dashboard: whether there is a page about the mesh at `/-/dashboard`.
        metrics_port: where `/metrics`, the targets and the page are served instead of at `port`; None for there.
        ssl_keyfile: with `ssl_certfile`: HTTPS. Paths.
        ssl_keyfile_password: of the key.
        ssl_ca_certs: the authorities that sign clients' certificates; clients without one are then refused.
        workers: how many processes share the ports of this proxy.
        joins: this process is not the first of them: the ports are taken, and to be shared.
        middlewares_from: import path of a function that gives Starlette middlewares to put around the ingress; empty
            for none.
    """

    host: str | None = "127.0.0.1"
    port: int = 8000
    root_path: str = ""
    request_timeout_s: float | None = None
    keep_alive_timeout_s: int = 90
    receive_timeout_s: float = 60.0
    max_header_bytes: int = 64 * 1024
    max_body_bytes: int | None = None
    max_websocket_message_bytes: int = 16 * 1024 * 1024
    dashboard: bool = True
    metrics_port: int | None = None
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None
    workers: int = 1
    joins: bool = False
    middlewares_from: str = ""

    @staticmethod
    def from_json(text: str) -> HttpOptions:
        """Reads the options; fields that belong to others (location, ...) are passed over."""
        data: dict[str, Any] = json.loads(text) if text else {}
        known = {field.name for field in fields(HttpOptions)}
        return HttpOptions(**{name: value for name, value in data.items() if name in known})
