"""What the control API refuses, and what it says then."""

import grpc
import pytest
from conditions import until
from controller_mesh import application, local_mesh
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from meshserve.rpc.token import token_metadata
from meshserve.v1 import controller_pb2, proxy_control_pb2, watch_pb2


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


@pytest.mark.parametrize(
    ("specs", "code", "reason"),
    [
        ([application(name="")], grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_NAME"),
        ([application(name="a#b")], grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME"),
        ([application(prefix="app")], grpc.StatusCode.INVALID_ARGUMENT, "BAD_ROUTE_PREFIX"),
        ([application(prefix="/app/")], grpc.StatusCode.INVALID_ARGUMENT, "BAD_ROUTE_PREFIX"),
        ([application(prefix="/{app}")], grpc.StatusCode.INVALID_ARGUMENT, "BAD_ROUTE_PREFIX"),
        ([application(deployments=("A", "A"))], grpc.StatusCode.INVALID_ARGUMENT, "DUPLICATE_DEPLOYMENT"),
        ([application(), application()], grpc.StatusCode.INVALID_ARGUMENT, "DUPLICATE_NAME"),
        (
            [application(prefix="/x"), application(name="b", prefix="/x")],
            grpc.StatusCode.INVALID_ARGUMENT,
            "DUPLICATE_ROUTE_PREFIX",
        ),
    ],
)
async def test_an_application_that_cannot_be_is_refused(specs, code, reason):
    async with local_mesh() as mesh:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.apply(*specs)
        assert caught.value.code() is code
        assert info_of(caught.value).reason == reason
        assert not (await mesh.status()).applications


async def test_a_prefix_in_use_is_refused_and_names_its_user():
    async with local_mesh() as mesh:
        await mesh.apply(application(name="first", prefix="/x"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.apply(application(name="second", prefix="/x"))
        assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert info_of(caught.value).metadata["used_by"] == "first"
        assert "'first'" in str(caught.value.details())


async def test_options_that_cannot_be_read_are_refused():
    async with local_mesh() as mesh:
        deployment = controller_pb2.DeploymentSpec(name="Model", options_json='{"nonsense": 1}')
        spec = controller_pb2.ApplicationSpec(name="app", deployments=[deployment], ingress_deployment="Model")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.call("Apply", controller_pb2.ApplyRequest(applications=[spec]))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert rpc_status.from_call(caught.value).code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_scaling_needs_a_deployment_and_permission():
    async with local_mesh() as mesh:
        key = watch_pb2.DeploymentKey(app="app", deployment="Model")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.call("Scale", controller_pb2.ScaleRequest(key=key, target_num_replicas=2))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_deleting_what_is_not_there_is_no_error():
    async with local_mesh() as mesh:
        await mesh.call("Delete", controller_pb2.DeleteRequest(names=["nobody"]))


async def test_a_call_without_the_token_is_refused():
    async with local_mesh() as mesh:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.api.Status(controller_pb2.StatusRequest(), metadata=token_metadata("guess"))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_proxies_start_once_and_the_first_options_stay():
    async with local_mesh() as mesh:
        first = await mesh.start_proxies("HeadOnly")
        assert not first.already_started
        await mesh.wait(lambda status: [proxy.status for proxy in status.proxies] == ["HEALTHY"])
        second = await mesh.start_proxies("Disabled")
        assert second.already_started
        assert second.options == proxy_control_pb2.ProxyOptions(location="HeadOnly")


async def test_a_proxy_that_cannot_bind_says_so_in_the_status():
    async with local_mesh() as mesh:
        mesh.launcher.prepare = lambda fake: setattr(fake, "failure", "port 8000 is in use")
        await mesh.start_proxies()
        status = await mesh.wait(lambda found: any(proxy.status == "UNHEALTHY" for proxy in found.proxies))
        assert status.proxies[0].message == "port 8000 is in use"


async def test_a_dead_proxy_is_started_again():
    async with local_mesh() as mesh:
        await mesh.start_proxies()
        await mesh.wait(lambda status: [proxy.status for proxy in status.proxies] == ["HEALTHY"])
        first = mesh.launcher.proxies["node"]
        await mesh.launcher.kill("MESHSERVE_PROXY-node")
        await until(lambda: mesh.launcher.proxies["node"] is not first)
        await mesh.wait(lambda status: [proxy.status for proxy in status.proxies] == ["HEALTHY"])
