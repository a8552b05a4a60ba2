"""What applications do to a mesh beyond one call at a time."""

import os
from collections.abc import Callable

from bench.sample import Sample
from bench.scenario import System

# A Python process that imports Ray costs seconds of CPU and about 100 MB, so few cores get fewer processes with more
# handles in each. The note on the row says how many of which there were.
_CALLERS = 64
_PROCESSES_PER_CORE = 8


def chain(length: int) -> Callable[[System, float], Sample]:
    """Calls whose argument is the response of the one before, eight chains at a time."""
    return lambda system, seconds: system.ask("chain", seconds, length=length, in_flight=8)


def fan_out(system: System, seconds: float) -> Sample:
    """Eight calls at once to eight deployments, eight such groups at a time."""
    return system.ask("fan_out", seconds, in_flight=8)


def beside_slow_stream(system: System, seconds: float) -> Sample:
    """Small calls while one stream from the same replica is read slowly."""
    return system.ask("beside_slow_stream", seconds, in_flight=32)


def beside_big_body(system: System, seconds: float) -> Sample:
    """Small calls while 50 MB bodies travel to and from the same replica."""
    return system.ask("beside_big_body", seconds, size_bytes=50_000_000, in_flight=8)


def pool(system: System, seconds: float) -> Sample:
    """Calls through one router to all replicas of a deployment."""
    return system.ask("calls", seconds, in_flight=100)


def many_callers(system: System, seconds: float) -> Sample:
    """Calls to one replica from 64 callers."""
    processes = min(_CALLERS, _PROCESSES_PER_CORE * (os.cpu_count() or 1))
    return system.call_from_processes(seconds, processes=processes, handles=_CALLERS // processes)
