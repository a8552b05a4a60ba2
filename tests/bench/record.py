"""Everything that a run found, its medians, and its JSON file."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.environment import REPOSITORY
from bench.sample import Sample
from bench.session import Outcome
from bench.usage import Usage


@dataclass(slots=True)
class Record:
    """The outcomes of one run of the benchmark, in the order in which they came.

    Attributes:
        machine: what it ran on.
        scenarios: the names of those that were asked for.
        outcomes: one per scenario, target and repetition.
    """

    machine: Mapping[str, Any]
    scenarios: Sequence[str]
    outcomes: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Appends one outcome."""
        self.outcomes.append(outcome)

    def of(self, target: str, scenario: str) -> Outcome | None:
        """What a scenario gave on a target: the median of its samples, or its last error when it has none."""
        found = [outcome for outcome in self.outcomes if (outcome.target, outcome.scenario) == (target, scenario)]
        samples = [outcome.sample for outcome in found if outcome.sample]
        if not samples:
            return found[-1] if found else None
        return Outcome(target, scenario, _median(samples), usage=_mean_usage([o.usage for o in found if o.sample]))

    def save(self, path: Path) -> None:
        """Writes the record as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(path: Path) -> Record:
    """The record that `save` wrote."""
    fields = json.loads(path.read_text())
    outcomes = [_outcome(entry) for entry in fields["outcomes"]]
    return Record(fields["machine"], fields["scenarios"], outcomes)


def machine() -> dict[str, Any]:
    """Where and on what the figures were taken."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
        "commit": _commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    return Outcome(
        target=entry["target"],
        scenario=entry["scenario"],
        sample=Sample.of_json(entry["sample"]) if entry["sample"] else None,
        error=entry["error"],
        usage={role: Usage(**fields) for role, fields in entry["usage"].items()},
    )


def _median(samples: Sequence[Sample]) -> Sample:
    """The medians of each figure by itself; the note of the last sample."""
    return Sample(
        value=statistics.median(sample.value for sample in samples),
        p50_ms=_median_of(sample.p50_ms for sample in samples),
        p99_ms=_median_of(sample.p99_ms for sample in samples),
        count=round(statistics.fmean(sample.count for sample in samples)),
        note=samples[-1].note,
    )


def _median_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _mean_usage(usages: Sequence[Mapping[str, Usage]]) -> dict[str, Usage]:
    """CPU seconds averaged, as the counts are that they will be divided by."""
    roles = dict.fromkeys(role for usage in usages for role in usage)
    return {
        role: Usage(
            cpu_s=statistics.fmean(usage[role].cpu_s for usage in usages if role in usage),
            rss_bytes=round(statistics.fmean(usage[role].rss_bytes for usage in usages if role in usage)),
            processes=round(statistics.fmean(usage[role].processes for usage in usages if role in usage)),
        )
        for role in roles
    }


def _commit() -> str:
    """The checkout's commit, with a plus sign when it has uncommitted changes; empty when git does not say."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except OSError:
        return ""
