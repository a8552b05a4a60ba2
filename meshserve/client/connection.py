"""`meshserve.connect`: a connection to a mesh from anywhere, without Ray.

Everything goes through the gRPC ingress and its generic service, as JSON values or bytes, never as pickles: neither
side has to trust the other with more than data.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshserve.client.application import RemoteApplication
from meshserve.client.channel import Endpoint
from meshserve.client.failures import error_of
from meshserve.rpc.io_thread import LoopThread, io_thread
from meshserve.v1.application_pb2 import ListApplicationsRequest
from meshserve.v1.application_pb2_grpc import ApplicationServiceStub
from meshserve.v1.generic_pb2_grpc import CallServiceStub

TIMEOUT_S = 10.0
"""For questions about the mesh itself."""


def connect(
    target: str,
    *,
    tls: bool = False,
    ca_file: str | None = None,
    cert_file: str | None = None,
    key_file: str | None = None,
    token: str = "",
) -> Connection:
    """Connects to a mesh's gRPC ingress; the first call opens the connection.

        with meshserve.connect("localhost:9000") as mesh:
            greeter = mesh.application("greeter")
            greeter.greet.remote("Ana").result()

    Args:
        target: `host:port`, `unix:PATH`, or any other target of gRPC: `dns:///name:port`.
        tls: whether to speak TLS; the system's authorities are trusted unless `ca_file` names others.
        ca_file: authorities that sign the server's certificate (PEM); turns on TLS.
        cert_file: the client's certificate chain (PEM), for servers that ask for one; turns on TLS.
        key_file: its private key (PEM).
        token: shown to the server with every call, as `authorization: Bearer ...`.

    Raises:
        ValueError: only one of `cert_file` and `key_file` is given.
        OSError: a file cannot be read.
    """
    return Connection(Endpoint(target, tls, ca_file, cert_file, key_file, token), io_thread())


class Connection:
    """A connection to a mesh; usable from any thread and any event loop. Close it, or use it with `with`.

    Args:
        endpoint: where the mesh is.
        io: the thread that the connection lives on.

    Attributes:
        endpoint: where the mesh is.
        io: the thread that the connection lives on.
    """

    def __init__(self, endpoint: Endpoint, io: LoopThread) -> None:
        self.endpoint = endpoint
        self.io = io
        self._channel: grpc.aio.Channel | None = io.run(self._open())

    async def _open(self) -> grpc.aio.Channel:
        return self.endpoint.open()

    def application(self, name: str = "") -> RemoteApplication:
        """An application to call; without a name the only one there is. Whether it exists, the first call tells."""
        return RemoteApplication(self, name)

    def applications(self) -> list[str]:
        """The names of the applications there are.

        Raises:
            MeshServeException: the mesh cannot be reached, or does not let the caller in.
        """
        return self.io.run(self._applications())

    async def _applications(self) -> list[str]:
        stub = ApplicationServiceStub(self.channel())
        try:
            response = await stub.ListApplications(
                ListApplicationsRequest(), timeout=TIMEOUT_S, metadata=self.endpoint.metadata
            )
        except grpc.aio.AioRpcError as error:
            raise error_of(error, "") from None
        return list(response.application_names)

    def serving(self, name: str = "") -> bool:
        """Whether an application, a service or without a name the whole ingress serves.

        Raises:
            MeshServeException: as `applications`.
        """
        return self.io.run(self._serving(name))

    async def _serving(self, name: str) -> bool:
        stub: Any = health_pb2_grpc.HealthStub(self.channel())
        request = health_pb2.HealthCheckRequest(service=name)
        try:
            response = await stub.Check(request, timeout=TIMEOUT_S, metadata=self.endpoint.metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise error_of(error, "") from None
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    def channel(self) -> grpc.aio.Channel:
        """The channel, for use on the I/O thread.

        Raises:
            ValueError: the connection is closed.
        """
        if self._channel is None:
            raise ValueError(f"the connection to {self.endpoint.target} is closed.")
        return self._channel

    def calls(self) -> Any:
        """The generic service; raises as `channel`."""
        return CallServiceStub(self.channel())

    def close(self) -> None:
        """Ends the connection; calls in hand are cancelled."""
        self.io.run(self._close())

    async def _close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
