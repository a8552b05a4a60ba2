"""Spans of OpenTelemetry. The only module that imports it; imported when tracing is turned on."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshserve.model.call import CallContext
from meshserve.model.failure import Failure
from meshserve.telemetry.log_options import Identity
from meshserve.telemetry.tracing_options import TracingOptions

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"


class Tracing:
    """Makes spans. Its methods may be called from any thread.

    Args:
        provider: of OpenTelemetry, with its processors; user code's spans may go there too.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._tracer = provider.get_tracer("meshserve")
        self._propagator = TraceContextTextMapPropagator()

    # -- spans -----------------------------------------------------------------------------------------------------

    def begin(self, name: str, kind: str, parent: CallContext, attributes: Mapping[str, Any]) -> trace.Span:
        """Begins a span of a request.

        Args:
            kind: "server", "client" or "internal".
            parent: the request; its trace context is the parent.
            attributes: by name; empty ones are left out.
        """
        given = {key: value for key, value in attributes.items() if value not in ("", None)}
        given["request_id"] = parent.request_id
        return self._tracer.start_span(name, self._parent(parent), trace.SpanKind[kind.upper()], given)

    def told(self, name: str, parent: CallContext, began: float, attributes: Mapping[str, Any]) -> None:
        """Makes a span of what is over.

        Args:
            began: on the monotonic clock; it ends now.
        """
        ended_ns = time.time_ns()
        began_ns = ended_ns - int((time.monotonic() - began) * 1e9)
        span = self._tracer.start_span(name, self._parent(parent), attributes=attributes, start_time=began_ns)
        span.end(ended_ns)

    def follow(self, span: trace.Span, context: CallContext) -> None:
        """Makes a span the parent of what is traced with a context from here on."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, trace.set_span_in_context(span))
        # Read before it is written: a context from the wire fills in all its fields with the first one read.
        if context.traceparent != carrier.get(TRACEPARENT, ""):
            context.traceparent = carrier.get(TRACEPARENT, "")
            context.tracestate = carrier.get(TRACESTATE, "")

    def enter(self, span: trace.Span) -> None:
        """Makes a span the current one of the running task or thread, so that what user code traces is inside it."""
        attach(trace.set_span_in_context(span))

    def current(self) -> Context | None:
        """The context of the running task or thread; None when it is empty."""
        return get_current() or None

    def inherit(self, context: CallContext) -> None:
        """Gives a context the current span of user code as its parent, if there is one."""
        span = trace.get_current_span()
        if span.get_span_context().is_valid:
            self.follow(span, context)

    def end(self, span: trace.Span, failed: str = "", attributes: Mapping[str, Any] | None = None) -> None:
        """Ends a span; with an error that says why, if what it is about failed."""
        if attributes:
            span.set_attributes(attributes)
        if failed:
            span.set_status(trace.Status(trace.StatusCode.ERROR, failed))
        span.end()

    def fail(self, span: trace.Span, failure: Failure) -> None:
        """Ends the span of a call that failed."""
        told = {"exception.type": failure.exception_type, "exception.message": failure.message}
        if failure.traceback:
            told["exception.stacktrace"] = failure.traceback
        span.add_event("exception", told)
        self.end(span, failure.message)

    def links(self, contexts: Iterable[CallContext]) -> list[trace.Link]:
        """Links to the spans of requests."""
        spans = (trace.get_current_span(self._parent(context)) for context in contexts)
        return [trace.Link(span.get_span_context()) for span in spans if span.get_span_context().is_valid]

    def batch(self, name: str, contexts: list[CallContext]) -> trace.Span:
        """Begins the span of a batch: the child of its first request, linked to the others."""
        attributes = {"batch.size": len(contexts)}
        return self._tracer.start_span(
            name, self._parent(contexts[0]), attributes=attributes, links=self.links(contexts[1:])
        )

    def flush(self) -> None:
        """Sends what waits now; blocks."""
        self.provider.force_flush()

    def shut_down(self) -> None:
        """Sends what waits."""
        self.provider.shutdown()

    def _parent(self, context: CallContext) -> Context:
        if not context.traceparent:
            return Context()
        carrier = {TRACEPARENT: context.traceparent}
        if context.tracestate:
            carrier[TRACESTATE] = context.tracestate
        return self._propagator.extract(carrier, Context())


def make_tracing(options: TracingOptions, who: Identity, log_dir: str) -> Tracing:
    """The tracing of a process.

    Raises:
        ModuleNotFoundError: the exporter cannot be imported.
        TypeError: it does not give a list of span processors.
    """
    resource = Resource.create({"service.name": f"meshserve-{who.component}", **who.labels})
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(options.sampling_ratio)), resource=resource)
    for processor in _processors(options.exporter_import_path, who, log_dir):
        provider.add_span_processor(processor)
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # user code has set none of its own
        trace.set_tracer_provider(provider)
    return Tracing(provider)


def _processors(path: str, who: Identity, log_dir: str) -> list[Any]:
    processors = _from_user(path) if path else _to_file(who, log_dir)
    if not isinstance(processors, list) or not all(isinstance(one, SpanProcessor) for one in processors):
        raise TypeError(f"{path!r} must give a list of opentelemetry.sdk.trace.SpanProcessor, not {processors!r}.")
    return processors


def _from_user(path: str) -> Any:
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    return getattr(importlib.import_module(module), name)()


def _to_file(who: Identity, log_dir: str) -> list[Any]:
    """Spans as JSON, one a line, beside the log."""
    folder = Path(log_dir or ".") / "meshserve" / "spans"
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / who.file_name).with_suffix(".jsonl").open("a")
    return [BatchSpanProcessor(ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\n"))]
