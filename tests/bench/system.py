"""The running target: a private Ray cluster, the target's `serve`, and one application at a time to measure.

Lives in the runner's process. It is what scenarios see as `scenario.System`.
"""

import importlib
import json
import logging
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import ray

from bench.apps.remote_caller import RemoteCaller
from bench.apps.serving import serve
from bench.catalogue import APPLICATIONS, ApplicationSpec
from bench.sample import Sample
from bench.v1 import echo_pb2

_SERVICE = "meshserve.bench.v1.EchoService"
_SERVICER = "bench.v1.echo_pb2_grpc.add_EchoServiceServicer_to_server"
_READY_S = 60.0

# What an answer may take beyond the seconds that it was asked to spend measuring.
_SLACK_S = 30.0


class TargetError(Exception):
    """The target did not do what it was asked to; the message is its own."""


class RunningSystem:
    """One target from `serve.start` on. Entering it starts Ray and serving; leaving it stops Ray and all with it.

    Args:
        scratch: an empty directory with a short path, for Ray's sockets live in it and their names are limited.
        http_port: a free port.
        grpc_port: another one.
    """

    def __init__(self, scratch: Path, http_port: int, grpc_port: int) -> None:
        self._scratch = scratch
        self._http_port = http_port
        self._grpc_port = grpc_port
        self._deployed: dict[str, str] = {}
        self._spoilt: Counter[str] = Counter()
        self._callers: list[Any] = []
        self._serve_start_s = 0.0
        self._first_run_s = 0.0
        self.application = ""

    def __enter__(self) -> Self:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            _temp_dir=str(self._scratch / "ray"),
        )
        began = time.perf_counter()
        serve.start(
            http_options={"host": "127.0.0.1", "port": self._http_port},
            grpc_options={"port": self._grpc_port, "grpc_servicer_functions": [_SERVICER]},
        )
        self._serve_start_s = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ray.shutdown()

    # The runner's side: which application the next scenario is about.

    def use(self, name: str) -> None:
        """Makes an application of the catalogue the current one, deploying it when it is not yet.

        Raises:
            TargetError: it did not answer within a minute of being deployed.
        """
        if name not in self._deployed:
            self._deployed[name] = self._deploy(name)
        self.application = self._deployed[name]

    def forget(self, name: str) -> None:
        """Has the next `use` deploy the application anew, beside the old one, which a failure may have spoilt."""
        if self._deployed.pop(name, None):
            self._spoilt[name] += 1

    def _deploy(self, name: str) -> str:
        spec = APPLICATIONS[name]
        application = f"{name}-{self._spoilt[name]}" if self._spoilt[name] else name
        began = time.perf_counter()
        serve.run(_build(spec), name=application, route_prefix=f"/{application}")
        self._wait_until_it_answers(spec, application)
        self._first_run_s = self._first_run_s or time.perf_counter() - began
        return application

    def _wait_until_it_answers(self, spec: ApplicationSpec, application: str) -> None:
        """Asks until the ingress passes a request on: a load balancer learns of an application after `run` returns."""
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                self._probe(spec, application)
            except (OSError, grpc.RpcError) as error:
                if time.monotonic() > deadline:
                    raise TargetError(f"{application} does not answer: {error}") from error
                time.sleep(0.02)
            else:
                return

    def _probe(self, spec: ApplicationSpec, application: str) -> None:
        if spec.probe is not None:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http_port}/{application}{spec.probe}", timeout=5):
                return
        with grpc.insecure_channel(f"127.0.0.1:{self._grpc_port}") as channel:
            echo: Callable[..., echo_pb2.EchoResponse] = channel.unary_unary(
                f"/{_SERVICE}/Echo",
                request_serializer=echo_pb2.EchoRequest.SerializeToString,
                response_deserializer=echo_pb2.EchoResponse.FromString,
            )
            echo(echo_pb2.EchoRequest(message="hello"), timeout=5, metadata=(("application", application),))

    # The scenarios' side: scenario.System.

    def url(self, path: str = "") -> str:
        """The address of the application's HTTP route, with `path` behind it."""
        return f"http://127.0.0.1:{self._http_port}/{self.application}{path}"

    def grpc_url(self, method: str) -> str:
        """The address of a method of the bench's gRPC service at the gRPC ingress."""
        return f"http://127.0.0.1:{self._grpc_port}/{_SERVICE}/{method}"

    def ask(self, operation: str, seconds: float, **arguments: Any) -> Sample:
        """Has the application's calling replica do something for so many seconds.

        Raises:
            TargetError: it failed there, or gave no answer half a minute after it should have.
        """
        order = {"op": operation, "seconds": seconds, **arguments}
        request = urllib.request.Request(self.url(), data=json.dumps(order).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=2 * seconds + _SLACK_S) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise TargetError(f"HTTP {error.code}: {error.read(200).decode(errors='replace')}") from error
        if "error" in answer:
            raise TargetError(answer["error"])
        return Sample.of_json(answer)

    def call_from_driver(self, seconds: float) -> Sample:
        """Calls the leaf from this process, `handle.noop.remote().result()`, one after the other."""
        handle = serve.get_deployment_handle("Leaf", self.application)
        return _measure_blocking(lambda: handle.noop.remote().result(), seconds)

    def call_from_processes(self, seconds: float, *, processes: int, handles: int) -> Sample:
        """Calls the leaf from many processes, through several handles in each; they stay until the session's end."""
        caller_actor: Any = ray.remote(num_cpus=0)(RemoteCaller)
        while len(self._callers) < processes:
            self._callers.append(caller_actor.remote())
        callers = self._callers[:processes]
        ray.get([caller.connect.remote("Leaf", self.application, handles) for caller in callers], timeout=_READY_S)
        found = ray.get([caller.call.remote(seconds) for caller in callers], timeout=seconds + _SLACK_S)
        rate = sum(rate for rate, _ in found)
        drawn = Sample.of_latencies([latency for _, latencies in found for latency in latencies], seconds)
        note = f"{processes} processes with {handles} handles each stand for {processes * handles} callers"
        return Sample(rate, drawn.p50_ms, drawn.p99_ms, round(rate * seconds), note)

    def start_seconds(self) -> float:
        """How long `serve.start`, the first `serve.run` and the first answer took together."""
        return self._serve_start_s + self._first_run_s

    def shut_down(self) -> float:
        """Ends the target's serving and returns how many seconds that took."""
        began = time.perf_counter()
        serve.shutdown()
        return time.perf_counter() - began


def _build(spec: ApplicationSpec) -> Any:
    module, _, function = spec.build.partition(":")
    return getattr(importlib.import_module(module), function)(**spec.arguments)


def _measure_blocking(call: Callable[[], Any], seconds: float) -> Sample:
    latencies = []
    began = started = time.perf_counter()
    while started < began + seconds:
        call()
        now = time.perf_counter()
        latencies.append(now - started)
        started = now
    return Sample.of_latencies(latencies, started - began)
