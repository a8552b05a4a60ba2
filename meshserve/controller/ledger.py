"""Desired state and its store: the only writer. What is wanted is written before anybody acts on it.

Changes are made one after the other by the functions of `core.desire`. Each is written as far as it differs, then
announced. A controller that begins reads everything back, with a higher epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshserve.core.desire import restore
from meshserve.launch.launcher import Store
from meshserve.model.control import DeploymentSpec, Desired, DesiredApplication, DesiredDeployment
from meshserve.v1 import proxy_control_pb2
from meshserve.wire.control import proxy_options_from_proto, proxy_options_to_proto
from meshserve.wire.stored import application_from_record, application_record, code_keys, config_record, with_config

_EPOCH = "epoch"
_GENERATION = "generation"
_PROXIES = "proxies"
_CONFIG = "config"
_SHUTDOWN = "shutdown"
_APPLICATION = "app/"
_CODE = "code/"


class Ledger:
    """Holds desired state.

    Args:
        store: where it survives.
        announce: told every new desired state, after it was written.
    """

    def __init__(self, store: Store, announce: Callable[[Desired], None]) -> None:
        self.desired = Desired()
        self.epoch = 0
        self._store = store
        self._announce = announce
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Reads what earlier controllers wrote, and begins a new epoch."""
        self.epoch = int(await self._store.get(_EPOCH) or 0) + 1
        await self._store.put(_EPOCH, str(self.epoch).encode())
        records = []
        for key in await self._store.keys(_APPLICATION):
            record = await self._store.get(key)
            if record is not None:
                records.append(await self._application(key.removeprefix(_APPLICATION), record))
        proxies = await self._store.get(_PROXIES)
        options = None
        if proxies is not None:
            options = proxy_options_from_proto(proxy_control_pb2.ProxyOptions.FromString(proxies))
        generation = int(await self._store.get(_GENERATION) or 0)
        shutting_down = await self._store.get(_SHUTDOWN) is not None
        desired = restore(generation, records, options, shutting_down)
        self.desired = with_config(desired, await self._store.get(_CONFIG))

    async def _application(self, name: str, record: bytes) -> tuple[DesiredApplication, tuple[DesiredDeployment, ...]]:
        code = {}
        for deployment, version in code_keys(record):
            code[deployment, version] = await self._store.get(_code_key(name, deployment, version)) or b""
        return application_from_record(record, code)

    async def change(self, change: Callable[[Desired], Desired]) -> Desired:
        """Makes a change; returns the desired state with it, once it is written and announced.

        Args:
            change: pure; what it raises is raised here, and nothing is changed.
        """
        async with self._lock:
            before = self.desired
            after = change(before)
            if after is not before:
                await self._write(before, after)
                self.desired = after
                self._announce(after)
            return after

    async def clear(self) -> None:
        """Removes everything: the mesh has stopped."""
        async with self._lock:
            for key in await self._store.keys(""):
                await self._store.delete(key)

    async def _write(self, before: Desired, after: Desired) -> None:
        if after.generation != before.generation:
            await self._store.put(_GENERATION, str(after.generation).encode())
        if after.proxies is not None and after.proxies != before.proxies:
            await self._store.put(_PROXIES, proxy_options_to_proto(after.proxies).SerializeToString())
        if (after.config_json, after.capacity) != (before.config_json, before.capacity):
            await self._store.put(_CONFIG, config_record(after))
        if after.shutting_down and not before.shutting_down:
            await self._store.put(_SHUTDOWN, b"1")
        for name in {*before.applications, *after.applications}:
            if _differs(name, before, after):
                await self._write_application(name, before, after)

    async def _write_application(self, name: str, before: Desired, after: Desired) -> None:
        old, new = before.applications.get(name), after.applications.get(name)
        stale, needed = _code_of(old), _code_of(new)
        for key, spec in needed.items():
            if key not in stale:
                await self._store.put(key, spec.code)
        if new is None:
            await self._store.delete(_APPLICATION + name)
        else:
            await self._store.put(_APPLICATION + name, application_record(new, after))
        for key in stale:
            if key not in needed:
                await self._store.delete(key)


def _differs(name: str, before: Desired, after: Desired) -> bool:
    """Whether an application or one of its deployments is another object than before."""
    old, new = before.applications.get(name), after.applications.get(name)
    if old is None or new is None or old is not new:
        return True
    deployments = (*new.spec.deployments, *new.dropped)
    return any(before.deployments.get(one.id) is not after.deployments.get(one.id) for one in deployments)


def _code_of(application: DesiredApplication | None) -> dict[str, DeploymentSpec]:
    """The code an application needs, by the keys it lies under."""
    if application is None:
        return {}
    build = application.build
    built = build.base.deployments if build is not None and build.base is not None else ()
    return {
        _code_key(one.id.app, one.id.name, one.code_version): one for one in (*built, *application.spec.deployments)
    }


def _code_key(app: str, deployment: str, version: str) -> str:
    return f"{_CODE}{app}/{deployment}/{version}"
