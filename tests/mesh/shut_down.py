"""A mesh without proxies in a Ray cluster of its own, whose controller is killed for good, and while it shuts down.

`python shut_down.py` says `nothing is left` when all its processes are gone afterwards.
"""

import asyncio
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import ray
from mesh_conditions import controller_pid, wait_until
from slow_application import Slow, pids

import meshserve as serve
from meshserve.launch.ray_store import RayStore
from meshserve.settings import CONTROLLER_NAME, NAMESPACE


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def kill_controller_for_good() -> None:
    """Kills the controller so that Ray does not start it again."""
    ray.kill(ray.get_actor(CONTROLLER_NAME, NAMESPACE), no_restart=True)
    wait_until(lambda: not controller_pid())


def main(folder: Path) -> None:
    """See the module."""
    folder.joinpath("go").touch()
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=str(folder / "r"))
    serve.start(proxy_location="Disabled")
    handle = serve.run(Slow.options(num_replicas=2).bind(folder), route_prefix=None)
    assert not serve.status().proxies
    kill_controller_for_good()
    serve.start()
    wait_until(lambda: serve.status().applications["default"].status == "RUNNING")
    assert len(pids(folder)) == 2
    call = handle.wait_for.remote("end")
    assert handle.remote().result() in pids(folder)

    ending = threading.Thread(target=serve.shutdown)
    ending.start()
    wait_until(lambda: serve.status().applications["default"].status == "DELETING")
    controllers = [controller_pid()]
    os.kill(controllers[0], signal.SIGKILL)
    wait_until(lambda: controller_pid() not in (0, controllers[0]))
    controllers.append(controller_pid())
    folder.joinpath("end").touch()
    call.result(timeout_s=30)
    ending.join()

    wait_until(lambda: not any(lives(pid) for pid in (*controllers, *pids(folder))))
    assert not ray.util.list_named_actors(all_namespaces=True)

    serve.start(proxy_location="Disabled")
    kill_controller_for_good()
    serve.shutdown()
    assert not asyncio.run(RayStore().keys(""))
    ray.shutdown()
    print("nothing is left")


if __name__ == "__main__":
    # Sockets lie in it, and their names must be short.
    scratch = Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp"))
    try:
        main(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
