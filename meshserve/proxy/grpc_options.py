"""Options of the gRPC ingress: read, checked, and put into gRPC's terms."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from meshserve.proxy.grpc_token import BearerTokens
from meshserve.rpc.import_path import import_object
from meshserve.settings import MAX_MESSAGE_BYTES
from meshserve.transport.limits import Limits
from meshserve.transport.server import Server

_MAX_PENDING = 100_000
"""Calls that have arrived and are not yet taken up. Of more than this gRPC cancels some at random, with a status that
tells the client nothing; its own default of 1,000 is reached when the process is held up for a second or two."""

_WINDOW_BYTES = 4 << 20
"""What may come of one call that its replica has not taken."""

_METADATA_BYTES = 16 << 10
"""Metadata of one call, by default."""

_PING_INTERVAL_S = 300.0
"""What lies between two pings of a client at least, by default."""

_COMPRESSIONS = {
    "": grpc.Compression.NoCompression,
    "none": grpc.Compression.NoCompression,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}


class PortTakenError(RuntimeError):
    """Nothing can listen where the options say.

    Args:
        options: of the ingress.
        why: what was found.
    """

    def __init__(self, options: GrpcOptions, why: str) -> None:
        super().__init__(f"cannot listen for gRPC on {options.target}: is the port in use? ({why})")


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """The fields of `grpc_options` in the configuration file. Durations are seconds; None is gRPC's own default.

    Attributes:
        port: 0 for any free one; negative for no gRPC ingress.
        host: the address to bind, or `unix:PATH`, which has no port.
        grpc_servicer_functions: import paths of `add_XServicer_to_server` functions.
        request_timeout_s: the most a call may take, whatever its client's deadline; None or less than 0 for no limit.
        enable_reflection: whether clients may ask for the services' descriptions.
        enable_call_service: whether clients may call methods without protos (`meshserve.v1.CallService`).
        enable_inference: whether applications that opted in are models of the Open Inference Protocol
            (`inference.GRPCInferenceService`).
        enable_channelz: whether to serve channelz; needs the package grpcio-channelz.
        send_tracebacks: whether errors tell clients where user code raised.
        interceptors: import paths of `grpc.aio.ServerInterceptor`s: instances, classes or functions without arguments.
        ssl_certfile: the server's certificate chain (PEM); with `ssl_keyfile` it turns on TLS.
        ssl_keyfile: its private key (PEM).
        ssl_ca_certs: the authorities that sign clients' certificates (PEM); clients without one are then refused.
        auth_token_file: a file of tokens, one in each line; calls without one of them are refused, but those of health.
        compression: of responses: "none", "deflate" or "gzip".
        reuse_port: whether other processes may listen on the same port.
        max_concurrent_rpcs: calls at a time, all clients together; more are refused with RESOURCE_EXHAUSTED.
        max_concurrent_streams: calls at a time of one connection; clients hold more back.
        max_metadata_bytes: of one call, both ways.
        min_ping_interval_s: clients that ping more often are disconnected. gRPC's own defaults are five minutes, and
            two hours while a connection has no calls.
        max_connection_age_s: connections are closed after that time, so that clients look for new servers.
        max_connection_age_grace_s: how long calls on such a connection may go on.
        max_connection_idle_s: connections without calls are closed after that time.
    """

    port: int = 9000
    host: str = "[::]"
    grpc_servicer_functions: tuple[str, ...] = ()
    request_timeout_s: float | None = None
    enable_reflection: bool = True
    enable_call_service: bool = True
    enable_inference: bool = True
    enable_channelz: bool = False
    send_tracebacks: bool = False
    interceptors: tuple[str, ...] = ()
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_ca_certs: str | None = None
    auth_token_file: str | None = None
    compression: str = "none"
    reuse_port: bool = False
    max_receive_message_bytes: int = MAX_MESSAGE_BYTES
    max_send_message_bytes: int = MAX_MESSAGE_BYTES
    max_concurrent_rpcs: int | None = None
    max_concurrent_streams: int | None = None
    max_metadata_bytes: int | None = None
    keepalive_time_s: float | None = None
    keepalive_timeout_s: float | None = None
    min_ping_interval_s: float | None = None
    max_connection_age_s: float | None = None
    max_connection_age_grace_s: float | None = None
    max_connection_idle_s: float | None = None

    @staticmethod
    def from_json(text: str) -> GrpcOptions:
        """Reads options; absent ones keep their defaults.

        Raises:
            ValueError: an option is unknown or its value makes no sense.
        """
        data: dict[str, Any] = json.loads(text) if text else {}
        known = {field.name for field in fields(GrpcOptions)}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"unknown grpc_options {', '.join(unknown)}; there are {', '.join(sorted(known))}.")
        for name in ("grpc_servicer_functions", "interceptors"):
            if name in data:
                data[name] = tuple(data[name] or ())
        options = GrpcOptions(**data)
        options._check()
        return options

    def _check(self) -> None:
        if self.compression not in _COMPRESSIONS:
            raise ValueError(f"grpc_options compression {self.compression!r} is not one of none, deflate, gzip.")
        if bool(self.ssl_certfile) != bool(self.ssl_keyfile):
            raise ValueError("grpc_options ssl_certfile and ssl_keyfile belong together: set both or neither.")
        if self.ssl_ca_certs and not self.ssl_certfile:
            raise ValueError(
                "grpc_options ssl_ca_certs needs ssl_certfile and ssl_keyfile: clients check the server too."
            )

    @property
    def timeout_s(self) -> float | None:
        """The limit for every call; None for none."""
        timeout_s = self.request_timeout_s
        return timeout_s if timeout_s is not None and timeout_s >= 0 else None

    @property
    def plain(self) -> bool:
        """Whether nothing is wanted that only grpc.aio has: its server costs a call two times as much."""
        return not (
            self.secure
            or self.interceptors
            or self.auth_token_file
            or self.enable_channelz
            or self.max_concurrent_rpcs is not None
            or self.keepalive_time_s is not None
            or self.keepalive_timeout_s is not None
            or self.max_connection_age_s is not None
            or self.max_connection_idle_s is not None
            or _COMPRESSIONS[self.compression] is not grpc.Compression.NoCompression
            or self.host.startswith("unix:")
        )

    @property
    def secure(self) -> bool:
        """Whether the port speaks TLS."""
        return bool(self.ssl_certfile)

    @property
    def asked_for(self) -> bool:
        """Whether who wrote these options wants gRPC. Most who serve HTTP write none, and a port 9000 that somebody
        else has is nothing to them; the host is HTTP's when it is not said."""
        return self != GrpcOptions(host=self.host)

    @property
    def target(self) -> str:
        """What to bind."""
        if self.host.startswith("unix:"):
            return self.host
        return (
            f"[{self.host}]:{self.port}"
            if self.host.count(":") > 1 and self.host[0] != "["
            else f"{self.host}:{self.port}"
        )


def make_server(options: GrpcOptions, handler: grpc.GenericRpcHandler) -> grpc.aio.Server | Server:
    """A server for the options that does not listen yet.

    Raises:
        ModuleNotFoundError: an interceptor cannot be imported.
        ValueError: an interceptor is not one, or there are no tokens in the file of tokens.
        OSError: the file of tokens cannot be read.
    """
    if options.plain:
        server = Server(limits=_limits(options))
        server.add_generic_rpc_handlers([handler])
        return server
    # Strangers get no further, whatever other interceptors do.
    doorkeepers = [BearerTokens(options.auth_token_file)] if options.auth_token_file else []
    return grpc.aio.server(
        handlers=[handler],
        interceptors=[*doorkeepers, *map(_interceptor, options.interceptors)],
        options=_arguments(options),
        maximum_concurrent_rpcs=options.max_concurrent_rpcs,
        compression=_COMPRESSIONS[options.compression],
    )


def bind(server: grpc.aio.Server | Server, options: GrpcOptions) -> str:
    """Takes the port.

    Returns:
        The address, `host:port` or `unix:PATH`.

    Raises:
        PortTakenError: the port is taken or the address is not one of this machine.
        OSError: a certificate cannot be read.
    """
    target = options.target
    host, _, number = target.rpartition(":")
    credentials = _credentials(options) if options.secure else None
    try:
        if isinstance(server, Server):
            port = server.bind(host, int(number), reuse_port=options.reuse_port)
        elif credentials is not None:
            port = server.add_secure_port(target, credentials)
        else:
            port = server.add_insecure_port(target)
    except (RuntimeError, OSError) as error:
        raise PortTakenError(options, str(error)) from error
    return target if target.startswith("unix:") else f"{host}:{port}"


def _limits(options: GrpcOptions) -> Limits:
    """What the transport of our own bounds; where options say nothing, as grpc.aio does."""
    interval_s = options.min_ping_interval_s
    return Limits(
        window_bytes=_WINDOW_BYTES,
        receive_bytes=options.max_receive_message_bytes,
        send_bytes=options.max_send_message_bytes,
        streams=options.max_concurrent_streams or _MAX_PENDING,
        header_bytes=2 * options.max_metadata_bytes if options.max_metadata_bytes else _METADATA_BYTES,
        ping_interval_s=_PING_INTERVAL_S if interval_s is None else interval_s,
        lost_after_s=0,
    )


def _credentials(options: GrpcOptions) -> grpc.ServerCredentials:
    """Certificates, read again whenever a file has changed, so that renewing one needs no restart."""
    files = [Path(name) for name in (options.ssl_keyfile, options.ssl_certfile, options.ssl_ca_certs) if name]
    loaded: list[float] = []

    def load() -> grpc.ServerCertificateConfiguration | None:
        """The configuration, or None when the one in force still holds; called by gRPC at every handshake."""
        changed_at = [file.stat().st_mtime for file in files]
        if changed_at == loaded:
            return None
        loaded[:] = changed_at
        key, chain, *authorities = [file.read_bytes() for file in files]
        return grpc.ssl_server_certificate_configuration([(key, chain)], authorities[0] if authorities else None)

    first = load()
    assert first is not None
    mutual = bool(options.ssl_ca_certs)
    return grpc.dynamic_ssl_server_credentials(first, load, mutual)  # type: ignore[arg-type]  # None means no change


def _interceptor(path: str) -> grpc.aio.ServerInterceptor:
    found = import_object(path)
    if not isinstance(found, grpc.aio.ServerInterceptor) and callable(found):
        found = found()
    if not isinstance(found, grpc.aio.ServerInterceptor):
        raise ValueError(f"interceptor {path!r} is {type(found).__name__}, not a grpc.aio.ServerInterceptor.")
    return found


def _arguments(options: GrpcOptions) -> list[tuple[str, int]]:
    """Options as channel arguments; those that are None are left to gRPC."""
    seconds = {
        "grpc.keepalive_time_ms": options.keepalive_time_s,
        "grpc.keepalive_timeout_ms": options.keepalive_timeout_s,
        "grpc.http2.min_ping_interval_without_data_ms": options.min_ping_interval_s,
        "grpc.max_connection_age_ms": options.max_connection_age_s,
        "grpc.max_connection_age_grace_ms": options.max_connection_age_grace_s,
        "grpc.max_connection_idle_ms": options.max_connection_idle_s,
    }
    numbers = {
        "grpc.max_receive_message_length": options.max_receive_message_bytes,
        "grpc.max_send_message_length": options.max_send_message_bytes,
        # Without it the interval that was chosen would hold only while there are calls.
        "grpc.keepalive_permit_without_calls": None if options.min_ping_interval_s is None else 1,
        "grpc.max_concurrent_streams": options.max_concurrent_streams,
        "grpc.max_metadata_size": options.max_metadata_bytes,
        "grpc.absolute_max_metadata_size": options.max_metadata_bytes,
        "grpc.server.max_pending_requests": _MAX_PENDING,
        "grpc.server.max_pending_requests_hard_limit": _MAX_PENDING,
        "grpc.so_reuseport": int(options.reuse_port),
        "grpc.enable_channelz": int(options.enable_channelz),
    }
    return [
        *((name, round(value * 1000)) for name, value in seconds.items() if value is not None),
        *((name, value) for name, value in numbers.items() if value is not None),
    ]
