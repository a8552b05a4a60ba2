"""What the ingress reads of an HTTP request: a few headers, and nothing of its body."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from meshserve.model.call import CallContext
from meshserve.wire.http import Headers, Scope

_NAMES: dict[bytes, str] = {
    b"content-length": "content-length",
    b"transfer-encoding": "transfer-encoding",
    b"expect": "expect",
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
    b"x-request-id": "x-request-id",
    b"x-request-timeout-seconds": "timeout",
    b"x-request-disconnect-disabled": "disconnect-disabled",
    # Servers in front of this one may drop headers with underscores or turn them into hyphens.
    b"serve_multiplexed_model_id": "model-id",
    b"serve-multiplexed-model-id": "model-id",
    b"x-session-id": "session-id",
    b"x_session_id": "session-id",
    # uvicorn reads these, of clients that it trusts.
    b"x-forwarded-for": "forwarded",
    b"x-forwarded-proto": "forwarded",
}
"""The headers that mean something to the mesh, and what each is called here."""

SMALL_BODY_BYTES = 64 * 1024
"""A body of at most this size is awaited and travels with the head: one item instead of several, and a client that is
slow to send it takes no slot of a replica. A larger one streams."""


@dataclass(slots=True)
class RequestFacts:
    """What the headers of a request say to the mesh.

    Attributes:
        request_id: the client's, or a new one.
        content_length: the size of the body; None when it is chunked or missing.
        chunked: whether the body has no size known before it ends.
        expects_continue: whether the client waits to be asked for the body.
        timeout_s: the time the request has, or None for no limit.
        watches_disconnect: whether a client that goes away ends the request.
    """

    request_id: str
    content_length: int | None
    chunked: bool
    expects_continue: bool
    timeout_s: float | None
    watches_disconnect: bool
    headers: dict[str, str]

    @property
    def has_small_body(self) -> bool:
        """Whether it has a body, of known and small size, that the client does not wait to be asked for."""
        length = self.content_length
        return length is not None and length <= SMALL_BODY_BYTES and not self.expects_continue

    @property
    def is_plain(self) -> bool:
        """Whether it may be served in callbacks, if its body comes at once: a small body or none, nothing unusual."""
        if self.chunked or self.expects_continue or "forwarded" in self.headers:
            return False
        return self.content_length is None or self.content_length <= SMALL_BODY_BYTES

    def request_id_line(self) -> bytes:
        """The header by which the response names the request, as a line."""
        return b"x-request-id: " + self.request_id.encode("latin-1") + b"\r\n"

    def context(self, app: str, route: str, client: tuple[str, int] | None) -> CallContext:
        """The context of the request's call."""
        address = f"{client[0]}:{client[1]}" if client else ""
        if not self.headers:
            return CallContext(self.request_id, app, route, client=address)
        get = self.headers.get
        return CallContext(
            request_id=self.request_id,
            app=app,
            route=route,
            multiplexed_model_id=get("model-id", ""),
            session_id=get("session-id", ""),
            traceparent=get("traceparent", ""),
            tracestate=get("tracestate", ""),
            client=address,
        )


def facts_of(headers: Headers, default_timeout_s: float | None) -> RequestFacts:
    """Reads the headers.

    Args:
        headers: of the request.
        default_timeout_s: of requests that name none of their own; None or not positive for no limit.
    """
    names = _NAMES
    found = {names[name]: value.decode("latin-1") for name, value in headers if name in names}
    if not found:
        return RequestFacts(_new_request_id(), None, False, False, _timeout_s(None, default_timeout_s), True, found)
    get = found.get
    length = get("content-length")
    return RequestFacts(
        get("x-request-id") or _new_request_id(),
        int(length) if length is not None and length.isdecimal() else None,
        "transfer-encoding" in found,
        get("expect", "").lower() == "100-continue",
        _timeout_s(get("timeout"), default_timeout_s),
        get("disconnect-disabled") != "?1",
        found,
    )


def _new_request_id() -> str:
    """A random UUID (version 4) as text. It names, it does not guard, so the cheap source of chance does."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _timeout_s(header: str | None, default_s: float | None) -> float | None:
    """The timeout of a request; a header that is no number is as good as none, a negative one lifts the limit."""
    timeout_s = default_s
    if header is not None:
        try:
            own = float(header)
        except ValueError:
            own = math.nan
        timeout_s = timeout_s if math.isnan(own) else own
    return timeout_s if timeout_s is not None and 0 < timeout_s < math.inf else None


def mount(scope: Scope, root_path: str) -> None:
    """Makes the scope's path the full one, which begins with `root_path`.

    A server in front of this one may have removed that prefix or left it.
    """
    path: str = scope["path"]
    if path != root_path and not path.startswith(root_path + "/"):
        scope["path"] = root_path + path
        scope["raw_path"] = root_path.encode() + scope["raw_path"]
