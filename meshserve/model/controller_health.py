"""How the controller does, measured by itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ControllerHealth:
    """The controller at one instant; instants are in seconds since the epoch.

    Attributes:
        started_at: when its process began.
        now: when this was measured.
        turns: how often its loop has turned.
        turned_at: when it turned last; 0 for never.
        turn_durations_s: of its latest turns, oldest first.
        loop_lag_s: how late its event loop was when it was measured last.
        tasks: how many tasks its event loop has.
    """

    started_at: float = 0.0
    now: float = 0.0
    turns: int = 0
    turned_at: float = 0.0
    turn_durations_s: tuple[float, ...] = ()
    loop_lag_s: float = 0.0
    tasks: int = 0
