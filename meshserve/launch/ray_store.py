"""Desired state in Ray's internal key-value store: it lives as long as the cluster's head does."""

from __future__ import annotations

from ray.experimental.internal_kv import (
    _internal_kv_del,
    _internal_kv_get,
    _internal_kv_list,
    _internal_kv_put,
)

from meshserve.launch.apart import apart
from meshserve.settings import NAMESPACE

_SPACE = NAMESPACE.encode()


class RayStore:
    """The `Store` on Ray. The store's calls block, so they run on threads."""

    async def get(self, key: str) -> bytes | None:
        """See `Store.get`."""
        return await apart(_internal_kv_get, key.encode(), namespace=_SPACE)

    async def put(self, key: str, value: bytes) -> None:
        """See `Store.put`."""
        await apart(_internal_kv_put, key.encode(), value, overwrite=True, namespace=_SPACE)

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        await apart(_internal_kv_del, key.encode(), namespace=_SPACE)

    async def keys(self, prefix: str) -> tuple[str, ...]:
        """See `Store.keys`."""
        found = await apart(_internal_kv_list, prefix.encode(), namespace=_SPACE)
        return tuple(key.decode() for key in found)
