"""Waiting until applications run, are gone, or have failed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing

from meshserve.api.client import ControllerClient
from meshserve.api.readiness import INGRESS_GRACE_S, Readiness, readiness
from meshserve.errors import DeploymentFailedError
from meshserve.model.ids import DeploymentId
from meshserve.model.overview import MeshOverview
from meshserve.model.status import ProxyState
from meshserve.routing.directory import process_directory

log = logging.getLogger(__name__)

OnProgress = Callable[[Readiness], None]
"""Told what is waited for, whenever it may have changed and every few seconds; on the I/O thread."""


async def until_running(
    client: ControllerClient, names: Collection[str], generation: int, with_ingress: bool, on_progress: OnProgress
) -> MeshOverview:
    """Waits until applications run, for as long as it takes.

    Returns:
        The state of the mesh at that moment.

    Raises:
        DeploymentFailedError: they will not; says why, with what user code raised.
    """
    began, mesh = time.monotonic(), MeshOverview()
    async with aclosing(_latest(client)) as overviews:
        async for mesh in overviews:
            now = readiness(mesh, names, generation, with_ingress, time.monotonic() - began)
            if now.failure:
                raise DeploymentFailedError(now.failure)
            if now.ready:
                break
            on_progress(now)
    if with_ingress:
        for proxy in mesh.proxies.values():
            if proxy.status == ProxyState.HEALTHY and proxy.message:
                log.warning("The proxy of node %s: %s", proxy.node_id, proxy.message)
    return mesh


async def until_heard(mesh: MeshOverview, names: Collection[str]) -> None:
    """Waits until the handles of this process know what the controller has told of applications.

    Status and snapshots come on streams of their own: a handle that was there before may still have the replicas of
    the version before.

    Args:
        mesh: the state that was waited for.
    """
    published = {
        DeploymentId(name, deployment.name): deployment.published
        for name in names
        if name in mesh.applications
        for deployment in mesh.applications[name].deployments
    }
    await process_directory().catch_up(published)


async def _latest(client: ControllerClient) -> AsyncGenerator[MeshOverview, None]:
    """The state whenever it changes, and again when it has not for a while: patience ends although nothing moves."""
    async with aclosing(client.watch()) as overviews:
        coming = asyncio.ensure_future(anext(overviews))
        try:
            mesh = None
            while True:
                await asyncio.wait({coming}, timeout=INGRESS_GRACE_S)
                if coming.done():
                    mesh = coming.result()
                    coming = asyncio.ensure_future(anext(overviews))
                if mesh is not None:
                    yield mesh
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def until_serving(client: ControllerClient, timeout_s: float) -> MeshOverview:
    """Waits until the proxies serve.

    Raises:
        DeploymentFailedError: they cannot.
        TimeoutError: they do not in time; says what is missing.
    """
    missing = ""

    def note(progress: Readiness) -> None:
        nonlocal missing
        missing = " ".join(what for _, what in progress.waiting)

    try:
        async with asyncio.timeout(timeout_s):
            return await until_running(client, (), 0, True, note)
    except TimeoutError:
        raise TimeoutError(f"The ingress is not up after {timeout_s:g} s: {missing}") from None


async def until_gone(client: ControllerClient, names: Collection[str], timeout_s: float) -> None:
    """Waits until applications are gone.

    Raises:
        TimeoutError: they are not in time.
    """
    async with asyncio.timeout(timeout_s), aclosing(client.watch()) as overviews:
        async for mesh in overviews:
            if not any(name in mesh.applications for name in names):
                return
