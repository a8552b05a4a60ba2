"""Real replicas in this process: the real door, session and user code over loopback; no Ray, no controller."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Any

import cloudpickle

from meshserve.model.call import Call, CallContext, CallKind, Encoding
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.options import DeploymentOptions
from meshserve.model.targets import DeploymentTargets, ReplicaTarget
from meshserve.replica.admission import Admission
from meshserve.replica.door import Door
from meshserve.replica.runner import Runner
from meshserve.replica.running import IoMail
from meshserve.replica.user_code import UserCode
from meshserve.routing.router import Router
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.mailbox import Mailbox
from meshserve.rpc.server import start_internal_server
from meshserve.transport.server import Server
from meshserve.user.context import ReplicaContext
from meshserve.v1 import replica_pb2_grpc
from meshserve.wire.values import encode_arguments

TOKEN = "a-token-for-tests"
DEPLOYMENT = DeploymentId("app", "Model")


class LocalReplica:
    """One replica of `DEPLOYMENT`.

    Args:
        target: the class (with its constructor's arguments) or function it serves.
        apart: False to run user code on the I/O loop.
    """

    def __init__(
        self, tag: str, target: Any, *args: Any, options: DeploymentOptions | None = None, apart: bool = True
    ) -> None:
        self.tag = tag
        self._apart = apart
        self.options = options or DeploymentOptions(max_ongoing_requests=1000)
        self._code = cloudpickle.dumps((target, args, {}))
        self.admission = Admission(self.options.max_ongoing_requests)
        self.server: Server | None = None
        self.address = ""
        self.models: tuple[str, ...] = ()
        self.left: list[SystemExit] = []

    async def start(self) -> LocalReplica:
        """To be awaited on the I/O thread."""
        self.user = UserCode(ReplicaContext(ReplicaId(DEPLOYMENT, self.tag)), self.options, apart=self._apart)
        await self.user.construct(self._code)
        mailbox: Mailbox[IoMail] = Mailbox(io_thread().loop, lambda mail: mail[0](*mail[1:]))
        self.runner = Runner(self.user, leave=self.left.append)
        self.door = Door(DEPLOYMENT, self.tag, self.admission, self.runner.start, mailbox, lambda: self.models)
        self.door.user_loop = self.user.loop
        self.server, self.address = await start_internal_server(
            TOKEN,
            "127.0.0.1",
            [lambda server: replica_pb2_grpc.add_ReplicaServiceServicer_to_server(self.door, server)],
        )
        return self

    async def stop(self) -> None:
        """Dies: its connections break."""
        if self.server is not None:
            await self.server.stop(0)
            self.server = None

    @property
    def target(self) -> ReplicaTarget:
        return ReplicaTarget(self.tag, self.address, max_ongoing_requests=self.options.max_ongoing_requests)


class LocalMesh:
    """Replicas and a router to them.

    Use as an asynchronous context manager on the I/O thread (see `on_io`).
    """

    def __init__(self, *replicas: LocalReplica, seed: int = 0) -> None:
        self.replicas = replicas
        self.version = 0
        io = io_thread()
        self.router = Router(DEPLOYMENT, "", lambda: TOKEN, time.monotonic, Random(seed), io.spawn)

    async def __aenter__(self) -> LocalMesh:
        for replica in self.replicas:
            await replica.start()
        self.publish()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.router.close()
        for replica in self.replicas:
            await replica.stop()
            replica.user.close()

    def publish(self, *replicas: LocalReplica, **fields: Any) -> None:
        """Publishes targets: those named, or all."""
        self.version += 1
        targets = tuple(replica.target for replica in replicas or self.replicas)
        options = fields.pop("options", self.replicas[0].options if self.replicas else DeploymentOptions())
        fields.setdefault("replicas", targets)
        self.router.update(DeploymentTargets(DEPLOYMENT, (1, self.version), options=options, **fields))


def call(method: str, *args: Any, kind: CallKind = CallKind.UNARY, **fields: Any) -> Call:
    """A call from a handle."""
    context = fields.pop("context", CallContext("request"))
    payload = encode_arguments(args, fields.pop("kwargs", {}))
    assert payload.encoding is Encoding.PICKLE
    return Call(DEPLOYMENT, method, kind, payload, context, **fields)


def on_io(test: Callable[[], Any]) -> Callable[[], None]:
    """Runs a test's coroutine on the I/O thread, where gRPC lives."""

    def run() -> None:
        io_thread().run(test(), timeout_s=60)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
