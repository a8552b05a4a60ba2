"""What a server tells about its services: server reflection, v1 or else v1alpha, and message classes made from it."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from meshserve.client.channel import Metadata

VERSIONS = ("v1", "v1alpha")
"""The same messages under two names; newer servers may have dropped the second, older ones lack the first."""


class NotDescribed(LookupError):
    """The server does not know the symbol."""


class Reflection:
    """Descriptions of a server's services, asked for when they are needed and kept. Lives on the I/O thread.

    Args:
        channel: to the server.
        metadata: shown with each question.
        timeout_s: of each question; None for none.
    """

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata = (), timeout_s: float | None = None) -> None:
        self._channel = channel
        self._metadata = metadata
        self._timeout_s = timeout_s
        self._version = VERSIONS[0]
        self._pool = descriptor_pool.DescriptorPool()
        self._files: set[str] = set()

    async def services(self) -> list[str]:
        """Full names of the services.

        Raises:
            grpc.aio.AioRpcError: the server cannot be reached, or has no reflection.
        """
        response = await self._ask(list_services="")
        return sorted(service.name for service in response.list_services_response.service)

    async def service(self, name: str) -> Any:
        """The descriptor of a service, by its full name or as much of its end as no other has.

        Raises:
            NotDescribed: there is none, or there are several.
            grpc.aio.AioRpcError: as `services`.
        """
        services = await self.services()
        found = [each for each in services if each == name] or [each for each in services if each.endswith(f".{name}")]
        if len(found) != 1:
            problem = f"there is no service {name!r}" if not found else f"several services are called {name!r}"
            raise NotDescribed(f"{problem}; the server has {', '.join(found or services)}.")
        await self._load(file_containing_symbol=found[0])
        return self._pool.FindServiceByName(found[0])

    async def message(self, name: str) -> Any:
        """The descriptor of a message; raises as `service`."""
        await self._load(file_containing_symbol=name)
        try:
            return self._pool.FindMessageTypeByName(name)
        except KeyError:
            raise NotDescribed(f"{name!r} is neither a service nor a message.") from None

    def message_class(self, descriptor: Any) -> Any:
        """A class for messages of a descriptor that came from here."""
        return message_factory.GetMessageClass(descriptor)

    async def _load(self, **question: str) -> None:
        """Adds a file and the files it needs to the pool."""
        response = await self._ask(**question)
        if response.HasField("error_response"):
            raise NotDescribed(f"the server does not describe {', '.join(question.values())!r}.")
        came = [
            descriptor_pb2.FileDescriptorProto.FromString(file)
            for file in response.file_descriptor_response.file_descriptor_proto
        ]
        await self._add(came[0], {file.name: file for file in came})

    async def _add(self, file: Any, came: dict[str, Any]) -> None:
        """Adds a file after those it imports; servers may send them along or wait to be asked."""
        if file.name in self._files:
            return
        self._files.add(file.name)
        for needed in file.dependency:
            if needed in came:
                await self._add(came[needed], came)
            elif needed not in self._files:
                await self._load(file_by_filename=needed)
        self._pool.Add(file)

    async def _ask(self, **question: str) -> ServerReflectionResponse:
        request: Any = ServerReflectionRequest(**question)  # type: ignore[arg-type]  # one of its text fields
        try:
            return await self._ask_version(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED or self._version == VERSIONS[-1]:
                raise
        self._version = VERSIONS[-1]
        return await self._ask_version(request)

    async def _ask_version(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        method = self._channel.stream_stream(
            f"/grpc.reflection.{self._version}.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )
        call: Any = method(iter([request]), timeout=self._timeout_s, metadata=self._metadata)
        response: Any = await call.read()
        call.cancel()
        return ServerReflectionResponse() if response is grpc.aio.EOF else response
