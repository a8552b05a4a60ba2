"""One Ray cluster and one mesh for all tests here; each test has applications of its own, with names of their own."""

import itertools
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

import meshserve as serve
from meshserve.handle import DeploymentHandle
from meshserve.settings import NAMESPACE


@dataclass(frozen=True)
class Addresses:
    """Where the mesh of these tests is reached: `http` without a slash at its end, `grpc` as a channel's target."""

    http: str
    grpc: str


@dataclass(frozen=True)
class RunningApplication:
    """An application of one test."""

    name: str
    handle: DeploymentHandle[Any]
    url: str


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """A Ray cluster of its own, with room for every test; its address."""
    # Sockets lie in it, and their names must be short.
    scratch = tempfile.mkdtemp(prefix="ms-", dir="/tmp")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("RAY_ADDRESS", raising=False)
        environment.setenv("PYTHONPATH", str(Path(__file__).parent / "roles"), prepend=os.pathsep)
        ray.init(
            "local",
            num_cpus=64,
            include_dashboard=False,
            namespace=NAMESPACE,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=scratch,
        )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="session")
def mesh(cluster: str) -> Iterator[Addresses]:
    """The mesh, its ingress on ports of its own."""
    http_port, grpc_port = free_port(), free_port()
    serve.start(http_options={"port": http_port}, grpc_options={"port": grpc_port})
    yield Addresses(f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}")
    serve.shutdown()


_numbers = itertools.count()


@pytest.fixture
def run(mesh: Addresses) -> Iterator[Callable[..., RunningApplication]]:
    """Runs applications under names and prefixes of their own, and deletes them when the test is over."""
    names = []

    def run_application(target: serve.Application, **options: Any) -> RunningApplication:
        number = next(_numbers)
        options = {"name": f"app-{number}", "route_prefix": f"/app-{number}", **options}
        names.append(options["name"])
        handle = serve.run(target, **options)
        return RunningApplication(options["name"], handle, f"{mesh.http}{options['route_prefix'] or ''}")

    yield run_application
    for name in names:
        serve.delete(name)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
