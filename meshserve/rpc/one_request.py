"""Handlers of methods with one request that survive a client which sends none.

grpc.aio reads the one request before it calls such a handler, and when the client ends its side without a whole
message it does nothing any more: the client waits for ever and the call stays in memory. So methods are registered as
if requests streamed, which looks the same on the wire, and read their request themselves.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
import grpc.aio

from meshserve.rpc.servicers import Handlers
from meshserve.rpc.status_details import abort, refusal, request_id_of

Context = grpc.aio.ServicerContext[Any, Any]


async def no_request(context: Context) -> NoReturn:
    """Ends a call whose client has sent no message, or only a part of one."""
    message = "the client ended its stream without a whole request message"
    await abort(context, refusal(grpc.StatusCode.INTERNAL, message, "NO_REQUEST", request_id_of(context), {}))


def reading_themselves(handlers: Handlers) -> Handlers:
    """The same handlers; those with one request read it themselves, and answer INTERNAL when it is no such message."""
    return {name: _reading_itself(handler) for name, handler in handlers.items()}


def _reading_itself(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    if handler.request_streaming:
        return handler
    parse, serialize = handler.request_deserializer, handler.response_serializer

    async def read(context: Context) -> Any:
        body = await context.read()
        if body is grpc.aio.EOF:
            await no_request(context)
        try:
            return parse(body) if parse is not None else body
        except Exception as error:  # noqa: BLE001 - whatever protobuf raises for bytes that are not the message
            message = f"the request is not the message of this method: {error}"
            await abort(context, refusal(grpc.StatusCode.INTERNAL, message, "INVALID", request_id_of(context), {}))

    if handler.response_streaming:
        stream: Any = handler.unary_stream

        async def stream_out(_requests: object, context: Context) -> None:
            await stream(await read(context), context)

        return grpc.stream_stream_rpc_method_handler(stream_out, None, serialize)
    unary: Any = handler.unary_unary

    async def one(_requests: object, context: Context) -> Any:
        return await unary(await read(context), context)

    return grpc.stream_unary_rpc_method_handler(one, None, serialize)
