"""What a handler of a gRPC method may know of its call and say about its end.

A handler with a parameter named `grpc_context` receives a `MeshServegRPCContext`: a plain object that can be pickled
and handed on. What is set on it travels with the end of the call, also what is set after the last item of a stream.
A handler of a method whose requests stream receives a `gRPCInputStream`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple

import grpc

from meshserve.model.call import CallContext, Finish, Payload

_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")
_RESERVED = "grpc-"
_ALLOWED = ("grpc-status-details-bin", "grpc-retry-pushback-ms")

_STATUS_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class Metadatum(NamedTuple):
    """One entry of metadata; keys that end in `-bin` have bytes."""

    key: str
    value: str | bytes


class MeshServegRPCContext:
    """One gRPC call, as its handler sees it.

    Args:
        call: the call's context; its gRPC side is present.
        deadline: on the monotonic clock, or None.
    """

    def __init__(self, call: CallContext, deadline: float | None = None) -> None:
        assert call.grpc is not None
        self._call = call
        self._grpc = call.grpc
        self._deadline = deadline
        self._code: grpc.StatusCode | None = None
        self._details: str | None = None
        self._trailing: tuple[Metadatum, ...] = ()
        self._initial: tuple[Metadatum, ...] = ()
        self._compression: grpc.Compression | None = None

    # -- what came with the call ---------------------------------------------------------------------------------

    def request_id(self) -> str:
        """Of the request; the client may have chosen it."""
        return self._call.request_id

    def application(self) -> str:
        """The application that was called."""
        return self._call.app

    def multiplexed_model_id(self) -> str | None:
        """The model the call is for; None when the client named none."""
        return self._call.multiplexed_model_id or None

    def traceparent(self) -> str | None:
        """W3C trace context; None when there is none."""
        return self._call.traceparent or None

    def tracestate(self) -> str | None:
        """W3C trace context; None when there is none."""
        return self._call.tracestate or None

    def method(self) -> str:
        """The method called, `/package.Service/Method`; tells services with methods of the same name apart."""
        return self._grpc.full_method

    def invocation_metadata(self) -> tuple[Metadatum, ...]:
        """The metadata the client sent, in its order."""
        return tuple(Metadatum(key, value) for key, value in self._grpc.metadata)

    def peer(self) -> str:
        """The client, as gRPC names it: `ipv4:127.0.0.1:54321`."""
        return self._grpc.peer

    def peer_identity_key(self) -> str | None:
        """The key of `auth_context` whose values identify the client; None when it did not authenticate."""
        return self._grpc.peer_identity_key or None

    def peer_identities(self) -> tuple[bytes, ...] | None:
        """The values that identify the client; None when it did not authenticate."""
        return self._grpc.peer_identities or None

    def auth_context(self) -> Mapping[str, list[bytes]]:
        """What TLS knows of the client; empty without TLS."""
        found: dict[str, list[bytes]] = {}
        for key, value in self._grpc.auth_context:
            found.setdefault(key, []).append(value)
        return found

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None when the call has none."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    # -- what goes back ------------------------------------------------------------------------------------------

    def code(self) -> grpc.StatusCode | None:
        """The status code set so far."""
        return self._code

    def set_code(self, code: grpc.StatusCode | int) -> None:
        """Sets the status code; it reaches the client whether the handler returns or raises.

        Raises:
            ValueError: gRPC has no such code.
        """
        if isinstance(code, grpc.StatusCode):
            self._code = code
        elif code in _STATUS_CODES:
            self._code = _STATUS_CODES[code]
        else:
            raise ValueError(f"{code!r} is not a gRPC status code: use grpc.StatusCode.")

    def details(self) -> str | None:
        """The status details set so far."""
        return self._details

    def set_details(self, details: str) -> None:
        """Sets the status details, the text beside a code other than OK."""
        self._details = str(details)

    def trailing_metadata(self) -> tuple[Metadatum, ...]:
        """The metadata that will follow the response; the request id is always among it."""
        return (Metadatum("request_id", self.request_id()), *self._trailing)

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Sets the metadata that follows the response.

        Raises:
            ValueError: gRPC cannot send an entry.
        """
        self._trailing = tuple(entry for entry in _checked(metadata) if entry.key != "request_id")

    def send_initial_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Sets the metadata that goes before the first response; it leaves together with it.

        Raises:
            ValueError: gRPC cannot send an entry.
        """
        self._initial = tuple(_checked(metadata))

    def set_compression(self, compression: grpc.Compression) -> None:
        """Chooses how the response is compressed; to be called before the first item of a stream."""
        self._compression = grpc.Compression(compression)

    # -- for the replica -----------------------------------------------------------------------------------------

    def take_head(self) -> Finish | None:
        """What has to be said before the first response; None for nothing. It is said once."""
        if not self._initial and self._compression is None:
            return None
        head = Finish(initial_metadata=self._initial, compression=_number(self._compression))
        self._initial, self._compression = (), None
        return head

    def finish(self) -> Finish | None:
        """What is to be said at the end; None for nothing."""
        code = self._code.value[0] if self._code is not None else 0
        if not (code or self._details or self._trailing or self._initial or self._compression is not None):
            return None
        return Finish(code, self._details or "", self._trailing, self._initial, _number(self._compression))


def _number(compression: grpc.Compression | None) -> int | None:
    return None if compression is None else int(compression.value)


def _checked(metadata: Iterable[tuple[str, str | bytes]]) -> Iterable[Metadatum]:
    """Metadata that gRPC can send: refused here, where user code sees why, instead of where the response is sent."""
    for key, value in metadata:
        if not _KEY.fullmatch(key) or (key.startswith(_RESERVED) and key not in _ALLOWED):
            raise ValueError(
                f"{key!r} is not a metadata key: lower-case letters, digits and _.- only, no prefix grpc-."
            )
        if key.endswith("-bin"):
            yield Metadatum(key, value.encode() if isinstance(value, str) else bytes(value))
            continue
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if not isinstance(text, str) or not _TEXT.fullmatch(text):
            raise ValueError(
                f"metadata {key!r} has a value that is not printable ASCII: give it a key that ends in -bin."
            )
        yield Metadatum(key, text)


class gRPCInputStream:  # noqa: N801 - the peer's name
    """The requests of one call, one after the other: `async for` in asynchronous handlers, `for` in synchronous ones.

    It ends when the client has sent its last request, has gone away, or after `cancel`.

    Args:
        items: the encoded requests.
        parse: reads one.
        loop: where `items` is to be awaited.
    """

    def __init__(
        self, items: AsyncIterator[Payload], parse: Callable[[bytes], Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._items = items
        self._parse = parse
        self._loop = loop
        self._waiting: Future[Any] | None = None
        self._cancelled = False
        self._exhausted = False

    @property
    def is_exhausted(self) -> bool:
        """Whether the last request was taken."""
        return self._exhausted

    def is_cancelled(self) -> bool:
        """Whether no more requests come because of `cancel` or because the call is over."""
        return self._cancelled

    def cancel(self) -> None:
        """Takes no more requests; whoever waits for one finds the end."""
        self._cancelled = True
        if self._waiting is not None:
            self._waiting.cancel()

    def __aiter__(self) -> gRPCInputStream:
        return self

    async def __anext__(self) -> Any:
        if self._cancelled or self._exhausted:
            raise StopAsyncIteration
        try:
            item = await anext(self._items)
        except StopAsyncIteration:
            self._exhausted = True
            raise
        return self._parse(item.body)

    def __iter__(self) -> gRPCInputStream:
        return self

    def __next__(self) -> Any:
        """Waits on a worker thread while the loop takes the next request."""
        if self._cancelled:
            raise StopIteration
        self._waiting = asyncio.run_coroutine_threadsafe(self._next_or_none(), self._loop)
        if self._cancelled:  # between the look and the wait
            self._waiting.cancel()
        try:
            found = self._waiting.result()
        except CancelledError:
            raise StopIteration from None
        finally:
            self._waiting = None
        if found is None:
            raise StopIteration
        return found[0]

    async def _next_or_none(self) -> tuple[Any] | None:
        try:
            return (await anext(self),)
        except StopAsyncIteration:
            return None


RayServegRPCContext = MeshServegRPCContext
"""The name under which users of this programming model know the context."""
