"""Services that every gRPC ingress has: its applications, their health, descriptions, and calls without protos."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from meshserve.model.call import Call, CallKind, Encoding, Payload
from meshserve.proxy.applications import Applications
from meshserve.proxy.grpc_call import Context
from meshserve.proxy.grpc_forward import Forwarding, cancelling
from meshserve.proxy.grpc_options import GrpcOptions
from meshserve.proxy.metrics_grpc import all_counted
from meshserve.routing.service import CallFailed, Service
from meshserve.rpc.health import Health
from meshserve.rpc.import_path import import_object
from meshserve.rpc.one_request import reading_themselves
from meshserve.rpc.servicers import Handlers, record
from meshserve.rpc.status_details import Refused, abort, refusal, request_id_of
from meshserve.v1 import application_pb2, application_pb2_grpc, generic_pb2, generic_pb2_grpc

PEER_SERVICE = "ray.serve.RayServeAPIService"
"""The name under which clients of this programming model know ApplicationService."""

_OWN_SERVICE = "meshserve.v1.ApplicationService"


def builtin_handlers(
    applications: Applications, health: Health, forwarding: Forwarding, options: GrpcOptions
) -> Handlers:
    """Handlers of the services that do not depend on which applications there are.

    Raises:
        ModuleNotFoundError: channelz is wanted and its package is not installed.
    """
    handlers = record(health_pb2_grpc.add_HealthServicer_to_server, health)
    own = record(application_pb2_grpc.add_ApplicationServiceServicer_to_server, ApplicationApi(applications))
    handlers |= own | {name.replace(_OWN_SERVICE, PEER_SERVICE): handler for name, handler in own.items()}
    if options.enable_call_service:
        handlers |= record(generic_pb2_grpc.add_CallServiceServicer_to_server, CallApi(forwarding))
    if options.enable_channelz:
        handlers |= _channelz_handlers()
    return all_counted(reading_themselves(handlers), handlers)


def _channelz_handlers() -> Handlers:
    try:
        add = import_object("grpc_channelz.v1.channelz_pb2_grpc:add_ChannelzServicer_to_server")
        servicer = import_object("grpc_channelz.v1.channelz:aio.ChannelzServicer")()
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("enable_channelz needs the package grpcio-channelz: install it.") from error
    return record(add, servicer)


class ApplicationApi(application_pb2_grpc.ApplicationServiceServicer):
    """See application.proto.

    Args:
        applications: those there are.
    """

    def __init__(self, applications: Applications) -> None:
        self._applications = applications

    async def ListApplications(  # noqa: N802 - the RPC's name
        self, request: application_pb2.ListApplicationsRequest, context: Context
    ) -> application_pb2.ListApplicationsResponse:
        """See application.proto."""
        await self._refuse_unready(context)
        names = sorted(route.app for route in self._applications.all())
        return application_pb2.ListApplicationsResponse(application_names=names)

    async def Healthz(  # noqa: N802 - the RPC's name
        self, request: application_pb2.HealthzRequest, context: Context
    ) -> application_pb2.HealthzResponse:
        """See application.proto."""
        await self._refuse_unready(context)
        return application_pb2.HealthzResponse(message="success")

    async def _refuse_unready(self, context: Context) -> None:
        """Tells load balancers and clients to go elsewhere."""
        if reason := self._applications.unready():
            await abort(context, refusal(grpc.StatusCode.UNAVAILABLE, reason, "NOT_READY", request_id_of(context), {}))


_Opened = tuple[Call, Service]
_Request = generic_pb2.CallServiceCallRequest | generic_pb2.CallServiceCallStreamRequest


class CallApi(generic_pb2_grpc.CallServiceServicer):
    """See generic.proto. Arguments and results are parsed no further than to their bytes.

    Args:
        shared: see `Forwarding`.
    """

    def __init__(self, shared: Forwarding) -> None:
        self._shared = shared

    async def Call(  # noqa: N802 - the RPC's name
        self, request: generic_pb2.CallServiceCallRequest, context: Context
    ) -> generic_pb2.CallServiceCallResponse:
        """See generic.proto."""
        call, service = await self._read(request, context, "Call", CallKind.UNARY)
        with self._shared.in_flight:
            try:
                payload = await service.unary(call)
            except CallFailed as failed:
                await self._shared.answers.fail(context, call, failed)
        response = generic_pb2.CallServiceCallResponse()
        _put(response, payload)
        return response

    async def CallStream(  # type: ignore[override]  # noqa: N802 - writes instead of yielding
        self, request: generic_pb2.CallServiceCallStreamRequest, context: Context
    ) -> None:
        """See generic.proto."""
        call, service = await self._read(request, context, "CallStream", CallKind.SERVER_STREAM)
        with self._shared.in_flight, cancelling(service.stream(call)) as stream:
            try:
                while items := await stream.take():
                    for payload in items:
                        response = generic_pb2.CallServiceCallStreamResponse()
                        _put(response, payload)
                        await context.write(response)
            except CallFailed as failed:
                await self._shared.answers.fail(context, call, failed)

    async def _read(self, request: _Request, context: Context, rpc: str, kind: CallKind) -> _Opened:
        if request.WhichOneof("input") == "raw":
            payload = Payload(request.raw, Encoding.RAW)
        else:
            payload = Payload(request.json.SerializeToString(), Encoding.JSON)
        try:
            return self._shared.reader.read(
                context,
                f"/meshserve.v1.CallService/{rpc}",
                request.method or "__call__",
                kind,
                payload,
                application=request.application,
            )
        except Refused as refused:
            await abort(context, refused.status)


def _put(response: Any, payload: Payload) -> None:
    """Puts what a replica returned into a response."""
    if payload.encoding is Encoding.RAW:
        response.raw = payload.body
    else:
        response.json.MergeFromString(payload.body)
        response.json.SetInParent()
