"""The state of a mesh, drawn for a terminal. What the mesh says is put there as text, never as markup."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

NOTHING = "-"

_GOOD = ("RUNNING", "HEALTHY")
_BAD = ("UNHEALTHY", "DEPLOY_FAILED")
_LEVELS = {"INFO": "dim", "WARNING": "yellow"}
_LEAST_EVENTS, _LINES_ABOVE = 5, 8


def screen(state: dict[str, Any], failure: str = "", height: int = 50) -> RenderableType:
    """Everything.

    Args:
        state: as a proxy gives it; see docs/observability.md.
        failure: why there is nothing newer; empty when there is.
        height: of the terminal, in lines; events get what is left of it.
    """
    deployments = _deployments(state)
    events = max(height - deployments.row_count - len(state["applications"]) - _LINES_ABOVE, _LEAST_EVENTS)
    return Group(_head(state, failure), "", deployments, "", _events(state, events))


def _head(state: dict[str, Any], failure: str) -> Text:
    rates = state["http"] or {}
    text = Text.assemble(
        ("meshserve ", "bold blue"),
        f"{amount(rates.get('calls_per_s'))} requests/s  ",
        (f"{amount(rates.get('failed_per_s'))} failed/s  ", "red" if rates.get("failed_per_s") else ""),
        f"p50 {duration(rates.get('p50_s'))}  p99 {duration(rates.get('p99_s'))}  ",
        f"{amount(sum(state['in_flight'].values()))} in flight",
    )
    if failure:
        text.append(f"\n{failure}", "red")
    elif not state["controller"]["answers"]:
        text.append("\nThe controller does not answer: states are as it told them last.", "yellow")
    return text


def _deployments(state: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("deployment", ratio=1, no_wrap=True, min_width=14)
    table.add_column("status", no_wrap=True)
    for column in ("replicas", "calls/s", "failed/s", "p50", "p99", "ongoing", "queued"):
        table.add_column(column, justify="right", no_wrap=True)
    for application in state["applications"]:
        route = application["route_prefix"]
        name = Text.assemble((application["name"], "bold"), (f"  {route}" if route else "", "dim"))
        table.add_row(name, _status(application["status"]))
        for deployment in application["deployments"]:
            table.add_row(*_row(deployment))
        if application["message"] and application["status"] not in _GOOD:
            table.add_row(Text(f"  {application['message']}", "yellow", overflow="ellipsis"))
    if not state["applications"]:
        table.add_row(Text("no applications", "dim"))
    return table


def _row(deployment: dict[str, Any]) -> list[RenderableType]:
    rates = deployment["rates"] or {}
    running, wanted = deployment["replica_states"].get("RUNNING", 0), deployment["target_replicas"]
    limit = f"/{amount(deployment['limit'])}" if deployment["limit"] else ""
    return [
        Text(f"  {deployment['name']}"),
        _status(deployment["status"]),
        Text(f"{running}/{wanted}", "" if running >= wanted else "yellow"),
        amount(rates.get("calls_per_s")),
        Text(amount(rates.get("failed_per_s")), "red" if rates.get("failed_per_s") else ""),
        duration(rates.get("p50_s")),
        duration(rates.get("p99_s")),
        amount(deployment["ongoing"]) + limit,
        amount(deployment["queued"]),
    ]


def _status(status: str) -> Text:
    style = "green" if status in _GOOD else "red" if status in _BAD else "yellow"
    return Text(status.lower().replace("_", " "), style)


def _events(state: dict[str, Any], count: int) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for notice in state["notices"][:count]:
        about = "/".join(filter(None, (notice["application"], notice["deployment"]))) or notice["source"]
        clock = time.strftime("%H:%M:%S", time.localtime(notice["at_s"]))
        style = _LEVELS.get(notice["level"], "red")
        table.add_row(Text(clock, "dim"), Text.assemble((notice["text"], style), (f"  {about}", "dim")))
    return table


def amount(value: float | None) -> str:
    """A number of things, or of things in a second."""
    if value is None:
        return NOTHING
    if value >= 10_000:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def duration(seconds: float | None) -> str:
    """A time in a unit that suits it."""
    if seconds is None:
        return NOTHING
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
