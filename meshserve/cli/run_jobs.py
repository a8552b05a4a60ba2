"""What `meshserve run` runs: an application that this program imports, or a configuration file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from meshserve.api.client import client, wait_for
from meshserve.api.declarative import apply_config, wait_until_applied
from meshserve.api.deploy import RunTarget, set_and_wait, specify
from meshserve.api.mesh import ensure_controller, ensure_mesh
from meshserve.api.run import delete
from meshserve.api.urls import grpc_address, http_url
from meshserve.cli.changes import as_lines
from meshserve.cli.progress import Progress
from meshserve.cli.reload import forget_modules
from meshserve.cli.source import Source, file_source
from meshserve.cli.target import load_application
from meshserve.launch.ray_cluster import driver_runtime_env
from meshserve.model.control import ApplicationSpec, ProxyOptions
from meshserve.model.declared import ChangeKind
from meshserve.model.overview import MeshOverview


class Job(Protocol):
    """Something to run."""

    def put(self, progress: Progress, undo: ExitStack) -> None:
        """Brings it up, in a Ray cluster that is there and with a mesh that is started if there is none.

        Args:
            undo: told how to take down what is new.
        """

    def refresh(self, progress: Progress) -> None:
        """Brings it up again: code has changed."""


@dataclass
class ImportedJob:
    """An application that this program imports.

    Args:
        target: its import path.
        arguments: for a function that builds it.
        app_dir: the folder to import from.
        how: name, prefix and whatever else `RunTarget` has.
        options: of the proxies, if they are to be started; None for the default.
        environment: whether the program got a runtime environment for it.
    """

    target: str
    arguments: Sequence[str]
    app_dir: str
    how: Mapping[str, Any]
    options: ProxyOptions | None
    environment: bool

    def __post_init__(self) -> None:
        self._spec = self._specify()  # mistakes are told before anything is started

    def _specify(self) -> ApplicationSpec:
        application = load_application(self.target, self.arguments, self.app_dir)
        return specify([RunTarget(target=application, **self.how)])[0]

    def put(self, progress: Progress, undo: ExitStack) -> None:
        """See `Job`."""
        if self.environment:
            self._spec = self._specify()  # the environment is known only since this program is connected
        mesh = ensure_mesh(self.options)
        if self._spec.name not in wait_for(client().status()).applications:
            undo.callback(delete, self._spec.name)
        progress.step(f"Starting application {self._spec.name!r}.")
        overview = set_and_wait([self._spec], mesh.has_ingress, progress.waiting)
        progress.say(_ready(overview, self._spec.name, mesh.http_scheme, bool(self._spec.grpc_servicer_functions)))

    def refresh(self, progress: Progress) -> None:
        """See `Job`."""
        forget_modules(Path(self.app_dir).absolute())
        self._spec = self._specify()
        self.put(progress, ExitStack())  # never closed: what runs is taken down by whoever brought it up


@dataclass
class FileJob:
    """A configuration file.

    Args:
        path: of the file.
        app_dir: a folder to import from, besides the file's own.
    """

    path: str
    app_dir: str

    def __post_init__(self) -> None:
        self._source = file_source(self.path, self.app_dir)

    def put(self, progress: Progress, undo: ExitStack) -> None:
        """See `Job`."""
        self._apply(self._source.within(driver_runtime_env()), "", progress, undo)

    def refresh(self, progress: Progress) -> None:
        """See `Job`."""
        self._source = file_source(self.path, self.app_dir)
        revision = f"{time.time():.3f}"  # what is imported is built again, whatever it was
        self._apply(self._source.within(driver_runtime_env()), revision, progress, ExitStack())

    def _apply(self, source: Source, revision: str, progress: Progress, undo: ExitStack) -> None:
        controller = source.schema.controller_options
        ensure_controller(runtime_env=controller.runtime_env if controller is not None else None)
        answer = apply_config(source.json, source.import_paths, revision)
        for change in answer.changes:
            if change.kind is ChangeKind.ADD:
                undo.callback(delete, change.app)
        for line in as_lines(answer):
            progress.say(line)
        progress.step("Starting the applications.")
        mesh = ensure_mesh()
        overview = wait_until_applied(answer, mesh.has_ingress, progress.waiting)
        has_grpc = bool(source.schema.grpc_options.grpc_servicer_functions)
        for one in source.schema.applications:
            progress.say(_ready(overview, one.name, mesh.http_scheme, has_grpc))


def _ready(mesh: MeshOverview, name: str, scheme: str, has_grpc: bool) -> str:
    places = [http_url(mesh, mesh.applications[name].route_prefix, scheme)]
    if has_grpc and (grpc := grpc_address(mesh)):
        places.append(f"{grpc} (gRPC)")
    where = " and ".join(place for place in places if place)
    return f"Application {name!r} is ready" + (f" at {where}." if where else ".")
