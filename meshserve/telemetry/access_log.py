"""A line for each request. What is known of it is put aside in a tenth of a microsecond; the line is made later."""

from __future__ import annotations

from collections.abc import Callable

from meshserve.model.failure import FailureKind
from meshserve.telemetry.log_format import Access

OK = "OK"
ERROR = "ERROR"
CANCELLED = "CANCELLED"


def outcome(failure: FailureKind | None) -> str:
    """The status of a call that is no HTTP request."""
    if failure is None:
        return OK
    return CANCELLED if failure is FailureKind.CANCELLED else ERROR


class AccessLog:
    """The access log of a process.

    Attributes:
        enabled: whether requests are logged; look before asking what a line would need.
        add: logs a request that is over.
    """

    __slots__ = ("add", "enabled")

    def __init__(self) -> None:
        self.enabled = False
        self.add: Callable[[Access], None] = _nowhere

    def write_to(self, put: Callable[[Access], None] | None) -> None:
        """Says where lines go; None for nowhere."""
        self.enabled = put is not None
        self.add = put or _nowhere


def _nowhere(_entry: Access) -> None:
    """Where lines go of a process that keeps no log."""


ACCESS = AccessLog()
"""The access log of this process."""
