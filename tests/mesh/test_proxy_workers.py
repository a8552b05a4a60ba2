"""A proxy of several processes on real Ray: shared ports, a worker that is killed, an end that leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

import httpx
import ray
from conftest import Addresses, free_port

import meshserve as serve
from meshserve.config import HTTPOptions, gRPCOptions
from meshserve.launch.launcher import ProcessSpec
from meshserve.launch.locator import locate
from meshserve.launch.ray_launcher import RayLauncher
from meshserve.model.process_names import proxy_worker_name
from meshserve.v1.proxy_control_pb2 import ProxyOptions

NAME = "MESHSERVE_TEST_PROXY"

OK = 200


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Hello:
    def __call__(self) -> str:
        return "hello"


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 60
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.05)


def test_workers_share_a_port_come_back_and_end_with_their_proxy(run, mesh: Addresses) -> None:
    app = run(Hello.bind())
    asyncio.run(serve_beside_the_mesh(app.url.removeprefix(mesh.http)))


async def serve_beside_the_mesh(path: str) -> None:
    """Another proxy of the mesh, with a worker, on a port of its own."""
    launcher, node_id = RayLauncher(), ray.get_runtime_context().get_node_id()
    http, grpc = HTTPOptions(port=free_port(), workers=2), gRPCOptions(port=free_port())
    options = ProxyOptions(http_json=http.to_json(), grpc_json=grpc.to_json("127.0.0.1"))
    boot = {"token": (await locate()).token, "host": "127.0.0.1", "options": options.SerializeToString()}
    entry, worker = "meshserve.proxy.process:main", proxy_worker_name(node_id, 1)
    await launcher.start(ProcessSpec(NAME, entry, boot, {"num_cpus": 0}, node_id=node_id))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http.port}") as client:

        async def know_of_it() -> bool:
            answers = [await client.get(path, headers={"connection": "close"}) for _ in range(20)]
            return all(answer.status_code == OK for answer in answers)

        async def both_serve() -> bool:
            for _ in range(20):  # each on a connection of its own, so that both get some
                answer = await client.get(path, headers={"connection": "close"})
                assert (answer.status_code, answer.text) == (200, "hello")
            counted = [line for line in (await client.get("/metrics")).text.splitlines() if path in line]
            return {'worker="1"' in line for line in counted if "http_requests_total" in line} == {True, False}

        async def worker_is_back() -> bool:
            found = await RayLauncher().find(worker)
            return found is not None and found.pid != first.pid

        async def worker_is_gone() -> bool:
            return worker not in await launcher.names()

        await eventually(know_of_it)  # the first process is not one of the controller's, which would wait for that
        await eventually(both_serve)
        first = await RayLauncher().find(worker)
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        await eventually(worker_is_back)
        await eventually(both_serve)
        await launcher.kill(NAME)
        await eventually(worker_is_gone)
