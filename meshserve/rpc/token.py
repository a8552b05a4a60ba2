"""The mesh token: made when the mesh starts, shown on every internal stream, compared in constant time.

A call without it is refused before anything of it is decoded: pickles are only read from those who know the token.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from meshserve.settings import TOKEN_KEY


def new_token() -> str:
    """Makes a token of 256 bits."""
    return secrets.token_urlsafe(32)


def token_metadata(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that shows the token."""
    return ((TOKEN_KEY, token),)


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses every call that does not show the token, before its first message is read.

    Args:
        token: the mesh token.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Passes the call on if its token is right; answers UNAUTHENTICATED otherwise."""
        metadata: Any = handler_call_details.invocation_metadata or ()
        shown = next((value for key, value in metadata if key == TOKEN_KEY), "")
        if hmac.compare_digest(str(shown).encode(), self._token):
            return await continuation(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(_requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED,
        f"metadata {TOKEN_KEY!r} is missing or wrong: this port is internal to the mesh",
    )
