"""Applications from Python, on real processes."""

import asyncio
import dataclasses
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Addresses, RunningApplication

import meshserve as serve
from meshserve.exceptions import DeploymentFailedError, MeshServeException
from meshserve.handle import DeploymentHandle
from meshserve.schema import ApplicationStatus, DeploymentStatus, ProxyStatus, ReplicaState

Run = Callable[..., RunningApplication]

# Room for many on a small machine, and nothing waits when it is over.
LIGHT: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0.0}


@serve.deployment(**LIGHT)
class Adder:
    def __init__(self, increment: int = 1) -> None:
        self._increment = increment

    def __call__(self, number: int = 0) -> int:
        return number + self._increment

    def version(self) -> str:
        return serve.get_replica_context().code_version


@serve.deployment(**LIGHT)
class Sum:
    def __init__(self, parts: dict[str, list[DeploymentHandle[Any]]]) -> None:
        self._parts = [handle for handles in parts.values() for handle in handles]

    async def __call__(self, request: Any) -> int:
        return sum(await asyncio.gather(*(part.remote(10) for part in self._parts)))


@serve.deployment(**LIGHT)
def greet(request: Any) -> str:
    return "hello"


@serve.deployment(max_constructor_retry_count=1, **LIGHT)
class Broken:
    def __init__(self) -> None:
        raise ValueError("no model at /models/missing.bin")


def test_an_application_answers_handles_and_http_once_run_returns(run: Run) -> None:
    app = run(Adder.bind(2))

    assert app.handle.remote(40).result(timeout_s=10) == 42
    assert httpx.get(f"{app.url}").status_code == 500  # a Request is no number
    assert serve.get_app_handle(app.name).remote(1).result(timeout_s=10) == 3
    assert serve.get_deployment_handle("Adder", app.name).remote(2).result(timeout_s=10) == 4


def test_a_function_is_an_application(run: Run) -> None:
    app = run(greet.bind())

    assert httpx.get(app.url).text == "hello"


def test_applications_among_the_arguments_are_called_through_handles(run: Run) -> None:
    shared = Adder.bind(1)

    app = run(Sum.bind({"a": [shared, shared], "b": [Adder.bind(5)]}))

    assert httpx.get(app.url).text == "37"
    assert set(serve.status().applications[app.name].deployments) == {"Sum", "Adder", "Adder_1"}


def test_without_a_route_prefix_only_handles_reach_an_application(run: Run, mesh: Addresses) -> None:
    app = run(Adder.bind(), route_prefix=None)

    assert app.handle.remote(1).result(timeout_s=10) == 2
    assert httpx.get(f"{mesh.http}/no-such-route").status_code == 404


def test_status_tells_what_runs(run: Run) -> None:
    app = run(Adder.options(num_replicas=2).bind())

    status = serve.status()

    assert set(status.proxies.values()) == {ProxyStatus.HEALTHY}
    found = status.applications[app.name]
    assert found.status == ApplicationStatus.RUNNING == "RUNNING"
    assert found.last_deployed_time_s > 0
    deployment = found.deployments["Adder"]
    assert deployment.status == DeploymentStatus.HEALTHY
    assert deployment.replica_states == {ReplicaState.RUNNING: 2}


def test_running_again_updates_in_place_and_drops_what_is_gone(run: Run) -> None:
    first = run(Sum.bind({"a": [Adder.bind(1), Adder.options(name="Other").bind(2)]}))

    run(Sum.bind({"a": [Adder.bind(5)]}), name=first.name, route_prefix=f"/{first.name}")

    assert httpx.get(first.url).text == "15"
    assert set(serve.status().applications[first.name].deployments) == {"Sum", "Adder"}


def test_running_identical_code_again_is_a_new_version(run: Run) -> None:
    app = run(Adder.bind())
    before = app.handle.version.remote().result(timeout_s=10)

    run(Adder.bind(), name=app.name, route_prefix=f"/{app.name}")

    assert app.handle.version.remote().result(timeout_s=10) != before


def test_what_a_constructor_raises_is_raised_by_run_and_shown_by_status(run: Run, mesh: Addresses) -> None:
    with pytest.raises(DeploymentFailedError, match=r"no model at /models/missing\.bin") as failed:
        run(Broken.bind(), name="broken", route_prefix="/broken")

    assert isinstance(failed.value, RuntimeError)
    assert 'raise ValueError("no model' in str(failed.value)
    assert serve.status().applications["broken"].status == ApplicationStatus.DEPLOY_FAILED


def test_a_route_prefix_belongs_to_one_application(run: Run) -> None:
    first = run(greet.bind())

    with pytest.raises(MeshServeException, match=first.name):
        run(greet.bind(), name="second", route_prefix=f"/{first.name}")
    assert "second" not in serve.status().applications


def test_several_applications_run_together(mesh: Addresses) -> None:
    targets = [
        serve.RunTarget(target=Adder.bind(1), name="together-1", route_prefix=None),
        serve.RunTarget(target=Adder.bind(2), name="together-2", route_prefix=None),
    ]

    first, second = serve.run_many(targets)

    assert (first.remote(1).result(timeout_s=10), second.remote(1).result(timeout_s=10)) == (2, 3)
    serve.delete("together-1")
    serve.delete("together-2")


def test_a_deleted_application_is_gone(run: Run) -> None:
    app = run(greet.bind())

    serve.delete(app.name)
    serve.delete("never existed")

    assert app.name not in serve.status().applications
    assert httpx.get(app.url).status_code == 404
    with pytest.raises(MeshServeException, match=app.name):
        serve.get_app_handle(app.name)


def test_what_does_not_exist_is_named(run: Run) -> None:
    app = run(greet.bind())

    with pytest.raises(KeyError, match="nothing"):
        serve.get_deployment_handle("nothing", app.name)
    with pytest.raises(MeshServeException, match="needs app_name"):
        serve.get_deployment_handle("greet")


def test_a_second_start_keeps_the_options_in_force(mesh: Addresses, caplog: pytest.LogCaptureFixture) -> None:
    serve.start(http_options={"port": 1})

    assert "these are ignored: http_options.port 1 (in force: " in caplog.text


def test_replicas_import_modules_that_lie_beside_the_program_that_runs_them(
    mesh: Addresses, tmp_path: Path, cluster: str
) -> None:
    (tmp_path / "neighbour.py").write_text("def answer(): return 'from the neighbour'\n")
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import meshserve as serve
            import neighbour

            @serve.deployment(ray_actor_options={"num_cpus": 0}, graceful_shutdown_wait_loop_s=0)
            class Caller:
                def __init__(self, answer):
                    self._answer = answer

                def __call__(self):
                    return self._answer() + " and " + neighbour.answer()

            handle = serve.run(Caller.bind(neighbour.answer), name="neighbours", route_prefix=None)
            print(handle.remote().result(timeout_s=10))
            serve.delete("neighbours")
            """
        )
    )

    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "RAY_ADDRESS": cluster},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.splitlines()[-1:] == ["from the neighbour and from the neighbour"], done.stderr


@dataclasses.dataclass
class Point:
    x: int


def test_classes_of_the_program_keep_their_identity_on_the_way_and_back(run: Run) -> None:
    @serve.deployment(**LIGHT)
    class Mover:
        def __init__(self, origin: Point) -> None:
            self._origin = origin

        def __call__(self, point: Point) -> Point:
            assert isinstance(point, Point)
            return Point(self._origin.x + point.x)

    app = run(Mover.bind(Point(1)))

    assert app.handle.remote(Point(2)).result(timeout_s=10) == Point(3)
