"""What operators see of real processes: the page's state, top, logs, and the files that status names."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner
from conftest import Addresses, RunningApplication

import meshserve as serve
from meshserve.api.client import client, wait_for
from meshserve.cli.main import main

LIGHT: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0.0}


@serve.deployment(**LIGHT)
class Model:
    def predict(self, item: str) -> str:
        if item == "bad":
            raise ValueError("no such item")
        return item.upper()


@serve.deployment(**LIGHT)
class Front:
    def __init__(self, model: serve.DeploymentHandle[Any]) -> None:
        self.model = model

    async def __call__(self, request: Any) -> str:
        return str(await self.model.predict.remote(request.query_params["item"]))


async def watched(mesh: Addresses, app: RunningApplication) -> dict[str, Any]:
    """The state that the page shows once its rates know of the calls made meanwhile."""
    async with httpx.AsyncClient(timeout=30) as http, asyncio.timeout(60):
        while True:
            assert (await http.get(app.url, params={"item": "good"})).text == "GOOD"
            await http.get(app.url, params={"item": "bad"})
            state: dict[str, Any] = (await http.get(f"{mesh.http}/-/dashboard/state")).json()
            (found,) = [one for one in state["applications"] if one["name"] == app.name]
            if len([call for call in found["calls"] if call["calls_per_s"]]) == 2:
                return state


def test_operators_see_states_rates_errors_and_logs(mesh: Addresses, run: Callable[..., RunningApplication]) -> None:
    app = run(Front.bind(Model.bind()))
    state = asyncio.run(watched(mesh, app))
    (found,) = [one for one in state["applications"] if one["name"] == app.name]
    front, model = found["deployments"]
    assert (front["name"], model["name"], found["status"]) == ("Front", "Model", "RUNNING")
    assert model["rates"]["calls_per_s"] > 0 and model["rates"]["failed_per_s"] > 0
    (replica,) = model["replicas"]
    assert replica["memory_bytes"] > 1e6 and Path(replica["log_path"]).is_file()
    errors = [one for one in state["notices"] if (one["application"], one["deployment"]) == (app.name, "Model")]
    assert "Request failed. ValueError: no such item" in {one["text"] for one in errors}
    assert f"Application {app.name!r} is RUNNING." in {one["text"] for one in state["notices"]}

    places = wait_for(client().status()).logs
    assert all(Path(place.path).is_file() for place in places) and len(places) >= 4
    logs = CliRunner().invoke(main, ["logs", app.name, "-n", "200"])
    assert logs.exit_code == 0 and "CALL predict OK" in logs.output and "GET /" in logs.output
    assert "ValueError: no such item" in logs.output
    only = CliRunner().invoke(main, ["logs", app.name, "--deployment", "Front", "-n", "200"]).output
    assert "GET /" in only and "CALL predict" not in only
    nobody = CliRunner().invoke(main, ["logs", "nobody"])
    assert nobody.exit_code == 1 and "There is no application 'nobody'" in nobody.output
    top = CliRunner(env={"COLUMNS": "140"}).invoke(main, ["top", mesh.http, "--once", "--interval", "0.5"])
    assert top.exit_code == 0 and app.name in top.output and "Model" in top.output


def test_logs_follow_what_comes(mesh: Addresses, cluster: str, run: Callable[..., RunningApplication]) -> None:
    app = run(Front.bind(Model.bind()))
    command = [sys.executable, "-m", "meshserve.cli.main", "logs", app.name, "-f", "-n", "0", "--address", cluster]
    # Started in the background, as continuous integration may be, this process ignores Ctrl-C, and so would its child.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as follower:
        assert follower.stdout is not None
        asking = threading.Event()

        def ask() -> None:
            while not asking.wait(0.2):
                httpx.get(app.url, params={"item": "good"})

        thread = threading.Thread(target=ask)
        thread.start()
        line = next((line for line in follower.stdout if "CALL predict OK" in line), "")
        asking.set()
        thread.join()
        follower.send_signal(signal.SIGINT)
        _, error = follower.communicate(timeout=30)
    assert line and follower.returncode == 0, error
