"""From a bound application to what the controller is sent: its deployments, named, with handles for each other."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from meshserve.api.application import Application
from meshserve.api.code import Arguments, explain, pack
from meshserve.api.dag_build import stand_in
from meshserve.api.dag_root import rooted
from meshserve.api.deployment import Deployment
from meshserve.api.deployment_actors import check_environment, with_classes
from meshserve.api.import_paths import import_paths
from meshserve.api.legacy_prefix import prefix_in_force
from meshserve.errors import MeshServeException
from meshserve.model.control import ApplicationSpec, DeploymentSpec, Source
from meshserve.model.ids import DELIMITER, DeploymentId
from meshserve.user.ingress import AsgiIngress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """How an application is to run.

    Attributes:
        name: the application's.
        route_prefix: None when it is not reachable by HTTP.
        runtime_env: the program's, for deployments that have none of their own.
        logging_config_json: of the application; empty for the default.
        external_scaler_enabled: whether replica counts are set from outside.
        grpc_servicer_functions: import paths of functions that add its gRPC services to the ingress.
        code_version: of all its deployments; empty for one that was never there before.
    """

    name: str
    route_prefix: str | None = "/"
    runtime_env: dict[str, Any] | None = None
    logging_config_json: str = ""
    external_scaler_enabled: bool = False
    grpc_servicer_functions: tuple[str, ...] = ()
    code_version: str = ""


def build(app: Application, how: Run) -> ApplicationSpec:
    """The specification of an application. Unless one is named, every build is a new version of its code.

    Raises:
        TypeError: the application is none, or a deployment cannot be pickled.
        ValueError: the name or the route prefix is not valid, or options contradict the application's.
        MeshServeException: it has more than one ingress class, or no name.
    """
    if not isinstance(app, Application):
        raise TypeError(f"`serve.run` expects an `Application` returned by `Deployment.bind()`, not {app!r}.")
    check_name(how.name)
    graph = _Graph(how)
    ingress = graph.add(rooted(app))
    _check_ingresses(how.name, graph.deployments)
    *others, own = [(one.name, one._route_prefix) for one in graph.deployments]
    route_prefix = prefix_in_force(how.route_prefix, own[1], others)
    check_route_prefix(route_prefix)
    return ApplicationSpec(
        name=how.name,
        deployments=tuple(graph.specs),
        ingress=ingress,
        route_prefix=route_prefix,
        external_scaler_enabled=how.external_scaler_enabled,
        import_paths=import_paths(),
        grpc_servicer_functions=how.grpc_servicer_functions,
        source=Source.IMPERATIVE,
        logging_config_json=how.logging_config_json,
    )


def deployment_names(root: Application) -> dict[int, str]:
    """The names that the deployments of an application get, by the identity of what was bound; raises as `build`."""
    graph = _Graph(Run("application"))
    graph.add(root)
    return {key: name for key, (_, name) in graph._names.items()}


def named_deployments(root: Application) -> list[tuple[str, Deployment]]:
    """The deployments of an application with their names in it, those that are called before their callers.

    Raises as `build`.
    """
    graph = _Graph(Run("application"))
    graph.add(rooted(root))
    return [(spec.id.name, deployment) for spec, deployment in zip(graph.specs, graph.deployments, strict=True)]


class _Graph:
    """The deployments of one application, found depth first. The same bound object is one deployment."""

    def __init__(self, how: Run) -> None:
        self.specs: list[DeploymentSpec] = []
        self.deployments: list[Deployment] = []
        self._how = how
        self._version = how.code_version or secrets.token_hex(8)
        # Keyed by identity; the applications are kept, so that no id is used again while this lives.
        self._names: dict[int, tuple[Application, str]] = {}

    def add(self, app: Application) -> str:
        """Adds an application's deployments if they are not there; returns the name of its own."""
        if id(app) in self._names:
            return self._names[id(app)][1]
        bound = app._bound_deployment
        arguments = self._arguments(bound)
        stand_ins = [stand_in(child, bound.func_or_class, self._how.name, self.add) for child in arguments.found]
        args, kwargs = arguments.filled([value for value, _ in stand_ins])
        uses = list(dict.fromkeys(used for _, names in stand_ins for used in names))
        name = self._free_name(bound.name)
        self._names[id(app)] = app, name
        self.deployments.append(bound)
        self.specs.append(self._spec(bound, name, pack(name, bound.func_or_class, args, kwargs), uses))
        return name

    def _arguments(self, bound: Deployment) -> Arguments:
        try:
            return Arguments((bound.init_args, bound.init_kwargs))
        except Exception as error:  # classes of users may raise anything while they are pickled
            text = explain(bound.name, bound.func_or_class, bound.init_args, bound.init_kwargs, error)
            raise TypeError(text) from error

    def _free_name(self, wanted: str) -> str:
        taken = {spec.id.name for spec in self.specs}
        name, number = wanted, 0
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        if number:
            logger.warning("Application %r has several deployments %r: this one is %r.", self._how.name, wanted, name)
        return name

    def _logging(self, bound: Deployment) -> Any:
        """The deployment's own `logging_config`, or else the application's."""
        own, common = bound._options.logging_config, self._how.logging_config_json
        return json.loads(common) if own is None and common else own

    def _spec(self, bound: Deployment, name: str, code: bytes, uses: Sequence[str]) -> DeploymentSpec:
        options = bound._options
        if self._how.external_scaler_enabled and options.autoscaling_config is not None:
            raise ValueError(
                f"Deployment {name!r} has an autoscaling_config, but external_scaler_enabled=True leaves the number of "
                "replicas to an external scaler: use one or the other."
            )
        actor = _with_runtime_env(dict(options.ray_actor_options), self._how.runtime_env)
        options = replace(with_classes(options), ray_actor_options=actor, logging_config=self._logging(bound))
        check_environment(options)
        return DeploymentSpec(
            id=DeploymentId(self._how.name, name),
            code_version=self._version,
            options=options,
            code=code,
            uses=tuple(DeploymentId(self._how.name, used) for used in uses),
            docs_path=getattr(bound.func_or_class, "__meshserve_docs_path__", None) or "",
        )


def _with_runtime_env(actor: dict[str, Any], program: dict[str, Any] | None) -> dict[str, Any]:
    """A replica without a runtime environment gets the program's, one with its own the working directory at most."""
    if not program:
        return actor
    if not actor.get("runtime_env"):
        return {**actor, "runtime_env": program}
    if "working_dir" in program and "working_dir" not in actor["runtime_env"]:
        return {**actor, "runtime_env": {**actor["runtime_env"], "working_dir": program["working_dir"]}}
    return actor


def _check_ingresses(application: str, deployments: Sequence[Deployment]) -> None:
    classes = {
        one.name: one.func_or_class
        for one in deployments
        if isinstance(one.func_or_class, type) and issubclass(one.func_or_class, AsgiIngress)
    }
    if len(classes) > 1:
        raise MeshServeException(
            f'Found multiple FastAPI deployments in application "{application}": {", ".join(sorted(classes))}. '
            "Only one deployment of an application may have @serve.ingress."
        )


def check_name(name: str) -> None:
    """The name of an application.

    Raises:
        MeshServeException: it is empty.
        TypeError: it is no text.
        ValueError: it has a character that names must not have.
    """
    if name and not isinstance(name, str):
        raise TypeError(f"The name of an application must be text, not {name!r}.")
    if not name:
        raise MeshServeException("Application name must be a non-empty string.")
    if DELIMITER in name:
        raise ValueError(f"The name of an application must not contain {DELIMITER!r}, as {name!r} does.")


def check_route_prefix(prefix: str | None) -> None:
    """A route prefix; None for none.

    Raises:
        TypeError: it is no text.
        ValueError: it is no path, or one that ends in a slash, or has braces, or what a path never has.
    """
    if prefix is None:
        return
    if not isinstance(prefix, str):
        raise TypeError(f"route_prefix must be a path, as text, or None, not {prefix!r}.")
    if not prefix.startswith("/"):
        raise ValueError(f"Invalid route_prefix {prefix!r}, must start with a forward slash ('/').")
    if prefix != "/" and prefix.endswith("/"):
        raise ValueError(f"Invalid route_prefix {prefix!r}, may not end with a trailing '/'.")
    if "{" in prefix or "}" in prefix:
        raise ValueError(f"Invalid route_prefix {prefix!r}, may not contain wildcards: '{{' and '}}'.")
    if "?" in prefix or "#" in prefix:
        raise ValueError(f"Invalid route_prefix {prefix!r}, may not contain '?' or '#': no request's path has them.")
