"""Processes that die while something is under way: it ends as it would have, and nothing is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mesh_conditions import controller_pid, wait_until
from slow_application import Slow, pids

import meshserve as serve
from meshserve.exceptions import ReplicaDiedError


def begin(app: serve.Application, name: str) -> None:
    """Sets an application without waiting for it."""
    serve.run_many([serve.RunTarget(target=app, name=name, route_prefix=None)], wait_for_applications_running=False)


def until_running(name: str) -> None:
    wait_until(lambda: serve.status().applications[name].status == "RUNNING")


@pytest.fixture
def name(mesh, request):
    """Of an application, which is deleted in the end."""
    yield request.node.name
    serve.delete(request.node.name)


def test_a_replica_that_constructs_is_waited_for_by_the_next_controller(name, tmp_path):
    begin(Slow.bind(tmp_path), name)
    wait_until(lambda: pids(tmp_path))
    controller = controller_pid()
    os.kill(controller, signal.SIGKILL)
    wait_until(lambda: controller_pid() not in (0, controller))
    tmp_path.joinpath("go").touch()
    until_running(name)
    assert [serve.get_app_handle(name).remote().result(timeout_s=10)] == pids(tmp_path)


def test_a_replica_killed_while_it_constructs_is_replaced(name, tmp_path):
    begin(Slow.bind(tmp_path), name)
    wait_until(lambda: pids(tmp_path))
    [victim] = pids(tmp_path)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(pids(tmp_path)) == 2)
    tmp_path.joinpath("go").touch()
    until_running(name)
    assert serve.get_app_handle(name).remote().result(timeout_s=10) not in (victim, 0)


def test_a_replica_killed_while_it_drains_loses_its_call_and_the_update_goes_on(name, tmp_path):
    tmp_path.joinpath("go").touch()
    handle = serve.run(Slow.bind(tmp_path), name=name, route_prefix=None)
    [old] = pids(tmp_path)
    call = handle.wait_for.remote("end")
    begin(Slow.bind(tmp_path), name)
    wait_until(lambda: serve.status().applications[name].deployments["Slow"].replica_states.get("STOPPING"))
    os.kill(old, signal.SIGKILL)
    with pytest.raises(ReplicaDiedError):
        call.result(timeout_s=30)
    until_running(name)
    assert handle.remote().result(timeout_s=10) in set(pids(tmp_path)) - {old}


def test_a_shutdown_goes_on_when_the_controller_is_killed_in_its_middle_and_no_process_is_left():
    program = Path(__file__).parent / "shut_down.py"
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    ended = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, timeout=110)
    assert ended.stdout.strip().endswith("nothing is left"), ended.stdout + ended.stderr
