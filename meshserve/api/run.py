"""Starting, running and ending: the functions a program calls."""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meshserve.api.application import Application
from meshserve.api.checks import config
from meshserve.api.client import client, wait_for
from meshserve.api.console import show_log
from meshserve.api.controller_options import ControllerOptions
from meshserve.api.deploy import RunTarget, set_and_wait, specify
from meshserve.api.ingress_options import HTTPOptions, ProxyLocation, gRPCOptions
from meshserve.api.legacy_start import check_legacy
from meshserve.api.logging_config import LoggingConfig
from meshserve.api.mesh import START_TIMEOUT_S, connect, ensure_mesh, proxy_options, shut_down
from meshserve.api.readiness import News, Readiness
from meshserve.api.urls import http_url
from meshserve.api.waiting import until_gone, until_serving
from meshserve.errors import DeploymentFailedError
from meshserve.model.control import ApplicationSpec
from meshserve.model.overview import MeshOverview
from meshserve.routing.handle import DeploymentHandle
from meshserve.routing.legacy_handle import open_handle
from meshserve.settings import Settings

logger = logging.getLogger("meshserve")

DELETE_TIMEOUT_S = 60.0

SILENCE_S = 3.0
"""Applications that are up sooner say nothing of what they waited for."""


def start(
    proxy_location: str | ProxyLocation | None = None,
    http_options: HTTPOptions | Mapping[str, Any] | None = None,
    grpc_options: gRPCOptions | Mapping[str, Any] | None = None,
    logging_config: LoggingConfig | Mapping[str, Any] | None = None,
    tracing_config: Mapping[str, Any] | None = None,
    controller_options: ControllerOptions | Mapping[str, Any] | None = None,
    **legacy: Any,
) -> None:
    """Starts the mesh, and Ray if none runs. A mesh that runs keeps its options; a warning says which differ.

    Args:
        proxy_location: which machines have a proxy: "EveryNode" (those with replicas, and the head), "HeadOnly" or
            "Disabled".
        http_options: an `HTTPOptions` or its fields.
        grpc_options: a `gRPCOptions` or its fields.
        logging_config: of the mesh's own processes; a `LoggingConfig` or its fields.
        tracing_config: whether requests are traced, and where spans go; a `meshserve.schema.TracingConfig` or its
            fields. None for what the environment says.
        controller_options: of the controller's process; a `ControllerOptions` or its fields.
        legacy: arguments of older releases; each warns, or says what to write instead.

    Raises:
        ValueError, TypeError, ImportError: an option is not valid.
        RuntimeError: it does not come up, for example since a port is taken.
        TimeoutError: the proxies are not up after a minute.
    """
    show_log()
    check_legacy(legacy)
    options = proxy_options(proxy_location, http_options, grpc_options, logging_config, tracing_config)
    controller = config("controller_options", controller_options or {}, ControllerOptions)
    mesh = ensure_mesh(options, runtime_env=controller.runtime_env)
    if not mesh.has_ingress:
        return
    try:
        wait_for(until_serving(client(), START_TIMEOUT_S))
    except DeploymentFailedError:
        if mesh.started:
            shut_down()
        raise


def run(
    target: Application,
    blocking: bool = False,
    name: str = "default",
    route_prefix: str | None = "/",
    logging_config: LoggingConfig | Mapping[str, Any] | None = None,
    external_scaler_enabled: bool = False,
    *,
    grpc_servicer_functions: Sequence[str | Callable[..., Any]] = (),
    controller_options: ControllerOptions | Mapping[str, Any] | None = None,
    _local_testing_mode: bool = False,
) -> DeploymentHandle[Any]:
    """Runs an application and waits until it answers. Starts the mesh and Ray if they do not run.

    Args:
        target: a bound deployment.
        blocking: wait on, until interrupted.
        name: the application's; one of that name that runs is updated.
        route_prefix: the path under which it answers HTTP; None for not at all.
        logging_config: a `LoggingConfig` or its fields.
        external_scaler_enabled: whether the numbers of replicas are set from outside.
        grpc_servicer_functions: `add_...Servicer_to_server` of each gRPC service that it answers, or its import path.
        controller_options: of the controller's process, if the mesh is started; see `start`.
        _local_testing_mode: construct everything in this process, without Ray and without ports; for unit tests.

    Returns:
        A handle of the application's ingress deployment.

    Raises:
        TypeError: the target is no application, or cannot be pickled.
        ValueError: the name or the prefix is not valid.
        MeshServeException: the prefix is another application's.
        DeploymentFailedError: it does not come up; a RuntimeError that says why, with what user code raised. The
            application stays as it is, for `status` to show, until it is run again or deleted.
    """
    one = RunTarget(
        target=target,
        name=name,
        route_prefix=route_prefix,
        logging_config=logging_config,
        external_scaler_enabled=external_scaler_enabled,
        grpc_servicer_functions=grpc_servicer_functions,
    )
    return run_many([one], blocking, _local_testing_mode=_local_testing_mode, controller_options=controller_options)[0]


def run_many(
    targets: Sequence[RunTarget],
    blocking: bool = False,
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: ControllerOptions | Mapping[str, Any] | None = None,
) -> list[DeploymentHandle[Any]]:
    """Runs several applications at once; see `run`.

    Args:
        targets: the applications.
        blocking: wait on, until interrupted.
        wait_for_ingress_deployment_creation: accepted for compatibility; a handle waits for its deployment.
        wait_for_applications_running: False to return as soon as the applications are set.
        _local_testing_mode: see `run`.
        controller_options: see `run`.

    Raises:
        ValueError: there are none, or two have the same name or prefix.
    """
    show_log()
    specs = specify(targets)
    controller = config("controller_options", controller_options or {}, ControllerOptions)
    if _local_testing_mode or Settings.from_environment().local_testing_mode:
        # By name: what runs replicas in this process lies in an outer layer, and only tests need it.
        importlib.import_module("meshserve.testing.local").run_local(specs)
        return [open_handle(spec.ingress, spec.name, sync=True) for spec in specs]
    mesh = ensure_mesh(runtime_env=controller.runtime_env)
    if mesh.started:
        logger.info("The mesh was started in %s.", mesh.cluster)
    if wait_for_applications_running or blocking:
        _announce(specs, set_and_wait(specs, mesh.has_ingress, _WaitingLog()), mesh.http_scheme)
    else:
        wait_for(client().apply(specs))
    if blocking:
        _sleep_until_interrupted()
    return [open_handle(spec.ingress, spec.name, sync=True) for spec in specs]


def _run(
    target: Application,
    *,
    _blocking: bool = True,
    _local_testing_mode: bool = False,
    controller_options: ControllerOptions | Mapping[str, Any] | None = None,
    **options: Any,
) -> DeploymentHandle[Any]:
    """`run` that may return before the application answers; `_blocking` is whether to wait for that."""
    one = RunTarget(target, **options)
    return run_many(
        [one],
        wait_for_applications_running=_blocking,
        _local_testing_mode=_local_testing_mode,
        controller_options=controller_options,
    )[0]


def _run_many(
    targets: Sequence[RunTarget],
    *,
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: ControllerOptions | Mapping[str, Any] | None = None,
) -> list[DeploymentHandle[Any]]:
    """`run_many` under the name that ported tests use."""
    return run_many(
        targets,
        False,
        wait_for_ingress_deployment_creation,
        wait_for_applications_running,
        _local_testing_mode,
        controller_options,
    )


class _WaitingLog:
    """Logs what is waited for once the wait is long enough for somebody to wonder, and only what is new."""

    def __init__(self) -> None:
        self._speaks_at = time.monotonic() + SILENCE_S
        self._news = News()

    def __call__(self, now: Readiness) -> None:
        if time.monotonic() < self._speaks_at:
            return
        for who, what in self._news.of(now):
            logger.info("Waiting for %s: %s", who, what)


def _announce(specs: Sequence[ApplicationSpec], mesh: MeshOverview, scheme: str) -> None:
    for spec in specs:
        url = http_url(mesh, spec.route_prefix, scheme)
        logger.info("Application %r is ready%s.", spec.name, f" at {url}" if url else "")


def _sleep_until_interrupted() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        logger.info("Interrupted.")
        raise


def delete(name: str, _blocking: bool = True) -> None:
    """Deletes an application; one that does not exist is ignored.

    Args:
        name: the application's.
        _blocking: wait until it is gone.

    Raises:
        MeshServeException: no mesh runs.
        TimeoutError: it is not gone after a minute.
    """
    connect()
    wait_for(client().delete([name]))
    if _blocking:
        wait_for(until_gone(client(), [name], DELETE_TIMEOUT_S))


def shutdown() -> None:
    """Deletes all applications and ends all processes of the mesh; nothing happens when none runs. Ray goes on."""
    shut_down()


async def shutdown_async() -> None:
    """`shutdown` for asynchronous programs."""
    await asyncio.to_thread(shut_down)
