"""What one measurement found, and how latencies become it.

Made in the target's processes (a calling replica, a load generator's output), carried to the parent as JSON.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One scenario, measured once on one target.

    Attributes:
        value: calls (or items, or streams) per second; for the lifecycle scenarios, seconds.
        p50_ms: median latency in milliseconds; None where there was no latency to take.
        p99_ms: 99th percentile likewise.
        count: how many calls `value` rests on; also what CPU seconds are divided by.
        note: a sentence for the foot of the table, or nothing.
    """

    value: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    count: int = 0
    note: str = ""

    @classmethod
    def of_latencies(cls, latencies_s: Sequence[float], elapsed_s: float, note: str = "") -> "Sample":
        """The sample of calls whose latencies are given in seconds and which together took `elapsed_s`."""
        ordered = sorted(latencies_s)
        return cls(
            value=len(ordered) / elapsed_s,
            p50_ms=percentile(ordered, 50) * 1e3,
            p99_ms=percentile(ordered, 99) * 1e3,
            count=len(ordered),
            note=note,
        )

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> "Sample":
        """The sample that `dataclasses.asdict` took apart."""
        return cls(**fields)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile of values in ascending order; NaN when there are none."""
    if not ordered:
        return math.nan
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]
