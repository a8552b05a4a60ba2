"""Metrics of many processes as one text.

Every process writes its own labels into its lines, so merging is sorting whole families by name: the cost is per
family and process, not per series, and a node with a hundred replicas is merged in milliseconds.

Prometheus sees what a process counted until it died. Were its series simply left out, a sum over the replicas of a
deployment would fall. So the last values of the dead are added up, per deployment, under a `replica` of their own:
`gone-7`. The number grows with every death, because a series that jumps looks like traffic to `rate()`, and one
that is new does not: `sum(rate(...))` shows no bump and `sum(...)` no step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from meshserve.telemetry.registry import is_monotonic
from meshserve.telemetry.series import number_text

_HELP = b"# HELP "
_SPLIT = b"\n# HELP "
_REPLICA = re.compile(r'(?<=[{,])replica="(?:[^"\\]|\\.)*"')
_HOLE = 'replica=""'


def merge(texts: Iterable[bytes]) -> bytes:
    """One text of many: every family once, with its series in the order of the texts."""
    heads: dict[bytes, bytes] = {}
    bodies: dict[bytes, list[bytes]] = {}
    for text in texts:
        for name, head, body in _families(text):
            heads.setdefault(name, head)
            bodies.setdefault(name, []).append(body)
    parts: list[bytes] = []
    for name, head in heads.items():
        parts.append(head)
        parts += bodies[name]
    return b"".join(parts)


def _families(text: bytes) -> Iterable[tuple[bytes, bytes, bytes]]:
    """Name, the two lines of the head, and the lines of the series, of each family."""
    if not text.startswith(_HELP):
        return
    for block in (text if text.endswith(b"\n") else text + b"\n")[len(_HELP) : -1].split(_SPLIT):
        help_, _, rest = block.partition(b"\n")
        type_, _, series = rest.partition(b"\n")
        name = help_.partition(b" ")[0]
        yield name, _HELP + help_ + b"\n" + type_ + b"\n", series + b"\n" if series else b""


@dataclass(slots=True)
class _Grave:
    """The sums of one deployment's dead.

    Attributes:
        name: the value of `replica`.
        sums: by family, by the beginning of a line with a hole for the replica.
    """

    name: str = ""
    sums: dict[bytes, dict[str, float]] = field(default_factory=dict)


class Tombstones:
    """What the dead replicas of a node had counted."""

    def __init__(self) -> None:
        self._graves: dict[tuple[str, str], _Grave] = {}
        self._heads: dict[bytes, bytes] = {}
        self._deaths = 0

    def bury(self, application: str, deployment: str, last_text: bytes) -> None:
        """Adds what a replica showed last; gauges die with it."""
        self._deaths += 1
        grave = self._graves.setdefault((application, deployment), _Grave())
        grave.name = f"gone-{self._deaths}"
        for family, head, body in _families(last_text):
            if not is_monotonic(head.rstrip().rpartition(b" ")[2].decode()):
                continue
            self._heads[family] = head
            sums = grave.sums.setdefault(family, {})
            for line in body.decode().splitlines():
                series, _, value = line.rpartition(" ")
                series = _REPLICA.sub(_HOLE, series)
                sums[series] = sums.get(series, 0.0) + float(value)

    def text(self) -> bytes:
        """The sums of all the dead."""
        lines: list[str] = []
        for family, head in self._heads.items():
            lines.append(head.decode().rstrip("\n"))
            for grave in self._graves.values():
                mark = f'replica="{grave.name}"'
                lines += (
                    f"{series.replace(_HOLE, mark, 1)} {number_text(value)}"
                    for series, value in grave.sums.get(family, {}).items()
                )
        return "\n".join([*lines, ""]).encode() if lines else b""
