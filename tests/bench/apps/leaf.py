"""The deployment at the far end of a handle: does nothing, in every shape."""

import os
from collections.abc import AsyncIterator
from typing import Any


class Leaf:
    """Methods that cost nothing, so that what is measured is the way to them."""

    def __init__(self) -> None:
        self._items_made = 0

    async def noop(self) -> bytes:
        """The smallest call there is."""
        return b"ok"

    async def process(self) -> int:
        """Which replica answered."""
        return os.getpid()

    async def echo(self, value: Any) -> Any:
        """Returns its argument."""
        return value

    async def items(self, count: int) -> AsyncIterator[int]:
        """Small items, as fast as they are taken."""
        for index in range(count):
            yield index

    async def blocks(self, count: int, size_bytes: int) -> AsyncIterator[bytes]:
        """Larger items, counted as they are made, so that a test can see how far a producer runs ahead."""
        self._items_made = 0
        block = bytes(size_bytes)
        for _ in range(count):
            self._items_made += 1
            yield block

    async def items_made(self) -> int:
        """How many items `blocks` has made since it was last called."""
        return self._items_made
