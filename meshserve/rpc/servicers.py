"""What is behind an `add_XServicer_to_server` function: services, methods, message classes.

Generated code keeps the message classes of a service inside that function. Calling it with a server that records
and a servicer that has every method brings them out. The ingress learns the names and kinds of methods so; the replica,
given the same function, learns how to read and write their bodies. Nothing here parses a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import grpc
from google.protobuf import descriptor_pool

from meshserve.model.call import CallKind
from meshserve.rpc.import_path import import_object

Handlers: TypeAlias = dict[str, "grpc.RpcMethodHandler[Any, Any]"]
"""Handlers by full method name."""


@dataclass(frozen=True, slots=True)
class RpcMethod:
    """One method of a user's service.

    Attributes:
        full_name: `/package.Service/Method`.
        service: `package.Service`.
        name: `Method`.
        kind: which sides stream.
        servicer_function: import path of the function that adds the service.
        parse: reads a request body; None when the service hands over bytes.
        serialize: writes a response; None when the service takes bytes.
        request_type: full name of the request message; empty when the service is not described by protobuf.
        response_type: full name of the response message; empty likewise.
    """

    full_name: str
    service: str
    name: str
    kind: CallKind
    servicer_function: str = ""
    parse: Callable[[bytes], Any] | None = None
    serialize: Callable[[Any], bytes] | None = None
    request_type: str = ""
    response_type: str = ""


class RecordingServer:
    """Takes the place of a `grpc.Server` and keeps what is added to it.

    Attributes:
        handlers: by full method name.
    """

    def __init__(self) -> None:
        self.handlers: Handlers = {}

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """See `grpc.Server`; called by code generated since grpcio-tools 1.63."""
        for name, handler in method_handlers.items():
            self.handlers[f"/{service_name}/{name}"] = handler

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """See `grpc.Server`; the only one called by older generated code."""
        for generic in generic_rpc_handlers:
            # The dictionary has no public name, and older generated code leaves no other way to it.
            self.handlers.update(getattr(generic, "_method_handlers", {}))


class _EveryMethod:
    """A servicer that has whatever method it is asked for; `__call__` is one that services like to have."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _never_called


def _never_called(*_args: object) -> None:
    """Stands for a user's method while services are recorded."""


def record(add: Callable[..., object], servicer: object) -> Handlers:
    """The handlers that an `add_XServicer_to_server` function makes of a servicer."""
    server = RecordingServer()
    add(servicer, server)
    return server.handlers


@lru_cache(maxsize=1024)
def load_methods(servicer_function: str) -> tuple[RpcMethod, ...]:
    """The methods of the services that a function adds.

    Args:
        servicer_function: its import path, `package.module_pb2_grpc.add_XServicer_to_server`.

    Raises:
        ModuleNotFoundError: it cannot be imported.
        ValueError: it is not such a function.
    """
    add = import_object(servicer_function)
    if not callable(add):
        raise ValueError(
            f"{servicer_function!r} is not a function but {type(add).__name__}: name add_XServicer_to_server."
        )
    try:
        handlers = record(add, _EveryMethod())
    except Exception as error:  # a user's function may raise anything
        raise ValueError(
            f"{servicer_function!r} failed when it was called as add_XServicer_to_server(servicer, server): {error!r}"
        ) from error
    if not handlers:
        raise ValueError(f"{servicer_function!r} added no method when it was called with a server.")
    return tuple(_method(name, handler, servicer_function) for name, handler in handlers.items())


def find_method(servicer_function: str, full_name: str) -> RpcMethod:
    """One method of the services that a function adds.

    Raises:
        ModuleNotFoundError: as `load_methods`.
        ValueError: as `load_methods`, or there is no such method.
    """
    for method in load_methods(servicer_function):
        if method.full_name == full_name:
            return method
    raise ValueError(
        f"{servicer_function!r} adds no method {full_name!r} in this process: is its module an older version?"
    )


def _method(full_name: str, handler: grpc.RpcMethodHandler[Any, Any], servicer_function: str) -> RpcMethod:
    service, _, name = full_name.lstrip("/").rpartition("/")
    request_type, response_type = _message_types(service, name)
    return RpcMethod(
        full_name,
        service,
        name,
        _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)],
        servicer_function,
        handler.request_deserializer,
        handler.response_serializer,
        request_type,
        response_type,
    )


_KINDS = {
    (False, False): CallKind.UNARY,
    (False, True): CallKind.SERVER_STREAM,
    (True, False): CallKind.CLIENT_STREAM,
    (True, True): CallKind.BIDI_STREAM,
}


def _message_types(service: str, name: str) -> tuple[str, str]:
    """Names of the messages; generated modules register what they describe in the default pool."""
    try:
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return "", ""
    return method.input_type.full_name, method.output_type.full_name
