"""Signals that end a command in order."""

from __future__ import annotations

import signal


def let_signals_interrupt() -> None:
    """SIGINT (which a shell lets a command in the background ignore) and SIGTERM raise KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
