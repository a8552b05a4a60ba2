"""A user's gRPC service behind the gRPC ingress."""

from collections.abc import AsyncIterator
from typing import Any

from bench.apps.serving import deployed
from bench.v1 import echo_pb2


class EchoServer:
    """The methods of `meshserve.bench.v1.EchoService`."""

    async def Echo(self, request: echo_pb2.EchoRequest) -> echo_pb2.EchoResponse:
        """Returns the message it was given."""
        return echo_pb2.EchoResponse(message=request.message)

    async def Items(self, request: echo_pb2.ItemsRequest) -> AsyncIterator[echo_pb2.ItemsResponse]:
        """Sends as many items as it was asked for."""
        for index in range(1, request.count + 1):
            yield echo_pb2.ItemsResponse(index=index)


def build() -> Any:
    """EchoServer."""
    return deployed(EchoServer).bind()
