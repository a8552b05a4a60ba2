"""Which request the running code serves, for logs and metrics. This layer does not know how that is kept: the layer
above says whom to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from meshserve.model.call import CallContext


def _nobody() -> CallContext | None:
    return None


_ask: Callable[[], CallContext | None] = _nobody
_spoken_for: ContextVar[CallContext | None] = ContextVar("spoken_for", default=None)


def ask_for_request(ask: Callable[[], CallContext | None]) -> None:
    """Says whom to ask; called once, by a process that serves requests."""
    global _ask
    _ask = ask


def current_request() -> CallContext | None:
    """The request that the current task or thread serves; None outside one."""
    return _spoken_for.get() or _ask()


@contextmanager
def on_behalf_of(request: CallContext) -> Iterator[None]:
    """What is logged inside is about a request that this code does not serve itself."""
    reset = _spoken_for.set(request)
    try:
        yield
    finally:
        _spoken_for.reset(reset)
