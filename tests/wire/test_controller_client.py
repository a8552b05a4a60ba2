"""The API's client against a controller in the same process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from meshserve.api.client import ControllerClient
from meshserve.api.deploy import RunTarget, specify
from meshserve.api.deployment import deployment
from meshserve.api.waiting import until_gone, until_running
from meshserve.errors import ControllerUnreachableError, DeploymentFailedError, MeshServeException
from meshserve.launch.locator import MeshAddress
from meshserve.model.control import ProxyOptions
from meshserve.rpc.server import start_internal_server
from meshserve.rpc.token import new_token
from meshserve.transport.server import Server
from meshserve.v1 import controller_pb2, controller_pb2_grpc


@deployment
def hello() -> str:
    return "hello"


class FakeController(controller_pb2_grpc.ControllerServiceServicer):
    """Answers as it was told to; its status can be changed while it is watched."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        self._status = controller_pb2.StatusResponse()
        self._changed = asyncio.Condition()

    async def become(self, status: str, generation: int = 1, message: str = "") -> None:
        info = controller_pb2.ApplicationStatusInfo(name="app", status=status, generation=generation, message=message)
        async with self._changed:
            self._status = controller_pb2.StatusResponse(applications=[info] if status else [])
            self._changed.notify_all()

    async def Apply(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if self.refusal is not None:
            await context.abort(*self.refusal)
        return controller_pb2.ApplyResponse(generation=1)

    async def StartProxies(self, request: Any, context: Any) -> Any:
        return controller_pb2.StartProxiesResponse(options=request.options, already_started=True)

    async def WatchStatus(self, request: Any, context: Any) -> AsyncIterator[Any]:
        while True:
            status = self._status
            yield controller_pb2.WatchStatusResponse(status=status)
            async with self._changed:
                await self._changed.wait_for(lambda shown=status: self._status is not shown)


class Site:
    """Where the controller is at present; a restart gives it another address."""

    def __init__(self, controller: FakeController) -> None:
        self.controller = controller
        self.found: MeshAddress | None = None
        self.exists = True
        self._server: Server | None = None

    async def start(self) -> None:
        token = new_token()
        self._server, address = await start_internal_server(
            token,
            "127.0.0.1",
            [lambda server: controller_pb2_grpc.add_ControllerServiceServicer_to_server(self.controller, server)],
        )
        self.found = MeshAddress(address, token)

    async def stop(self) -> None:
        assert self._server is not None
        await self._server.stop(0)

    async def find(self) -> MeshAddress:
        if self.found is None:
            raise ControllerUnreachableError("no mesh runs")
        return self.found

    async def can_come_back(self) -> bool:
        return self.exists


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site(FakeController())
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
async def client(site: Site) -> AsyncIterator[ControllerClient]:
    client = ControllerClient(site.find, patience_s=2, exists=site.can_come_back)
    yield client
    await client.close()


async def test_applications_arrive_as_they_were_written(site: Site, client: ControllerClient) -> None:
    specs = specify([RunTarget(target=hello.options(num_replicas=2).bind(), name="app", route_prefix=None)])

    assert await client.apply(specs) == 1

    [application] = site.controller.requests[0].applications
    assert (application.name, application.ingress_deployment) == ("app", "hello")
    assert not application.HasField("route_prefix")
    assert '"num_replicas": 2' in application.deployments[0].options_json


async def test_a_refusal_is_raised_with_the_controllers_words(site: Site, client: ControllerClient) -> None:
    site.controller.refusal = (grpc.StatusCode.INVALID_ARGUMENT, "not like this")
    with pytest.raises(ValueError, match="not like this"):
        await client.apply([])

    site.controller.refusal = (grpc.StatusCode.ALREADY_EXISTS, "the prefix is taken")
    with pytest.raises(MeshServeException, match="the prefix is taken"):
        await client.apply([])


async def test_options_in_force_come_back(client: ControllerClient) -> None:
    options = ProxyOptions("HeadOnly", '{"port": 1}', "", "")

    assert await client.start_proxies(options) == (options, True)


async def test_waiting_ends_when_the_application_runs(site: Site, client: ControllerClient) -> None:
    said = []
    waiting = asyncio.create_task(until_running(client, ["app"], 2, False, lambda now: said.append(now.waiting)))

    await site.controller.become("RUNNING", generation=1)
    await site.controller.become("DEPLOYING", generation=2, message="one replica starts")
    while not said:
        await asyncio.sleep(0.001)
    await site.controller.become("RUNNING", generation=2)

    assert (await waiting).applications["app"].status == "RUNNING"
    assert said[0] == (("app", "one replica starts"),)


async def test_waiting_ends_with_what_user_code_raised(site: Site, client: ControllerClient) -> None:
    await site.controller.become("DEPLOY_FAILED", message="hello: ValueError: broken")

    with pytest.raises(RuntimeError, match="ValueError: broken") as failed:
        await until_running(client, ["app"], 1, False, lambda now: None)
    assert isinstance(failed.value, DeploymentFailedError)


async def test_waiting_survives_a_restart_of_the_controller(site: Site, client: ControllerClient) -> None:
    said = []
    await site.controller.become("DEPLOYING")
    waiting = asyncio.create_task(until_running(client, ["app"], 1, False, said.append))
    while not said:
        await asyncio.sleep(0.001)

    await site.stop()
    await site.start()
    await site.controller.become("RUNNING")

    assert (await waiting).applications["app"].status == "RUNNING"


async def test_waiting_for_the_end_is_limited(site: Site, client: ControllerClient) -> None:
    await site.controller.become("DELETING")
    with pytest.raises(TimeoutError):
        await until_gone(client, ["app"], 0.05)

    await site.controller.become("")
    await until_gone(client, ["app"], 10)


async def test_a_controller_that_stays_away_is_reported(site: Site) -> None:
    impatient = ControllerClient(site.find, patience_s=0.1, exists=site.can_come_back)
    await site.stop()
    with pytest.raises(ControllerUnreachableError, match="does not answer"):
        await impatient.status()

    site.found = None
    with pytest.raises(ControllerUnreachableError, match="no mesh runs"):
        await impatient.status()


async def test_a_controller_that_cannot_come_back_is_not_waited_for(site: Site) -> None:
    patient = ControllerClient(site.find, patience_s=1000, exists=site.can_come_back)
    site.exists = False
    await site.stop()
    with pytest.raises(ControllerUnreachableError, match="killed for good"):
        await patient.status()
