"""HTTP on real processes: composition, FastAPI, streams, WebSockets, redeploys under load, lost replicas."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from conftest import Addresses, RunningApplication
from fastapi import FastAPI, WebSocket
from starlette.requests import Request
from starlette.responses import StreamingResponse
from websockets.sync.client import connect

import meshserve as serve
from meshserve.handle import DeploymentHandle
from meshserve.settings import NAMESPACE

Run = Callable[..., RunningApplication]

LIGHT: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0.0}

api = FastAPI()


@serve.deployment(**LIGHT)
class Words:
    """Yields words, and knows how many callers left early."""

    def __init__(self) -> None:
        self.left = 0

    async def say(self, count: int) -> AsyncIterator[str]:
        try:
            for number in range(count):
                yield f"w{number} "
                await asyncio.sleep(0)
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise

    async def how_many_left(self) -> int:
        return self.left


@serve.deployment(**LIGHT)
@serve.ingress(api)
class Front:
    """FastAPI in front of a child."""

    def __init__(self, words: DeploymentHandle[Any], greeting: str) -> None:
        self._words = words
        self._greeting = greeting

    @api.get("/hello/{name}")
    async def hello(self, name: str) -> dict[str, str]:
        return {"text": f"{self._greeting} {name}"}

    @api.get("/words")
    async def words(self, count: int) -> StreamingResponse:
        return StreamingResponse(self._words.options(stream=True).say.remote(count), media_type="text/plain")

    @api.get("/left")
    async def left(self) -> int:
        left: int = await self._words.how_many_left.remote()
        return left

    @api.websocket("/socket")
    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(f"{self._greeting} {text}")


@serve.deployment(**LIGHT)
class Plain:
    """Says which process and version it is."""

    def __init__(self, version: str = "1") -> None:
        self._version = version
        self._asleep = 0

    async def __call__(self, request: Request) -> dict[str, Any]:
        if "sleep_s" in request.query_params:
            self._asleep += 1
            await asyncio.sleep(float(request.query_params["sleep_s"]))
        return {"pid": os.getpid(), "version": self._version, "path": request.url.path, "asleep": self._asleep}


def eventually(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Waits for a condition."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    pytest.fail("the condition did not come true")


def test_fastapi_ingress_with_a_child(run: Run) -> None:
    app = run(Front.bind(Words.bind(), "hi"))
    with httpx.Client(base_url=app.url, timeout=30) as client:
        assert client.get("/hello/ann").json() == {"text": "hi ann"}
        assert client.get("/words", params={"count": 2000}).text == "".join(f"w{n} " for n in range(2000))
        assert client.get("/openapi.json").json()["servers"] == [{"url": httpx.URL(app.url).path}]
        assert client.get("/nothing").status_code == 404
        assert client.get("/words", params={"count": "x"}).status_code == 422


def test_web_socket(run: Run) -> None:
    app = run(Front.bind(Words.bind(), "hello"))
    with connect(app.url.replace("http", "ws") + "/socket", open_timeout=30) as socket:
        for name in ("ann", "bob"):
            socket.send(name)
            assert socket.recv(30) == f"hello {name}"


def test_client_that_leaves_cancels_the_child_of_the_call(run: Run) -> None:
    app = run(Front.bind(Words.bind(), "hi"))
    with httpx.Client(base_url=app.url, timeout=30) as client:
        with client.stream("GET", "/words", params={"count": 10_000_000}) as response:
            next(response.iter_text())
        eventually(lambda: client.get("/left").json() == 1)


def test_routes_and_health_of_the_mesh(run: Run, mesh: Addresses) -> None:
    app = run(Plain.bind())
    routes = httpx.get(f"{mesh.http}/-/routes").json()
    assert routes[httpx.URL(app.url).path] == app.name
    assert httpx.get(f"{mesh.http}/-/healthz").text == "success"
    missing = httpx.get(f"{mesh.http}/no-such-application")
    assert missing.status_code == 404 and f"{mesh.http}/-/routes" in missing.text


class Load:
    """Requests one after the other, until told to stop; keeps what was answered."""

    def __init__(self, url: str) -> None:
        self.answers: list[Any] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def _run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                response = client.get(self._url)
                self.answers.append(response.json() if response.status_code == 200 else response)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def test_redeploy_under_load_loses_no_request(run: Run) -> None:
    app = run(Plain.options(num_replicas=2).bind("1"))
    with Load(app.url) as load:
        eventually(lambda: len(load.answers) > 20)
        run(Plain.options(num_replicas=2).bind("2"), name=app.name, route_prefix=httpx.URL(app.url).path)
        eventually(lambda: load.answers[-1]["version"] == "2")
    assert [answer for answer in load.answers if not isinstance(answer, dict)] == []
    assert {answer["version"] for answer in load.answers} == {"1", "2"}


def test_changed_prefix_answers_at_the_new_one_only(run: Run, mesh: Addresses) -> None:
    app = run(Plain.bind())
    moved = run(Plain.bind(), name=app.name, route_prefix=f"/moved-{app.name}")
    assert httpx.get(f"{moved.url}/x").json()["path"] == f"/moved-{app.name}/x"
    eventually(lambda: httpx.get(app.url).status_code == 404)


def test_killed_replica_loses_only_what_it_had_and_comes_back(run: Run) -> None:
    app = run(Plain.bind())
    with httpx.Client(timeout=60) as client:
        pid = client.get(app.url).json()["pid"]
        lost: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: lost.append(client.get(app.url, params={"sleep_s": 30})))
        waiting.start()
        eventually(lambda: httpx.get(app.url).json()["asleep"] == 1)
        os.kill(pid, signal.SIGKILL)
        waiting.join(60)
        assert lost[0].status_code == 500
        assert httpx.get(app.url, timeout=60).json()["pid"] != pid


def proxy_pid() -> int:
    """The process of the only proxy."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    (name,) = [actor["name"] for actor in actors if actor["name"].startswith("MESHSERVE_PROXY-")]
    pid: int = ray.get(ray.get_actor(name, namespace=NAMESPACE).info.remote()).pid
    return pid


def peak_mb(pid: int) -> float:
    """The most memory a process has had, as the kernel counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@serve.deployment(**LIGHT)
class Pipe:
    """Counts what it is sent, and sends as much as it is asked for."""

    async def __call__(self, request: Request) -> Any:
        if request.method == "POST":
            return {"pid": os.getpid(), "size": sum([len(piece) async for piece in request.stream()])}
        return StreamingResponse(self._pieces(int(request.query_params["megabytes"])))

    async def _pieces(self, megabytes: int) -> AsyncIterator[bytes]:
        for _ in range(megabytes):
            yield b"x" * (1 << 20)


def test_large_bodies_run_in_bounded_memory(run: Run) -> None:
    app = run(Pipe.bind())
    proxy = proxy_pid()
    with httpx.Client(timeout=60) as client:
        replica = client.post(app.url, content=b"warm up").json()["pid"]
        before = {pid: peak_mb(pid) for pid in (proxy, replica)}
        assert client.post(app.url, content=iter([b"y" * (1 << 20)] * 256)).json()["size"] == 256 << 20
        with client.stream("GET", app.url, params={"megabytes": 256}) as response:
            assert sum(map(len, response.iter_raw(1 << 20))) == 256 << 20
        grown = {pid: peak_mb(pid) - before[pid] for pid in before}
    assert max(grown.values()) < 64, f"MiB grown, proxy and replica: {grown}"
