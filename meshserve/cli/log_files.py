"""Reading logs of many processes as one: the last lines of all, in order, and what comes after them.

A line that does not begin with a time belongs to the one before it: a traceback stays with its message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}")
_NEAR = 60
"""The time is among the first characters of a line, as text and as JSON."""

_BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """What was logged at once.

    Attributes:
        at: the time as it is written, which sorts as it should.
        text: one line or several.
    """

    at: str
    text: str


def entries(lines: Iterable[str]) -> Iterator[Entry]:
    """The entries that lines are; what is before the first time is left out."""
    at, gathered = "", []
    for line in lines:
        found = _TIME.search(line[:_NEAR])
        if found is None:
            gathered.append(line)
            continue
        if at:
            yield Entry(at, "\n".join(gathered))
        at, gathered = found[0], [line]
    if at:
        yield Entry(at, "\n".join(gathered))


class LogFile:
    """A log that may grow, and may be put aside for a new one while it is read.

    Args:
        path: of the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = -1
        self._position = 0
        self._rest = ""

    def last(self, count: int) -> list[Entry]:
        """The last entries; what follows is read from their end on."""
        try:
            with self._path.open("rb") as file:
                self._number, end = os.fstat(file.fileno()).st_ino, file.seek(0, os.SEEK_END)
                start = end
                found: list[Entry] = []
                while start > 0 and len(found) <= count:
                    start = max(0, start - _BLOCK_BYTES)
                    file.seek(start)
                    text = file.read(end - start).decode("utf-8", "replace")
                    found = list(entries(text.splitlines()))
                self._position = end
                return found[-count:] if count else []
        except FileNotFoundError:
            return []

    def more(self) -> list[Entry]:
        """What was written since; a line that is not complete waits for its end."""
        try:
            with self._path.open("rb") as file:
                about = os.fstat(file.fileno())
                if about.st_ino != self._number or about.st_size < self._position:
                    self._number, self._position, self._rest = about.st_ino, 0, ""
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        self._position += len(data)
        whole, newline, self._rest = (self._rest + data.decode("utf-8", "replace")).rpartition("\n")
        return list(entries(whole.splitlines())) if newline else []
