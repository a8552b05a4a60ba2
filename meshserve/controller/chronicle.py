"""Writes the events of the mesh to the controller's log, where whoever watches the mesh gets them from."""

from __future__ import annotations

import logging

from meshserve.core.chronicle import happenings
from meshserve.core.plan import Plan
from meshserve.telemetry.log_format import STDERR
from meshserve.telemetry.notices import EVENTS

logger = logging.getLogger(EVENTS)


class Chronicle:
    """Told every plan.

    Args:
        plan: the one before the first.
    """

    def __init__(self, plan: Plan) -> None:
        self._last = plan

    def told(self, plan: Plan) -> None:
        """Logs what is different now."""
        before, self._last = self._last, plan
        for one in happenings(before, plan):
            about = {"application": one.application, "deployment": one.deployment, "replica": one.replica}
            known: dict[str, object] = {name: value for name, value in about.items() if value}
            # Who starts a hundred replicas does not want to read of each on the terminal, unless it fails.
            known[STDERR] = one.bad or not one.replica
            logger.log(logging.WARNING if one.bad else logging.INFO, "%s", one.text, extra=known)
