"""Python values <-> payloads: pickle protocol 5 with large buffers kept out of band.

Three picklers, from cheap to able. Arguments made of plain builtins need no care and go straight through C. Everything
else goes through C as well, but with a look at each instance, class and function: what is defined in `__main__` or
inside a function cannot be imported at the other end, so the value is then pickled again by cloudpickle, which
carries such code by value. Buffers (numpy arrays, Arrow) leave the stream as they are and are not copied into it, nor
are large `bytes` and texts (`wire.parts`).

A buffer that arrives is `bytes`: arrays built on it are read-only, as with Ray's object store.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import cloudpickle

from meshserve.model.call import Encoding, Payload, SharedPayload
from meshserve.settings import SHARED_FROM_BYTES
from meshserve.wire.buffers import bytes_of
from meshserve.wire.parts import Stream, body_of

Store = Callable[[Payload], Payload | None]
"""Copies a large value to where others can read it; None when there is no room."""

_PLAIN = frozenset({int, float, str, bool, bytes, type(None)})

_OUT_OF_BAND_BYTES = 4096
"""Smaller buffers ride in the stream: a buffer of its own costs more than the copy."""


class _NeedsCloudpickle(Exception):
    """Found something that must travel by value."""


class _ImportablePickler(pickle.Pickler):
    """C pickler that gives up on what the other end could not import."""

    def reducer_override(self, obj: Any) -> Any:
        """Called by C for everything that is not an exact builtin container or scalar."""
        if isinstance(obj, type | FunctionType):
            if obj.__module__ == "__main__" or "<locals>" in obj.__qualname__ or "<lambda>" in obj.__qualname__:
                raise _NeedsCloudpickle
        elif type(obj).__module__ == "__main__":
            raise _NeedsCloudpickle
        return NotImplemented


def is_plain(value: object) -> bool:
    """Whether a value is of a builtin kind that cannot hold anything of ours."""
    return type(value) in _PLAIN


def all_plain(args: tuple[Any, ...]) -> bool:
    """Whether positional arguments are all plain, and none is large."""
    for arg in args:
        kind = type(arg)
        if kind not in _PLAIN or ((kind is bytes or kind is str) and len(arg) >= SHARED_FROM_BYTES):
            return False
    return True


def encode_plain(args: tuple[Any, ...]) -> Payload:
    """Pickles positional arguments that are all plain."""
    return Payload(pickle.dumps((args, {}), 5), Encoding.PICKLE)


def encode_plain_value(value: Any) -> Payload | None:
    """Pickles a value of a builtin kind that is not large; None for any other."""
    kind = type(value)
    if kind not in _PLAIN or ((kind is bytes or kind is str) and len(value) >= SHARED_FROM_BYTES):
        return None
    return Payload(pickle.dumps(value, 5), Encoding.PICKLE)


def encode_value(value: Any, store: Store | None = None) -> Payload:
    """Pickles a value.

    Args:
        store: where a large value is put; None to make a copy of it here.

    Raises:
        TypeError: it cannot be pickled; the message names the part that cannot.
    """
    return encode_plain_value(value) or _encode_any(value, store)


def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], store: Store | None = None) -> Payload:
    """Pickles the arguments of a call; as `encode_value`."""
    if not kwargs and all_plain(tuple([arg for arg in args if type(arg) is not Hole])):
        return encode_plain(args)
    return _encode_any((args, kwargs), store)


def _encode_any(value: Any, store: Store | None) -> Payload:
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """Takes large contiguous buffers out of the stream (False means: out of band)."""
        raw = buffer.raw()
        if raw.nbytes < _OUT_OF_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    stream = Stream()
    try:
        _ImportablePickler(stream, 5, buffer_callback=keep).dump(value)
        return _snapshot(stream.parts, buffers, store)
    except Exception:  # noqa: BLE001 - whatever the fast way cannot do, the able one tries and reports
        buffers.clear()
        stream.parts.clear()
    try:
        cloudpickle.Pickler(stream, protocol=5, buffer_callback=keep).dump(value)
    except Exception as error:
        raise TypeError(f"cannot send {_describe(value)}: {error}. Send plain data, or make it picklable.") from error
    return _snapshot(stream.parts, buffers, store)


def _snapshot(parts: Sequence[bytes | bytearray], buffers: list[memoryview], store: Store | None) -> Payload:
    """The payload, with copies of what the sender may change as soon as it is sent."""
    body, buffers = body_of(parts, buffers)
    if store is not None and len(body) + sum(buffer.nbytes for buffer in buffers) >= SHARED_FROM_BYTES:
        stored = store(Payload(body, Encoding.PICKLE, buffers))
        if stored is not None:
            return stored
    return owned(Payload(body, Encoding.PICKLE, buffers))


def owned(payload: Payload) -> Payload:
    """A payload with copies of its buffers, in this process."""
    return Payload(payload.body, payload.encoding, [_copied(memoryview(buffer)) for buffer in payload.buffers])


def _copied(buffer: memoryview) -> bytes:
    whole = buffer.obj
    return whole if isinstance(whole, bytes) and buffer.nbytes == len(whole) else bytes_of(buffer)


def _describe(value: Any) -> str:
    """Names the innermost argument that does not pickle."""
    parts: list[Any] = []
    if isinstance(value, tuple | list):
        parts = list(value)
    elif isinstance(value, dict):
        parts = list(value.values())
    for part in parts:
        try:
            cloudpickle.dumps(part)
        except Exception:  # noqa: BLE001 - any failure marks the culprit
            return _describe(part)
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


def decode_value(payload: Payload) -> Any:
    """Unpickles what `encode_value` or `encode_arguments` made.

    Raises:
        Exception: whatever the unpickling of user classes raises.
    """
    if payload.buffers:
        return pickle.loads(payload.body, buffers=payload.buffers)
    return pickle.loads(payload.body)


class Hole:
    """Stands in arguments for the result of an earlier call, to arrive as its value.

    Args:
        index: among the holes of these arguments.
    """

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[type[Hole], tuple[int]]:
        return Hole, (self.index,)


class _Decoding(threading.local):
    """What `reference_hole` needs while arguments are unpickled in this thread."""

    references: Callable[[int], Any] | None = None


_decoding = _Decoding()


class ReferenceHole:
    """Stands in arguments, at any depth, for the result of an earlier call, to arrive as a reference to it.

    Args:
        index: among the holes of these arguments.
    """

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return _reference_at, (self.index,)


def _reference_at(index: int) -> Any:
    """The reference in place of a `ReferenceHole`."""
    if _decoding.references is None:
        raise ValueError("a reference to another call's result can be read only among the arguments of a call")
    return _decoding.references(index)


@dataclass(frozen=True, slots=True)
class RaisedResult:
    """In the place of a result that is referred to: the exception to raise for whoever looks at it."""

    error: BaseException


class _References:
    """The references in place of holes while arguments are unpickled, each made once.

    Args:
        results: by their holes' indices.
        reference: see `decode_arguments`.
    """

    __slots__ = ("_made", "_reference", "_results")

    def __init__(self, results: list[Payload], reference: Callable[[Payload], Any] | None) -> None:
        self._results = results
        self._reference = reference
        self._made: dict[int, Any] = {}

    def at(self, index: int) -> Any:
        """The reference for a hole."""
        if index not in self._made:
            self._made[index] = None if self._reference is None else self._reference(self._results[index])
        return self._made[index]


def fill_holes(arguments: Payload, results: Sequence[Payload]) -> Payload:
    """Joins arguments that have holes with the undecoded results, or claims on them, that belong there."""
    results = [result.claim if type(result) is SharedPayload else result for result in results]
    if type(arguments) is not SharedPayload:
        return _joined(arguments, results)
    whole = _joined(arguments, results)
    return SharedPayload(whole.body, Encoding.CHAIN, whole.buffers, _joined(arguments.claim, results), arguments.memory)


def _joined(arguments: Payload, results: Sequence[Payload]) -> Payload:
    layout = [(int(result.encoding), len(result.buffers)) for result in results]
    buffers = [*arguments.buffers]
    for result in results:
        buffers.append(result.body)
        buffers.extend(result.buffers)
    head = (arguments.body, int(arguments.encoding), len(arguments.buffers), layout)
    return Payload(pickle.dumps(head, 5), Encoding.CHAIN, buffers)


def open_chain(payload: Payload) -> tuple[Payload, list[Payload]]:
    """Takes apart what `fill_holes` made: the arguments or the claim on them, and what belongs in their holes."""
    body, own_encoding, count, layout = pickle.loads(payload.body)
    buffers = iter(payload.buffers)
    arguments = Payload(body, Encoding(own_encoding), [next(buffers) for _ in range(count)])
    results = [
        Payload(bytes(next(buffers)), Encoding(encoding), [next(buffers) for _ in range(n)]) for encoding, n in layout
    ]
    return arguments, results


def decode_arguments(
    payload: Payload,
    reference: Callable[[Payload], Any] | None = None,
    fetch: Callable[[Payload], Payload] | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Unpickles what `encode_arguments` or `fill_holes` made.

    Args:
        reference: makes a reference to a result, given it or the claim on it.
        fetch: gets the value for a claim that stands in the place of a value.
    """
    if payload.encoding is Encoding.CLAIM and fetch is not None:
        payload = fetch(payload)
    if payload.encoding is not Encoding.CHAIN:
        arguments: tuple[tuple[Any, ...], dict[str, Any]] = decode_value(payload)
        return arguments
    outer, results = open_chain(payload)
    if outer.encoding is Encoding.CLAIM and fetch is not None:
        outer = fetch(outer)
    _decoding.references = _References(results, reference).at
    try:
        args, kwargs = decode_value(outer)
    finally:
        _decoding.references = None

    def value(argument: Any) -> Any:
        if type(argument) is not Hole:
            return argument
        result = results[argument.index]
        return decode_value(fetch(result) if result.encoding is Encoding.CLAIM and fetch is not None else result)

    return tuple(value(argument) for argument in args), {name: value(argument) for name, argument in kwargs.items()}
