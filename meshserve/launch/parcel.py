"""A large encoded value on its way through Ray's object store: written once, read without a copy."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from meshserve.model.call import Encoding, Payload


class Parcel:
    """A payload in the form that Ray's serializer leaves out of band.

    Args:
        payload: what it carries.
    """

    __slots__ = ("_body", "_buffers")

    def __init__(self, payload: Payload) -> None:
        self._body: Any = payload.body
        self._buffers: Sequence[Any] = payload.buffers

    def payload(self) -> Payload:
        """What it carries. Its buffers are views of Ray's shared memory, read-only, which lives as long as they do."""
        return Payload(bytes(self._body), Encoding.PICKLE, [memoryview(buffer) for buffer in self._buffers])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (pickle.PickleBuffer(self._body), [pickle.PickleBuffer(buffer) for buffer in self._buffers])


def _rebuild(body: Any, buffers: list[Any]) -> Parcel:
    return Parcel(Payload(body, Encoding.PICKLE, buffers))
