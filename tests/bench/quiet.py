"""Measures while the machine is ours: a virtual machine's host may take a third of it away, for seconds at a time."""

from collections.abc import Callable, Mapping

from bench.sample import Sample
from bench.usage import Usage, others_share

QUIET = 0.04
"""The part of the machine's busy time that others may take. One host took 0.3 to 36 % within a minute, and rates fell
to half."""

Measured = tuple[Sample, Mapping[str, Usage]]


def measure_quietly(measure: Callable[[], Measured], tries: int) -> Measured:
    """Measures until others took little, or as often as it may; gives what they disturbed least, not what is best."""
    found = [measure()]
    while others_share([found[-1][1]]) > QUIET and len(found) < tries:
        found.append(measure())
    return min(found, key=lambda one: others_share([one[1]]))
