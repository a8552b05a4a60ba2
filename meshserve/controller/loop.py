"""The controller's loop: it alone holds what is known of the mesh. It absorbs, plans, publishes, and has things done.

It awaits nothing but the next reason to plan: an event, a new desired state, or the time the last plan named. It does
no I/O and holds no lock; actions are performed by others, and their outcomes come back as events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter

from meshserve.core.actions import Action
from meshserve.core.events import Event
from meshserve.core.fold import fold
from meshserve.core.plan import Plan, plan
from meshserve.core.seen import Seen
from meshserve.core.seen_actors import ActorChecks
from meshserve.model.control import Desired
from meshserve.settings import SLOW_STARTUP_S
from meshserve.telemetry.control import ControlMetrics
from meshserve.telemetry.registry import PROCESS

logger = logging.getLogger("meshserve.controller")

AFTER_FAULT_S = 1.0
"""After a fault of this program itself it tries again so much later."""


class Loop:
    """Lives on the I/O thread.

    Args:
        desired: what is wanted.
        epoch: of this life of the controller.
        clock: the monotonic clock.
        new_id: makes replica tags.
        publish: told every plan before its actions are performed.
        perform: has an action done; returns at once.
        actor_checks: how the health of shared actors is checked.
        slow_s: see `Seen`.
    """

    def __init__(
        self,
        desired: Desired,
        epoch: int,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        publish: Callable[[Plan], None],
        perform: Callable[[Action], None],
        actor_checks: ActorChecks,
        slow_s: float = SLOW_STARTUP_S,
    ) -> None:
        seen = Seen(epoch=epoch, began_at=clock(), actor_checks=actor_checks, slow_s=slow_s)
        self.plan = Plan(desired, seen, wake_at=clock())
        self._desired = desired
        self._seen = self.plan.seen
        self._clock = clock
        self._new_id = new_id
        self._publish = publish
        self._perform = perform
        self._events: list[Event] = []
        self._woken = asyncio.Event()
        self._metrics = PROCESS.recorder(ControlMetrics)

    def post(self, event: Event) -> None:
        """Something was heard."""
        self._metrics.heard(event, self._clock())
        self._events.append(event)
        self._woken.set()

    def desire(self, desired: Desired) -> None:
        """Something else is wanted."""
        self._desired = desired
        self._woken.set()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            self._woken.clear()
            began_at = perf_counter()
            wake_at = self._turn()
            self._metrics.turned(perf_counter() - began_at)
            # A large mesh answers all the time: resting as long as was worked leaves half of the thread to others,
            # and gathers events. A small mesh plans in less than a millisecond and is not slowed down.
            await asyncio.sleep(perf_counter() - began_at)
            try:
                async with asyncio.timeout(max(wake_at - self._clock(), 0.0) if wake_at != float("inf") else None):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def _turn(self) -> float:
        """One turn; returns when the next one is due."""
        now = self._clock()
        events, self._events = self._events, []
        try:
            for event in events:
                self._seen = fold(self._seen, event, now)
            self.plan = plan(self._desired, self._seen, now, self._new_id, self.plan)
        except Exception:
            logger.exception("The controller could not decide what to do; it tries again.")
            return now + AFTER_FAULT_S
        self._seen = self.plan.seen
        self._publish(self.plan)
        for action in self.plan.actions:
            self._metrics.ordered(action, now)
            self._perform(action)
        return self.plan.wake_at
