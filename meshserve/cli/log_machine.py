"""The logs of one machine: of this one, or of another one of the cluster, which is asked for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from meshserve.cli.log_files import Entry, LogFile
from meshserve.launch.ray_errands import on_machine
from meshserve.model.overview import LogPlace

Errand = Callable[..., Any]
"""Calls a function, its first argument, where the logs are."""


class LogMachine:
    """Reads all logs of one machine.

    Args:
        errand: how to have something done there.
    """

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._files: dict[Path, LogFile] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is no log."""
        return not self._files

    def look(self, places: Sequence[LogPlace]) -> None:
        """Takes in logs that are new: those named, and those of replicas that are gone.

        Raises:
            ErrandError: the machine cannot be asked.
        """
        for path in self._errand(paths_of, places):
            self._files.setdefault(path, LogFile(path))

    def last(self, count: int) -> list[Entry]:
        """The last entries, in order; raises as `look`."""
        return self._read(last_of, count)

    def more(self) -> list[Entry]:
        """What was written since, in order; raises as `look`."""
        return self._read(more_of)

    def _read(self, read: Callable[..., tuple[list[LogFile], list[Entry]]], *args: Any) -> list[Entry]:
        answer: tuple[list[LogFile], list[Entry]] = self._errand(read, list(self._files.values()), *args)
        files, found = answer
        self._files = dict(zip(self._files, files, strict=True))
        return found


def machines(places: Iterable[LogPlace]) -> dict[str, list[LogPlace]]:
    """Which logs are on which machine, by its address; those of this one under `HERE`."""
    found: dict[str, list[LogPlace]] = {}
    for place in places:
        here = Path(place.path).parent.is_dir()
        found.setdefault(HERE if here else place.node_ip, []).append(place)
    return found


HERE = "this machine"


def machine(where: str) -> LogMachine:
    """The logs of a machine that `machines` names."""
    if where == HERE:
        return LogMachine(lambda function, *args: function(*args))
    return LogMachine(lambda function, *args: on_machine(where, function, *args))


def last_of(files: list[LogFile], count: int) -> tuple[list[LogFile], list[Entry]]:
    """The files, read to their ends, and their last entries together; where they are."""
    found = sorted((entry for file in files for entry in file.last(count)), key=_at)
    return files, found[-count:] if count else []


def more_of(files: list[LogFile]) -> tuple[list[LogFile], list[Entry]]:
    """The files, read on, and what is new in them; where they are."""
    return files, sorted((entry for file in files for entry in file.more()), key=_at)


def paths_of(places: Iterable[LogPlace]) -> list[Path]:
    """The files of these places, those of replicas that are gone with those of their successors; where they are."""
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


def _at(entry: Entry) -> str:
    return entry.at
