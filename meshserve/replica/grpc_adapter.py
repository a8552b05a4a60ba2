"""Calls of gRPC methods: bodies become the user's messages here and nowhere else.

The ingress forwards bytes and says which servicer function brought the method; calling that function here gives
the message classes. A handler is the method of that name on the user's object. Services that share a method name share
its handler, unless there is one called `Service_Method`; a function deployment handles every method.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from meshserve.errors import InvalidCallError, gRPCStatusError
from meshserve.model.call import Encoding, GrpcCallInfo, Payload
from meshserve.replica.adapter import Invocation
from meshserve.replica.items import call_handler, is_stream, send_items
from meshserve.replica.user_code import UserCode, is_async
from meshserve.rpc.servicers import RpcMethod, find_method
from meshserve.user.grpc_context import MeshServegRPCContext, gRPCInputStream
from meshserve.wire.calls import finish_to_proto

CONTEXT_PARAMETER = "grpc_context"


@dataclass(frozen=True, slots=True)
class _Handler:
    """What serves one gRPC method here.

    Attributes:
        rpc: the method.
        function: the user's.
        sync: whether it blocks its thread.
        takes_context: whether it has a parameter `grpc_context`.
    """

    rpc: RpcMethod
    function: Callable[..., Any]
    sync: bool
    takes_context: bool

    def parse(self, body: bytes) -> Any:
        """Reads a request.

        Raises:
            Exception: what the user's message class raises for bytes that are not such a message.
        """
        return body if self.rpc.parse is None else self.rpc.parse(body)

    def encode(self, message: Any) -> Payload:
        """Writes a response. Any protobuf message will do: bytes are bytes, and ported handlers return sisters of the
        message that their method declares.

        Raises:
            TypeError: it is not a protobuf message.
        """
        wanted = self.rpc.response_type
        if not wanted:
            body = message if self.rpc.serialize is None else self.rpc.serialize(message)
            return Payload(bytes(body), Encoding.PROTOBUF)
        if getattr(message, "SerializeToString", None) is None:
            raise TypeError(
                f"the handler of {self.rpc.full_name} gave {type(message).__name__}, not the protobuf message {wanted}."
            )
        return Payload(message.SerializeToString(), Encoding.PROTOBUF)


class GrpcAdapter:
    """See `replica.adapter.Adapter`.

    Args:
        user: the user's code.
    """

    def __init__(self, user: UserCode) -> None:
        self._user = user
        self._handlers: dict[str, _Handler] = {}

    async def run(self, invocation: Invocation) -> Payload | None:
        """See `replica.adapter.Adapter`."""
        info = invocation.call.context.grpc
        if info is None:
            raise InvalidCallError("A protobuf body needs the gRPC method it is for (context.grpc); there is none.")
        handler = self._handlers.get(info.full_method) or self._find(info)
        context = MeshServegRPCContext(invocation.call.context, invocation.call.deadline)
        try:
            return await self._run(invocation, handler, context)
        except gRPCStatusError as error:
            if error.grpc_code is not None and context.code() is None:
                context.set_code(error.grpc_code)
                context.set_details(str(error))
            raise
        finally:
            invocation.finish = context.finish()

    async def _run(self, invocation: Invocation, handler: _Handler, context: MeshServegRPCContext) -> Payload | None:
        kwargs = {CONTEXT_PARAMETER: context} if handler.takes_context else {}
        parse = _blaming_client(handler, context)
        if not handler.rpc.kind.streams_in:
            request = parse(invocation.call.payload.body)
            return await self._respond(invocation, handler, context, request, kwargs)
        stream = gRPCInputStream(invocation.inputs(), parse, asyncio.get_running_loop())
        try:
            return await self._respond(invocation, handler, context, stream, kwargs)
        finally:
            stream.cancel()  # a worker thread that still waits for a request must not wait for ever

    async def _respond(
        self,
        invocation: Invocation,
        handler: _Handler,
        context: MeshServegRPCContext,
        request: Any,
        kwargs: dict[str, Any],
    ) -> Payload | None:
        result = await call_handler(self._user, handler.function, handler.sync, request, **kwargs)
        if handler.rpc.kind.streams_out:
            if not is_stream(result):
                raise TypeError(
                    f"{handler.rpc.full_name} streams its responses, but its handler returned "
                    f"{type(result).__name__}: make it a generator."
                )
            await send_items(self._user, invocation, result, handler.encode, lambda: _head(context))
            return None
        if is_stream(result):
            raise TypeError(
                f"{handler.rpc.full_name} has one response, but its handler is a generator: return one message."
            )
        if context.code() not in (None, grpc.StatusCode.OK):
            return Payload(b"", Encoding.PROTOBUF)  # gRPC sends no message beside such a code
        return handler.encode(result)

    def _find(self, info: GrpcCallInfo) -> _Handler:
        rpc = _rpc_method(info)
        specific = f"{rpc.service.rpartition('.')[2]}_{rpc.name}"
        has_specific = not self._user.is_function and hasattr(self._user.callable, specific)
        function = self._user.method(specific if has_specific else rpc.name)
        handler = _Handler(rpc, function, not is_async(function), _takes_context(function))
        self._handlers[info.full_method] = handler
        return handler


def _rpc_method(info: GrpcCallInfo) -> RpcMethod:
    try:
        return find_method(info.servicer_function, info.full_method)
    except (ImportError, ValueError) as error:
        raise InvalidCallError(
            f"the replica cannot read requests of {info.full_method}: {error} The module with the generated code "
            "must be importable where the application's replicas run."
        ) from error


def _takes_context(function: Callable[..., Any]) -> bool:
    try:
        return CONTEXT_PARAMETER in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False


def _blaming_client(handler: _Handler, context: MeshServegRPCContext) -> Callable[[bytes], Any]:
    """Reads requests; what cannot be read ends the call with INTERNAL, the code gRPC has for that."""

    def parse(body: bytes) -> Any:
        try:
            return handler.parse(body)
        except Exception as error:  # whatever the user's message class raises
            context.set_code(grpc.StatusCode.INTERNAL)
            what = handler.rpc.request_type or "request"
            raise InvalidCallError(f"a request of {handler.rpc.full_name} is not a valid {what}: {error}") from error

    return parse


def _head(context: MeshServegRPCContext) -> Payload | None:
    head = context.take_head()
    return None if head is None else Payload(finish_to_proto(head).SerializeToString(), Encoding.GRPC_HEAD)
