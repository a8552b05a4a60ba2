"""The lines of a log: of `logging`'s records, and of the access log, as text or JSON."""

from __future__ import annotations

import json
import logging
import time
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Protocol, TypeAlias

from meshserve.model.call import CallContext
from meshserve.telemetry.current import current_request
from meshserve.telemetry.log_options import Identity, LogOptions

Access: TypeAlias = tuple[float, str, str, str, str, str, float]
"""A request that is over: the instant on the monotonic clock, its id, its route, the verb (`GET`, `CALL`), what was
called (a route, a method), the status, and how long it took in seconds. A plain tuple of plain values: one is made per
request, and it must hold on to nothing while it waits to be written."""


class Format(Protocol):
    """Makes lines, without the newline."""

    def record(self, record: logging.LogRecord) -> str:
        """A record of `logging`; where it was logged, so that the request is known."""

    def access(self, entry: Access) -> str:
        """A request that is over; later, on another thread."""


STDERR = "log_to_stderr"
"""What a record is given as `extra` to keep it from standard error: False."""

REQUEST = "serve_access_log"
"""What a record is given as `extra` to be one of the access log: True."""

_FIELDS = "ray_serve_extra_fields"
"""What a record is given as `extra` to add many fields to a line of JSON: a mapping."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", STDERR, REQUEST, _FIELDS}
_to_text = logging.Formatter()


class _Clock:
    """Wall time as text, which is made once a millisecond; the part that changes once a second is kept."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()
        self._second = -1
        self._second_text = ""
        self._millisecond = -1
        self._text = ""

    def at_monotonic(self, instant: float) -> str:
        return self.at(instant + self._offset_s)

    def at(self, seconds: float) -> str:
        millisecond = int(seconds * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._second, self._second_text = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._text = f"{self._second_text},{rest:03d}"
        return self._text


def _with_exception(record: logging.LogRecord, message: str) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = _to_text.formatException(record.exc_info)
    parts = [message, record.exc_text or "", record.stack_info or ""]
    return "\n".join(part for part in parts if part)


class TextFormat:
    """`LEVEL time name id [request id] -- message`.

    Args:
        who: writes.
        attributes: of records, put before the message.
    """

    def __init__(self, who: Identity, attributes: tuple[str, ...] = ()) -> None:
        self._who = f"{who.name} {who.id} "
        self._attributes = attributes
        self._clock = _Clock()
        self._access_clock = _Clock()

    def record(self, record: logging.LogRecord) -> str:
        """See `Format`."""
        request = current_request()
        request_id = f"{request.request_id} " if request is not None else ""
        message = record.message = record.getMessage()
        record.asctime = self._clock.at(record.created)
        own = "".join(f"{getattr(record, name, '')} " for name in self._attributes)
        line = f"{record.levelname} {record.asctime} {self._who}{request_id}{own}-- {message}"
        return _with_exception(record, line)

    def access(self, entry: Access) -> str:
        """See `Format`."""
        at, request_id, _, verb, called, status, seconds = entry
        return (
            f"INFO {self._access_clock.at_monotonic(at)} {self._who}{request_id} "
            f"-- {verb} {called} {status} {seconds * 1000:.1f}ms"
        )


class JsonFormat:
    """An object a line; what a record was given as `extra` are fields of it.

    Args:
        who: writes.
        attributes: of records, added as fields.
    """

    def __init__(self, who: Identity, attributes: tuple[str, ...] = ()) -> None:
        named = {
            "component_name": who.component,
            "component_id": who.id,
            "application": who.application,
            "deployment": who.deployment,
            "replica": who.replica,
            "node_id": who.node_id,
            **who.process,
        }
        self._who = {name: value for name, value in named.items() if value}
        self._who_text = json.dumps(self._who)[1:-1]
        self._attributes = attributes
        self._clock = _Clock()
        self._access_clock = _Clock()

    def record(self, record: logging.LogRecord) -> str:
        """See `Format`."""
        record.message, record.asctime = record.getMessage(), self._clock.at(record.created)
        line: dict[str, Any] = {
            "asctime": record.asctime,
            "levelname": record.levelname,
            "message": _with_exception(record, record.message),
            "filename": record.filename,
            "lineno": record.lineno,
            **self._who,
            **_request(current_request()),
            "timestamp_ns": int(record.created * 1e9),
        }
        line |= {name: getattr(record, name, None) for name in self._attributes}
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line |= getattr(record, _FIELDS, {})
        return json.dumps(line, default=str)

    def access(self, entry: Access) -> str:
        """See `Format`."""
        at, request_id, route, verb, called, status, seconds = entry
        message = f"{verb} {called} {status} {seconds * 1000:.1f}ms"
        # Put together by hand: a dictionary and `json.dumps` would take three times as long, for every request.
        return (
            f'{{"asctime": "{self._access_clock.at_monotonic(at)}", "levelname": "INFO", '
            f'"message": {quoted(message)}, {self._who_text}, '
            f'"request_id": {quoted(request_id)}, "route": {quoted(route)}, '
            f'"method": {quoted(verb if verb != "CALL" else called)}, "status": {quoted(status)}, '
            f'"latency_ms": {seconds * 1000:.3f}}}'
        )


def _request(context: CallContext | None) -> dict[str, str]:
    """What is known of a request; the application that it came to goes before the one that writes."""
    if context is None:
        return {}
    known = {"request_id": context.request_id, "route": context.route}
    return {name: value for name, value in known.items() if value}


def make_format(who: Identity, options: LogOptions) -> Format:
    """The format that the options ask for."""
    kind = JsonFormat if options.encoding == "JSON" else TextFormat
    return kind(who, options.attributes)
