"""An exporter as users name it in `tracing_config`; it keeps spans in memory."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

_exporter = InMemorySpanExporter()


def processors() -> list[SpanProcessor]:
    """For `exporter_import_path`; begins anew."""
    global _exporter
    _exporter = InMemorySpanExporter()
    return [SimpleSpanProcessor(_exporter)]


def lingering() -> list[SpanProcessor]:
    """As `processors`, but spans are kept for long, to be sent together."""
    processors()
    return [BatchSpanProcessor(_exporter, schedule_delay_millis=3_600_000)]


def no_list() -> str:
    """What an exporter must not give."""
    return "spans"


def finished() -> tuple[ReadableSpan, ...]:
    """Spans that have ended, in that order."""
    return _exporter.get_finished_spans()
