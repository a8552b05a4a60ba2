"""One caller in front of several replicas of one deployment."""

from collections import Counter
from typing import Any

from bench.apps.door import Door
from bench.apps.leaf import Leaf
from bench.apps.serving import deployed
from bench.loop import measure_calls
from bench.sample import Sample


class PoolCaller(Door):
    """Sends calls through one router and counts who answers."""

    def __init__(self, leaf: Any) -> None:
        self._leaf = leaf

    async def calls(self, in_flight: int, seconds: float) -> Sample:
        """Calls whose reply says which replica it is from."""
        answers: Counter[int] = Counter()

        async def call() -> None:
            answers[await self._leaf.process.remote()] += 1

        sample = await measure_calls(call, in_flight=in_flight, seconds=seconds)
        even = sum(answers.values()) / len(answers)
        spread = f"{min(answers.values()) / even:.2f} to {max(answers.values()) / even:.2f} of an even share"
        return Sample(
            sample.value, sample.p50_ms, sample.p99_ms, sample.count, f"{len(answers)} replicas answered, {spread}"
        )


def build(replicas: int) -> Any:
    """PoolCaller -> Leaf, as many times as asked for."""
    return deployed(PoolCaller).bind(deployed(Leaf, num_replicas=replicas).bind())
