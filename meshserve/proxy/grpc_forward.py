"""Calls of users' gRPC methods, forwarded as bytes: one class, a coroutine for each shape of call.

The hot path of the ingress. Its server makes a task for every call, and these coroutines run in it: a unary call waits
on one future and nothing else is made for it. Cancelling that task, as the server does when a client goes away or its
deadline passes, cancels the call wherever it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from meshserve.model.call import Call, CallKind, Encoding, Payload
from meshserve.proxy.grpc_answer import Answers, write_items
from meshserve.proxy.grpc_call import CallReader, Context
from meshserve.proxy.in_flight import InFlight
from meshserve.routing.service import CallFailed, ReplyStream, Service
from meshserve.rpc.one_request import no_request
from meshserve.rpc.servicers import RpcMethod
from meshserve.rpc.status_details import Refused, abort

_PROTOBUF = Encoding.PROTOBUF


@dataclass(slots=True)
class Forwarding:
    """What all methods of an ingress share.

    Attributes:
        reader: makes calls.
        answers: ends them.
        in_flight: counts the calls in hand.
    """

    reader: CallReader
    answers: Answers
    in_flight: InFlight


class ForwardedMethod:
    """One method of a user's service at the ingress.

    Args:
        method: which.
        shared: see `Forwarding`.
    """

    def __init__(self, method: RpcMethod, shared: Forwarding) -> None:
        self._method = method
        self._shared = shared

    def handler(self) -> grpc.RpcMethodHandler[Any, Any]:
        """What gRPC needs to serve the method; bodies stay bytes. One request is read like many (`rpc.one_request`)."""
        match self._method.kind:
            case CallKind.UNARY:
                return grpc.stream_unary_rpc_method_handler(self.unary)
            case CallKind.SERVER_STREAM:
                return grpc.stream_stream_rpc_method_handler(self.server_stream)
            case CallKind.CLIENT_STREAM:
                return grpc.stream_unary_rpc_method_handler(self.client_stream)
            case CallKind.BIDI_STREAM:
                return grpc.stream_stream_rpc_method_handler(self.bidi_stream)

    async def unary(self, _requests: object, context: Context) -> bytes:
        """One request, one response."""
        shared = self._shared
        body = await context.read()
        if body is grpc.aio.EOF:
            await no_request(context)
        try:
            call, service = self._read(body, context)
        except Refused as refused:
            await abort(context, refused.status)
        with shared.in_flight:
            try:
                reply = service.unary(call)
                payload = await reply
                if reply.finish is not None:
                    await shared.answers.finish(context, call, reply.finish)
                return payload.body
            except CallFailed as failed:
                await shared.answers.fail(context, call, failed)

    async def server_stream(self, _requests: object, context: Context) -> None:
        """One request, many responses."""
        body = await context.read()
        if body is grpc.aio.EOF:
            await no_request(context)
        call, service = await self._admit(body, context)
        with self._shared.in_flight, cancelling(service.stream(call)) as stream:
            await self._send_responses(stream, call, context)

    async def client_stream(self, _requests: object, context: Context) -> bytes:
        """Many requests, one response."""
        call, service = await self._admit(b"", context)
        with self._shared.in_flight, cancelling(service.stream(call)) as stream:
            async with _pumping(context, stream):
                return await self._one_response(stream, call, context)

    async def bidi_stream(self, _requests: object, context: Context) -> None:
        """Many requests, many responses, in any order."""
        call, service = await self._admit(b"", context)
        with self._shared.in_flight, cancelling(service.stream(call)) as stream:
            async with _pumping(context, stream):
                await self._send_responses(stream, call, context)

    def _read(self, body: bytes, context: Context) -> tuple[Call, Service]:
        method = self._method
        return self._shared.reader.read(
            context,
            method.full_name,
            method.name,
            method.kind,
            Payload(body, _PROTOBUF),
            servicer_function=method.servicer_function,
        )

    async def _admit(self, body: bytes, context: Context) -> tuple[Call, Service]:
        try:
            return self._read(body, context)
        except Refused as refused:
            await abort(context, refused.status)

    async def _send_responses(self, stream: ReplyStream, call: Call, context: Context) -> None:
        try:
            while items := await stream.take():
                await write_items(context, items)
            if stream.finish is not None:
                await self._shared.answers.finish(context, call, stream.finish)
        except CallFailed as failed:
            await self._shared.answers.fail(context, call, failed)

    async def _one_response(self, stream: ReplyStream, call: Call, context: Context) -> bytes:
        body = b""
        try:
            while items := await stream.take():
                body = items[-1].body
            if stream.finish is not None:
                await self._shared.answers.finish(context, call, stream.finish)
        except CallFailed as failed:
            await self._shared.answers.fail(context, call, failed)
        return body


@contextmanager
def cancelling(stream: ReplyStream) -> Iterator[ReplyStream]:
    """Cancels a stream that has not ended when its call is left."""
    try:
        yield stream
    finally:
        stream.cancel()


@asynccontextmanager
async def _pumping(context: Context, stream: ReplyStream) -> AsyncIterator[None]:
    """Carries requests meanwhile, in a task of its own."""
    pump = asyncio.create_task(_pump_requests(context, stream))
    try:
        yield
    finally:
        stream.cancel()  # a pump that waits for the replica to take a request waits no longer
        pump.cancel()
        await asyncio.wait([pump])


async def _pump_requests(context: Context, stream: ReplyStream) -> None:
    """Carries requests from the client to the replica, no faster than the replica takes them."""
    try:
        while (body := await context.read()) is not grpc.aio.EOF:
            if not await stream.send(Payload(body, _PROTOBUF)):
                return
        stream.end_input()
    except Exception:  # noqa: BLE001 - the client's stream broke, in whatever way; nobody waits for this task
        stream.cancel()
