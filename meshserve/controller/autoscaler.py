"""Autoscaling: what routers and replicas report becomes replica counts in the ledger.

The decision is `core.autoscale`; this keeps its memory between ticks. It ticks once in a while, and at once when a
call waits for a deployment without replicas. A report stands until its router sends another one or its stream ends:
routers report changes only, so silence is no sign of death. Each user policy has a thread, and makes one decision at a
time; when one fails, the target stays and the error is logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshserve.controller.ledger import Ledger
from meshserve.controller.loads import Loads, RouterLoad
from meshserve.controller.policy_thread import PolicyThread
from meshserve.controller.scaling_policies import PolicyName, in_wall_time, make_policy
from meshserve.controller.tasks import Tasks
from meshserve.core.autoscale import Bounds, ScalingPlan, ScalingState, plan_application, plan_replicas, scaling_context
from meshserve.core.capacity import scaling_bounds
from meshserve.core.desire import set_count
from meshserve.core.seen import SERVING, Seen, SeenReplica
from meshserve.core.windows import (
    LoadHistory,
    MeasuredLoad,
    MetricHistory,
    fold_report,
    fold_router_lost,
    fold_stats,
    keep_replicas,
    measure_load,
    measure_metrics,
)
from meshserve.model.autoscaling import AutoscalingContext
from meshserve.model.control import CountSource, Desired, DesiredDeployment
from meshserve.model.declared import FULL
from meshserve.model.ids import DeploymentId
from meshserve.model.options import AutoscalingOptions
from meshserve.telemetry.control import ControlMetrics
from meshserve.telemetry.registry import PROCESS

logger = logging.getLogger("meshserve.controller")

PERIOD_S = 0.5
"""Between decisions."""

IDLE_PERIOD_S = 2.0
"""Between looks for something to decide, while there is nothing."""

HEARING_S = 3.0
"""A controller that has come back has not heard from every router yet, and knows less load than there is: for so long
it takes no replica away."""


@dataclass(frozen=True, slots=True)
class _Policy:
    """A user's policy, made in its thread and asked there."""

    name: PolicyName
    ask: Callable[..., Any]
    thread: PolicyThread


@dataclass(slots=True)
class _Memory:
    """Of one deployment. `generation` tells when it was set anew: then `state` begins anew."""

    generation: int = -1
    state: ScalingState = field(default_factory=ScalingState)
    load: LoadHistory = field(default_factory=LoadHistory)
    metrics: MetricHistory = field(default_factory=dict)


class Autoscaler:
    """Sets the counts of deployments with `autoscaling_config`. Lives on the I/O thread.

    Args:
        ledger: where counts are set.
        loads: what routers report.
        seen: what is known of the mesh now.
        clock: the monotonic clock.
        period_s: between decisions.
    """

    def __init__(
        self,
        ledger: Ledger,
        loads: Loads,
        seen: Callable[[], Seen],
        clock: Callable[[], float],
        period_s: float = PERIOD_S,
    ) -> None:
        self._ledger = ledger
        self._loads = loads
        self._seen = seen
        self._clock = clock
        self._period_s = period_s
        self._memories: dict[DeploymentId, _Memory] = {}
        self._policies: dict[str, _Policy] = {}
        self._deciding: set[str] = set()
        self._tasks = Tasks()
        self._woken = asyncio.Event()
        self._metrics = PROCESS.recorder(ControlMetrics)
        self._hearing_until = clock() + HEARING_S if ledger.desired.deployments else 0.0
        loads.listen(self._reported, self._lost)

    async def run(self) -> None:
        """Decides until it is cancelled; then its work ends too."""
        try:
            while True:
                self._woken.clear()
                period_s = self._period_s if self._begin_decisions() else IDLE_PERIOD_S
                try:
                    await asyncio.wait_for(self._woken.wait(), period_s)
                except TimeoutError:
                    pass  # time for a decision
        finally:
            await self._tasks.close()
            for group in tuple(self._policies):
                self._end_policy(group)

    # -- what is heard -------------------------------------------------------------------------------------------

    def _reported(self, watcher: str, deployment: DeploymentId, load: RouterLoad) -> None:
        options = _options(self._ledger.desired.deployments.get(deployment))
        if options is None:
            return
        self._fold_load(self._memory(deployment, options), watcher, load, options)
        if load.queued and not self._running(deployment):
            self._woken.set()

    def _memory(self, deployment: DeploymentId, options: AutoscalingOptions) -> _Memory:
        """Of a deployment. Routers tell changes only, so a new memory begins with what they told before."""
        memory = self._memories.get(deployment)
        if memory is None:
            memory = self._memories[deployment] = _Memory()
            for watcher, load in self._loads.of(deployment).items():
                self._fold_load(memory, watcher, load, options)
        return memory

    def _fold_load(self, memory: _Memory, watcher: str, load: RouterLoad, options: AutoscalingOptions) -> None:
        look_back_s = options.look_back_period_s
        memory.load = fold_report(memory.load, watcher, load.queued, load.running, self._clock(), look_back_s)

    def _lost(self, watcher: str) -> None:
        for memory in self._memories.values():
            memory.load = fold_router_lost(memory.load, watcher)

    def _running(self, deployment: DeploymentId) -> list[SeenReplica]:
        seen = self._seen().deployments.get(deployment)
        return [one for one in seen.replicas.values() if one.phase in SERVING] if seen is not None else []

    # -- deciding ------------------------------------------------------------------------------------------------

    def _begin_decisions(self) -> bool:
        """Whether there is anything to scale."""
        desired = self._ledger.desired
        scaled = {key: options for key, one in desired.deployments.items() if (options := _options(one)) is not None}
        self._memories = {key: memory for key, memory in self._memories.items() if key in scaled}
        self._metrics.keep_scaled(scaled)
        groups: dict[str, dict[DeploymentId, AutoscalingOptions]] = {}
        for key, options in scaled.items():
            groups.setdefault(_group(desired, key), {})[key] = options
        for group in self._policies.keys() - groups.keys() - self._deciding:
            self._end_policy(group)
        for group, members in groups.items():
            if group not in self._deciding:
                self._deciding.add(group)
                self._tasks.spawn(group, self._decide(group, members, desired))
        return bool(scaled)

    async def _decide(self, group: str, members: Mapping[DeploymentId, AutoscalingOptions], desired: Desired) -> None:
        try:
            contexts = {key: self._context(desired.deployments[key], options) for key, options in members.items()}
            for key, plan in (await self._plans(group, contexts, desired)).items():
                self._metrics.scaled(key, plan.target, contexts[key].total_num_requests)
                await self._follow(key, plan, desired.deployments[key])
        except Exception:  # user policies may raise anything; the next tick tries again
            logger.exception("Autoscaling of %s failed; it keeps the replicas it has.", group)
        finally:
            self._deciding.discard(group)

    async def _plans(
        self, group: str, contexts: Mapping[DeploymentId, AutoscalingContext], desired: Desired
    ) -> dict[DeploymentId, ScalingPlan]:
        states = {key: self._memories[key].state for key in contexts}
        first = next(iter(contexts))
        paths = desired.deployments[first].import_paths
        if policy_json := _application_policy(desired, first.app):
            of_app = json.loads(policy_json)
            kwargs, pickled = of_app.get("policy_kwargs", {}), of_app.get("policy_pickle", "")
            name = PolicyName.of(of_app["policy_function"], kwargs, paths, pickled)
            policy = await self._policy(group, name)
            return await policy.thread.call(plan_application, contexts, states, self._asking(policy))
        context = contexts[first]
        if not context.config.policy_function:
            self._end_policy(group)
            return {first: plan_replicas(context, states[first])}
        config = context.config
        name = PolicyName.of(config.policy_function, config.policy_kwargs, paths, config.policy_pickle)
        policy = await self._policy(group, name)
        return {first: await policy.thread.call(plan_replicas, context, states[first], self._asking(policy))}

    async def _policy(self, group: str, name: PolicyName) -> _Policy:
        found = self._policies.get(group)
        if found is None or found.name != name:
            self._end_policy(group)
            thread = PolicyThread(group)
            try:
                made = await thread.call(make_policy, name)
            except BaseException:
                thread.close()
                raise
            found = self._policies[group] = _Policy(name, made, thread)
        return found

    def _asking(self, policy: _Policy) -> Callable[..., Any]:
        return in_wall_time(policy.ask, time.time() - self._clock())

    def _end_policy(self, group: str) -> None:
        if (policy := self._policies.pop(group, None)) is not None:
            policy.thread.close()

    async def _follow(self, key: DeploymentId, plan: ScalingPlan, wanted: DesiredDeployment) -> None:
        if plan.target < wanted.count and self._clock() < self._hearing_until:
            return

        def change(desired: Desired) -> Desired:
            now = desired.deployments.get(key)
            if now is None or (now.generation, now.count) != (wanted.generation, wanted.count):
                return desired  # it was set meanwhile: the decision was about another deployment
            return set_count(desired, key, plan.target, CountSource.AUTOSCALER)

        if (memory := self._memories.get(key)) is not None:
            memory.state = plan.state
        await self._ledger.change(change)

    def _context(self, wanted: DesiredDeployment, options: AutoscalingOptions) -> AutoscalingContext:
        key, now = wanted.spec.id, self._clock()
        memory = self._memory(key, options)
        if memory.generation != wanted.generation:
            memory.generation, memory.state = wanted.generation, ScalingState()
        running = self._running(key)
        look_back_s, function = options.look_back_period_s, options.aggregation_function
        self._fold_metrics(memory, running, now, look_back_s)
        base = AutoscalingContext(
            key,
            len(running),
            wanted.count,
            options,
            tuple(one.id for one in running),
            aggregated_metrics=measure_metrics(memory.metrics, now, look_back_s, function),
            raw_metrics=memory.metrics,
            current_time=now,
            gang_size=wanted.spec.options.gang_size,
        )
        if running:
            load = measure_load(memory.load, now, look_back_s, function)
        else:
            # Without replicas the past does not matter: a call that waits now starts some, one that left does not.
            reported = self._loads.total(key)
            load = MeasuredLoad(reported.queued + reported.running, reported.queued)
        return scaling_context(base, load, self._bounds(wanted, options), memory.state)

    def _bounds(self, wanted: DesiredDeployment, options: AutoscalingOptions) -> Bounds:
        application = self._ledger.desired.applications.get(wanted.spec.id.app)
        capacity = self._ledger.desired.capacity_of(application.spec) if application is not None else FULL
        return scaling_bounds(options, capacity.target, capacity.direction, wanted.spec.options.gang_size)

    def _fold_metrics(self, memory: _Memory, running: list[SeenReplica], now: float, look_back_s: float) -> None:
        for replica in running:
            if replica.stats.autoscaling_json:
                stats = json.loads(replica.stats.autoscaling_json)
                memory.metrics = fold_stats(memory.metrics, replica.id, stats, now, look_back_s)
        memory.metrics = keep_replicas(memory.metrics, [one.id for one in running])


def _options(wanted: DesiredDeployment | None) -> AutoscalingOptions | None:
    """How a deployment is to be scaled; None when it is not."""
    return wanted.spec.options.autoscaling_config if wanted is not None and not wanted.deleting else None


def _group(desired: Desired, deployment: DeploymentId) -> str:
    """What is decided together: the application if it has a policy, else the deployment."""
    return deployment.app if _application_policy(desired, deployment.app) else str(deployment)


def _application_policy(desired: Desired, app: str) -> str:
    application = desired.applications.get(app)
    return application.spec.autoscaling_policy_json if application is not None else ""
