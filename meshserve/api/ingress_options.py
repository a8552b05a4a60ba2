"""How users say where the mesh is reached from outside."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from meshserve.api.checks import integer, number, read_integer, read_number
from meshserve.api.config_class import Config
from meshserve.api.imports import import_path
from meshserve.rpc.import_path import import_object
from meshserve.settings import Settings

_MAX_PORT = 65_535

_INTEGERS: dict[str, tuple[int, int | None]] = {
    "port": (0, _MAX_PORT),
    "metrics_port": (1, _MAX_PORT),
    "keep_alive_timeout_s": (1, None),
    "max_header_bytes": (1, None),
    "max_body_bytes": (0, None),
    "max_websocket_message_bytes": (1, None),
    "workers": (1, None),
}
"""Of HTTP, by name: the least and the most."""

_NUMBERS_OR_NONE = ("metrics_port", "max_body_bytes")

_TEXTS_OR_NONE = ("host", "ssl_keyfile", "ssl_certfile", "ssl_keyfile_password", "ssl_ca_certs")

_NOT_FOR_PROXIES = ("location", "root_url", "middlewares", "num_cpus")


class ProxyLocation(StrEnum):
    """Which machines of the cluster have a proxy."""

    Disabled = "Disabled"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"

    @classmethod
    def of(cls, location: str | ProxyLocation) -> ProxyLocation:
        """A location by its name; "NoServer" is the older name of "Disabled".

        Raises:
            ValueError: there is no such location.
        """
        if location == "NoServer":
            return cls.Disabled
        if location not in list(cls):
            raise ValueError(f"{location!r} is not a valid ProxyLocation: give one of {', '.join(cls)}.")
        return cls(location)


@dataclass(frozen=True, kw_only=True)
class HTTPOptions(Config):
    """The HTTP ingress.

    Args:
        host: the address to listen on; None for no HTTP.
        port: the port to listen on; 0 for any free one.
        root_path: the path under which the mesh is mounted behind another server.
        request_timeout_s: how long a request may take; None or less than 0 for no limit.
        keep_alive_timeout_s: how long an idle connection is kept.
        receive_timeout_s: how long a client may take for a request's head, and may fall silent within its body.
        max_header_bytes: the longest head of a request.
        max_body_bytes: the largest body of a request; None for no limit.
        max_websocket_message_bytes: the largest message of a WebSocket.
        dashboard: whether there is a page about the mesh at `/-/dashboard`.
        metrics_port: a port of its own for `/metrics`, its targets and the page; None for `port`. It is for whoever
            operates the mesh where `port` is open to strangers, and there without HTTP, too.
        ssl_keyfile: file of the private key, for HTTPS.
        ssl_certfile: file of the certificate; goes together with `ssl_keyfile`.
        ssl_keyfile_password: of the private key.
        ssl_ca_certs: file of the authorities that sign clients' certificates; clients without one are then refused.
        workers: how many processes the proxy of a machine has; they share its ports, also that of gRPC.
        location: deprecated: which machines have a proxy; `proxy_location` says it now.
        root_url, middlewares, num_cpus: of older releases; the first is ignored, the others must stay empty.

    Raises:
        ValidationError: a ValueError: a field is of the wrong type or out of its range, or it does not go with another.
    """

    _other_fields = "ignore"

    host: str | None = field(default_factory=lambda: Settings.from_environment().http_host)
    port: int = 8000
    root_path: str = ""
    request_timeout_s: float | None = None
    keep_alive_timeout_s: int = 90
    receive_timeout_s: float = 60.0
    max_header_bytes: int = 64 * 1024
    max_body_bytes: int | None = None
    max_websocket_message_bytes: int = 16 * 1024 * 1024
    dashboard: bool = True
    metrics_port: int | None = None
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None
    workers: int = 1
    location: str | ProxyLocation | None = None
    root_url: str = ""
    middlewares: Sequence[Any] = ()
    num_cpus: int = 0

    def __post_init__(self) -> None:
        self._refuse_what_is_gone()
        self._read_numbers()
        for name in ("root_path", *_TEXTS_OR_NONE):
            value = getattr(self, name)
            if not (isinstance(value, str) or (value is None and name != "root_path")):
                raise TypeError(f"{name} must be text, not {value!r}.")
        if not isinstance(self.dashboard, bool):
            raise TypeError(f"dashboard must be True or False, not {self.dashboard!r}.")
        if self.root_path and not self.root_path.startswith("/"):
            raise ValueError(f"root_path must start with '/', not {self.root_path!r}.")
        self._check_together()

    def _read_numbers(self) -> None:
        """Checks numbers, and makes numbers of texts: people take them from the environment."""
        for name, (least, most) in _INTEGERS.items():
            value = getattr(self, name)
            if value is not None or name not in _NUMBERS_OR_NONE:
                object.__setattr__(self, name, read_integer(name, value, least, most))
        object.__setattr__(self, "receive_timeout_s", read_number("receive_timeout_s", self.receive_timeout_s, above=0))
        if self.request_timeout_s is not None:
            timeout_s = read_number("request_timeout_s", self.request_timeout_s)
            object.__setattr__(self, "request_timeout_s", None if timeout_s < 0 else timeout_s)

    def _check_together(self) -> None:
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None):
            raise ValueError("Both ssl_keyfile and ssl_certfile must be provided together to enable HTTPS.")
        if self.ssl_ca_certs is not None and self.ssl_certfile is None:
            raise ValueError(
                "ssl_ca_certs asks clients for certificates, which needs HTTPS: give ssl_certfile and ssl_keyfile, too."
            )
        if self.metrics_port is not None and self.metrics_port == self.port and self.host is not None:
            raise ValueError(
                f"metrics_port must be another port than port, not {self.metrics_port} as well: leave it out to have "
                "/metrics at port."
            )

    def _refuse_what_is_gone(self) -> None:
        if self.middlewares:
            raise ValueError(
                "`middlewares` in HTTPOptions has been removed: add them to the ingress deployment's application, or "
                "name a function that gives them in RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH."
            )
        if self.num_cpus:
            raise ValueError("`num_cpus` in HTTPOptions has been removed: proxies reserve no CPUs.")
        if self.location is not None:
            object.__setattr__(self, "location", ProxyLocation.of(self.location))
            deprecated = "`location` in HTTPOptions is deprecated: give `proxy_location` to `start` or `run` instead."
            warnings.warn(deprecated, DeprecationWarning, stacklevel=6)

    def to_json(self) -> str:
        """What proxies read, as JSON text; the environment has its say here, which proxies do not share."""
        settings = Settings.from_environment()
        fields = {name: value for name, value in asdict(self).items() if name not in _NOT_FOR_PROXIES}
        if settings.http_keep_alive_s > 0:
            fields["keep_alive_timeout_s"] = settings.http_keep_alive_s
        if settings.http_middlewares:
            fields["middlewares_from"] = settings.http_middlewares
        return json.dumps(fields)


@dataclass(frozen=True, kw_only=True)
class gRPCOptions(Config):  # noqa: N801 - the peer's name
    """The gRPC ingress. Where None is gRPC's own default, it is not said otherwise.

    Args:
        port: the port to listen on; 0 for any free one, None for no gRPC.
        host: the address to listen on, or `unix:PATH`; None for that of HTTP.
        grpc_servicer_functions: `add_...Servicer_to_server` of each service to offer, or its import path.
        request_timeout_s: how long a call may take; None for no limit.
        enable_reflection: whether clients may ask for the services' descriptions.
        enable_call_service: whether clients without protos may call applications (`meshserve.v1.CallService`).
        enable_inference: whether applications that opted in (`meshserve.inference`) are models of the Open Inference
            Protocol.
        enable_channelz: whether to serve channelz; needs the package grpcio-channelz.
        send_tracebacks: whether errors tell clients where user code raised.
        interceptors: import paths of `grpc.aio.ServerInterceptor`s.
        ssl_certfile: file of the certificate chain; goes together with `ssl_keyfile` and turns on TLS.
        ssl_keyfile: file of the private key.
        ssl_ca_certs: file of the authorities that client certificates must be signed by.
        auth_token_file: a file of tokens, one in each line; calls without one of them are refused, but those of health.
        compression: of responses: "none", "deflate" or "gzip".
        max_receive_message_bytes: the largest request; None for 2 GiB.
        max_send_message_bytes: the largest response; None for 2 GiB.
        max_concurrent_rpcs: calls at a time, all clients together; None for no limit.
        max_concurrent_streams: calls at a time of one connection.
        max_metadata_bytes: of one call.
        keepalive_time_s: how often idle connections are probed.
        keepalive_timeout_s: how long an answer to a probe may take.
        min_ping_interval_s: clients that probe more often are disconnected.
        max_connection_age_s: connections are closed after that time; None for never.
        max_connection_age_grace_s: how long calls on such a connection may go on.
        max_connection_idle_s: connections without calls are closed after that time; None for never.

    Raises:
        ImportError: a function cannot be imported.
        ValueError: a field is out of its range, or what was named is not a function.
    """

    _other_fields = "ignore"

    port: int | None = 9000
    host: str | None = None
    grpc_servicer_functions: Sequence[str | Callable[..., Any]] = field(default_factory=list)
    request_timeout_s: float | None = None
    enable_reflection: bool = True
    enable_call_service: bool = True
    enable_inference: bool = True
    enable_channelz: bool = False
    send_tracebacks: bool = False
    interceptors: Sequence[str] = ()
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_ca_certs: str | None = None
    auth_token_file: str | None = None
    compression: str = "none"
    max_receive_message_bytes: int | None = None
    max_send_message_bytes: int | None = None
    max_concurrent_rpcs: int | None = None
    max_concurrent_streams: int | None = None
    max_metadata_bytes: int | None = None
    keepalive_time_s: float | None = None
    keepalive_timeout_s: float | None = None
    min_ping_interval_s: float | None = None
    max_connection_age_s: float | None = None
    max_connection_age_grace_s: float | None = None
    max_connection_idle_s: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and name.endswith(("_s", "_bytes", "_rpcs", "_streams")):
                number(name, value, above=0)
        if self.port is not None:
            integer("port", self.port, 0, _MAX_PORT)
        if self.compression not in ("none", "deflate", "gzip"):
            raise ValueError(f"compression must be 'none', 'deflate' or 'gzip', not {self.compression!r}.")
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None):
            raise ValueError("ssl_keyfile and ssl_certfile must be given together.")
        for path in self.interceptors:
            import_object(path)
        object.__setattr__(self, "grpc_servicer_functions", list(servicer_paths(self.grpc_servicer_functions)))

    @property
    def grpc_servicer_func_callable(self) -> list[Callable[..., Any]]:
        """The functions themselves."""
        return [import_object(str(path)) for path in self.grpc_servicer_functions]

    def to_json(self, http_host: str | None) -> str:
        """The fields of the configuration file that were given, as JSON text.

        Args:
            http_host: the address that HTTP listens on; None when it does not.
        """
        given = {name: value for name, value in asdict(self).items() if value is not None}
        host = {"host": http_host} if self.host is None and http_host is not None else {}
        return json.dumps({**given, **host, "port": -1 if self.port is None else self.port})


def servicer_paths(functions: Sequence[str | Callable[..., Any]]) -> tuple[str, ...]:
    """The import paths of functions that add gRPC services to a server; raises as `gRPCOptions`."""
    paths = []
    for function in functions:
        path = function if isinstance(function, str) else import_path(function)
        try:
            found = import_object(path)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{path} can't be imported! {error} Its module is made from the .proto file of the service.",
                name=error.name,
            ) from error
        if not callable(found):
            raise ValueError(f"{path} is not a callable function! Name an add_...Servicer_to_server.")
        paths.append(path)
    return tuple(paths)
