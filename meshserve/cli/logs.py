"""`meshserve logs`: what the processes of a mesh have logged, as one log."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

import click

from meshserve.api.client import client, wait_for
from meshserve.api.mesh import connect
from meshserve.cli.failures import CommandError, reporting
from meshserve.cli.ingress_flags import address_flag
from meshserve.cli.log_files import Entry, LogFile
from meshserve.model.overview import LogPlace, MeshOverview
from meshserve.rpc.io_thread import io_thread

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

    Replicas that are gone are among them. Only files of this machine can be read; those of others are named.
    """
    with reporting("There are no logs"):
        connect(address)
        mesh = wait_for(client().status())
    if application is not None and application not in mesh.applications:
        known = ", ".join(sorted(mesh.applications)) or "none"
        raise CommandError(f"There is no application {application!r}; there are: {known}.")
    found = chosen(mesh, application, deployment)
    _name_what_is_elsewhere(found)
    files = {path: LogFile(path) for path in paths_of(found)}
    if not files and not follow:
        raise CommandError("None of these processes keeps a log on this machine.")
    _print(sorted((one for file in files.values() for one in file.last(lines)), key=_at)[-lines:] if lines else ())
    if follow:
        try:
            _follow(files, application, deployment)
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


def paths_of(places: Iterable[LogPlace]) -> list[Path]:
    """The files of this machine, those of replicas that are gone with those of their successors."""
    found: dict[Path, None] = {}
    for place in places:
        path = Path(place.path)
        if not path.parent.is_dir():
            continue
        found[path] = None
        if place.replica and path.stem.endswith(place.replica):
            beginning = path.stem.removesuffix(place.replica)
            siblings = path.parent.iterdir()
            found |= dict.fromkeys(sorted(one for one in siblings if _is_of(one, beginning)))
    return list(found)


def _is_of(path: Path, beginning: str) -> bool:
    """Whether a file is the log of a replica, its name beginning so up to the replica's tag."""
    return path.suffix == ".log" and path.stem.startswith(beginning) and "_" not in path.stem.removeprefix(beginning)


def _name_what_is_elsewhere(places: Iterable[LogPlace]) -> None:
    for place in places:
        if not Path(place.path).parent.is_dir():
            click.echo(f"On {place.node_ip or 'another machine'}: {place.path}", err=True)


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


def _follow(files: dict[Path, LogFile], application: str | None, deployment: str | None) -> None:
    lookout = _Lookout()
    while True:
        _print(sorted((one for file in files.values() for one in file.more()), key=_at))
        time.sleep(PAUSE_S)
        mesh = lookout.news()
        for path in paths_of(chosen(mesh, application, deployment)) if mesh is not None else ():
            files.setdefault(path, LogFile(path))


def _at(entry: Entry) -> str:
    return entry.at


def _print(found: Iterable[Entry]) -> None:
    for entry in found:
        click.echo(entry.text)
