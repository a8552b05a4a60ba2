"""One scrape for a node: its processes are found, asked, and remembered when they are gone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc.aio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from replicas import on_io

from meshserve.errors import ControllerUnreachableError
from meshserve.launch.locator import MeshAddress
from meshserve.model.targets import RouteTable
from meshserve.proxy.applications import Applications
from meshserve.proxy.discovery import Discovery, Process
from meshserve.proxy.http_app import HttpApp
from meshserve.proxy.http_server import HttpServer
from meshserve.proxy.in_flight import InFlight
from meshserve.proxy.metrics import NodeMetrics
from meshserve.proxy.metrics_pages import MetricsPages
from meshserve.proxy.options import HttpOptions
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.server import start_internal_server
from meshserve.rpc.token import token_metadata
from meshserve.telemetry.exposition import render
from meshserve.telemetry.registry import Registry
from meshserve.telemetry.replica import ReplicaMetrics
from meshserve.transport.server import Server
from meshserve.v1 import controller_pb2, controller_pb2_grpc, metrics_pb2, metrics_pb2_grpc

TOKEN = "a-token-for-tests"
CALLS = "meshserve_replica_calls_total"


class FakeReplica(metrics_pb2_grpc.MetricsServiceServicer):
    """A process with metrics of its own, and the other end of every scrape in hand."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.calls = 0
        self.scrapes = 0
        self.tokens: list[str] = []
        self.answers = True
        self.server: Server | None = None
        self.process = Process("")

    async def start(self) -> FakeReplica:
        self.server = grpc.aio.server()
        metrics_pb2_grpc.add_MetricsServiceServicer_to_server(self, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.process = Process(f"127.0.0.1:{port}", "nodes", "Model")
        return self

    async def Collect(self, request: Any, context: Any) -> metrics_pb2.CollectResponse:
        self.scrapes += 1
        self.tokens += [value for key, value in context.invocation_metadata() if key == "meshserve-token"]
        if not self.answers:
            await asyncio.sleep(60)
        registry = Registry()
        metrics = registry.recorder(ReplicaMetrics, "nodes", "Model")
        for _ in range(self.calls):
            metrics.ended("predict", 0.01, None)
        labels = {"component": "replica", "replica": self.tag, "application": "nodes", "deployment": "Model"}
        return metrics_pb2.CollectResponse(text=render(registry.collect(), labels))


class FakeNode:
    """Which processes there are, changed by the test."""

    def __init__(self, *replicas: FakeReplica) -> None:
        self.there = [replica.process for replica in replicas]

    async def processes(self) -> list[Process]:
        return self.there


def total(text: bytes, name: str, **labels: str) -> float:
    """The sum of the series of a name with these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def replicas_in(text: bytes) -> set[str]:
    return {
        sample.labels["replica"]
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == CALLS and sample.labels["application"] == "nodes"
    }


@on_io
async def test_a_scrape_has_the_metrics_of_every_process_of_the_node_and_of_the_proxy() -> None:
    one, two = await FakeReplica("r1").start(), await FakeReplica("r2").start()
    one.calls, two.calls = 3, 4
    node = NodeMetrics(FakeNode(one, two), TOKEN)
    text = await node.text()
    assert total(text, CALLS, deployment="Model", application="nodes") == 7
    assert total(text, CALLS, application="nodes", replica="r2") == 4
    assert total(text, "meshserve_scrape_processes", state="fresh") == 2
    assert one.tokens == [TOKEN]
    await node.close()


@on_io
async def test_sums_do_not_fall_when_a_replica_dies_and_another_takes_its_place() -> None:
    one, two = await FakeReplica("r1").start(), await FakeReplica("r2").start()
    one.calls, two.calls = 30, 4
    there = FakeNode(one, two)
    node = NodeMetrics(there, TOKEN)
    assert total(await node.text(), CALLS, application="nodes") == 34
    there.there = [two.process]
    text = await node.text()
    assert total(text, CALLS, application="nodes") == 34 and "r1" not in replicas_in(text)
    three = await FakeReplica("r3").start()
    three.calls, two.calls = 1, 5
    there.there = [two.process, three.process]
    assert total(await node.text(), CALLS, application="nodes") == 36
    await node.close()


@on_io
async def test_a_process_that_does_not_answer_is_shown_as_it_was_last() -> None:
    one = await FakeReplica("r1").start()
    one.calls = 5
    node = NodeMetrics(FakeNode(one), TOKEN)
    await node.text()
    assert one.server is not None
    await one.server.stop(0)
    text = await node.text()
    assert total(text, CALLS, application="nodes", replica="r1") == 5
    assert total(text, "meshserve_scrape_processes", state="stale") == 1
    await node.close()


@on_io
async def test_every_internal_server_shows_its_process() -> None:
    server, address = await start_internal_server(TOKEN, "127.0.0.1", [])
    async with internal_channel(address) as channel:
        collect = metrics_pb2_grpc.MetricsServiceStub(channel).Collect
        answer = await collect(metrics_pb2.CollectRequest(), metadata=token_metadata(TOKEN))
        assert b"# TYPE process_cpu_seconds_total counter" in answer.text
        with pytest.raises(grpc.aio.AioRpcError, match="internal to the mesh"):
            await collect(metrics_pb2.CollectRequest(), metadata=token_metadata("another token"))
    await server.stop(0)


# -- who is to be asked ------------------------------------------------------------------------------------------------


class FakeController(controller_pb2_grpc.ControllerServiceServicer):
    """Answers Status, and counts how often."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = controller_pb2.StatusResponse()

    async def Status(self, request: Any, context: Any) -> controller_pb2.StatusResponse:
        self.asked += 1
        return self.status


async def controller(fake: FakeController) -> tuple[Server, MeshAddress]:
    server, address = await start_internal_server(
        TOKEN, "127.0.0.1", [lambda server: controller_pb2_grpc.add_ControllerServiceServicer_to_server(fake, server)]
    )
    return server, MeshAddress(address, TOKEN)


def mesh_of_two_nodes() -> controller_pb2.StatusResponse:
    status = controller_pb2.StatusResponse()
    model = status.applications.add(name="shop").deployments.add(name="Model")
    model.replicas.add(replica_tag="a", state="RUNNING", node_id="here", address="10.0.0.1:1")
    model.replicas.add(replica_tag="b", state="STOPPING", node_id="here", address="10.0.0.1:2")
    model.replicas.add(replica_tag="c", state="STARTING", node_id="here")
    model.replicas.add(replica_tag="d", state="RUNNING", node_id="there", address="10.0.0.2:1")
    status.controller.node_id, status.controller.address = "here", "10.0.0.1:9"
    status.proxies.add(node_id="here", node_ip="10.0.0.1", http_address="0.0.0.0:8000")
    status.proxies.add(node_id="there", node_ip="10.0.0.2", http_address="10.0.0.2:8000")
    status.proxies.add(node_id="starting")
    return status


@on_io
async def test_the_processes_of_a_node_are_its_replicas_that_listen_and_its_controller() -> None:
    fake = FakeController()
    fake.status = mesh_of_two_nodes()
    server, address = await controller(fake)

    async def locate() -> MeshAddress:
        return address

    here, there = Discovery(locate, "here"), Discovery(locate, "there")
    assert await here.processes() == [
        Process("10.0.0.1:1", "shop", "Model"),
        Process("10.0.0.1:2", "shop", "Model"),
        Process("10.0.0.1:9"),
    ]
    assert await there.processes() == [Process("10.0.0.2:1", "shop", "Model")]
    await here.processes()
    await here.targets("http")
    assert fake.asked == 2  # once for each, whoever asks and for what
    await server.stop(0)


@on_io
async def test_while_the_controller_is_away_its_last_answer_stays_in_force() -> None:
    async def nowhere() -> MeshAddress:
        raise ControllerUnreachableError("no mesh")

    assert await Discovery(nowhere, "here").processes() == []


@on_io
async def test_prometheus_is_told_of_every_proxy_that_serves() -> None:
    fake = FakeController()
    fake.status = mesh_of_two_nodes()
    server, address = await controller(fake)

    async def locate() -> MeshAddress:
        return address

    discovery = Discovery(locate, "here")
    node = NodeMetrics(FakeNode(), TOKEN)
    options = HttpOptions(port=0)

    class NoServices:
        def service(self, deployment: Any) -> Any:
            raise AssertionError

        def watch_routes(self, on_change: Any) -> None:
            on_change(RouteTable((1, 1)))

    pages = MetricsPages(node, discovery, "https").pages
    http = HttpServer(HttpApp(Applications(NoServices(), "here"), options, InFlight(), pages), options)
    url = f"http://{await http.start()}"
    async with httpx.AsyncClient() as client:
        targets = await client.get(f"{url}/-/metrics/targets")
        metrics = await client.get(f"{url}/metrics")
    assert targets.headers["content-type"] == "application/json"
    assert [one["targets"] for one in json.loads(targets.text)] == [["10.0.0.1:8000"], ["10.0.0.2:8000"]]
    assert json.loads(targets.text)[1]["labels"] == {
        "__scheme__": "https",
        "__metrics_path__": "/metrics",
        "node_id": "there",
    }
    assert "meshserve_scrape_processes" in metrics.text
    await http.stop()
    await node.close()
    await server.stop(0)
