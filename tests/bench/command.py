"""What `scripts/bench` is to run, from its command line; then runs it and prints the tables."""

import argparse
import fnmatch
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from bench.catalogue import SCENARIOS
from bench.environment import SetupError, ensure_programs, python_for
from bench.process import adopt_orphans
from bench.record import Record, load, machine
from bench.report import progress_line, tables
from bench.scenario import Scenario
from bench.session import Effort, Outcome, log_for, run_session
from bench.target import LOAD_PROGRAMS, PRODUCT, TARGETS, Target

FULL = Effort(seconds=4.0, warmup_s=1.0, idle_s=4.0, tries=6)
QUICK = Effort(seconds=2.0, warmup_s=1.0, idle_s=1.0, tries=1)


def main() -> int:
    """Runs the benchmark; the status says whether it ran, not whether the figures are good."""
    arguments = _arguments()
    scenarios = _chosen(arguments)
    targets = _targets(arguments)
    effort = QUICK if arguments.quick else FULL
    effort = replace(effort, seconds=arguments.seconds or effort.seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt_orphans()
    record = Record(machine(), [scenario.name for scenario in scenarios])
    ready = list(_set_up(targets, scenarios, record))
    try:
        for repeat in range(arguments.repeat):
            for outcome in _measure(ready, scenarios, effort):
                record.add(outcome)
                print(progress_line(outcome, repeat), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted; what was measured so far:", file=sys.stderr)
    before = load(arguments.before) if arguments.before else None
    print(tables(record, scenarios, [target.name for target in targets], before))
    if arguments.json:
        record.save(arguments.json)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Benchmarks meshserve, and its peer beside it.")
    peers = ",".join(name for name in TARGETS if name != PRODUCT.name)
    parser.add_argument("--against", default="", metavar="PEER,...", help=f"peers to run beside meshserve: {peers}")
    parser.add_argument("--targets", default="", metavar="TARGET,...", help="exactly these, meshserve or not")
    parser.add_argument("--quick", action="store_true", help="fewer scenarios, less time for each: a minute a target")
    parser.add_argument("--only", default="", metavar="NAME,...", help="these scenarios; * and ? match as in a shell")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each measurement")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="the whole run N times; medians are printed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to a file")
    parser.add_argument("--before", type=Path, metavar="FILE", help="compare with meshserve's figures in such a file")
    parser.add_argument("--list", action="store_true", help="print the names of the scenarios and end")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(scenario.name for scenario in SCENARIOS))
        parser.exit()
    return arguments


def _chosen(arguments: argparse.Namespace) -> list[Scenario]:
    """The scenarios asked for, in the catalogue's order."""
    chosen = [scenario for scenario in SCENARIOS if scenario.quick or not arguments.quick]
    if not arguments.only:
        return chosen
    patterns = arguments.only.split(",")
    for pattern in patterns:
        if not fnmatch.filter([scenario.name for scenario in SCENARIOS], pattern):
            sys.exit(f"no scenario is called {pattern!r}; --list prints their names")
    return [scenario for scenario in SCENARIOS if any(fnmatch.fnmatch(scenario.name, pattern) for pattern in patterns)]


def _targets(arguments: argparse.Namespace) -> list[Target]:
    names = arguments.targets.split(",") if arguments.targets else [PRODUCT.name, *arguments.against.split(",")]
    unknown = [name for name in names if name and name not in TARGETS]
    if unknown:
        sys.exit(f"no target is called {unknown[0]!r}; there are {', '.join(TARGETS)}")
    return [TARGETS[name] for name in dict.fromkeys(names) if name]


def _set_up(targets: Sequence[Target], scenarios: Sequence[Scenario], record: Record) -> Iterator[Target]:
    """Installs what each target needs; one that cannot be installed has that on all of its rows and is left out."""
    for target in targets:
        try:
            ensure_programs({**LOAD_PROGRAMS, **target.programs})
            python_for(target)
        except SetupError as error:
            print(f"{target.name}: {error}", file=sys.stderr)
            for scenario in scenarios:
                record.add(Outcome(target.name, scenario.name, error=str(error)))
        else:
            yield target


def _measure(targets: Sequence[Target], scenarios: Sequence[Scenario], effort: Effort) -> Iterator[Outcome]:
    """Every session on each target in turn, so that what is compared is measured at nearly the same time."""
    for session, members in groupby(scenarios, key=lambda scenario: scenario.session):
        group = list(members)
        for target in targets:
            yield from run_session(target, group, effort, log_for(target, session))
