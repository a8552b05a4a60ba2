"""What a person sees while something starts: one line that changes on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.markup import escape

from meshserve.api.readiness import News, Readiness


class Progress(Protocol):
    """Tells how far something is. Used with `with`; `waiting` may come from another thread."""

    def __enter__(self) -> Self:
        """Begins."""

    def __exit__(self, *error: object) -> None:
        """Ends; what is changing disappears."""

    def step(self, text: str) -> None:
        """Something else is being done now."""

    def waiting(self, readiness: Readiness) -> None:
        """Something else is waited for now."""

    def say(self, text: str) -> None:
        """A line that stays."""


def progress_on(stream: TextIO) -> Progress:
    """The progress that suits a stream."""
    return TerminalProgress(stream) if stream.isatty() else PlainProgress(stream)


class PlainProgress:
    """A line for each change."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._news = News()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left to take away."""

    def step(self, text: str) -> None:
        """See `Progress`."""
        self.say(text)

    def waiting(self, readiness: Readiness) -> None:
        """See `Progress`; what was said already is not repeated."""
        for who, what in self._news.of(readiness):
            self.say(f"Waiting for {who}: {what}")

    def say(self, text: str) -> None:
        """See `Progress`."""
        print(text, file=self._stream, flush=True)


class TerminalProgress:
    """A spinner with what is being done."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._status = self._console.status("")

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Takes the spinner away."""
        self._status.stop()

    def step(self, text: str) -> None:
        """See `Progress`."""
        self._status.update(escape(text))

    def waiting(self, readiness: Readiness) -> None:
        """See `Progress`; of a long message, a traceback for example, the first line."""
        lines = [f"{who}: {what.strip().splitlines()[0]}" for who, what in readiness.waiting if what.strip()]
        if lines:
            self._status.update(escape("Waiting for " + "\n  ".join(lines)))

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._console.print(escape(text))
