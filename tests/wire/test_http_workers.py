"""A proxy of several processes: one port, one state, one place to scrape. Here they are all in one process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

import httpx
import pytest
from http_mesh import FakeServices, HttpMesh
from replicas import TOKEN

from meshserve.launch.launcher import ProcessSpec, Started
from meshserve.model.ids import DeploymentId
from meshserve.model.targets import ApplicationRoute, RouteTable
from meshserve.proxy import process as process_module
from meshserve.proxy.http_server import bind
from meshserve.proxy.process import ProxyProcess
from meshserve.routing.service import ReplyStream
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.token import token_metadata
from meshserve.v1 import proxy_control_pb2 as pb
from meshserve.v1 import proxy_control_pb2_grpc
from meshserve.wire.http import response_items

INGRESS = DeploymentId("app", "Model")
TABLE = RouteTable((1, 5), (ApplicationRoute("app", "/", INGRESS),))
METADATA = token_metadata(TOKEN)


class Directory(FakeServices):
    """What one process of the proxy knows, and a service that answers with its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.held: list[ReplyStream] | None = None
        self.services[INGRESS] = self  # type: ignore[assignment]  # streams are all that is asked for

    def stream(self, call: Any) -> ReplyStream:
        stream = ReplyStream()
        if self.held is not None:
            self.held.append(stream)
        else:
            self.answer(stream)
        return stream

    def answer(self, stream: ReplyStream) -> None:
        stream.push(tuple(response_items(200, (), self.name.encode(), more=False)))
        stream.finished(None)

    def publish(self, table: RouteTable) -> None:
        for watcher in self.watchers:
            watcher(table)

    async def close(self) -> None: ...


class Launcher:
    """Starts the other processes beside the first one."""

    def __init__(self) -> None:
        self.directories: dict[str, Directory] = {}
        self.running: dict[str, ProxyProcess] = {}
        self.deaths: dict[str, asyncio.Event] = {}

    async def start(self, spec: ProcessSpec) -> Started:
        directory = self.directories[spec.boot["worker"]] = Directory(spec.boot["worker"])
        starting = asyncio.create_task(process_module.start(spec.boot, io_thread(), directory, self))  # type: ignore[arg-type]  # fakes
        await until(lambda: bool(directory.watchers))
        directory.publish(TABLE)
        process = self.running[spec.name] = await starting
        self.deaths[spec.name] = asyncio.Event()
        return Started(spec.name, process.address, spec.node_id, "127.0.0.1", 1)

    async def wait_for_death(self, name: str) -> None:
        await self.deaths[name].wait()

    async def kill(self, name: str) -> None:
        await self.running.pop(name).close()
        self.deaths[name].set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def on_io(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        HttpMesh.on_io(test())

    return run


class Proxy:
    """A proxy of three processes."""

    def __init__(self, process: ProxyProcess, directory: Directory, launcher: Launcher, stub: Any) -> None:
        self.process = process
        self.directory = directory
        self.launcher = launcher
        self.stub = stub
        self.url = f"http://{process.http_address}"

    async def check(self) -> pb.CheckResponse:
        return await self.stub.Check(pb.CheckRequest(), metadata=METADATA)

    async def get(self, path: str = "/") -> httpx.Response:
        """A request on a connection of its own: the kernel deals them out."""
        async with httpx.AsyncClient() as client:
            return await client.get(self.url + path)

    async def names(self, count: int = 60) -> set[str]:
        """Who answers."""
        return {(await self.get()).text for _ in range(count)}


def boot(**http: Any) -> dict[str, Any]:
    fields = {"host": "127.0.0.1", "port": 0, "workers": 3} | http
    options = pb.ProxyOptions(http_json=json.dumps(fields), grpc_json='{"port": 0, "host": "127.0.0.1"}')
    return {"token": TOKEN, "host": "127.0.0.1", "node_id": "n", "options": options.SerializeToString()}


@asynccontextmanager
async def serving(**http: Any) -> AsyncIterator[Proxy]:
    launcher, directory = Launcher(), Directory("0")
    process = await process_module.start(boot(**http), io_thread(), directory, launcher)  # type: ignore[arg-type]  # fakes
    channel = internal_channel(process.address)
    try:
        directory.publish(TABLE)
        await until(lambda: len(launcher.running) == 2 or bool(process.failure))
        yield Proxy(process, directory, launcher, proxy_control_pb2_grpc.ProxyControlServiceStub(channel))
    finally:
        await channel.close()
        await process.close()
        assert not launcher.running, "the others end with the first one"


@on_io
async def test_all_processes_serve_one_port() -> None:
    async with serving() as proxy:
        assert await proxy.names() == {"0", "1", "2"}
        assert {process.http_address for process in proxy.launcher.running.values()} == {proxy.process.http_address}
        assert {process.grpc_address for process in proxy.launcher.running.values()} == {proxy.process.grpc_address}


@on_io
async def test_one_check_tells_of_all_requests_and_the_oldest_routes() -> None:
    async with serving() as proxy:
        held: list[ReplyStream] = []
        everyone = (proxy.directory, *proxy.launcher.directories.values())
        for directory in everyone:
            directory.held = held
        requests = [asyncio.create_task(proxy.get()) for _ in range(9)]
        await until(lambda: len(held) == 9)
        proxy.directory.publish(replace(TABLE, version=(1, 6)))
        checked = await proxy.check()
        assert (checked.ongoing, checked.routes_epoch, checked.routes_version) == (9, 1, 5)
        for directory in everyone:
            directory.publish(replace(TABLE, version=(1, 6)))
        assert (await proxy.check()).routes_version == 6
        for stream in held:
            proxy.directory.answer(stream)
        assert {(await request).text for request in requests} == {"0"}
        assert (await proxy.check()).ongoing == 0


@on_io
async def test_drain_turns_every_process_unhealthy_and_back() -> None:
    async with serving() as proxy:
        for draining, status in ((True, 503), (False, 200)):
            await proxy.stub.DrainProxy(pb.DrainProxyRequest(draining=draining), metadata=METADATA)
            assert {(await proxy.get("/-/healthz")).status_code for _ in range(30)} == {status}


@on_io
async def test_process_that_dies_is_started_again_while_the_others_serve() -> None:
    async with serving() as proxy:
        name, process = next(iter(proxy.launcher.running.items()))
        await proxy.launcher.kill(name)
        assert await proxy.names(10) <= {"0", "1", "2"}, "nobody is refused"
        assert (await proxy.check()).failure == ""
        await until(lambda: proxy.launcher.running.get(name) not in (None, process))
        assert await proxy.names() == {"0", "1", "2"}


@on_io
async def test_every_process_shows_the_metrics_of_the_node() -> None:
    async with serving() as proxy:
        worker = next(iter(proxy.launcher.running.values()))
        answers = [await proxy.get("/metrics") for _ in range(20)]
        assert all('meshserve_scrape_processes{state="fresh"} 2' in answer.text for answer in answers)
        shown = await worker.control.NodeMetrics(pb.NodeMetricsRequest(), None)
        assert b"meshserve_scrape_processes" in shown.text


@on_io
async def test_port_of_somebody_else_is_not_shared() -> None:
    (taken,) = bind("127.0.0.1", 0, shared=True)
    async with serving(port=taken.getsockname()[1]) as proxy:
        assert "Address already in use" in (await proxy.check()).failure
        assert not proxy.launcher.running
    taken.close()


@pytest.mark.parametrize("workers", [0, -1])
def test_there_is_at_least_one_process(workers: int) -> None:
    from meshserve.config import HTTPOptions

    with pytest.raises(ValueError, match="workers must be at least 1"):
        HTTPOptions(workers=workers)
