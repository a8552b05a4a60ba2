"""What a connection bounds."""

from __future__ import annotations

from dataclasses import dataclass

from meshserve.transport.frames import LARGEST_WINDOW


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection bounds. The defaults are for peers that are trusted.

    Attributes:
        window_bytes: what may come of one stream that nobody has read. As wide as HTTP/2 allows by default: what a
            session has in flight is bounded by the credits of its calls.
        receive_bytes: the largest message that is taken.
        send_bytes: the largest message that is sent.
        streams: calls that one connection may have under way.
        header_bytes: headers of one call.
        greeting_s: how long a client may take to say what it is.
        ping_interval_s: a peer that pings more often while nothing is sent to it is sent away; 0 for none.
        lost_after_s: a machine that has not confirmed for so long what was sent to it is lost, as is one that does not
            take it: calls to it would hang. 0 for what the system says.
    """

    window_bytes: int = LARGEST_WINDOW
    receive_bytes: int = (1 << 31) - 1
    send_bytes: int = (1 << 31) - 1
    streams: int = 10_000
    header_bytes: int = 64 << 10
    greeting_s: float = 20.0
    ping_interval_s: float = 0.0
    lost_after_s: int = 60


TRUSTED = Limits()
