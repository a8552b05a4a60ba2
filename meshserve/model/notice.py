"""What a process has to say to whoever watches the mesh."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning, an error, or an event of the mesh.

    Attributes:
        number: counts those of a process; with `source` it tells a notice from all others.
        source: the process: `proxy`, `controller` or `replica`, and its id.
        at_s: when, in seconds since the epoch.
        level: of `logging`.
        text: on one line. Of a traceback the last line is left.
        application: that it is about; empty for none, and so on.
    """

    number: int
    source: str
    at_s: float
    level: str
    text: str
    request_id: str = ""
    application: str = ""
    deployment: str = ""
    replica: str = ""
