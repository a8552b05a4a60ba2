"""What is printed, as lines of the log: for processes whose standard output and standard error nobody collects."""

from __future__ import annotations

import io
import logging
import sys
import threading

logger = logging.getLogger("meshserve.print")


class LoggedStream(io.TextIOBase):
    """A text stream whose lines are logged.

    Args:
        level: of `logging`.
        beneath: the stream in whose place it stands; asked for what is not about writing.
    """

    def __init__(self, level: int, beneath: io.TextIOBase) -> None:
        super().__init__()
        self._level = level
        self._beneath = beneath
        self._own = threading.local()

    def write(self, text: str) -> int:
        """Logs the lines that are complete; the rest waits for its end. Each thread has lines of its own."""
        *lines, rest = (getattr(self._own, "rest", "") + text).split("\n")
        self._own.rest = rest
        for line in lines:
            if line:
                logger.log(self._level, "%s", line)
        return len(text)

    def writable(self) -> bool:
        """See `io.TextIOBase`."""
        return True

    def isatty(self) -> bool:
        """A log is no terminal."""
        return False

    def fileno(self) -> int:
        """That of the stream beneath: programs that are started write there."""
        return self._beneath.fileno()


def log_what_is_printed() -> None:
    """Puts such streams in the place of this process's."""
    sys.stdout = LoggedStream(logging.INFO, sys.stdout)  # type: ignore[arg-type]  # typeshed has TextIO for streams that are TextIOBase
    sys.stderr = LoggedStream(logging.INFO, sys.stderr)  # type: ignore[arg-type]  # as above
