"""Server reflection, v1 and v1alpha: one implementation, two names.

The two versions have the same messages under different packages, so what reads and writes v1alpha on the wire
serves v1 as well. grpcio-reflection brings v1alpha only; for clients that ask for the description of v1 itself,
that is made here from v1alpha's by renaming.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from meshserve.rpc.servicers import Handlers, record
from meshserve.v1.inference_pb2 import DESCRIPTOR

V1ALPHA = "grpc.reflection.v1alpha"
V1 = "grpc.reflection.v1"
SERVICES = (f"{V1}.ServerReflection", f"{V1ALPHA}.ServerReflection")
"""The names under which reflection is served."""


def reflection_handlers(services: Iterable[str]) -> Handlers:
    """Handlers of both versions.

    Args:
        services: full names of the services to list, without reflection itself. Their descriptions, like those
            of all messages, are looked up in protobuf's default pool, where generated modules put them.
    """
    _describe_v1()
    servicer = reflection.aio.ReflectionServicer((*services, *SERVICES), pool=_Pools())
    alpha = record(reflection_pb2_grpc.add_ServerReflectionServicer_to_server, servicer)
    return alpha | {name.replace(V1ALPHA, V1): handler for name, handler in alpha.items()}


class _Pools:
    """What reflection asks of a pool: the default one, and behind it that of the inference protocol, which has
    one of its own because users may bring their build of it."""

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802 - the pool's name
        """The file of any symbol; a pool's own look-up leaves methods out, and clients ask for them."""
        try:
            return self._either("FindFileContainingSymbol")(symbol)
        except KeyError:
            return self._either("FindMethodByName")(symbol).containing_service.file

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self._either(name)

    def _either(self, name: str) -> Callable[..., Any]:
        first, second = (getattr(pool, name) for pool in (descriptor_pool.Default(), DESCRIPTOR.pool))

        def look_up(*args: Any) -> Any:
            try:
                return first(*args)
            except KeyError:
                return second(*args)

        return look_up


def _describe_v1() -> None:
    """Adds the description of v1 to the default pool, once."""
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(SERVICES[0])
    except KeyError:
        pool.AddSerializedFile(_v1_file().SerializeToString())


def _v1_file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = file.name.replace("/v1alpha/", "/v1/")
    file.package = V1
    for message in file.message_type:
        for field in message.field:
            if field.type_name:  # set to nothing, it would still count as set
                field.type_name = field.type_name.replace(V1ALPHA, V1)
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(V1ALPHA, V1)
        method.output_type = method.output_type.replace(V1ALPHA, V1)
    return file
