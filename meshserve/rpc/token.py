"""The mesh token: made when the mesh starts, shown on every internal stream, compared in constant time.

A call without it is refused before anything of it is decoded: pickles are only read from those who know the token.
"""

from __future__ import annotations

import hmac
import secrets

import grpc

from meshserve.settings import TOKEN_KEY
from meshserve.transport.headers import Metadata, Status
from meshserve.transport.server import Check

REFUSED = Status(
    grpc.StatusCode.UNAUTHENTICATED,
    f"metadata {TOKEN_KEY!r} is missing or wrong: this port is internal to the mesh",
)


def new_token() -> str:
    """Makes a token of 256 bits."""
    return secrets.token_urlsafe(32)


def token_metadata(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that shows the token."""
    return ((TOKEN_KEY, token),)


def token_check(token: str) -> Check:
    """Makes the check that refuses every call which does not show the token, before its first message is read.

    Args:
        token: the mesh token.
    """
    wanted = token.encode()

    def check(metadata: Metadata) -> Status | None:
        shown = next((value for key, value in metadata if key == TOKEN_KEY), "")
        return None if hmac.compare_digest(str(shown).encode(), wanted) else REFUSED

    return check
