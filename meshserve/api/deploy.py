"""What `run`, `run_many` and the command line do: build applications, set them, wait until they answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshserve.api.application import Application
from meshserve.api.checks import config
from meshserve.api.client import client, wait_for
from meshserve.api.graph import Run, build
from meshserve.api.ingress_options import servicer_paths
from meshserve.api.logging_config import LoggingConfig
from meshserve.api.waiting import OnProgress, until_heard, until_running
from meshserve.launch.ray_cluster import driver_runtime_env
from meshserve.model.control import ApplicationSpec
from meshserve.model.overview import MeshOverview


@dataclass(frozen=True)
class RunTarget:
    """One of the applications that `run_many` runs; see `run` for the fields."""

    target: Application
    name: str = "default"
    route_prefix: str | None = "/"
    logging_config: LoggingConfig | Mapping[str, Any] | None = None
    external_scaler_enabled: bool = False
    grpc_servicer_functions: Sequence[str | Callable[..., Any]] = ()


def specify(targets: Sequence[RunTarget]) -> tuple[ApplicationSpec, ...]:
    """Builds applications, before anything is started for them.

    Raises:
        ValueError: there are none, or two have the same name or route prefix.
        Exception: see `build`.
    """
    if not targets:
        raise ValueError("There is no application to run: give at least one target.")
    specs = tuple(_specify(target) for target in targets)
    _refuse_twice("name", [spec.name for spec in specs])
    _refuse_twice("route_prefix", [spec.route_prefix for spec in specs if spec.route_prefix is not None])
    return specs


def _specify(target: RunTarget) -> ApplicationSpec:
    log = target.logging_config
    how = Run(
        name=target.name,
        route_prefix=target.route_prefix,
        runtime_env=driver_runtime_env(),
        logging_config_json="" if log is None else config("logging_config", log, LoggingConfig).to_text(),
        external_scaler_enabled=target.external_scaler_enabled,
        grpc_servicer_functions=servicer_paths(target.grpc_servicer_functions),
    )
    return build(target.target, how)


def _refuse_twice(what: str, values: Sequence[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"Applications that run together must differ in {what}: {twice[0]!r} is given twice.")


def set_and_wait(specs: Sequence[ApplicationSpec], with_ingress: bool, on_progress: OnProgress) -> MeshOverview:
    """Sets applications and waits until they answer.

    Args:
        with_ingress: whether the mesh has proxies, which have to serve them.

    Returns:
        The state of the mesh when they do.

    Raises:
        MeshServeException: the controller refuses them, for example since a route prefix is taken.
        DeploymentFailedError: one will not come up; says why.
    """

    async def apply_and_wait() -> MeshOverview:
        controller = client()
        generation, names = await controller.apply(specs), [spec.name for spec in specs]
        mesh = await until_running(controller, names, generation, with_ingress, on_progress)
        await until_heard(mesh, names)
        return mesh

    return wait_for(apply_and_wait())
