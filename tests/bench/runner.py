"""The child process of one session: starts a target, measures its scenarios one after the other, tells the parent.

Runs in the target's own virtual environment as `python -m bench.runner`, and writes one JSON object a line to the file
descriptor it is given, since Ray and the target print to the others:

    {"event": "begin", "scenario": name}
    {"event": "sample", "scenario": name, "sample": {...}, "usage": {role: {...}}}
    {"event": "failed", "scenario": name, "error": text}
    {"event": "idle", "seconds": s, "usage": {role: {...}}}
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.catalogue import SCENARIOS
from bench.process import adopt_orphans, end_with_parent
from bench.quiet import Measured, measure_quietly
from bench.scenario import Scenario
from bench.system import RunningSystem
from bench.usage import Meter, Usage


class Reporter:
    """Writes events to the parent.

    Args:
        descriptor: the writing end of its pipe.
    """

    def __init__(self, descriptor: int) -> None:
        self._pipe = os.fdopen(descriptor, "w", buffering=1)

    def tell(self, event: str, **fields: Any) -> None:
        """One event."""
        self._pipe.write(json.dumps({"event": event, **fields}) + "\n")


def main() -> None:
    """Measures what the command line names, and ends with status 0 even when scenarios have failed."""
    end_with_parent()
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    arguments = _arguments()
    report = Reporter(arguments.events)
    wanted = list(_wanted(arguments.scenarios))
    with RunningSystem(arguments.scratch, arguments.http_port, arguments.grpc_port) as system:
        for scenario in wanted:
            if scenario.name == "shutdown" and arguments.idle:
                _report_idle(arguments.idle, report)
            _run(scenario, system, arguments, report)
        if wanted[-1].name != "shutdown" and arguments.idle:
            _report_idle(arguments.idle, report)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", required=True, help="names, separated by commas")
    parser.add_argument("--seconds", type=float, required=True, help="of each measurement")
    parser.add_argument("--warmup", type=float, required=True, help="seconds before each measurement")
    parser.add_argument("--idle", type=float, required=True, help="seconds to watch the system at rest; 0 for not")
    parser.add_argument("--tries", type=int, required=True, help="of a measurement that others disturb")
    parser.add_argument("--scratch", type=Path, required=True, help="directory for sockets and Ray's files")
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--events", type=int, required=True, help="file descriptor to report to")
    return parser.parse_args()


def _wanted(names: str) -> Iterator[Scenario]:
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    return (by_name[name] for name in names.split(","))


def _run(scenario: Scenario, system: RunningSystem, arguments: argparse.Namespace, report: Reporter) -> None:
    report.tell("begin", scenario=scenario.name)
    try:
        if scenario.application:
            system.use(scenario.application)
        sample, usage = _measure(scenario, system, arguments)
    except Exception as error:  # Around somebody else's code: a target that fails at one scenario goes on to the next.
        if scenario.application:
            system.forget(scenario.application)
        report.tell("failed", scenario=scenario.name, error=f"{type(error).__name__}: {error}")
    else:
        report.tell("sample", scenario=scenario.name, sample=asdict(sample), usage=_as_json(usage))


def _measure(scenario: Scenario, system: RunningSystem, arguments: argparse.Namespace) -> Measured:
    def measure() -> Measured:
        meter = Meter()
        return scenario.measure(system, arguments.seconds), meter.read()

    if not scenario.warmed:
        return measure()
    scenario.measure(system, arguments.warmup)
    return measure_quietly(measure, arguments.tries)


def _report_idle(seconds: float, report: Reporter) -> None:
    meter = Meter()
    time.sleep(seconds)
    report.tell("idle", seconds=seconds, usage=_as_json(meter.read()))


def _as_json(usage: Mapping[str, Usage]) -> dict[str, Any]:
    return {role: asdict(used) for role, used in usage.items()}


if __name__ == "__main__":
    main()
