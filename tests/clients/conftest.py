"""One mesh of real processes for clients that nobody here wrote, and the applications that they call."""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import notes
import pytest
import ray
from client import Client
from toolchains import BUILDS, built

import meshserve as serve
from meshserve.handle import DeploymentHandle
from meshserve.settings import NAMESPACE

MAX_METADATA_BYTES = 16 * 1024
MAX_MESSAGE_BYTES = 110_000
_TO_NARROW = (("application", "narrow"),)


@dataclass(frozen=True)
class Mesh:
    """Where the gRPC ingress of these tests is reached, and handles of its applications."""

    grpc: str
    wide: DeploymentHandle[Any]
    narrow: DeploymentHandle[Any]


@pytest.fixture(scope="session")
def mesh() -> Iterator[Mesh]:
    """A Ray cluster, a mesh and its applications: `wide` takes all that comes, `narrow` one call and one in line,
    `model` tensors."""
    # Sockets lie in it, and their names must be short.
    scratch = tempfile.mkdtemp(prefix="ms-", dir="/tmp")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("RAY_ADDRESS", raising=False)
        ray.init(
            "local",
            num_cpus=8,
            include_dashboard=False,
            namespace=NAMESPACE,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=scratch,
        )
    grpc_port = _free_port()
    limits = {"max_metadata_bytes": MAX_METADATA_BYTES, "max_receive_message_bytes": MAX_MESSAGE_BYTES}
    serve.start(http_options={"port": _free_port()}, grpc_options={"port": grpc_port, **limits})
    functions = [notes.add_ShapesServiceServicer_to_server]
    handles = [
        serve.run(target, name=name, route_prefix=None, grpc_servicer_functions=functions)
        for name, target in (("wide", notes.wide), ("narrow", notes.narrow))
    ]
    serve.run(notes.model, name="model", route_prefix=None)
    yield Mesh(f"127.0.0.1:{grpc_port}", *handles)
    serve.shutdown()
    ray.shutdown()
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="session", params=BUILDS)
def client(request: pytest.FixtureRequest, mesh: Mesh) -> Client:
    """The client of each language in turn; builds it when its sources are newer than what is there."""
    return Client(built(request.param), mesh.grpc)


@pytest.fixture
def narrow_is_full(mesh: Mesh) -> Iterator[None]:
    """`narrow` has a call and another in line, so that it sheds the next."""
    with grpc.insecure_channel(mesh.grpc) as channel:
        stub = notes.ShapesServiceStub(channel)
        running = stub.Down(notes.Note(text="wait", number=1), metadata=_TO_NARROW, timeout=120)
        next(running)
        in_line = stub.Unary.future(notes.Note(text="wait"), metadata=_TO_NARROW, timeout=120)
        wait_until(lambda: sheds(stub))
        yield
        running.cancel()
        in_line.cancel()
    wait_until(lambda: mesh.narrow.waiting.remote().result() == 0)


def sheds(stub: Any) -> bool:
    """Whether `narrow` refuses a call now."""
    probe = stub.Unary.future(notes.Note(text="probe"), metadata=_TO_NARROW, timeout=0.5)
    return probe.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Returns once the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
