"""What a router was told of its deployment, and so whether it takes calls and how many may wait."""

from __future__ import annotations

from collections.abc import Callable

from meshserve.errors import BackPressureError, DeploymentUnavailableError
from meshserve.model.failure import Failure
from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions
from meshserve.model.targets import DeploymentTargets
from meshserve.wire.failures import failure_of

LONGEST_LINE = 100_000
"""Calls that may wait where `max_queued_requests` sets no limit: a line that long will never be served, only fill
memory."""


class Standing:
    """The last snapshot and what follows from it.

    Args:
        deployment: of the router.

    Attributes:
        targets: the snapshot in force; None before the first.
        refusal: why no call is taken; None when calls are.
        longest_line: calls that may wait.
    """

    def __init__(self, deployment: DeploymentId) -> None:
        self._deployment = deployment
        self._broken: Failure | None = None
        self._informed: list[Callable[[Failure | None], None]] = []
        self.targets: DeploymentTargets | None = None
        self.refusal: Failure | None = None
        self.longest_line = LONGEST_LINE

    @property
    def options(self) -> DeploymentOptions:
        """Of the deployment; the defaults before the first snapshot."""
        return self.targets.options if self.targets is not None else DeploymentOptions()

    @property
    def is_broken(self) -> bool:
        """Whether no calls are taken whatever the snapshots say."""
        return self._broken is not None

    def is_old(self, targets: DeploymentTargets) -> bool:
        """Whether a newer snapshot is in force."""
        return self.targets is not None and targets.version < self.targets.version

    def update(self, targets: DeploymentTargets) -> None:
        """Takes over a snapshot."""
        self.targets = targets
        limit = targets.options.max_queued_requests
        self.longest_line = limit if limit >= 0 else LONGEST_LINE
        self._judge()

    def break_down(self, failure: Failure | None) -> None:
        """Takes no calls whatever the snapshots say; None ends that."""
        self._broken = failure
        self._judge()

    def _judge(self) -> None:
        self.refusal = self._broken
        targets = self.targets
        if targets is not None and (targets.unavailable or not targets.exists):
            reason = targets.unavailable or "there is no such deployment"
            self.refusal = failure_of(DeploymentUnavailableError(str(self._deployment), reason))

    def too_many(self, queued: int) -> Failure:
        """The answer to a call that finds the line full."""
        answer = self.options.backpressure_config
        return failure_of(BackPressureError(queued, self.longest_line, answer.status_code, answer.retry_after_s))

    def when_informed(self, callback: Callable[[Failure | None], None]) -> None:
        """Calls back once the first snapshot has come, at once if it has; with a failure if none will come."""
        if self.targets is not None:
            callback(None)
        else:
            self._informed.append(callback)

    def inform(self, failure: Failure | None) -> None:
        """Tells those who wait for the first snapshot."""
        informed, self._informed = self._informed, []
        for callback in informed:
            callback(failure)
