"""Handle calls: from inside a replica, and from a driver."""

from collections.abc import Callable

from bench.sample import Sample
from bench.scenario import System


def calls(in_flight: int) -> Callable[[System, float], Sample]:
    """No-op calls from one replica to another."""
    return lambda system, seconds: system.ask("calls", seconds, in_flight=in_flight)


def streams(count: int) -> Callable[[System, float], Sample]:
    """Small items over streaming calls from one replica to another."""
    return lambda system, seconds: system.ask("streams", seconds, streams=count)


def echo_bytes(size_bytes: int) -> Callable[[System, float], Sample]:
    """A bytes value there and back."""
    return lambda system, seconds: system.ask("echo_bytes", seconds, size_bytes=size_bytes)


def echo_array(size_bytes: int) -> Callable[[System, float], Sample]:
    """A numpy array there and back."""
    return lambda system, seconds: system.ask("echo_array", seconds, size_bytes=size_bytes)


def driver(system: System, seconds: float) -> Sample:
    """`handle.noop.remote().result()` in a plain script."""
    return system.call_from_driver(seconds)
