"""Starting and stopping."""

from bench.sample import Sample
from bench.scenario import System


def start(system: System, seconds: float) -> Sample:
    """From `serve.start` to the first answer of an application with two deployments, Ray itself already running."""
    return Sample(value=system.start_seconds(), count=1)


def shutdown(system: System, seconds: float) -> Sample:
    """`serve.shutdown` with all the applications of the session still deployed."""
    return Sample(value=system.shut_down(), count=1)
