"""The parent's side of a session: one child process with one target, its private Ray cluster, and some scenarios.

The child tells what it found line by line (`runner`). A child that is silent for too long or dies costs the scenario it
was at; the rest go on in a new child. Whatever a child has started is ended before the next one begins.
"""

import json
import os
import random
import re
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.environment import cache_directory, python_for
from bench.process import end_descendants
from bench.sample import Sample
from bench.scenario import Scenario
from bench.target import Target
from bench.usage import Usage

# Ray, then serving, before the first scenario is begun.
_START_LIMIT_S = 90.0
# Ray's own end, after the last.
_STOP_LIMIT_S = 30.0

# Below the range that kernels hand out to clients and Ray to its workers.
_PORTS = range(21_000, 29_000)

IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much time to spend.

    Attributes:
        seconds: of each measurement.
        warmup_s: before each measurement.
        idle_s: watching the system at rest at a session's end; 0 for not.
        tries: how often to measure a row while others disturb it.
    """

    seconds: float
    warmup_s: float
    idle_s: float
    tries: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scenario gave on one target: a sample, or an error, and who used how much for it.

    The scenario is called `idle: <session>` for the system at rest; its sample's value is the seconds it was watched.
    """

    target: str
    scenario: str
    sample: Sample | None = None
    error: str = ""
    usage: Mapping[str, Usage] = field(default_factory=dict)


def run_session(target: Target, scenarios: Sequence[Scenario], effort: Effort, log: Path) -> Iterator[Outcome]:
    """Measures scenarios of one session on one target, each outcome as it comes.

    Args:
        target: what to start; its environment must have been installed.
        scenarios: at least one, in the order in which to measure them.
        effort: how long to measure.
        log: everything that the child and what it started print is appended here.
    """
    remaining = list(scenarios)
    while remaining:
        limits_s = {scenario.name: scenario.limit_s for scenario in remaining}
        measured = 0
        for outcome in _run_child(target, limits_s, effort, log):
            measured += outcome.scenario in limits_s
            yield outcome if outcome.scenario != IDLE else replace(outcome, scenario=idle_in(remaining[0].session))
        if not measured:
            yield from (Outcome(target.name, name, error=f"did not start: {_last_words(log)}") for name in limits_s)
            return
        remaining = remaining[measured:]


def _run_child(target: Target, limits_s: Mapping[str, float], effort: Effort, log: Path) -> Iterator[Outcome]:
    """One child process from start to end; ends early after a scenario at which it hung or died."""
    current = ""
    with _child(target, limits_s, effort, log) as events:
        limit_s = _START_LIMIT_S
        while event := events.next(limit_s):
            match event["event"]:
                case "begin":
                    current = event["scenario"]
                    limit_s = limits_s[current]
                case _:
                    yield _outcome(target, event)
                    current = ""
                    limit_s = _STOP_LIMIT_S + effort.idle_s
        if current:
            how = f"nothing heard for {limit_s:.0f} s" if events.open else f"its process ended: {_last_words(log)}"
            yield Outcome(target.name, current, error=how)


class _Events:
    """The lines of a pipe, read with a time limit."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self.open = True

    def next(self, limit_s: float) -> dict[str, Any] | None:
        """The next event; None when there is none within `limit_s`, or when the writer is gone (`open` is false)."""
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                return None
            chunk = os.read(self._descriptor, 65536)
            if not chunk:
                self.open = False
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event


@contextmanager
def _child(target: Target, names: Mapping[str, float], effort: Effort, log: Path) -> Iterator[_Events]:
    """Starts a runner; at the end nothing of it is left, neither processes nor files."""
    # In the system's own place for short-lived files, because the names of Ray's sockets must stay short.
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    reading, writing = os.pipe()
    try:
        with log.open("a") as output:
            subprocess.Popen(
                _command(target, names, effort, scratch, writing),
                env=_environment(target, scratch),
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,
            )
        os.close(writing)
        yield _Events(reading)
    finally:
        end_descendants()
        os.close(reading)
        shutil.rmtree(scratch, ignore_errors=True)


def _command(target: Target, names: Mapping[str, float], effort: Effort, scratch: Path, events: int) -> list[str]:
    return [
        *(str(python_for(target)), "-m", "bench.runner"),
        f"--scenarios={','.join(names)}",
        f"--seconds={effort.seconds}",
        f"--warmup={effort.warmup_s}",
        f"--idle={effort.idle_s}",
        f"--tries={effort.tries}",
        f"--scratch={scratch}",
        f"--http-port={_free_port()}",
        f"--grpc-port={_free_port()}",
        f"--events={events}",
    ]


def _environment(target: Target, scratch: Path) -> dict[str, str]:
    """The parent's environment without anything meant for some other Ray, and the target's own settings."""
    inherited = {name: value for name, value in os.environ.items() if not re.match("RAY_|PYTHON", name)}
    # Formatted one at a time, so that each mention of a port is another port.
    own = {name: value.format(scratch=scratch, port=_free_port()) for name, value in target.environment.items()}
    return {
        **inherited,
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "BENCH_SERVE": target.serve_module,
        "RAY_USAGE_STATS_ENABLED": "0",
        **own,
    }


def _free_port() -> int:
    """A port nobody listens on; drawn at random, so that several in a row differ."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def _outcome(target: Target, event: Mapping[str, Any]) -> Outcome:
    usage = {role: Usage(**fields) for role, fields in event.get("usage", {}).items()}
    match event["event"]:
        case "sample":
            return Outcome(target.name, event["scenario"], Sample.of_json(event["sample"]), usage=usage)
        case "idle":
            return Outcome(target.name, IDLE, Sample(event["seconds"]), usage=usage)
        case _:
            return Outcome(target.name, event["scenario"], error=event["error"])


def _last_words(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def idle_in(session: str) -> str:
    """What the outcome of watching a session's system at rest is called."""
    return f"{IDLE}: {session}"


def log_for(target: Target, session: str) -> Path:
    """An empty log file for a session."""
    log = cache_directory("logs") / f"{target.name}-{session}.log"
    log.write_text("")
    return log
