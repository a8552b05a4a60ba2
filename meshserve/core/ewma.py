"""Peak EWMA: a replica's expected latency, quick to believe bad news and slow to believe good news.

The cost of a replica is its expected latency times the calls that would then be in flight there. A sample above the
average replaces it at once; lower ones pull it down with time constant `TAU_S`, whatever their number, because what
matters is time and not traffic. While no samples come the average fades too: a replica that was slow once and is
avoided since is tried again. Source: Finagle's "peak EWMA" load metric, which Linkerd uses as well.

A replica that refuses calls answers very fast, which would draw *more* calls to it; a refusal is therefore recorded
as a slow answer (`observe_refusal`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TAU_S = 10.0
"""How long good news takes: after this time an old average weighs 1/e."""

DEFAULT_LATENCY_S = 0.05
"""What a replica that has answered nothing yet is expected to need."""

REFUSAL_LATENCY_S = 5.0
"""What a refusal counts as: longer than calls usually take, short enough to be forgotten within a minute."""


@dataclass(frozen=True, slots=True)
class Ewma:
    """A replica's average latency in seconds, as of an instant."""

    latency_s: float = DEFAULT_LATENCY_S
    at: float = -math.inf


def faded(ewma: Ewma, now: float, tau_s: float = TAU_S) -> float:
    """The average at `now`, given that nothing was heard since; the default for a replica never heard of."""
    if ewma.at == -math.inf:
        return ewma.latency_s
    return ewma.latency_s * math.exp(-max(0.0, now - ewma.at) / tau_s)


def observe(ewma: Ewma, latency_s: float, now: float, tau_s: float = TAU_S) -> Ewma:
    """Takes a sample in: the time to the result, or to the first item of a stream."""
    if ewma.at == -math.inf or latency_s > ewma.latency_s:
        return Ewma(latency_s, now)
    weight = math.exp(-max(0.0, now - ewma.at) / tau_s)
    return Ewma(ewma.latency_s * weight + latency_s * (1.0 - weight), now)


def observe_refusal(ewma: Ewma, now: float, penalty_s: float = REFUSAL_LATENCY_S, tau_s: float = TAU_S) -> Ewma:
    """Takes a refusal in as a sample of `penalty_s`."""
    return observe(ewma, penalty_s, now, tau_s)


def cost(ewma: Ewma, in_flight: float, now: float, tau_s: float = TAU_S) -> float:
    """What one more call at this replica is expected to take, for a policy that picks the cheapest."""
    return faded(ewma, now, tau_s) * (in_flight + 1.0)
