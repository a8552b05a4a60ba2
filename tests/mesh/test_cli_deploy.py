"""`meshserve deploy` and its neighbours, as a person and as a script use them: real commands, real files."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cli_commands import command
from conftest import Addresses

import meshserve as serve

APPLICATIONS = """
import os
import meshserve as serve
from pydantic import BaseModel

LIGHT = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0, "max_constructor_retry_count": 1}

@serve.deployment(user_config={"greeting": "hello"}, **LIGHT)
class Greeter:
    def __init__(self, name):
        self.name = name

    def reconfigure(self, user_config):
        self.greeting = user_config["greeting"]

    def __call__(self):
        return f"{self.greeting} {self.name} {os.environ.get('PLACE', 'nowhere')} {os.getpid()}"

class Arguments(BaseModel):
    name: str

def build(arguments: Arguments):
    return Greeter.bind(arguments.name)

app = Greeter.bind("you")
"""


def file_of(folder: Path, *applications: dict[str, Any]) -> str:
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump({"applications": list(applications)}))
    return str(path)


def entry(name: str, **fields: Any) -> dict[str, Any]:
    path = "declared_here:build"
    return {"name": name, "route_prefix": f"/{name}", "import_path": path, "args": {"name": name}, **fields}


@pytest.fixture
def meshserve(mesh: Addresses, cluster: str, tmp_path: Path) -> Callable[..., str]:
    """Runs `meshserve` to its end in the tests' cluster; gives what it said, checks its exit code."""
    (tmp_path / "declared_here.py").write_text(APPLICATIONS)

    def run(*arguments: str, code: int = 0) -> str:
        with command(*arguments, RAY_ADDRESS=cluster) as done:
            ended = done.wait()
        assert ended == code, done.said
        return str(done.said)

    return run


def test_a_file_is_deployed_changed_shown_and_taken_back(
    meshserve: Callable[..., str], mesh: Addresses, tmp_path: Path
) -> None:
    file = file_of(tmp_path, entry("one", runtime_env={"env_vars": {"PLACE": "there"}}), entry("two"))
    assert "+ one is new" in meshserve("deploy", file, "--dry-run")
    assert "one" not in serve.status().applications

    said = meshserve("deploy", file, "--wait")
    assert "Sent deploy request successfully." in said
    assert "Everything runs." in said
    first = httpx.get(f"{mesh.http}/one").text.split()
    assert first[:3] == ["hello", "one", "there"]
    second = httpx.get(f"{mesh.http}/two").text

    greeting = {"name": "Greeter", "user_config": {"greeting": "goodbye"}}
    file = file_of(
        tmp_path, entry("one", runtime_env={"env_vars": {"PLACE": "there"}}, deployments=[greeting]), entry("two")
    )
    said = meshserve("deploy", file, "--wait")
    assert "~ one changes in place" in said
    assert 'deployments[Greeter].user_config.greeting: "goodbye"' in said
    assert "= two does not change" in said
    assert httpx.get(f"{mesh.http}/one").text.split() == ["goodbye", *first[1:]]  # the same process
    assert httpx.get(f"{mesh.http}/two").text == second

    shown = list(yaml.safe_load_all(meshserve("config")))
    assert [one["name"] for one in shown] == ["one", "two"]
    assert shown[0]["deployments"] == [greeting]
    status = json.loads(meshserve("status", "-o", "json"))
    assert status["applications"]["one"]["status"] == "RUNNING"

    assert "- one is deleted" in meshserve("deploy", file_of(tmp_path), "--wait")
    assert "one" not in serve.status().applications


def test_an_application_that_cannot_be_built_ends_the_wait_with_its_traceback(
    meshserve: Callable[..., str], tmp_path: Path
) -> None:
    said = meshserve("deploy", file_of(tmp_path, entry("broken", args={})), "--wait", code=1)
    assert "Field required" in said
    assert serve.status().applications["broken"].status == "DEPLOY_FAILED"
    serve.delete("broken")


def test_an_import_path_is_a_file_of_one_entry(meshserve: Callable[..., str], mesh: Addresses, tmp_path: Path) -> None:
    how = ["--name", "path", "--app-dir", str(tmp_path), "--wait"]
    meshserve("deploy", "declared_here:build", "name=path", *how)
    assert httpx.get(f"{mesh.http}/").text.split()[:2] == ["hello", "path"]
    serve.delete("path")


def test_a_file_that_runs_follows_its_modules_and_itself(mesh: Addresses, cluster: str, tmp_path: Path) -> None:
    module = tmp_path / "declared_here.py"
    module.write_text(APPLICATIONS)
    file = file_of(tmp_path, entry("live"))
    with (
        command("status", "--watch", "-o", "json", RAY_ADDRESS=cluster) as watching,
        command("run", file, "--reload", "--app-dir", str(tmp_path), RAY_ADDRESS=cluster) as running,
    ):
        assert f"{mesh.http}/live" in running.until("is ready")
        running.until("Watching")
        assert httpx.get(f"{mesh.http}/live").text.split()[:2] == ["hello", "live"]
        told = json.loads(watching.until('"live": {"status": "RUNNING"'))
        assert told["applications"]["live"]["deployments"]["Greeter"]["status"] == "HEALTHY"
        assert watching.end(signal.SIGTERM) == 0

        module.write_text(APPLICATIONS.replace('"greeting": "hello"', '"greeting": "welcome"'))
        running.until("is ready")
        assert httpx.get(f"{mesh.http}/live").text.split()[0] == "welcome"

        module.write_text("def broken(:")
        running.until("what ran before goes on")
        assert "SyntaxError" in running.said
        assert httpx.get(f"{mesh.http}/live").text.split()[0] == "welcome"

        assert running.end() == 0
    assert "live" not in serve.status().applications
