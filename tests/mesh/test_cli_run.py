"""`meshserve run` and its neighbours, as a person uses them: real commands, real signals."""

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cli_commands import command
from conftest import Addresses, free_port

import meshserve as serve

APPLICATIONS = """
import time
import meshserve as serve
from pydantic import BaseModel

LIGHT = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0, "max_constructor_retry_count": 1}

@serve.deployment(**LIGHT)
class Greeter:
    def __init__(self, greeting="hello"):
        self._greeting = greeting

    def __call__(self):
        return self._greeting

@serve.deployment(**LIGHT)
class Broken:
    def __init__(self):
        raise ValueError("the model is not here")

@serve.deployment(**LIGHT)
class Slow:
    def __init__(self):
        time.sleep(1000)

@serve.deployment(ray_actor_options={"num_cpus": 0, "resources": {"unobtainium": 2}})
class Greedy:
    pass

class Arguments(BaseModel):
    times: int

def repeated(arguments: Arguments):
    return Greeter.bind("hello " * arguments.times)

def failing(arguments):
    raise RuntimeError("cannot build")

app = Greeter.bind()
broken = Broken.bind()
slow = Slow.bind()
greedy = Greedy.bind()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with applications."""
    folder = tmp_path_factory.mktemp("applications")
    (folder / "applications.py").write_text(APPLICATIONS)
    (folder / "unimportable.py").write_text("import meshserve\n\nimport no_such_package\n")
    return folder


@pytest.fixture
def meshserve(mesh: Addresses, cluster: str, folder: Path) -> Callable[..., Any]:
    """Starts `meshserve` in the tests' cluster, with the folder of applications."""

    def start(name: str, *arguments: str) -> Any:
        own = ["--app-dir", str(folder)] if name == "run" else []
        return command(name, *arguments, *own, RAY_ADDRESS=cluster)

    return start


def test_run_serves_until_ctrl_c_and_leaves_the_mesh_it_found(meshserve: Any, mesh: Addresses) -> None:
    with meshserve("run", "applications:app", "--name", "cli", "--route-prefix", "/cli") as running:
        assert f"{mesh.http}/cli" in running.until("is ready")
        assert httpx.get(f"{mesh.http}/cli").text == "hello"

        assert running.end() == 0

    assert "Traceback" not in running.said
    assert "cli" not in serve.status().applications
    assert httpx.get(f"{mesh.http}/-/healthz").status_code == 200


def test_run_reads_arguments_as_the_builder_wants_them(meshserve: Any, mesh: Addresses) -> None:
    with meshserve("run", "applications:repeated", "times=2", "--name", "args", "--route-prefix", "/args") as running:
        running.until("is ready")
        assert httpx.get(f"{mesh.http}/args").text == "hello hello "
        assert running.end(signal.SIGTERM) == 0


def test_non_blocking_run_leaves_the_application(meshserve: Any, mesh: Addresses) -> None:
    with meshserve("run", "applications:app", "--non-blocking", "--name", "stays", "--route-prefix", "/stays") as done:
        assert done.wait() == 0
    assert httpx.get(f"{mesh.http}/stays").text == "hello"

    with meshserve("status", "--name", "stays") as told:
        assert told.wait() == 0
    assert yaml.safe_load(told.said)["status"] == "RUNNING"

    with meshserve("delete", "stays") as deleted:
        assert deleted.wait() == 0
    assert "stays" not in serve.status().applications


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("unimportable:app", ["unimportable.py", "No module named 'no_such_package'"]),
        ("nowhere:app", ["no module named 'nowhere'"]),
        ("applications:nothing", ["no attribute 'nothing'"]),
        ("applications:Greeter", ["Greeter.bind"]),
        ("applications:failing", ["applications.py", "cannot build"]),
        ("applications:repeated", ["times", "Field required"]),
    ],
)
def test_what_cannot_be_built_is_reported_before_anything_is_started(
    folder: Path, target: str, said: list[str]
) -> None:
    with command("run", target, "--app-dir", str(folder)) as failed:
        assert failed.wait() == 1

    assert "Starting" not in failed.said
    for text in said:
        assert text in failed.said


def test_a_servicer_function_that_cannot_be_imported_is_reported_before_anything_is_started(folder: Path) -> None:
    with command(
        *("run", "applications:app", "--app-dir", str(folder)),
        *("--grpc-servicer-functions", "no_such_pb2_grpc.add_NoneServicer_to_server"),
    ) as failed:
        assert failed.wait() == 1

    assert "Starting" not in failed.said
    assert "no module named 'no_such_pb2_grpc'" in failed.said


def test_arguments_that_are_not_pairs_are_refused(folder: Path) -> None:
    with command("run", "applications:repeated", "times", "--app-dir", str(folder)) as failed:
        assert failed.wait() == 1

    assert "KEY=VALUE" in failed.said


def test_a_constructor_that_raises_ends_run_with_its_traceback(meshserve: Any) -> None:
    with meshserve("run", "applications:broken", "--name", "cli-broken", "--route-prefix", "/b") as failed:
        assert failed.wait() == 1

    assert 'raise ValueError("the model is not here")' in failed.said
    assert "cli-broken" not in serve.status().applications


def test_a_missing_resource_is_named_while_run_waits_and_ctrl_c_ends_it(meshserve: Any) -> None:
    with meshserve("run", "applications:greedy", "--name", "greedy", "--route-prefix", "/g") as waiting:
        assert "Waiting for Greedy" in waiting.until("unobtainium (needs 2, free 0 of 0)")

        assert waiting.end() == 130

    assert "greedy" not in serve.status().applications


def test_ctrl_c_during_a_slow_constructor_leaves_nothing(meshserve: Any) -> None:
    with meshserve("run", "applications:slow", "--name", "slow", "--route-prefix", "/s") as waiting:
        waiting.until("constructor")

        assert waiting.end() == 130

    assert "slow" not in serve.status().applications


def test_without_a_cluster_run_starts_one_and_takes_it_down_again(folder: Path) -> None:
    http_port, grpc_port = free_port(), free_port()
    ports = ["--http-port", str(http_port), "--grpc-port", str(grpc_port)]
    with command("run", "applications:app", "--app-dir", str(folder), *ports) as running:
        assert "a local Ray cluster, started for this program" in running.until("Using")
        running.until("is ready")
        assert httpx.get(f"http://127.0.0.1:{http_port}/").text == "hello"
        started = processes_of(running.process.pid)

        assert running.end() == 0

    assert "Traceback" not in running.said
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() and not is_zombie(pid) for pid in started))


def test_a_port_that_is_taken_ends_run_and_is_named(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with command(
            "run", "applications:app", "--app-dir", str(folder), "--http-port", port, "--grpc-port", str(free_port())
        ) as failed:
            assert failed.wait() == 1

    assert port in failed.said
    assert "in use" in failed.said


def test_commands_that_need_a_cluster_say_so() -> None:
    nowhere = "127.0.0.1:1"
    with command("status", "--address", nowhere) as failed:
        assert failed.wait() == 1
    assert failed.said.splitlines()[-1].startswith("Error: ")


def processes_of(pid: int) -> list[int]:
    """A process's descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits to be reaped."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
