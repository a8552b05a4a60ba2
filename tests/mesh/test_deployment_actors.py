"""Actors that replicas share, as real Ray actors."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from conftest import RunningApplication

import meshserve as serve
from meshserve.config import DeploymentActorConfig
from meshserve.exceptions import DeploymentFailedError
from meshserve.settings import CONTROLLER_NAME, NAMESPACE

LIGHT: dict[str, Any] = {"graceful_shutdown_wait_loop_s": 0.0}
NO_CPUS = {"num_cpus": 0}


class Counter:
    """Without Ray's decorator; its second argument is one that only pickle can carry."""

    def __init__(self, start: int, names: frozenset[str] = frozenset()) -> None:
        self.count = start
        self.names = names

    def add(self) -> int:
        self.count += 1
        return self.count

    def describe(self) -> tuple[Any, ...]:
        context = serve.get_deployment_actor_context()
        return context.app_name, context.deployment, context.actor_name, sorted(self.names), os.environ.get("A")


@ray.remote
class Failing:
    def __init__(self) -> None:
        raise ValueError("it cannot be made")


@serve.deployment(
    num_replicas=2,
    ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": {"A": "of the deployment"}}},
    deployment_actors=[
        DeploymentActorConfig(
            name="counter", actor_class=Counter, init_args=(10, frozenset({"x"})), actor_options=NO_CPUS
        )
    ],
    **LIGHT,
)
class Sharing:
    async def __call__(self) -> int:
        return int(await serve.get_deployment_actor("counter").add.remote())

    async def describe(self) -> Any:
        return await serve.get_deployment_actor("counter").describe.remote()

    async def wrong(self) -> Any:
        return serve.get_deployment_actor("nobody")


def actors_of(app: str) -> list[str]:
    """The actors that replicas of an application share, by their names."""
    listed = ray.util.list_named_actors(all_namespaces=True)
    prefix = f"MESHSERVE_DEPLOYMENT_ACTOR::{app}::"
    return [one["name"] for one in listed if one["name"].startswith(prefix)]


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def status_of(app: str) -> Any:
    return serve.status().applications[app].deployments["Sharing"].status


def count_of(app: RunningApplication) -> int:
    """What the shared actor counts; 0 while there is none."""
    try:
        count: int = app.handle.remote().result()
    except (ValueError, ray.exceptions.RayError):
        return 0
    return count


def test_replicas_share_an_actor_that_is_made_anew_and_outlives_controllers(
    run: Callable[..., RunningApplication],
) -> None:
    app = run(Sharing.bind())
    assert sorted(app.handle.remote().result() for _ in range(6)) == list(range(11, 17))
    described = app.handle.describe.remote().result()
    assert described == (app.name, "Sharing", "counter", ["x"], "of the deployment")
    with pytest.raises(ValueError, match="no actor 'nobody'"):
        app.handle.wrong.remote().result()

    ray.kill(ray.get_actor(CONTROLLER_NAME, NAMESPACE), no_restart=False)
    until(lambda: status_of(app.name) == "HEALTHY")
    assert app.handle.remote().result() == 17, "the actor went on without a controller"

    [name] = actors_of(app.name)
    ray.kill(ray.get_actor(name, NAMESPACE))
    until(lambda: count_of(app) == 11)
    until(lambda: status_of(app.name) == "HEALTHY")
    assert actors_of(app.name) == [name]
    serve.delete(app.name)
    assert not actors_of(app.name)


def test_the_class_of_an_actor_may_use_modules_beside_its_own(
    run: Callable[..., RunningApplication], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "actor_helper_of_a_test.py").write_text("def answer():\n    return 42\n")
    (tmp_path / "actor_of_a_test.py").write_text(
        "from actor_helper_of_a_test import answer\n\n\nclass Answering:\n"
        "    def describe(self):\n        return answer()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    answering = {"name": "counter", "actor_class": "actor_of_a_test:Answering", "actor_options": NO_CPUS}
    app = run(Sharing.options(num_replicas=1, deployment_actors=[answering]).bind())
    assert app.handle.describe.remote().result() == 42


def test_an_actor_that_cannot_be_made_fails_the_deployment(run: Callable[..., RunningApplication]) -> None:
    failing = DeploymentActorConfig(name="failing", actor_class=Failing, actor_options=NO_CPUS)
    with pytest.raises(DeploymentFailedError, match="ValueError: it cannot be made"):
        run(Sharing.options(deployment_actors=[failing], max_constructor_retry_count=2).bind(), name="without-actor")
    status = serve.status().applications["without-actor"].deployments["Sharing"]
    assert (status.status, status.status_trigger) == ("DEPLOY_FAILED", "DEPLOYMENT_ACTOR_FAILED")
