"""The declarative API: configuration files, applied to a real controller."""

import base64
import json

import grpc
import pytest
from conditions import until
from controller_mesh import LocalMesh, application, local_mesh

from meshserve.api.details import details_of
from meshserve.model.declared import ChangeKind
from meshserve.model.options import GangOptions, RouterOptions
from meshserve.schema import ServeInstanceDetails
from meshserve.v1 import controller_pb2, proxy_control_pb2
from meshserve.wire.details import details_from_proto
from meshserve.wire.options import options_from_json
from meshserve.wire.target_groups import target_groups


def entry(name="app", import_path="declared_applications:app", **fields):
    return {"name": name, "route_prefix": f"/{name}", "import_path": import_path, **fields}


async def apply(mesh: LocalMesh, *applications, dry_run=False, **fields):
    text = json.dumps({"applications": list(applications), **fields})
    return await mesh.call("ApplyConfig", controller_pb2.ApplyConfigRequest(config_json=text, dry_run=dry_run))


async def running(mesh: LocalMesh, *applications, **fields):
    """Applies a file and waits until all of it runs in the generation of the answer."""
    answer = await apply(mesh, *applications, **fields)
    names = {one["name"] for one in applications}
    await mesh.wait(lambda status: {one.name for one in status.applications if one.status == "RUNNING"} >= names)
    return answer


async def options(mesh: LocalMesh, deployment: str, app: str = "app"):
    status = next(one for one in (await mesh.status()).applications if one.name == app)
    found = next(one for one in status.deployments if one.name == deployment)
    return options_from_json(found.options_json), found.target_num_replicas


def kinds(answer):
    return {one.app: ChangeKind(one.kind).name for one in answer.changes}


async def test_a_file_is_built_and_runs_and_a_program_can_read_it_back():
    async with local_mesh() as mesh:
        file = {"applications": [entry()], "http_options": {"port": 8123}, "target_capacity": 100.0}
        answer = await mesh.call("ApplyConfig", controller_pb2.ApplyConfigRequest(config_json=json.dumps(file)))
        assert kinds(answer) == {"app": "ADD"}
        status = await mesh.until_state("RUNNING")
        assert {one.name for one in status.deployments} == {"Front", "Model"}
        assert status.ingress_deployment == "Front"
        assert status.source == controller_pb2.APPLICATION_SOURCE_DECLARATIVE
        assert status.route_prefix == "/app"
        assert status.generation >= answer.generation
        config = await mesh.call("GetConfig", controller_pb2.GetConfigRequest())
        assert json.loads(config.config_json) == file


async def test_an_option_that_leaves_the_file_is_the_codes_again_and_nothing_is_built_twice():
    async with local_mesh() as mesh:
        await running(mesh, entry(deployments=[{"name": "Model", "num_replicas": 3, "user_config": {"a": 1}}]))
        first, count = await options(mesh, "Model")
        assert (count, first.user_config, first.max_ongoing_requests) == (3, {"a": 1}, 11)

        answer = await running(mesh, entry(deployments=[{"name": "Model", "max_ongoing_requests": 20}]))
        assert kinds(answer) == {"app": "UPDATE"}
        second, count = await options(mesh, "Model")
        assert (count, second.user_config, second.max_ongoing_requests) == (2, None, 20)
        assert len(mesh.launcher.work) == 1


async def test_gangs_of_a_file_run_and_end_with_it():
    async with local_mesh() as mesh:
        await running(mesh, entry(deployments=[{"name": "Model", "gang_scheduling_config": {"gang_size": 2}}]))
        found, count = await options(mesh, "Model")
        assert (count, found.gang_scheduling_config) == (2, GangOptions(2))
        assert len(mesh.launcher.groups) == 1

        await running(mesh, entry())
        await until(lambda: not mesh.launcher.groups)
        answer = await apply(mesh, entry(deployments=[{"name": "Model", "gang_scheduling_config": {"gang_size": 3}}]))
        assert kinds(answer) == {"app": "UPDATE"}
        status = await mesh.until_state("DEPLOY_FAILED")
        assert "num_replicas (2) must be a multiple of gang_size (3)" in status.message


async def test_the_same_file_twice_changes_nothing_and_a_change_touches_what_it_names():
    async with local_mesh() as mesh:
        first = await running(mesh, entry(), entry("other", "declared_applications:model"))
        started = len(mesh.launcher.replicas)
        again = await apply(mesh, entry(), entry("other", "declared_applications:model"))
        assert again.generation > first.generation  # the builds were done in between
        assert set(kinds(again).values()) == {"UNCHANGED"}
        assert (
            await apply(mesh, entry(), entry("other", "declared_applications:model"))
        ).generation == again.generation

        answer = await running(
            mesh,
            entry(),
            entry("other", "declared_applications:model", deployments=[{"name": "Model", "num_replicas": 3}]),
        )
        assert kinds(answer) == {"app": "UNCHANGED", "other": "UPDATE"}
        [change] = answer.changes[1].fields
        assert (change.path, change.before_json, change.after_json) == ("deployments[Model].num_replicas", "", "3")
        await until(lambda: len(mesh.launcher.replicas) == started + 1)
        assert len(mesh.launcher.work) == 2


async def test_the_folder_makes_no_difference_and_another_revision_builds_again():
    async with local_mesh() as mesh:
        await running(mesh, entry())
        text = json.dumps({"applications": [entry()]})
        request = controller_pb2.ApplyConfigRequest(config_json=text, import_paths=["/elsewhere"])
        assert kinds(await mesh.call("ApplyConfig", request)) == {"app": "UNCHANGED"}
        before = set(mesh.launcher.replicas)
        request.revision = "2"
        assert kinds(await mesh.call("ApplyConfig", request)) == {"app": "REBUILD"}
        await until(lambda: len(mesh.launcher.replicas) == 2 * len(before) and len(mesh.replicas) == len(before))
        await mesh.until_state("RUNNING")
        assert kinds(await mesh.call("ApplyConfig", request)) == {"app": "UNCHANGED"}


async def test_what_is_missing_from_the_file_is_deleted_and_what_programs_have_set_stays():
    async with local_mesh() as mesh:
        await mesh.apply(application("by-hand"))
        await running(mesh, entry(), entry("other", "declared_applications:model"))
        answer = await running(mesh, entry())
        assert kinds(answer) == {"app": "UNCHANGED", "other": "DELETE"}
        status = await mesh.wait(lambda status: "other" not in {one.name for one in status.applications})
        assert {one.name for one in status.applications} == {"app", "by-hand"}
        config = await mesh.call("GetConfig", controller_pb2.GetConfigRequest())
        assert [one["name"] for one in json.loads(config.config_json)["applications"]] == ["app"]


async def test_a_dry_run_tells_and_does_nothing():
    async with local_mesh() as mesh:
        answer = await apply(mesh, entry(), dry_run=True)
        assert kinds(answer) == {"app": "ADD"}
        assert not (await mesh.status()).applications
        assert not mesh.launcher.work


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"import_path": "declared_applications:failing"}, 'raise RuntimeError("cannot build")'),
        ({"import_path": "declared_applications:nothing"}, "no attribute 'nothing'"),
        ({"import_path": "no_such_module:app"}, "no module named 'no_such_module'"),
        ({"import_path": "declared_applications:build", "args": {"replicas": "many"}}, "replicas"),
        ({"args": {"replicas": 1}}, "can only be passed to an application builder function"),
        ({"deployments": [{"name": "Modell"}]}, "Did you mean 'Model'?"),
        ({"deployments": [{"name": "Front", "max_surge_percent": 1, "placement_group_strategy": "PACK"}]}, "bundles"),
        ({"import_path": "declared_applications:scaled", "external_scaler_enabled": True}, "Scaled"),
        (
            {"deployments": [{"name": "Model", "request_router_config": {"request_router_class": "nowhere.Router"}}]},
            "nowhere",
        ),
    ],
)
async def test_what_cannot_be_built_says_why_and_what_ran_goes_on(fields, said):
    async with local_mesh() as mesh:
        await running(mesh, entry())
        await apply(mesh, entry(**fields))
        status = await mesh.until_state("DEPLOY_FAILED")
        assert said in status.message
        assert {one.name: one.status for one in status.deployments} == {"Front": "HEALTHY", "Model": "HEALTHY"}

        await running(mesh, entry())
        assert (await options(mesh, "Model"))[1] == 2


async def test_a_failed_build_is_tried_again_with_the_same_file():
    async with local_mesh() as mesh:
        await apply(mesh, entry(import_path="declared_applications:failing"))
        await mesh.until_state("DEPLOY_FAILED")
        answer = await apply(mesh, entry(import_path="declared_applications:failing"))
        assert kinds(answer) == {"app": "REBUILD"}
        await until(lambda: len(mesh.launcher.work) == 2)


async def test_arguments_are_read_as_the_builder_wants_them():
    async with local_mesh() as mesh:
        await running(mesh, entry(import_path="declared_applications:build", args={"replicas": "5"}))
        assert (await options(mesh, "Model"))[1] == 5


async def test_environments_of_file_and_code_are_put_together():
    async with local_mesh() as mesh:
        await running(mesh, entry(runtime_env={"env_vars": {"A": "file", "C": "file"}}))
        front, _ = await options(mesh, "Front")
        assert front.ray_actor_options == {
            "num_cpus": 2,
            "runtime_env": {"env_vars": {"A": "code", "B": "code", "C": "file"}},
        }
        assert mesh.launcher.work[0].runtime_env == {"env_vars": {"A": "file", "C": "file"}}
        await running(mesh, entry(deployments=[{"name": "Front", "ray_actor_options": {"num_gpus": 1}}]))
        front, _ = await options(mesh, "Front")
        assert front.ray_actor_options == {"num_cpus": 1, "num_gpus": 1}


async def test_num_replicas_auto_goes_from_the_code_s_bounds():
    async with local_mesh() as mesh:
        fields = {"name": "Scaled", "num_replicas": "auto"}
        await running(mesh, entry(import_path="declared_applications:scaled", deployments=[fields]))
        scaled, _ = await options(mesh, "Scaled")
        assert scaled.autoscaling_config is not None
        assert (scaled.autoscaling_config.min_replicas, scaled.autoscaling_config.max_replicas) == (2, 8)
        fields = {"name": "Scaled", "num_replicas": 3}
        await running(mesh, entry(import_path="declared_applications:scaled", deployments=[fields]))
        assert (await options(mesh, "Scaled"))[0].autoscaling_config is None


async def test_a_router_that_the_file_names_travels_by_value():
    async with local_mesh() as mesh:
        path = "declared_applications:First"
        fields = {"name": "Model", "request_router_config": {"request_router_class": path, "max_backoff_s": 1.0}}
        await running(mesh, entry(deployments=[fields]))
        await mesh.restart_controller()
        await running(mesh, entry(deployments=[{**fields, "num_replicas": 1}]))
        router = (await options(mesh, "Model"))[0].request_router_config
        assert (router.request_router_class, router.max_backoff_s) == (path, 1.0)
        assert b"choose_replicas" in base64.b64decode(router.request_router_pickle)
        assert len(mesh.launcher.work) == 1

        await running(mesh, entry(deployments=[{"name": "Model"}]))
        assert (await options(mesh, "Model"))[0].request_router_config == RouterOptions()


async def test_policies_that_the_file_names_travel_by_value_also_under_their_older_name():
    async with local_mesh() as mesh:
        path = "declared_applications:two_replicas"
        fields = {"name": "Scaled", "autoscaling_config": {"max_replicas": 5, "policy": {"name": path}}}
        await running(
            mesh,
            entry(import_path="declared_applications:scaled", deployments=[fields]),
            entry("whole", "declared_applications:scaled", autoscaling_policy={"policy_function": path}),
        )
        scaling = (await options(mesh, "Scaled"))[0].autoscaling_config
        assert scaling is not None
        assert (scaling.policy_function, scaling.max_replicas) == (path, 5)
        assert b"two_replicas" in base64.b64decode(scaling.policy_pickle)
        config = json.loads((await mesh.call("GetConfig", controller_pb2.GetConfigRequest())).config_json)
        assert config["applications"][0]["deployments"] == [fields]


async def test_target_capacity_scales_what_the_file_declares_and_nothing_else():
    async with local_mesh() as mesh:
        await mesh.apply(application("by-hand", num_replicas=4))
        apps = [entry(), entry("scaled", "declared_applications:scaled")]

        async def counts():
            return [
                (await options(mesh, name, app))[1]
                for app, name in (("app", "Model"), ("scaled", "Scaled"), ("by-hand", "Model"))
            ]

        await running(mesh, *apps, target_capacity=50)
        assert await counts() == [1, 2, 4]
        assert (await mesh.status()).target_capacity == 50
        await running(mesh, *apps, target_capacity=100)
        assert await counts() == [2, 4, 4]  # while capacity goes up initial_replicas are the least
        await running(mesh, *apps, target_capacity=0)
        assert await counts() == [0, 0, 4]
        await running(mesh, *apps)
        assert (await counts())[0] == 2
        assert not (await mesh.status()).HasField("target_capacity")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"applications": [{"import_path": "a:b", "deployments": [{"name": "A", "num_replicas": "x"}]}]}', "auto"),
        (
            '{"applications": [{"import_path": "a:b", "deployments": [{"name": "A", "max_ongoing_requests": "x"}]}]}',
            "applications[0].deployments[0].max_ongoing_requests: ",
        ),
        ('{"applications": [{}]}', "applications[0].import_path: it is missing"),
        ("{", "JSON"),
    ],
)
async def test_a_file_that_is_not_valid_is_refused_with_the_path_of_its_mistake(text, said):
    async with local_mesh() as mesh:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.call("ApplyConfig", controller_pb2.ApplyConfigRequest(config_json=text))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert said in str(caught.value.details())


async def test_a_prefix_of_a_program_s_application_is_taken():
    async with local_mesh() as mesh:
        await mesh.apply(application("by-hand", prefix="/app"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await apply(mesh, entry())
        assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_controller_that_comes_back_goes_on_building_and_remembers_the_code_s_options():
    async with local_mesh() as mesh:
        mesh.launcher.room.clear()
        await apply(mesh, entry(deployments=[{"name": "Model", "num_replicas": 1}]), target_capacity=100)
        await until(lambda: len(mesh.launcher.work) == 1)
        await mesh.restart_controller()
        await until(lambda: len(mesh.launcher.work) == 2)
        assert (await mesh.until_state("DEPLOYING")).message == "It is being built."
        mesh.launcher.room.set()
        await mesh.until_state("RUNNING")
        await mesh.restart_controller()
        await running(mesh, entry(), target_capacity=100)
        assert (await options(mesh, "Model"))[1] == 2
        assert len(mesh.launcher.work) == 2


async def test_a_newer_file_ends_the_build_of_an_older_one():
    async with local_mesh() as mesh:
        mesh.launcher.room.clear()
        await apply(mesh, entry(import_path="declared_applications:failing"))
        await until(lambda: len(mesh.launcher.work) == 1)
        await apply(mesh, entry())
        await until(lambda: len(mesh.launcher.work) == 2)
        mesh.launcher.room.set()
        await mesh.until_state("RUNNING")


async def test_options_of_proxies_count_once_and_the_file_says_so():
    async with local_mesh() as mesh:
        first = await apply(mesh, proxy_location="HeadOnly", http_options={"port": 8123})
        assert not first.ignored
        await mesh.wait(lambda status: [proxy.status for proxy in status.proxies] == ["HEALTHY"])
        second = await apply(mesh, proxy_location="HeadOnly", http_options={"port": 8124})
        assert list(second.ignored) == ["http_options.port"]


async def test_tracing_of_the_file_reaches_proxies_and_replicas():
    async with local_mesh() as mesh:
        await running(mesh, entry(), tracing_config={"enabled": True, "sampling_ratio": 0.5})
        boots = [process.spec.boot for process in mesh.launcher.running.values()]
        options = [proxy_control_pb2.ProxyOptions.FromString(boot["options"]) for boot in boots if "options" in boot]
        told = [json.loads(boot["tracing_json"]) for boot in boots if "tracing_json" in boot]
        told += [json.loads(one.tracing_json) for one in options]
        assert len(told) == len(boots)
        assert all(one["enabled"] and one["sampling_ratio"] == 0.5 for one in told)


async def test_details_tell_where_load_balancers_may_send_requests():
    async with local_mesh() as mesh:
        await mesh.start_proxies()
        await mesh.wait(lambda status: [one.status for one in status.proxies] == ["HEALTHY"])
        details = details_of(details_from_proto(await mesh.status()), "")
        [group] = details.target_groups
        assert (group.protocol, group.route_prefix, group.app_name) == ("HTTP", "/", "")
        [target] = group.targets
        assert (target.ip, target.port, target.name) == ("127.0.0.1", 1, "MESHSERVE_PROXY-node")
        assert details.controller_info.actor_name == "MESHSERVE_CONTROLLER"
        assert details.proxies["node"].actor_name == "MESHSERVE_PROXY-node"


def test_only_proxies_that_are_well_and_have_a_port_are_targets():
    proxies = [
        controller_pb2.ProxyStatusInfo(
            node_id="a", status="HEALTHY", node_ip="10.0.0.1", http_address="[::]:80", grpc_address="unix:/tmp/grpc"
        ),
        controller_pb2.ProxyStatusInfo(node_id="b", status="DRAINING", node_ip="10.0.0.2", http_address="0.0.0.0:80"),
    ]
    [group] = target_groups(proxies)
    assert group["protocol"] == "HTTP"
    assert [(one["ip"], one["port"]) for one in group["targets"]] == [("10.0.0.1", 80)]
    assert target_groups(()) == []


async def test_details_tell_all_that_is_known_and_can_be_read_back():
    async with local_mesh() as mesh:
        await mesh.apply(application("by-hand", deployments=("Model", "Other")))
        fields = {"name": "Model", "ray_actor_options": {"num_cpus": 0.5, "resources": {"asic": 1}}}
        await running(mesh, entry(deployments=[fields]), entry("scaled", "declared_applications:scaled"))
        await mesh.until_state("RUNNING", "by-hand")
        config = await mesh.call("GetConfig", controller_pb2.GetConfigRequest())
        details = details_of(details_from_proto(await mesh.status()), config.config_json)

        app, scaled, by_hand = (details.applications[name] for name in ("app", "scaled", "by-hand"))
        assert (app.source, by_hand.source) == ("declarative", "imperative")
        assert app.deployed_app_config is not None and by_hand.deployed_app_config is None
        model = app.deployments["Model"]
        assert model.required_resources == {"CPU": 0.5, "asic": 1}
        assert [replica.state for replica in model.replicas] == ["RUNNING", "RUNNING"]
        assert model.deployment_config.max_ongoing_requests == 11
        assert scaled.deployments["Scaled"].deployment_config.autoscaling_config["max_replicas"] == 8
        assert "num_replicas" not in scaled.deployments["Scaled"].deployment_config.model_fields_set
        assert by_hand.deployment_topology.nodes["Model"].outbound_deployments == [
            {"name": "Other", "app_name": "by-hand"}
        ]
        assert details._get_status().applications["app"].deployments["Model"].replica_states == {"RUNNING": 2}
        assert ServeInstanceDetails.model_validate_json(details.model_dump_json(exclude_unset=True)) == details
