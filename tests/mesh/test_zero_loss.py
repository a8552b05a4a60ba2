"""Changes under a steady load from outside lose no request: 500 a second, sent on time whatever becomes of them."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from conftest import Addresses, RunningApplication

import meshserve as serve
from meshserve.api.deploy import RunTarget, set_and_wait, specify
from meshserve.model.control import ApplicationSpec

RATE = 500
# Almost no time for routers to hear that a replica goes away: what they still send there must find its way.
LIGHT: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0.01}


@serve.deployment(max_ongoing_requests=50, **LIGHT)
class Answer:
    def reconfigure(self, user_config: Any) -> None:
        self.config = user_config

    async def __call__(self, request: Any) -> str:
        return "answered"

    async def ask(self) -> str:
        return "answered"


@contextmanager
def load(mesh: Addresses, app: RunningApplication) -> Iterator[dict[str, Any]]:
    """Sends requests from a process of its own; what came of them is there afterwards."""
    program = Path(__file__).parent / "open_load.py"
    command = [sys.executable, str(program), app.url, mesh.grpc, app.name, str(RATE)]
    outcome: dict[str, Any] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "sending\n"
        try:
            yield outcome
        finally:
            printed, _ = process.communicate("", timeout=90)
    outcome.update(json.loads(printed))


def changed(spec: ApplicationSpec, **options: Any) -> ApplicationSpec:
    """The same code under other options, as a configuration file sets it."""
    (deployment,) = spec.deployments
    return replace(spec, deployments=(replace(deployment, options=replace(deployment.options, **options)),))


def test_updates_scaling_and_the_changes_of_others_lose_no_request_over_http_and_grpc(run, mesh):
    app = run(Answer.options(num_replicas=3, user_config=1).bind())
    other = run(Answer.options(name="Other").bind())
    target = RunTarget(
        target=Answer.options(num_replicas=3, user_config=2).bind(), name=app.name, route_prefix=f"/{app.name}"
    )

    def settle(spec: ApplicationSpec) -> ApplicationSpec:
        set_and_wait([spec], True, lambda progress: None)
        return spec

    with load(mesh, app) as outcome:
        began_at = time.monotonic()
        spec = settle(*specify([target]))  # a rolling update
        spec = settle(changed(spec, num_replicas=5))
        spec = settle(changed(spec, num_replicas=2))
        spec = settle(changed(spec, user_config=3))  # in place
        settle(changed(*specify([target]), max_surge_percent=100))  # more replicas first, then fewer
        serve.delete(other.name)
        run(Answer.options(name="Other").bind(), name=other.name, route_prefix=f"/{other.name}")
        took_s = time.monotonic() - began_at

    assert outcome["failures"] == []
    assert sum(outcome["sent"].values()) > RATE * took_s / 2, "the load has hardly run"
