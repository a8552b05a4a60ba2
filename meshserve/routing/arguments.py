"""The arguments of a handle call: what can be sent at once, what has to be waited for, what is a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import Any, cast

from meshserve.model.call import CallKind, Payload
from meshserve.model.failure import Failure
from meshserve.routing.response import collecting_nested, interop
from meshserve.routing.response_stream import DeploymentResponseGenerator
from meshserve.wire.values import Hole, Store, encode_arguments, is_plain

_GENERATORS = (GeneratorType, AsyncGeneratorType)

Upstream = Callable[[Callable[[Payload | None, Failure | None], None]], None]
"""Something to wait for: told whom to call, on the I/O thread, with the payload for a hole or the failure."""


@dataclass(slots=True)
class EncodedArguments:
    """Arguments ready to go, but for what is named here.

    Attributes:
        payload: the arguments, with a hole for each result they wait for.
        upstream: what fills the holes.
        holds: what must stay alive until the call is over: the responses among the arguments.
        input: the generator that was given as the first argument, to be streamed; None for none.
    """

    payload: Payload
    upstream: list[Upstream]
    holds: tuple[Any, ...] = ()
    input: AsyncIterator[Any] | Iterator[Any] | None = None

    def kind(self, stream: bool) -> CallKind:
        """Which sides of the call stream."""
        if self.input is not None:
            return CallKind.BIDI_STREAM if stream else CallKind.CLIENT_STREAM
        return CallKind.SERVER_STREAM if stream else CallKind.UNARY


def encode_call_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], store: Store | None = None
) -> EncodedArguments:
    """Encodes arguments.

    Args:
        store: where large ones are put.

    Raises:
        RuntimeError: a response generator is among them.
        TypeError: something cannot be pickled.
    """
    stream: Any = None
    if args and type(args[0]) in _GENERATORS:
        stream, args = args[0], args[1:]
    upstream: list[Upstream] = []
    holds: tuple[Any, ...] = ()
    for value in (*args, *kwargs.values()) if kwargs else args:
        if not is_plain(value) and _to_wait_for(value) is not None:
            holds = (*args, *kwargs.values())
            args = tuple(_hole(value, upstream) for value in args)
            kwargs = {name: _hole(value, upstream) for name, value in kwargs.items()}
            break
    with collecting_nested(len(upstream)) as nested:
        payload = encode_arguments(args, kwargs, store)
    if nested:
        upstream += [partial(interop().when_referable, response) for response in nested]
        holds = (*holds, *nested)
    return EncodedArguments(payload, upstream, holds, stream)


def _hole(value: Any, upstream: list[Upstream]) -> Any:
    """The value itself, or a hole for what it will be."""
    wait = _to_wait_for(value)
    if wait is None:
        return value
    upstream.append(wait)
    return Hole(len(upstream) - 1)


def _to_wait_for(value: Any) -> Upstream | None:
    if hasattr(type(value), "_when_settled"):  # a DeploymentResponse, or a legacy handle's stand-in for one
        return cast(Upstream, value._when_settled)
    if isinstance(value, DeploymentResponseGenerator):
        raise RuntimeError(
            "Streaming deployment handle results cannot be passed to downstream handle calls: iterate them and pass "
            "the items."
        )
    # The name is compared first, so that a process without Ray never loads it.
    if type(value).__name__ == "ObjectRef" and interop().is_object_ref(value):
        return cast(Upstream, interop().RefArgument(value).when_settled)
    return None
