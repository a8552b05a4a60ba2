"""Lines to a file, from a thread of its own.

Whoever logs appends to a queue and goes on: no lock, no system call, and one wake-up of the thread for everything that
follows within a tenth of a second. An error wakes it at once. A process that is killed loses that tenth of a second
of lines, which is the price.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from meshserve.telemetry import catalogue
from meshserve.telemetry.series import Reading

L = TypeVar("L")

GATHER_S = 0.1
"""How long lines gather before they are written."""

MAX_WAITING = 200_000
"""Lines that may wait; more are dropped and counted. A disk that stands still must not fill the memory."""


class LogWriter(Generic[L]):
    """Writes lines to a file that is put aside when it has grown too long.

    Args:
        path: of the file; its folder is made.
        to_text: makes the text of lines, newlines included; on the writer's thread.
        max_bytes: the longest file, or 0.
        backups: files put aside that are kept: `<path>.1` is the youngest.
    """

    def __init__(self, path: Path, to_text: Callable[[Sequence[L]], str], max_bytes: int = 0, backups: int = 0) -> None:
        self.path = path
        self.to_text = to_text
        self.dropped = 0
        self._max_bytes = max_bytes
        self._backups = backups
        self._waiting: deque[L] = deque()
        self._armed = False
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        atexit.register(self.flush)
        os.register_at_fork(after_in_child=self._after_fork)

    def put(self, line: L) -> None:
        """Has a line written soon; from any thread."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(line)
        # After the append, and the thread clears the flag before it empties the queue: a line is never left behind.
        if not self._armed:
            self._armed = True
            self._arm()

    def hurry(self) -> None:
        """Has everything written now, without waiting for it."""
        self._urgent.set()

    def _arm(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="meshserve-log", daemon=True)
            self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._urgent.wait(GATHER_S)
            self._wake.clear()
            self._urgent.clear()
            self._armed = False
            self.flush()

    def flush(self) -> None:
        """Writes everything; from any thread."""
        with self._lock:
            lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not lines:
                return
            try:
                self._write(self.to_text(lines))
            except OSError as error:
                self.dropped += len(lines)
                sys.stderr.write(f"cannot write the log {self.path}: {error}\n")

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._max_bytes and self.path.exists() and self.path.stat().st_size + len(data) > self._max_bytes:
            self._put_aside()
        with self.path.open("ab") as file:
            file.write(data)

    def _put_aside(self) -> None:
        for number in range(self._backups, 0, -1):
            older = self._numbered(number)
            younger = self._numbered(number - 1) if number > 1 else self.path
            if younger.exists():
                younger.replace(older)
        if not self._backups:
            self.path.unlink()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def close(self) -> None:
        """Writes everything; further lines are written all the same, later."""
        atexit.unregister(self.flush)
        self.flush()

    def _after_fork(self) -> None:
        """Threads do not survive a fork, and the parent writes what waits there."""
        self._waiting.clear()
        self._armed, self._thread = False, None
        self._lock = threading.Lock()

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        yield catalogue.LOG_DROPPED, (), self.dropped
