"""Applications in one process: no Ray, no ports, no controller; the same handles and the same user code.

`run(app, _local_testing_mode=True)` comes here. Every deployment is one object on an event loop of its own, as in a
replica; a handle call passes the same encoding, context, cancellation and streaming, but no session, no limit and no
queue. Meant for unit tests of applications: starting takes milliseconds, a constructor's exception is raised from
`run`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meshserve.errors import DeploymentUnavailableError
from meshserve.launch.ray_cluster import is_connected
from meshserve.model.call import Call, Payload
from meshserve.model.control import ApplicationSpec, DeploymentSpec, ReplicaRank
from meshserve.model.failure import Failure
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.replica.runner import Runner
from meshserve.replica.running import IoMail, Running
from meshserve.replica.user_code import UserCode
from meshserve.routing.directory import Directory, process_directory, set_process_directory
from meshserve.routing.layers import CALLER_STACK
from meshserve.routing.router import Router
from meshserve.routing.scope import RequestScope
from meshserve.routing.service import Reply, ReplyStream, Service, credit_cost, stack
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.mailbox import Mailbox
from meshserve.settings import INITIAL_CREDITS, Settings
from meshserve.telemetry.log_options import LogOptions
from meshserve.telemetry.logs import LOGGERS
from meshserve.testing.local_router import LocalRouter, hold_slot
from meshserve.user.context import ReplicaContext, set_replica_context
from meshserve.wire.failures import failure_of


class LocalDirectory:
    """The services of this process, in the place of `routing.directory.Directory`.

    Args:
        beneath: the directory in force until now; what does not run here is looked up there, if there is a mesh.
    """

    is_local = True

    def __init__(self, beneath: Directory) -> None:
        self.beneath = beneath
        self.local_applications: dict[str, ApplicationSpec] = {}
        self._services: dict[DeploymentId, Service] = {}
        self._users: dict[DeploymentId, UserCode] = {}

    def service(self, deployment: DeploymentId) -> Service:
        """This, which looks a call's deployment up when the call is made: handles keep it while deployments change."""
        return self

    def unary(self, call: Call) -> Reply:
        """See `routing.service.Service`."""
        return self._serving(call.deployment).unary(call)

    def stream(self, call: Call) -> ReplyStream:
        """See `routing.service.Service`."""
        return self._serving(call.deployment).stream(call)

    def _serving(self, deployment: DeploymentId) -> Service:
        """The stack for a deployment; one that is nowhere fails every call."""
        service = self._services.get(deployment)
        if service is None:
            service = self.beneath.service(deployment) if is_connected() else Missing(deployment)
        return service

    def router(self, deployment: DeploymentId) -> LocalRouter | Router:
        """What handles ask of a router."""
        service = self._services.get(deployment)
        if service is None and is_connected():
            return self.beneath.router(deployment)
        return LocalRouter(service, None if service is not None else Missing(deployment).failure)

    async def catch_up(self, published: Mapping[DeploymentId, tuple[int, int]]) -> None:
        """See `routing.directory.Directory`; what runs here is never late."""
        await self.beneath.catch_up(published)

    async def add(self, spec: DeploymentSpec) -> None:
        """Constructs a deployment, in the place of an earlier one; raises what its constructor raises."""
        earlier = self._users.pop(spec.id, None)
        self._services.pop(spec.id, None)
        if earlier is not None:
            await earlier.destroy()
            earlier.close()
        context = ReplicaContext(ReplicaId(spec.id, "local"), None, ReplicaRank(), spec.options.num_replicas)
        user = UserCode(context, spec.options)
        await user.construct(spec.code)
        await user.reconfigure(spec.options, ReplicaRank())
        self._users[spec.id] = user
        self._services[spec.id] = stack(CALLER_STACK, LocalService(user))

    async def close(self) -> None:
        """Destroys every deployment."""
        for user in self._users.values():
            await user.destroy()
            user.close()
        self._users.clear()
        self._services.clear()


class LocalScope(RequestScope):
    """A request served by one of several replicas of this process."""

    __slots__ = ("replica",)


class LocalService:
    """A `Service` that runs calls on a user object of this process.

    Args:
        user: the object.
    """

    def __init__(self, user: UserCode) -> None:
        self._user = user
        self._runner = Runner(user, leave=lambda exit: None)  # the process is the program's own
        self._mailbox: Mailbox[IoMail] = Mailbox(io_thread().loop, lambda mail: mail[0](*mail[1:]))

    def unary(self, call: Call) -> Reply:
        """See `routing.service.Service`."""
        if call.reserve:
            return hold_slot(self)
        reply = Reply()
        running = self._running(call, LocalReply(reply))

        def cancel(failure: Failure) -> None:
            running.cancel()
            reply.resolve(None, failure)

        reply.canceller = cancel
        self._runner.start(running)
        return reply

    def stream(self, call: Call) -> ReplyStream:
        """See `routing.service.Service`."""
        stream = ReplyStream()
        running = self._running(call, LocalStream(stream))

        def cancel(failure: Failure) -> None:
            running.cancel()
            stream.finished(failure)

        stream.canceller = cancel
        stream.granter = running.grant
        if call.kind.streams_in:
            stream.sender = LocalInput(running)
        self._runner.start(running)
        return stream

    def _running(self, call: Call, peer: LocalReply | LocalStream) -> Running:
        running = Running(call, 0, peer, INITIAL_CREDITS, self._mailbox, self._user.loop)
        running.scope = LocalScope(call.context, call.deadline)
        running.scope.replica = self._user.context
        if call.deadline is not None:
            loop = asyncio.get_running_loop()
            running.deadline_timer = loop.call_at(call.deadline, running.cancel)
        return running


class LocalReply:
    """The caller's end of a unary call; a `replica.running.Peer`."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def completed(self, running: Running, payload: Payload | None, failure: Failure | None) -> None:
        """See `replica.running.Peer`."""
        self._reply.resolve(payload, failure, running.finish)

    def items_ready(self, running: Running) -> None:
        """See `replica.running.Peer`; a unary call has none."""

    def input_consumed(self, running: Running, credits: int) -> None:
        """See `replica.running.Peer`; a unary call has none."""


class LocalStream:
    """The caller's end of a streaming call; a `replica.running.Peer`."""

    def __init__(self, stream: ReplyStream) -> None:
        self._stream = stream

    def items_ready(self, running: Running) -> None:
        """See `replica.running.Peer`."""
        if running.outbox:
            self._stream.push([running.outbox.popleft() for _ in range(len(running.outbox))])

    def completed(self, running: Running, payload: Payload | None, failure: Failure | None) -> None:
        """See `replica.running.Peer`."""
        self.items_ready(running)
        if payload is not None:
            self._stream.push((payload,))
        self._stream.finished(failure, running.finish)

    def input_consumed(self, running: Running, credits: int) -> None:
        """See `replica.running.Peer`."""
        sender = self._stream.sender
        if isinstance(sender, LocalInput):
            sender.credits += credits
            self._stream.wake_senders()


class LocalInput:
    """The way of input items to user code; see `routing.service.InputSender`."""

    def __init__(self, running: Running) -> None:
        self.credits = INITIAL_CREDITS
        self._running = running

    def send(self, item: Payload) -> bool:
        """See `routing.service.InputSender`."""
        if self.credits <= 0:
            return False
        self.credits -= credit_cost(item.size_bytes)
        self._running.feed([item])
        return True

    def end(self) -> None:
        """See `routing.service.InputSender`."""
        self._running.end_input()


class Missing:
    """A deployment that was not run in this process; a `Service` that fails every call."""

    def __init__(self, deployment: DeploymentId) -> None:
        reason = "it does not run in this process (local testing mode)"
        self.failure = failure_of(DeploymentUnavailableError(str(deployment), reason))

    def unary(self, call: Call) -> Reply:
        """See `routing.service.Service`."""
        reply = Reply()
        reply.resolve(None, self.failure)
        return reply

    def stream(self, call: Call) -> ReplyStream:
        """See `routing.service.Service`."""
        stream = ReplyStream()
        stream.finished(self.failure)
        return stream


def run_local(specs: Sequence[ApplicationSpec]) -> None:
    """Constructs all deployments of applications in this process; raises what a constructor raises.

    From then on, handles of this process look here and nowhere else, until `shutdown_local`.
    """
    present = process_directory()
    directory: object = present
    if not isinstance(directory, LocalDirectory):
        directory = LocalDirectory(present)
        set_process_directory(directory)  # type: ignore[arg-type]  # the part of it that handles use
    for spec in specs:
        if spec.logging_config_json:
            _set_log_level(json.loads(spec.logging_config_json))
        for deployment in spec.deployments:
            io_thread().run(directory.add(deployment))
        directory.local_applications[spec.name] = spec


def _set_log_level(logging_config: Mapping[str, Any]) -> None:
    """Of the loggers of user code; the rest of the configuration is about files, and there are none."""
    options = LogOptions.from_settings(Path(), Settings.from_environment()).changed(logging_config)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(options.level)


def shutdown_local() -> None:
    """Destroys what runs in this process; handles look for a mesh again."""
    directory: object = process_directory()
    if isinstance(directory, LocalDirectory):
        set_process_directory(directory.beneath)
        set_replica_context(None)
        io_thread().run(directory.close())
