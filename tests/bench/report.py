"""The tables: what each target reached, how many times the peer that is, and whether it is what we want.

Reads a `Record` and returns text; measures nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from bench.record import Record
from bench.scenario import Goal, Scenario, Table
from bench.session import Outcome, idle_in
from bench.target import PRODUCT, TARGETS
from bench.usage import OTHERS, Usage, others_share

_ROLES_OF_A_REQUEST = ("proxy", "replica")
_ERROR_CHARACTERS = 25

# From this share of the CPU time on, other programs on the machine spoil a figure.
_CROWDED = 0.15

Row = list[str]

Column = tuple[Record, str]
"""The figures of a target in a record."""


def progress_line(outcome: Outcome, repeat: int) -> str:
    """One outcome as it comes."""
    head = f"{repeat + 1} {outcome.target:<12} {outcome.scenario:<20}"
    if outcome.sample is None:
        return f"{head} failed: {_one_line(outcome.error)[:120]}"
    sample = outcome.sample
    return f"{head} {_number(sample.value):>9}   p50 {_number(sample.p50_ms)} ms, p99 {_number(sample.p99_ms)} ms"


def tables(record: Record, scenarios: Sequence[Scenario], targets: Sequence[str], before: Record | None) -> str:
    """Everything that a run prints at its end."""
    notes = _Notes()
    parts = [_machine_line(record)]
    for table in Table:
        members = [scenario for scenario in scenarios if scenario.table is table]
        if members:
            parts.append(_rates(table.value, members, record, targets, before, notes))
    parts.append(_cpu(scenarios, record, targets))
    parts.append(_at_rest(scenarios, record, targets))
    parts.append(str(notes))
    parts.append(_company(scenarios, record, targets))
    return "\n\n".join(part for part in parts if part)


class _Notes:
    """Numbered remarks under the tables; equal ones share a number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        """The reference to a remark, `[1]`."""
        return f"[{self._numbers.setdefault(_one_line(text), len(self._numbers) + 1)}]"

    def __str__(self) -> str:
        return "\n".join(f"[{number}] {text}" for text, number in self._numbers.items())


# Rates and ratios.


def _rates(
    title: str,
    scenarios: Sequence[Scenario],
    record: Record,
    targets: Sequence[str],
    before: Record | None,
    notes: _Notes,
) -> str:
    ours = [target for target in targets if TARGETS[target].serve_module == PRODUCT.serve_module]
    peers = [target for target in targets if target not in ours]
    head = [title, "unit"]
    for target in targets:
        head += [target, "p50 ms", "p99 ms"]
    head += [f"{_prefix(our, ours)}x {peer}" for our in ours for peer in peers]
    head += ["before", "x before"] if before else []
    head += ["goal", *(f"{_prefix(our, ours)}met" for our in ours)] if ours else []
    rows = []
    for scenario in scenarios:
        row = [scenario.name, scenario.unit]
        for target in targets:
            row += _figures(record.of(target, scenario.name), notes)
        row += [_times(scenario, (record, our), (record, peer)) for our in ours for peer in peers]
        if before:
            then = (before, PRODUCT.name)
            row += [_number(_value(*then, scenario)), _times(scenario, (record, PRODUCT.name), then)]
        row += [_goal_text(scenario), *(_met(scenario, record, our) for our in ours)] if ours else []
        rows.append(row)
    return _layout([head, *rows], left_columns=2)


def _prefix(our: str, ours: Sequence[str]) -> str:
    """Which mode of ours a column is about, where there are several."""
    return f"{our} " if len(ours) > 1 else ""


def _figures(outcome: Outcome | None, notes: _Notes) -> Row:
    if outcome is None:
        return ["-", "-", "-"]
    if outcome.sample is None:
        error = _one_line(outcome.error)
        mark = notes.mark(error[:400])
        return [f"{error[:_ERROR_CHARACTERS].strip()}… {mark}", "-", "-"]
    sample = outcome.sample
    crowded = "~" if others_share([outcome.usage]) > _CROWDED else ""
    mark = " " + notes.mark(sample.note) if sample.note else ""
    return [_number(sample.value) + crowded + mark, _number(sample.p50_ms), _number(sample.p99_ms)]


def _value(record: Record, target: str, scenario: Scenario) -> float | None:
    outcome = record.of(target, scenario.name)
    return outcome.sample.value if outcome and outcome.sample else None


def _ratio(scenario: Scenario, ours: Column, theirs: Column) -> float | None:
    """How many times better a target is than another, or than itself in an older record; None when one has failed."""
    our, their = _value(*ours, scenario), _value(*theirs, scenario)
    return scenario.times_better(our, their) if our and their else None


def _times(scenario: Scenario, ours: Column, theirs: Column) -> str:
    ratio = _ratio(scenario, ours, theirs)
    return "-" if ratio is None else f"{ratio:.2f}"


def _goal_text(scenario: Scenario) -> str:
    match scenario.goal:
        case None:
            return ""
        case Goal(at_most=float() | int() as limit):
            return f"<= {limit:g} {scenario.unit}"
        case goal:
            return f"{goal.times:g} x {goal.peer.removeprefix('ray-')}"


def _met(scenario: Scenario, record: Record, our: str) -> str:
    """Whether the goal is reached; "?" when what it is relative to was not measured."""
    goal = scenario.goal
    if goal is None:
        return ""
    value = _value(record, our, scenario)
    if value is None:
        return "no"
    if goal.at_most is not None:
        return _yes(value <= goal.at_most)
    ratio = _ratio(scenario, (record, our), (record, goal.peer))
    return "?" if ratio is None or goal.times is None else _yes(ratio >= goal.times)


# CPU and memory.


def _cpu(scenarios: Sequence[Scenario], record: Record, targets: Sequence[str]) -> str:
    """CPU time per call by role, the sum over all cores."""
    head = ["CPU, us per call or item"]
    for target in targets:
        head += [f"{target} proxy", "replica", "rest", "client"]
    rows = []
    for scenario in scenarios:
        outcomes = [record.of(target, scenario.name) for target in targets]
        if any(outcome and outcome.sample and outcome.sample.count > 1 for outcome in outcomes):
            rows.append([scenario.name, *(cell for outcome in outcomes for cell in _cpu_cells(outcome))])
    return _layout([head, *rows]) if rows else ""


def _cpu_cells(outcome: Outcome | None) -> Row:
    if outcome is None or outcome.sample is None or not outcome.sample.count:
        return ["-"] * 4
    spent = {role: usage.cpu_s / outcome.sample.count * 1e6 for role, usage in outcome.usage.items() if role != OTHERS}
    client = spent.pop("client", 0.0)
    roles = [spent.pop(role, 0.0) for role in _ROLES_OF_A_REQUEST]
    return [f"{microseconds:,.0f}" for microseconds in (*roles, sum(spent.values()), client)]


def _at_rest(scenarios: Sequence[Scenario], record: Record, targets: Sequence[str]) -> str:
    """Processes, memory and idle CPU by role, with every application of a session deployed and no request under way."""
    head = ["At rest"]
    for target in targets:
        head += [f"{target} processes", "RSS MB each", "CPU %"]
    rows = []
    for session in dict.fromkeys(scenario.session for scenario in scenarios):
        outcomes = [record.of(target, idle_in(session)) for target in targets]
        rows += [
            [f"{session}: {role}", *(cell for outcome in outcomes for cell in _rest_cells(outcome, role))]
            for role in _roles_of(outcomes)
        ]
    return _layout([head, *rows]) if rows else ""


def _roles_of(outcomes: Sequence[Outcome | None]) -> Iterator[str]:
    found: Mapping[str, None] = dict.fromkeys(role for outcome in outcomes if outcome for role in outcome.usage)
    return (role for role in ("controller", "proxy", "replica", "driver", "ray") if role in found)


def _rest_cells(outcome: Outcome | None, role: str) -> Row:
    usage = outcome.usage.get(role) if outcome else None
    if outcome is None or outcome.sample is None or usage is None:
        return ["-"] * 3
    return [str(usage.processes), f"{_each_mb(usage):,.0f}", f"{usage.cpu_s / outcome.sample.value * 100:.1f}"]


def _company(scenarios: Sequence[Scenario], record: Record, targets: Sequence[str]) -> str:
    """How far the machine was ours: figures taken in company are low, and ratios are unjust when it changed."""
    shares = []
    for target in targets:
        outcomes = [outcome for scenario in scenarios if (outcome := record.of(target, scenario.name))]
        if any(outcome.sample for outcome in outcomes):
            shares.append(f"{others_share(outcome.usage for outcome in outcomes):.0%} with {target}")
    if not shares:
        return ""
    return (
        f"Of the CPU time that was used, other programs on this machine and its host used {', '.join(shares)}; "
        f"~ marks figures at which it was more than {_CROWDED:.0%}."
    )


def _each_mb(usage: Usage) -> float:
    return usage.rss_bytes / max(usage.processes, 1) / 1e6


# Text.


def _machine_line(record: Record) -> str:
    facts = record.machine
    return (
        f"{facts['at']}, commit {facts['commit'] or '-'}, {facts['cores']} cores, "
        f"{facts['memory_bytes'] / 2**30:.0f} GiB, Python {facts['python']}, load average {facts['load_average']:.1f}"
    )


def _layout(rows: Sequence[Row], left_columns: int = 1) -> str:
    """Columns aligned under a head: the first ones to the left, figures to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index < left_columns else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _number(value: float | None) -> str:
    """Three significant digits or so, and no decimals from a hundred on."""
    if value is None or math.isnan(value):
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
