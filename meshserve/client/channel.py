"""Channels to an ingress from outside: the published service config, TLS, a token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import grpc
import grpc.aio

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The config's health checks choose among many ingresses. With one there is no choice, and it serves what it can.
    ("grpc.inhibit_health_checking", 1),
)

Metadata = tuple[tuple[str, str | bytes], ...]


@cache
def service_config() -> str:
    """The service config that the mesh publishes for its clients, as JSON: what to try again and how often."""
    return files("meshserve.client").joinpath("service_config.json").read_text()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an ingress is, and how to be let in.

    Attributes:
        target: `host:port`, `unix:PATH`, or any other target of gRPC: `dns:///name:port`.
        tls: whether to speak TLS; the system's authorities are trusted unless `ca_file` names others.
        ca_file: authorities that sign the server's certificate (PEM); turns on TLS.
        cert_file: the client's certificate chain (PEM), for servers that ask for one; turns on TLS.
        key_file: its private key (PEM).
        token: shown as `authorization: Bearer ...`; empty for none.

    Raises:
        ValueError: only one of `cert_file` and `key_file` is given.
    """

    target: str
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    token: str = ""

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file belong together: give both or neither.")

    @property
    def secure(self) -> bool:
        """Whether to speak TLS."""
        return self.tls or bool(self.ca_file) or bool(self.cert_file)

    @property
    def metadata(self) -> Metadata:
        """What every call shows."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def open(self) -> grpc.aio.Channel:
        """Opens a channel; to be called on the loop that will use it.

        Raises:
            OSError: a certificate cannot be read.
        """
        options = (*_OPTIONS, ("grpc.service_config", service_config()))
        if not self.secure:
            return grpc.aio.insecure_channel(self.target, options)
        ca, key, cert = (
            Path(name).read_bytes() if name else None for name in (self.ca_file, self.key_file, self.cert_file)
        )
        return grpc.aio.secure_channel(self.target, grpc.ssl_channel_credentials(ca, key, cert), options)
