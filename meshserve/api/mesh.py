"""The mesh under a program: found in the Ray cluster, or started there; and ended."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshserve.api.checks import config
from meshserve.api.client import ControllerClient, client, forget_client, wait_for
from meshserve.api.import_paths import import_paths
from meshserve.api.ingress_options import HTTPOptions, ProxyLocation, gRPCOptions
from meshserve.api.logging_config import LoggingConfig
from meshserve.api.tracing_config import tracing_text
from meshserve.errors import ControllerUnreachableError
from meshserve.launch.launcher import LaunchError, ProcessSpec
from meshserve.launch.locator import locate
from meshserve.launch.ray_cluster import Cluster, is_connected, join, join_or_start
from meshserve.launch.ray_host import LOOPBACK
from meshserve.launch.ray_launcher import RayLauncher
from meshserve.launch.ray_store import RayStore
from meshserve.model.control import ProxyOptions
from meshserve.routing.directory import process_directory, set_process_directory
from meshserve.rpc.io_thread import WAITS_FOR_ITSELF, io_thread
from meshserve.rpc.token import new_token
from meshserve.settings import CONTROLLER_NAME, Settings

logger = logging.getLogger("meshserve")

DECLARATIONS = "meshserve.api.declarations"
"""The module by which the controller understands configuration files. By name: it is not for programs to import."""

START_TIMEOUT_S = 60.0
"""For the controller and the proxies to come up."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh that runs.

    Attributes:
        cluster: where it runs.
        started: its controller was started by this call.
        options: of its proxies.
    """

    cluster: Cluster
    started: bool
    options: ProxyOptions

    @property
    def has_ingress(self) -> bool:
        """Whether it has proxies."""
        return self.options.location != ProxyLocation.Disabled

    @property
    def http_scheme(self) -> str:
        """How its proxies speak HTTP: `https` when they have a certificate."""
        return "https" if json.loads(self.options.http_json or "{}").get("ssl_certfile") else "http"


def proxy_options(
    location: str | ProxyLocation | None = None,
    http: HTTPOptions | Mapping[str, Any] | None = None,
    grpc: gRPCOptions | Mapping[str, Any] | None = None,
    logging_config: LoggingConfig | Mapping[str, Any] | None = None,
    tracing_config: Mapping[str, Any] | None = None,
) -> ProxyOptions:
    """Reads what users write about proxies; raises TypeError, ValueError and ImportError as its parts do."""
    http = config("http_options", {} if http is None else http, HTTPOptions)
    if location is None and http.location is None and "location" in http.model_fields_set:
        location = ProxyLocation.Disabled  # no location was asked for, in the words of older releases
    location = http.location or location or ProxyLocation.EveryNode
    if http.host is None and grpc is None:
        location = ProxyLocation.Disabled  # there is nothing to listen for
    grpc = config("grpc_options", {} if grpc is None else grpc, gRPCOptions)
    log = "" if logging_config is None else config("logging_config", logging_config, LoggingConfig).to_text()
    traced = tracing_text(tracing_config)
    drain_s = Settings.from_environment().proxy_min_drain_s
    return ProxyOptions(ProxyLocation.of(location), http.to_json(), grpc.to_json(http.host), log, traced, drain_s)


def ensure_mesh(
    options: ProxyOptions | None = None, address: str = "", runtime_env: Mapping[str, Any] | None = None
) -> Mesh:
    """Finds the mesh of the cluster this program is in, or of the one it joins or starts; starts one if there is none.

    Args:
        options: of the proxies, if they are to be started; None for the default ones, or those there are.
        address: of the Ray cluster; see `join_or_start`.
        runtime_env: the controller's, if it is started.

    Raises:
        ConnectionError: the cluster does not answer.
        RuntimeError: the controller does not come up.
    """
    _end_local_applications()
    cluster = join_or_start(address)
    return wait_for(_ensure(cluster, options, runtime_env))


def ensure_controller(address: str = "", runtime_env: Mapping[str, Any] | None = None) -> bool:
    """Starts the controller unless it runs, without proxies: those come with the configuration file.

    Args:
        runtime_env: the controller's, if it is started.

    Returns:
        Whether it was started; raises as `ensure_mesh`.
    """
    return wait_for(_ensure_controller(join_or_start(address), runtime_env))


async def _ensure(cluster: Cluster, wanted: ProxyOptions | None, runtime_env: Mapping[str, Any] | None = None) -> Mesh:
    started = await _ensure_controller(cluster, runtime_env)
    options, existed = await client().start_proxies(wanted or proxy_options())
    if existed and wanted is not None and options != wanted:
        logger.warning("The mesh runs with other options; these are ignored: %s.", _differences(wanted, options))
    return Mesh(cluster, started, options)


async def _ensure_controller(cluster: Cluster, runtime_env: Mapping[str, Any] | None = None) -> bool:
    """Starts the controller unless it runs; whether it did."""
    launcher = RayLauncher()
    if await launcher.find(CONTROLLER_NAME) is not None:
        return False
    await forget_client()
    head = (await launcher.nodes())[0].node_id
    # A cluster that ends with this program never gets a second machine.
    host, callback = LOOPBACK if cluster.started else "", Settings.from_environment().controller_callback
    boot = {"token": await _token(), "host": host, "declarations": DECLARATIONS}
    spec = ProcessSpec(
        CONTROLLER_NAME,
        "meshserve.controller.process:main",
        {**boot, "callback": callback, "import_paths": import_paths()},
        actor_options={"num_cpus": 0, **({"runtime_env": dict(runtime_env)} if runtime_env else {})},
        node_id=head,
        restart_for_ever=True,
    )
    try:
        await launcher.start(spec)
    except LaunchError as error:
        if await launcher.find(CONTROLLER_NAME) is None:
            raise RuntimeError(f"The controller could not be started. {error}") from error
        return False  # another program was faster
    return True


async def _token() -> str:
    """For a new controller: that of the mesh whose controller is gone for good, if its processes still run."""
    try:
        return (await locate()).token
    except ControllerUnreachableError:
        return new_token()


def _differences(wanted: ProxyOptions, found: ProxyOptions) -> str:
    """The options that differ, by their names, with what is in force."""
    asked, given = _flat(wanted), _flat(found)
    return ", ".join(
        f"{name} {asked[name]!r} (in force: {given.get(name)!r})" for name in asked if asked[name] != given.get(name)
    )


def _flat(options: ProxyOptions) -> dict[str, Any]:
    parts = {
        "http_options": options.http_json,
        "grpc_options": options.grpc_json,
        "logging_config": options.logging_json,
    }
    flat: dict[str, Any] = {"proxy_location": options.location, "min_drain_s": options.min_drain_s}
    for part, text in parts.items():
        flat.update({f"{part}.{name}": value for name, value in json.loads(text or "{}").items()})
    return flat


def connect(address: str = "") -> None:
    """Makes sure that this program is in a Ray cluster where a mesh runs.

    Raises:
        ControllerUnreachableError: there is none.
    """
    join(address)
    wait_for(locate())


def mesh_runs() -> bool:
    """Whether a mesh runs in the cluster this program is in."""
    try:
        wait_for(locate())
    except ControllerUnreachableError:
        return False
    return True


def shut_down() -> None:
    """Ends the mesh of the cluster this program is in and what runs in this process; nothing happens without.

    Raises:
        RuntimeError: called on the I/O loop, which user code may share: that has to go on to end in order.
    """
    _end_local_applications()
    if io_thread().is_current:
        raise RuntimeError(WAITS_FOR_ITSELF)
    if is_connected():
        wait_for(_shut_down(client()))


def _end_local_applications() -> None:
    """Ends local testing mode: handles look for a mesh again."""
    if process_directory().is_local:
        # By name: it lies in an outer layer, and only tests need it.
        importlib.import_module("meshserve.testing.local").shutdown_local()


async def _shut_down(controller: ControllerClient) -> None:
    launcher, store = RayLauncher(), RayStore()
    try:
        if CONTROLLER_NAME not in await launcher.names():
            raise ControllerUnreachableError("no controller runs in this Ray cluster")
        await controller.shut_down()
    except ControllerUnreachableError as error:
        logger.info("Nothing is shut down in order: %s.", error)
    directory = process_directory()
    set_process_directory(None)
    await asyncio.gather(directory.close(), forget_client())
    # The controller is left after an orderly end; without one, whatever there is.
    await asyncio.gather(*(launcher.kill(name) for name in await launcher.names()))
    # And what it would have removed from the store, or the next mesh would begin with it.
    await asyncio.gather(*(store.delete(key) for key in await store.keys("")))
