"""Who may call: clients of a gRPC ingress that asks for a token show one that is in its file.

The file has a token in each line and is read again when it has changed, so that tokens are exchanged without a restart:
the new one joins, clients move over, the old one leaves. Health is told to everybody, since probes have no secrets.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from meshserve.rpc.status_details import abort, refusal, request_id_of

HEALTH = "/grpc.health.v1.Health/"

_SCHEME = b"bearer "


class BearerTokens(grpc.aio.ServerInterceptor):
    """Refuses every call but those of health that does not show a token, before its first message is read.

    Args:
        file: has a token in each line.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no token in it.
    """

    def __init__(self, file: str) -> None:
        self._file = Path(file)
        self._changed_at = 0.0
        self._tokens: tuple[bytes, ...] = ()
        self._read()
        if not self._tokens:
            raise ValueError(f"auth_token_file {file!r} has no token: write one in each line.")

    def _read(self) -> None:
        changed_at = self._file.stat().st_mtime
        if changed_at != self._changed_at:
            self._tokens = tuple(line.strip() for line in self._file.read_bytes().splitlines() if line.strip())
            self._changed_at = changed_at

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Passes the call on if it shows a token; answers UNAUTHENTICATED otherwise."""
        metadata: Any = handler_call_details.invocation_metadata or ()
        if handler_call_details.method.startswith(HEALTH) or self._knows(metadata):
            return await continuation(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(_refuse)

    def _knows(self, metadata: Any) -> bool:
        shown = next((str(value).encode() for key, value in metadata if key == "authorization"), b"")
        if shown[: len(_SCHEME)].lower() != _SCHEME:
            return False
        try:
            self._read()
        except OSError:
            pass  # it is being replaced: those in force stay so
        # All are compared, in constant time each, so that the time tells nothing.
        return sum(hmac.compare_digest(shown[len(_SCHEME) :], token) for token in self._tokens) > 0


async def _refuse(_requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    message = "this ingress wants the metadata 'authorization: Bearer TOKEN', with a token that it knows."
    code = grpc.StatusCode.UNAUTHENTICATED
    await abort(context, refusal(code, message, "UNAUTHENTICATED", request_id_of(context), {}))
