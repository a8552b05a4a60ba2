"""What the log says of a call that failed: where user code raised, or what the mesh had against it.

Callers get the exception and HTTP clients a bare 500; the replica's log is where the traceback can be read by whoever
operates the mesh.
"""

from __future__ import annotations

import logging

from meshserve.model.call import CallContext
from meshserve.model.failure import Failure, FailureKind
from meshserve.telemetry.current import on_behalf_of

logger = logging.getLogger("meshserve.calls")

_RAISED = (FailureKind.USER, FailureKind.INTERNAL)
_EXPECTED = (FailureKind.CANCELLED, FailureKind.BACKPRESSURE, FailureKind.UNAVAILABLE)
"""What ends calls by the thousand when a mesh is overloaded: counted, not told one by one."""


def log_failed(context: CallContext, failure: Failure) -> None:
    """Logs a failed call under its request id.

    Args:
        context: of the call.
        failure: why it has no result.
    """
    if failure.kind in _EXPECTED:
        return
    with on_behalf_of(context):
        if failure.kind in _RAISED:
            logger.error("Request failed.\n%s", (failure.traceback or failure.message).rstrip())
        else:
            logger.warning("Request failed: %s", failure.message)
