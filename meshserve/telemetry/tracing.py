"""Traces, when they are configured: spans of OpenTelemetry around the hops of a request.

The context travels as W3C text in `CallContext.traceparent` and `tracestate`, so that a mesh without OpenTelemetry
still carries the trace of its clients through. Where tracing is off, what is left of it is one look at `active()`.

A span is made when the request passes, or afterwards when it is known that there is something to tell (waiting for a
replica): `Tracing.told`.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from meshserve.telemetry.log_options import Identity
from meshserve.telemetry.tracing_options import TracingOptions

if TYPE_CHECKING:
    from meshserve.telemetry.otel import Tracing

LAST_SPANS_S = 2.0
"""How long a process that is about to end waits for its exporter."""

_active: Tracing | None = None


def active() -> Tracing | None:
    """The tracing of this process; None when it is off."""
    return _active


def start_tracing(options: TracingOptions, who: Identity, log_dir: str = "") -> None:
    """Turns tracing on in this process, if the options say so; off otherwise.

    Args:
        options: whether, how much and where to.
        who: this process.
        log_dir: where spans go when no exporter is named.

    Raises:
        ModuleNotFoundError: OpenTelemetry is not installed, or the exporter cannot be imported.
        TypeError: the exporter does not give a list of span processors.
    """
    stop_tracing()
    if options.enabled:
        _start(options, who, log_dir)


def _start(options: TracingOptions, who: Identity, log_dir: str) -> None:
    global _active
    try:
        otel = importlib.import_module("meshserve.telemetry.otel")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("opentelemetry"):
            raise
        raise ModuleNotFoundError("tracing_config needs OpenTelemetry: install opentelemetry-sdk.") from error
    _active = otel.make_tracing(options, who, log_dir)


def stop_tracing() -> None:
    """Sends what waits and turns tracing off."""
    global _active
    tracing, _active = _active, None
    if tracing is not None:
        tracing.shut_down()


async def send_last_spans() -> None:
    """Sends what waits, for a process that is about to end: exporters keep spans for some seconds, to send many."""
    if _active is None:
        return
    try:
        await asyncio.wait_for(asyncio.to_thread(_active.flush), LAST_SPANS_S)
    except TimeoutError:
        pass  # whoever collects them does not answer, and nobody shall wait for that
