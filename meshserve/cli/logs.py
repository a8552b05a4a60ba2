"""`meshserve logs`: what the processes of a mesh have logged, as one log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

import click

from meshserve.api.client import client, wait_for
from meshserve.api.mesh import connect
from meshserve.cli.failures import CommandError, reporting
from meshserve.cli.ingress_flags import address_flag
from meshserve.cli.log_files import Entry
from meshserve.cli.log_machine import LogMachine, machine, machines
from meshserve.launch.ray_errands import ErrandError
from meshserve.model.overview import LogPlace, MeshOverview
from meshserve.rpc.io_thread import io_thread

R = TypeVar("R")

PAUSE_S = 0.25
LOOK_S = 3.0
"""Between looks for replicas that are new."""


@click.command()
@click.argument("application", required=False)
@click.option("-d", "--deployment", help="Of one deployment only.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="How many of the last.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@address_flag
def logs(application: str | None, deployment: str | None, lines: int, follow: bool, address: str) -> None:
    """Prints what was logged last: of an application's replicas, or of all processes of the mesh.

    Replicas that are gone are among them, and those of other machines of the cluster.
    """
    with reporting("There are no logs"):
        connect(address)
        mesh = wait_for(client().status())
    if application is not None and application not in mesh.applications:
        known = ", ".join(sorted(mesh.applications)) or "none"
        raise CommandError(f"There is no application {application!r}; there are: {known}.")
    found = _Logs(chosen(mesh, application, deployment))
    if found.are_none and not follow:
        raise CommandError("None of these processes keeps a log that can be read.")
    _print(found.last(lines))
    if follow:
        try:
            _follow(found, application, deployment)
        except KeyboardInterrupt:
            pass


def chosen(mesh: MeshOverview, application: str | None, deployment: str | None) -> list[LogPlace]:
    """The logs that were asked for."""
    return [
        place
        for place in mesh.logs
        if (application is None or place.application == application)
        and (deployment is None or place.deployment == deployment)
    ]


class _Lookout:
    """Asks for the state of the mesh again and again, beside what else is done: the controller may be away."""

    def __init__(self) -> None:
        self._answer: Future[MeshOverview] | None = None
        self._look_at = time.monotonic() + LOOK_S

    def news(self) -> MeshOverview | None:
        """The state, if there is a newer one."""
        if self._answer is None:
            if time.monotonic() >= self._look_at:
                self._answer = io_thread().submit(client().status())
            return None
        if not self._answer.done():
            return None
        answer, self._answer = self._answer, None
        self._look_at = time.monotonic() + LOOK_S
        return answer.result() if answer.exception() is None else None


class _Logs:
    """The logs of all machines as one; a machine that cannot be asked is named once and left out.

    Args:
        places: where the first ones are.
    """

    def __init__(self, places: Iterable[LogPlace]) -> None:
        self._machines: dict[str, LogMachine] = {}
        self._lost: set[str] = set()
        self.look(places)

    @property
    def are_none(self) -> bool:
        """Whether there is nothing to read."""
        return all(one.is_empty for one in self._machines.values())

    def look(self, places: Iterable[LogPlace]) -> None:
        """Takes in logs that are new."""
        for where, there in machines(places).items():
            if where not in self._lost:
                self._ask(where, self._machines.setdefault(where, machine(where)).look, there)

    def last(self, count: int) -> list[Entry]:
        """The last entries of all, in order."""
        found = self._read(LogMachine.last, count)
        return found[-count:] if count else []

    def more(self) -> list[Entry]:
        """What was written since, in order."""
        return self._read(LogMachine.more)

    def _read(self, read: Callable[..., list[Entry]], *args: Any) -> list[Entry]:
        asked = [self._ask(where, read, one, *args) for where, one in tuple(self._machines.items())]
        return sorted((entry for found in asked for entry in found or ()), key=lambda entry: entry.at)

    def _ask(self, where: str, ask: Callable[..., R], *args: Any) -> R | None:
        try:
            return ask(*args)
        except ErrandError as error:
            self._lost.add(where)
            del self._machines[where]
            click.echo(f"The logs on {where or 'the head of the cluster'} cannot be read: {error}", err=True)
            return None


def _follow(found: _Logs, application: str | None, deployment: str | None) -> None:
    lookout = _Lookout()
    while True:
        _print(found.more())
        time.sleep(PAUSE_S)
        mesh = lookout.news()
        if mesh is not None:
            found.look(chosen(mesh, application, deployment))


def _print(found: Iterable[Entry]) -> None:
    for entry in found:
        click.echo(entry.text)
