"""What a process has to say to whoever watches the mesh: its latest warnings and errors, and the events of the
controller. The newest are kept in memory; the log has all of them, with their tracebacks."""

from __future__ import annotations

import logging
from collections import deque

from meshserve.core.brief import one_line
from meshserve.model.notice import Notice
from meshserve.telemetry.current import current_request
from meshserve.telemetry.log_options import Identity

EVENTS = "meshserve.events"
"""The logger of events: what it is told is kept whatever its level."""

KEPT = 100
MAX_CHARACTERS = 400


class Notices:
    """The newest notices of a process. Written where things are logged, read from any thread."""

    def __init__(self) -> None:
        self._count = 0
        self._kept: deque[Notice] = deque(maxlen=KEPT)

    def note(self, record: logging.LogRecord, who: Identity) -> None:
        """Keeps what a record says, if it is an event or at least a warning."""
        if record.levelno < logging.WARNING and record.name != EVENTS:
            return
        self._count += 1
        request = current_request()
        about = vars(record)
        self._kept.append(
            Notice(
                self._count,
                f"{who.component} {who.id}",
                record.created,
                record.levelname,
                _one_line(record),
                request.request_id if request is not None else "",
                about.get("application", who.application),
                about.get("deployment", who.deployment),
                about.get("replica", who.replica),
            )
        )

    def newest(self) -> tuple[Notice, ...]:
        """All that are kept, the oldest first."""
        return tuple(self._kept)


def _one_line(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    said = record.getMessage()
    return one_line(said if error is None else f"{said}\n{type(error).__name__}: {error}", MAX_CHARACTERS)


NOTICES = Notices()
"""Those of this process."""
