"""How slow a replica is, compared with what its calls usually take.

Counting calls in flight is not enough to avoid a sick replica: one that is ten times slower than the others has as
many calls in flight as they have and still answers a tenth of what each of them answers, and with fewer than ten
replicas that is more than one call in a hundred. So every answer is compared with what calls to the same method
usually take, as a logarithm: 0 is as usual, log 10 is ten times slower. The logarithm keeps one very slow answer from
outweighing many usual ones, comparing within a method keeps a replica that got the long calls from looking sick.

A replica begins with one imagined usual answer, so that its first call, which often loads something, does not
condemn it.
"""

from __future__ import annotations

import math

WEIGHT = 1 / 16
"""Of the newest answer of a replica, once there were many."""

FORGIVING_WEIGHT = 1 / 4
"""Of a faster answer of a replica that counts as slow: it gets so few calls that each must tell."""

CONDEMNED = math.log(2.0)
"""Averages from here on count as slow."""

USUAL_WEIGHT = 1 / 64
"""Of the newest answer of all replicas, in what is usual."""

LARGEST = math.log(16.0)
"""No answer counts as further from usual than 16 times slower or faster."""

SHORTEST_S = 1e-6
"""Answers faster than this count as this: a clock may show no time at all."""


def fold_usual(usual: float, answers: int, log_latency: float) -> float:
    """Takes an answer into what calls to a method usually take.

    Args:
        usual: the mean of the logarithms of seconds so far.
        answers: those already in it.
        log_latency: of this answer.
    """
    weight = 1 / (answers + 1)
    if weight < USUAL_WEIGHT:
        weight = USUAL_WEIGHT
    return usual + slowness_of(log_latency, usual) * weight


def slowness_of(log_latency: float, usual: float) -> float:
    """How slow an answer was, compared with what is usual: 0 for as usual."""
    slowness = log_latency - usual
    if slowness > LARGEST:
        return LARGEST
    return slowness if slowness > -LARGEST else -LARGEST


def fold_slowness(average: float, answers: int, slowness: float) -> float:
    """Takes one answer into a replica's average.

    Args:
        answers: those already in it, beside the imagined one.
    """
    weight = FORGIVING_WEIGHT if slowness < average > CONDEMNED else WEIGHT
    if answers < 14 and answers * weight < 1 - 2 * weight:  # 1 / (answers + 2) is more
        weight = 1 / (answers + 2)
    return average + (slowness - average) * weight
