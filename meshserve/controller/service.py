"""The ControllerService: desired state is recorded here, and status read. See controller.proto."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from meshserve.controller.declarations import Declarations
from meshserve.controller.ledger import Ledger
from meshserve.controller.status_board import StatusBoard
from meshserve.core import desire
from meshserve.core.declare import declare
from meshserve.core.declared_changes import changes, config_in_force, ignored_options
from meshserve.core.plan import Plan
from meshserve.core.refusals import (
    RefusalKind,
    Refused,
    check_applications,
    check_declared,
    check_open,
    check_scale,
)
from meshserve.model.control import ApplicationSpec, CountSource, Desired
from meshserve.model.overview import MeshOverview
from meshserve.rpc.status_details import abort, refusal, request_id_of
from meshserve.v1 import controller_pb2, controller_pb2_grpc
from meshserve.wire.config_changes import config_answer_to_proto
from meshserve.wire.control import application_from_proto, proxy_options_from_proto, proxy_options_to_proto
from meshserve.wire.overview import overview_from_proto
from meshserve.wire.status import ControllerIdentity, status_to_proto
from meshserve.wire.targets import key_from_proto

_CODES = {
    RefusalKind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalKind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    RefusalKind.TAKEN: grpc.StatusCode.ALREADY_EXISTS,
    RefusalKind.NOT_NOW: grpc.StatusCode.FAILED_PRECONDITION,
}


class ControllerService(controller_pb2_grpc.ControllerServiceServicer):
    """Methods are those of the proto; they run on the I/O thread.

    Args:
        ledger: where desired state is changed.
        board: where status is read.
        declarations: understands configuration files.
        identity: who answers.
        clock: the monotonic clock of the plans.
        ended: set once the mesh has stopped.
    """

    def __init__(
        self,
        ledger: Ledger,
        board: StatusBoard,
        declarations: Declarations,
        identity: Callable[[], ControllerIdentity],
        clock: Callable[[], float],
        ended: asyncio.Event,
    ) -> None:
        self._ledger = ledger
        self._board = board
        self._declarations = declarations
        self._identity = identity
        self._clock = clock
        self._ended = ended

    async def Apply(self, request: controller_pb2.ApplyRequest, context: Any) -> Any:  # noqa: N802
        """See controller.proto."""
        specs = [await self._spec(one, context) for one in request.applications]

        def set_all(desired: Desired) -> Desired:
            check_applications(desired, specs)
            return desire.set_applications(desired, specs, time.time())

        desired = await self._change(set_all, context)
        return controller_pb2.ApplyResponse(generation=desired.generation)

    async def _spec(self, proto: controller_pb2.ApplicationSpec, context: Any) -> ApplicationSpec:
        try:
            return application_from_proto(proto)
        except (TypeError, ValueError) as error:
            text = f"The options of a deployment of application {proto.name!r} cannot be read: {error}"
            await self._refuse(Refused(RefusalKind.INVALID, "BAD_OPTIONS", text, {"app": proto.name}), context)
            raise

    async def ApplyConfig(self, request: controller_pb2.ApplyConfigRequest, context: Any) -> Any:  # noqa: N802
        """See controller.proto."""
        written, paths, revision = request.config_json, tuple(request.import_paths), request.revision
        try:
            file = await asyncio.to_thread(self._declarations.read, written, paths, revision)
        except ValueError as error:
            await self._refuse(Refused(RefusalKind.INVALID, "BAD_CONFIG", str(error), where="config_json"), context)
            raise
        response = controller_pb2.ApplyConfigResponse()

        def apply(desired: Desired) -> Desired:
            check_declared(desired, file)
            response.CopyFrom(config_answer_to_proto(changes(desired, file), ignored_options(desired, file)))
            return desired if request.dry_run else declare(desired, file, time.time(), self._declarations.merge)

        response.generation = (await self._change(apply, context)).generation
        return response

    async def GetConfig(self, request: controller_pb2.GetConfigRequest, context: Any) -> Any:  # noqa: N802
        """See controller.proto."""
        return controller_pb2.GetConfigResponse(config_json=config_in_force(self._ledger.desired))

    async def Delete(self, request: controller_pb2.DeleteRequest, context: Any) -> Any:  # noqa: N802
        """See controller.proto."""
        names = tuple(request.names)
        desired = await self._change(lambda before: desire.delete_applications(before, names), context)
        return controller_pb2.DeleteResponse(generation=desired.generation)

    async def Scale(self, request: controller_pb2.ScaleRequest, context: Any) -> Any:  # noqa: N802
        """See controller.proto."""
        deployment = key_from_proto(request.key)

        def scale(desired: Desired) -> Desired:
            check_scale(desired, deployment)
            return desire.set_count(desired, deployment, request.target_num_replicas, CountSource.PEOPLE)

        await self._change(scale, context)
        return controller_pb2.ScaleResponse()

    async def StartProxies(self, request: controller_pb2.StartProxiesRequest, context: Any) -> Any:  # noqa: N802
        """See controller.proto."""
        options = proxy_options_from_proto(request.options)

        def start(desired: Desired) -> Desired:
            check_open(desired)
            return desire.set_proxies(desired, options)

        before = self._ledger.desired.proxies
        desired = await self._change(start, context)
        assert desired.proxies is not None
        return controller_pb2.StartProxiesResponse(
            options=proxy_options_to_proto(desired.proxies), already_started=before is not None
        )

    async def Shutdown(self, request: controller_pb2.ShutdownRequest, context: Any) -> Any:  # noqa: N802
        """See controller.proto."""
        await self._change(desire.shut_down, context)
        await self._ended.wait()
        return controller_pb2.ShutdownResponse()

    async def Status(self, request: controller_pb2.StatusRequest, context: Any) -> Any:  # noqa: N802
        """See controller.proto; includes everything that was recorded before."""
        return self._status(await self._board.reached(self._ledger.desired.generation), request.name)

    async def WatchStatus(  # noqa: N802
        self, request: controller_pb2.WatchStatusRequest, context: Any
    ) -> AsyncIterator[controller_pb2.WatchStatusResponse]:
        """See controller.proto."""
        last: controller_pb2.StatusResponse | None = None
        async for plan in self._board.plans(self._ledger.desired.generation):
            status = self._status(plan, request.name)
            if status != last:
                last = status
                yield controller_pb2.WatchStatusResponse(status=status)

    def overview(self) -> MeshOverview:
        """What status tells, as it is now."""
        return overview_from_proto(self._status(self._board.plan, ""))

    def _status(self, plan: Plan, name: str) -> controller_pb2.StatusResponse:
        return status_to_proto(plan, self._identity(), time.time() - self._clock(), name)

    async def _change(self, change: Callable[[Desired], Desired], context: Any) -> Desired:
        try:
            return await self._ledger.change(change)
        except Refused as refused:
            await self._refuse(refused, context)
            raise

    async def _refuse(self, refused: Refused, context: Any) -> None:
        code = _CODES[refused.kind]
        facts, where = refused.facts, refused.where
        request_id = request_id_of(context)
        await abort(context, refusal(code, refused.message, refused.reason, request_id, facts, field=where))
