"""The processes that a benchmark started, and only those: finding them, weighing them, ending them.

Ray starts daemons that start workers that may outlive their parents. A subreaper (prctl(2)) inherits the orphans among
its descendants, so "everything below me in /proc" is exactly what this benchmark started, however it was started.
"""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One process as /proc shows it at one moment.

    Attributes:
        pid: its id.
        parent: its parent's id.
        title: its command line, which Ray sets to the actor's class and name.
        cpu_s: CPU seconds, user and system, since it started.
        rss_bytes: resident memory, shared pages included.
    """

    pid: int
    parent: int
    title: str
    cpu_s: float
    rss_bytes: int


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant that loses its own."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Has the kernel send SIGTERM to this process when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def descendants() -> list[Process]:
    """Every live process below this one."""
    children: dict[int, list[Process]] = {}
    for process in _all_processes():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    unexplored = [os.getpid()]
    while unexplored:
        below = children.get(unexplored.pop(), [])
        found += below
        unexplored += [process.pid for process in below]
    return found


def end_descendants(grace_s: float = 3.0) -> None:
    """Asks every descendant to end, then ends those that have not within `grace_s`. Needs `adopt_orphans`."""
    deadline = time.monotonic() + grace_s
    _signal_descendants(signal.SIGTERM)
    while descendants() and time.monotonic() < deadline:
        _reap()
        time.sleep(0.05)
    while descendants():
        _signal_descendants(signal.SIGKILL)
        _reap()
        time.sleep(0.05)


def this_process() -> Process:
    """The process that asks."""
    me = _read(Path("/proc/self"))
    assert me is not None, "/proc/self is always there"
    return me


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _signal_descendants(number: signal.Signals) -> None:
    for process in descendants():
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _all_processes() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (process := _read(entry)):
            yield process


def _read(entry: Path) -> Process | None:
    """The process behind a directory of /proc; None when it has just gone or is a zombie."""
    try:
        # The second field is the name in parentheses and may hold anything; all others are after the last one.
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] == "Z":
        return None
    return Process(
        pid=int(os.path.basename(os.path.realpath(entry))),
        parent=int(fields[1]),
        title=title,
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS_PER_S,
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )
