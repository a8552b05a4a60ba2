"""What a call came to -> what its client receives: initial metadata, trailers, code, details."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import grpc

from meshserve.model.call import Call, Encoding, Finish, Payload
from meshserve.model.failure import Failure, FailureKind
from meshserve.proxy.grpc_call import Context, facts_of
from meshserve.proxy.grpc_options import GrpcOptions
from meshserve.routing.service import CallFailed
from meshserve.rpc.status_details import abort, ended_with, status_of, with_request_id
from meshserve.v1 import call_pb2
from meshserve.wire.calls import finish_from_proto


class Answers:
    """Ends calls towards clients.

    Args:
        options: of the ingress.
    """

    def __init__(self, options: GrpcOptions) -> None:
        self._show_traceback = options.send_tracebacks
        self._timeout_s = options.timeout_s

    async def fail(self, context: Context, call: Call, failed: CallFailed) -> NoReturn:
        """Ends a call that failed."""
        failure, finish = failed.failure, failed.finish
        if failure.kind is FailureKind.DEADLINE:
            failure = self._worded(failure, context)
        if finish is not None:
            await say_head(context, finish)
        request_id, facts = call.context.request_id, facts_of(call.deployment)
        await abort(context, status_of(failure, finish, request_id, facts, show_traceback=self._show_traceback))

    async def finish(self, context: Context, call: Call, finish: Finish) -> None:
        """Says what user code set before a call ends that returned; does not come back when it set an error."""
        await say_head(context, finish)
        request_id = call.context.request_id
        if finish.code:
            await abort(context, ended_with(finish, request_id))
        if finish.trailers:
            context.set_trailing_metadata(with_request_id(finish.trailers, request_id))

    def _worded(self, failure: Failure, context: Context) -> Failure:
        """Tells which limit it was, when it was the ingress's own."""
        remaining_s = context.time_remaining()
        if self._timeout_s is None or (remaining_s is not None and remaining_s <= 0):
            return failure
        return replace(failure, message=f"Request timed out after {self._timeout_s}s.")


async def say_head(context: Context, head: Finish) -> None:
    """Sends initial metadata and chooses compression."""
    if head.compression is not None:
        context.set_compression(grpc.Compression(head.compression))
    if head.initial_metadata:
        await context.send_initial_metadata(head.initial_metadata)


async def write_items(context: Context, items: list[Payload]) -> None:
    """Sends items, waiting as long as the client does not read."""
    for item in items:
        if item.encoding is Encoding.GRPC_HEAD:
            await say_head(context, finish_from_proto(call_pb2.Finish.FromString(item.body)))
        else:
            await context.write(item.body)
