"""Calls without protos of their own: JSON values or raw bytes in, JSON values or raw bytes out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from meshserve.errors import InvalidCallError
from meshserve.model.call import Encoding, Finish, Payload
from meshserve.replica.adapter import Invocation
from meshserve.replica.items import call_handler, is_stream, send_items
from meshserve.replica.user_code import UserCode, is_async
from meshserve.wire.json_values import decode_arguments, encode_json

INVALID_ARGUMENT = 3
"""The gRPC code for arguments that do not fit the method."""

_OF_THE_MESH = frozenset(
    {
        "reconfigure",
        "check_health",
        "record_autoscaling_stats",
        "record_replica_metadata",
        "record_routing_stats",
    }
)
"""Methods that the mesh calls; clients may not."""


class GenericAdapter(ABC):
    """See `replica.adapter.Adapter`.

    Args:
        user: the user's code.
    """

    def __init__(self, user: UserCode) -> None:
        self._user = user

    @abstractmethod
    def arguments(self, body: bytes) -> tuple[list[Any], dict[str, Any]]:
        """Reads the arguments, positional and by keyword."""

    async def run(self, invocation: Invocation) -> Payload | None:
        """See `replica.adapter.Adapter`."""
        call = invocation.call
        function = self._public(call.method)
        args, kwargs = self._fitting(invocation, function)
        result = await call_handler(self._user, function, not is_async(function), *args, **kwargs)
        if not call.kind.streams_out:
            if is_stream(result):
                raise TypeError(f"{call.method!r} is a generator: call it with CallStream.")
            return _encode(result)
        if not is_stream(result):
            raise TypeError(f"{call.method!r} returned {type(result).__name__}, not a generator: call it with Call.")
        await send_items(self._user, invocation, result, _encode, _no_head)
        return None

    def _public(self, name: str) -> Callable[..., Any]:
        if (name.startswith("_") and name != "__call__") or name in _OF_THE_MESH:
            raise InvalidCallError(f"{name!r} is not a method for clients.")
        return self._user.method(name)

    def _fitting(self, invocation: Invocation, function: Callable[..., Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments, once it is sure that the method takes them."""
        try:
            args, kwargs = self.arguments(invocation.call.payload.body)
            inspect.signature(function).bind(*args, **kwargs)
        except Exception as error:  # not decodable, or not what the method takes
            invocation.finish = Finish(INVALID_ARGUMENT)
            raise InvalidCallError(f"the arguments do not fit {invocation.call.method!r}: {error}") from error
        return args, kwargs


class JsonAdapter(GenericAdapter):
    """Arguments are JSON values."""

    def arguments(self, body: bytes) -> tuple[list[Any], dict[str, Any]]:
        """Reads a serialized JsonArguments."""
        return decode_arguments(body)


class RawAdapter(GenericAdapter):
    """The one argument is the body."""

    def arguments(self, body: bytes) -> tuple[list[Any], dict[str, Any]]:
        """The body itself."""
        return [body], {}


def _encode(result: Any) -> Payload:
    if isinstance(result, bytes | bytearray | memoryview):
        return Payload(bytes(result), Encoding.RAW)
    return Payload(encode_json(result), Encoding.JSON)


def _no_head() -> None:
    """There is nothing to say before the first item."""
