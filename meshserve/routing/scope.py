"""What the running code knows of the request it serves: the scope that child calls inherit from.

Set by the replica around user code (and by nothing else); read by handles and by the public functions in
`user.context`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol

from meshserve.model.call import CallContext


class Child(Protocol):
    """A call made while serving a request."""

    def cancel_with_parent(self) -> None:
        """Cancels it; safe from any thread, also when it is over."""


class RequestScope:
    """One request being served here.

    Attributes:
        context: of the call.
        deadline: on the monotonic clock, or None.
    """

    # On the class: one is made per call, and most make no calls.
    _children: set[Child] | None = None
    replica: Any = None
    """The context of the replica that serves it, where a process is several replicas (local testing mode)."""

    def __init__(self, context: CallContext, deadline: float | None) -> None:
        self.context = context
        self.deadline = deadline

    def add(self, child: Child) -> None:
        """A call was made on behalf of this request, and is cancelled with it."""
        if self._children is None:
            self._children = set()
        self._children.add(child)

    def discard(self, child: Child) -> None:
        """A call is over."""
        if self._children is not None:
            self._children.discard(child)

    def cancel_children(self) -> None:
        """Cancels every call made on behalf of this request that is not over."""
        for child in tuple(self._children or ()):
            child.cancel_with_parent()


request_scope: ContextVar[RequestScope | None] = ContextVar("meshserve_request_scope", default=None)
"""The request that the current task or thread serves; None outside one."""
