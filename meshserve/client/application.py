"""Applications as programs outside the mesh call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import getrandbits
from typing import TYPE_CHECKING, Any

import grpc.aio

from meshserve.client.failures import error_of
from meshserve.client.response import Response, ResponseStream, value_of
from meshserve.rpc.status_details import REQUEST_ID_KEY
from meshserve.v1.generic_pb2 import CallServiceCallRequest, CallServiceCallStreamRequest
from meshserve.wire.json_values import encode_arguments_json

if TYPE_CHECKING:
    from meshserve.client.connection import Connection


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How calls are made; see `RemoteApplication.options`."""

    stream: bool = False
    timeout_s: float | None = None
    multiplexed_model_id: str = ""
    session_id: str = ""
    request_id: str = ""
    metadata: tuple[tuple[str, str | bytes], ...] = ()


class RemoteApplication:
    """An application of the mesh, or one of its methods: `app.remote(...)`, `app.method.remote(...)`.

    Arguments and results are what JSON can say (numbers, text, truth values, None, lists, mappings; also data classes,
    pydantic models and numpy arrays, which arrive as mappings and lists), or bytes: one positional argument of bytes
    travels as it is, and so does a result of bytes.

    Args:
        connection: to the mesh.
        name: of the application; empty for the only one.
        method: of its ingress deployment.
        options: of the calls.
    """

    def __init__(
        self, connection: Connection, name: str, method: str = "__call__", options: CallOptions | None = None
    ) -> None:
        self._connection = connection
        self._name = name
        self._method = method
        self._options = options if options is not None else CallOptions()

    def __getattr__(self, method: str) -> RemoteApplication:
        if method.startswith("_") and method != "__call__":
            raise AttributeError(f"{method!r} is not a method for clients.")
        return RemoteApplication(self._connection, self._name, method, self._options)

    def __repr__(self) -> str:
        return f"RemoteApplication({self._name!r}, method={self._method!r})"

    def options(self, **changes: Any) -> RemoteApplication:
        """The same with other options.

        Args:
            stream: whether the method is a generator; `remote` then returns a `ResponseStream`.
            timeout_s: the deadline of each call; None for none.
            multiplexed_model_id: the model that a call is for.
            session_id: calls of one session stay on one replica where the deployment's router knows sessions.
            request_id: instead of a new one for each call.
            metadata: sent with each call, as pairs.

        Raises:
            TypeError: there is no such option.
        """
        if isinstance(metadata := changes.get("metadata"), Mapping):
            changes["metadata"] = tuple(metadata.items())
        return RemoteApplication(self._connection, self._name, self._method, replace(self._options, **changes))

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the method, and returns at once.

        Returns:
            A `Response`, or with the option `stream` a `ResponseStream`.

        Raises:
            TypeError: an argument has no form in JSON.
        """
        kind = CallServiceCallStreamRequest if self._options.stream else CallServiceCallRequest
        request: Any = kind(application=self._name, method=self._method)
        if len(args) == 1 and not kwargs and isinstance(args[0], bytes | bytearray | memoryview):
            request.raw = bytes(args[0])
        else:
            request.json.CopyFrom(encode_arguments_json(args, kwargs))
        request_id = self._options.request_id or f"{getrandbits(128):032x}"
        io = self._connection.io
        if self._options.stream:
            return ResponseStream(partial(self._open, request, request_id), io, request_id)
        return Response(self._one(request, request_id), io, request_id)

    async def _one(self, request: CallServiceCallRequest, request_id: str) -> Any:
        """The value of one call; runs on the I/O thread."""
        calls = self._connection.calls()
        try:
            return value_of(
                await calls.Call(request, timeout=self._options.timeout_s, metadata=self._metadata(request_id))
            )
        except grpc.aio.AioRpcError as error:
            raise error_of(error, request_id) from None

    async def _open(self, request: CallServiceCallStreamRequest, request_id: str) -> Any:
        """A stream; runs on the I/O thread."""
        calls = self._connection.calls()
        return calls.CallStream(request, timeout=self._options.timeout_s, metadata=self._metadata(request_id))

    def _metadata(self, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
        options = self._options
        known = ((REQUEST_ID_KEY, request_id), ("multiplexed_model_id", options.multiplexed_model_id))
        named = ((key, value) for key, value in (*known, ("session_id", options.session_id)) if value)
        return (*named, *self._connection.endpoint.metadata, *options.metadata)
