"""What tests on real processes wait for."""

import time

import ray

from meshserve.settings import CONTROLLER_NAME, NAMESPACE


def wait_until(condition, timeout_s=60.0):
    """Waits until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)


def controller_pid() -> int:
    """The controller's process; 0 while there is none."""
    try:
        return ray.get(ray.get_actor(CONTROLLER_NAME, NAMESPACE).info.remote(), timeout=30).pid
    except (ValueError, ray.exceptions.RayError):  # ValueError is how Ray says that there is none
        return 0
