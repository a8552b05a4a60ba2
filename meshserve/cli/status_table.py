"""The status of the mesh as tables on a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from meshserve.api.status import ApplicationStatusOverview, ServeStatus
from meshserve.model.status import ApplicationState, DeploymentState, ProxyState

_GOOD = (ApplicationState.RUNNING, DeploymentState.HEALTHY, ProxyState.HEALTHY)
_BAD = (
    *(ApplicationState.DEPLOY_FAILED, ApplicationState.UNHEALTHY),
    *(DeploymentState.DEPLOY_FAILED, DeploymentState.UNHEALTHY),
    ProxyState.UNHEALTHY,
)


def as_tables(status: ServeStatus) -> RenderableType:
    """Proxies, and applications with their deployments."""
    parts: list[RenderableType] = []
    if status.target_capacity is not None:
        parts.append(Text(f"Target capacity: {status.target_capacity:g} %"))
    parts.append(
        _proxies(status.proxies, status.proxy_messages) if status.proxies else Text("No proxies run.", style="dim")
    )
    if status.applications:
        parts.append(_applications(status.applications))
    else:
        parts.append(Text("No applications run. Begin with `meshserve run` or `meshserve deploy`.", style="dim"))
    return Group(*parts)


def _proxies(proxies: Mapping[str, ProxyState], messages: Mapping[str, str]) -> Table:
    table = Table("PROXY ON NODE", "STATUS", "", box=None, header_style="bold")
    for node, state in proxies.items():
        table.add_row(node, _state(state), _line(messages.get(node, "")))
    return table


def _applications(applications: Mapping[str, ApplicationStatusOverview]) -> Table:
    table = Table("APPLICATION", "STATUS", "REPLICAS", "SINCE", "", box=None, header_style="bold")
    for name, one in applications.items():
        table.add_row(
            Text(name, style="bold"), _state(one.status), "", _age(one.last_deployed_time_s), _line(one.message)
        )
        for own, deployment in one.deployments.items():
            counts = ", ".join(f"{count} {state.lower()}" for state, count in deployment.replica_states.items())
            table.add_row(f"  {own}", _state(deployment.status), counts or "none", "", _line(deployment.message))
    return table


def _state(state: str) -> Text:
    return Text(str(state), style="green" if state in _GOOD else "red" if state in _BAD else "yellow")


def _line(message: str) -> Text:
    """The last line of a message: of a traceback it is the one that says what was wrong."""
    lines = [line for line in message.strip().splitlines() if line.strip()]
    return Text(lines[-1].strip() if lines else "", overflow="ellipsis", no_wrap=True)


def _age(since_s: float) -> str:
    seconds = max(0, int(time.time() - since_s))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
