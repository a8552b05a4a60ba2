"""CPU and memory by role: which part of a system pays for a request.

Roles are read off process titles: Ray sets an actor's to its class, and every target has its controller, its proxies
(HAProxy among them) and its replicas.
"""

import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.process import TICKS_PER_S, Process, descendants, this_process

# In this order, for a title may hold more than one of the words.
_ROLES = (
    ("controller", ("controller",)),
    ("proxy", ("proxy",)),
    ("replica", ("replica",)),
    ("caller", ("remotecaller",)),
)


OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of one role used.

    Attributes:
        cpu_s: CPU seconds.
        rss_bytes: resident memory, all processes of the role together.
        processes: how many there are.
    """

    cpu_s: float
    rss_bytes: int
    processes: int


class Meter:
    """Counts from the moment it is made; read it as often as you like."""

    def __init__(self) -> None:
        self._cpu_before = {process.pid: process.cpu_s for process in _processes()}
        self._clients_before = _clients_cpu_s()
        self._machine_before = _machine_cpu_s()

    def read(self) -> Mapping[str, Usage]:
        """Usage by role since then; a process that has ended in between is not counted.

        The role `driver` is this process, `client` its load generators, `ray` everything of Ray's own, and `others`
        are the programs on the machine that have nothing to do with us and spoil our figures; on a virtual machine
        also its neighbours, as far as they took time in which it had something to do.
        """
        usage: dict[str, Usage] = {"client": Usage(_clients_cpu_s() - self._clients_before, 0, 0)}
        busy_s = _machine_cpu_s() - self._machine_before
        for process in _processes():
            so_far = usage.get(role := _role(process), Usage(0.0, 0, 0))
            usage[role] = Usage(
                cpu_s=so_far.cpu_s + process.cpu_s - self._cpu_before.get(process.pid, 0.0),
                rss_bytes=so_far.rss_bytes + process.rss_bytes,
                processes=so_far.processes + 1,
            )
        ours_s = sum(used.cpu_s for used in usage.values())
        return {**usage, OTHERS: Usage(max(0.0, busy_s - ours_s), 0, 0)}


def others_share(usages: Iterable[Mapping[str, Usage]]) -> float:
    """The part of the machine's busy time that was not ours."""
    used = [(role, one.cpu_s) for usage in usages for role, one in usage.items()]
    all_s = sum(cpu_s for _, cpu_s in used)
    return sum(cpu_s for role, cpu_s in used if role == OTHERS) / all_s if all_s else 0.0


def _processes() -> list[Process]:
    return [this_process(), *descendants()]


def _role(process: Process) -> str:
    if process.pid == this_process().pid:
        return "driver"
    title = process.title.partition(" ")[0].lower() if process.title.startswith("ray::") else _program(process.title)
    return next((role for role, words in _ROLES if any(word in title for word in words)), "ray")


def _program(title: str) -> str:
    """The base name of the program in a command line, which is not an actor's."""
    return title.partition(" ")[0].rpartition("/")[2].lower()


def _clients_cpu_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _machine_cpu_s() -> float:
    """CPU seconds of all cores together that were neither idle nor waiting for a disk, those stolen included."""
    user, nice, system, _idle, _wait, irq, soft_irq, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft_irq + stolen) / TICKS_PER_S
