"""The latest plan, and waiting for the next one: what status is read from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from meshserve.core.plan import Plan

PERIOD_S = 0.05
"""Those who watch status are told at most so often; what happens in between they see at once."""


class StatusBoard:
    """Lives on the I/O thread.

    Args:
        plan: the one before the first. It says nothing of what is wanted, so who asks waits for the next.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._before = plan
        self._replaced = asyncio.Event()

    def show(self, plan: Plan) -> None:
        """Replaces the plan."""
        self.plan = plan
        self._replaced.set()
        self._replaced = asyncio.Event()

    async def reached(self, generation: int) -> Plan:
        """The first plan made for this generation of desired state, or for a later one."""
        while self.plan is self._before or self.plan.desired.generation < generation:
            await self._replaced.wait()
        return self.plan

    async def plans(self, generation: int) -> AsyncIterator[Plan]:
        """Plans as they come, from the first made for this generation on; under load some are left out."""
        plan = await self.reached(generation)
        while True:
            yield plan
            await asyncio.sleep(PERIOD_S)
            while self.plan is plan:
                await self._replaced.wait()
            plan = self.plan
