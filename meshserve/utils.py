"""The name under which ported programs know `get_trace_context`; see `meshserve.get_trace_context`."""

from __future__ import annotations

from meshserve.user.context import get_trace_context

__all__ = ["get_trace_context"]
