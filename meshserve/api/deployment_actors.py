"""How users say which actors the replicas of a deployment share."""

from __future__ import annotations

import base64
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cloudpickle

from meshserve.api.by_value import by_value
from meshserve.api.checks import config, json_value, mapping
from meshserve.api.config_class import Config
from meshserve.model.actor_environment import reserved_in
from meshserve.model.options import ActorOptions, DeploymentOptions
from meshserve.rpc.import_path import import_object

_OURS = ("namespace", "lifetime", "get_if_exists")
_WITHOUT_EFFECT = ("name", "max_restarts")


@dataclass(frozen=True, kw_only=True)
class DeploymentActorConfig(Config):
    """An actor of a class of yours: one for all replicas of a deployment, which get it by `get_deployment_actor`.

    It is made before the first replica and ends after the last one. When it dies another one is made in its place, so
    a handle that is kept may be that of a dead one: ask for it again on `ray.exceptions.RayActorError`.

    Args:
        name: unique in the deployment.
        actor_class: a class, with or without `@ray.remote`, or its import path `module:Class`.
        init_args: of its constructor.
        init_kwargs: the same by name.
        actor_options: as in `Class.options(...)` of Ray: `num_cpus`, `max_concurrency`, `runtime_env` and so on. The
            runtime environment is put before that of the replicas. `name` and `max_restarts` are the mesh's.

    Raises:
        TypeError: a field is of the wrong type, or the class or an argument cannot be pickled.
        ValueError: the name is empty, the class is no import path, or an option is the mesh's.
    """

    name: str
    actor_class: Any
    init_args: Sequence[Any] = ()
    init_kwargs: dict[str, Any] = field(default_factory=dict)
    actor_options: dict[str, Any] = field(default_factory=dict)
    class_pickle: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name of a deployment actor must be text, not {self.name!r}.")
        if not self.name:
            raise ValueError("name of a deployment actor must not be empty.")
        if isinstance(self.init_args, str) or not isinstance(self.init_args, Sequence):
            raise TypeError(f"init_args must be a list or tuple, not {self.init_args!r}.")
        object.__setattr__(self, "init_args", tuple(self.init_args))
        object.__setattr__(self, "init_kwargs", mapping("init_kwargs", self.init_kwargs))
        object.__setattr__(self, "actor_options", _checked_options(self.actor_options))
        if isinstance(self.actor_class, str):
            if not {":", "."} & set(self.actor_class):
                raise ValueError(f"actor_class must be a class or an import path, not {self.actor_class!r}.")
            return
        path, pickled = packed_class(self.actor_class)
        object.__setattr__(self, "actor_class", path)
        object.__setattr__(self, "class_pickle", pickled)

    def get_actor_class(self) -> Any:
        """The class; imported when it was named by its path."""
        if not self.class_pickle:
            return import_object(self.actor_class)
        return cloudpickle.loads(base64.b64decode(self.class_pickle))

    def to_options(self) -> ActorOptions:
        """The same for the mesh."""
        options = ActorOptions(
            self.name, self.actor_class, class_pickle=self.class_pickle, actor_options=self.actor_options
        )
        arguments = (tuple(self.init_args), self.init_kwargs)
        if _json_carries(arguments):
            return replace(options, init_args=arguments[0], init_kwargs=arguments[1])
        try:
            pickled = base64.b64encode(cloudpickle.dumps(arguments)).decode()
        except Exception as error:  # classes of users may raise anything while they are pickled
            raise TypeError(f"An argument of deployment actor {self.name!r} cannot be pickled: {error}") from error
        return replace(options, arguments_pickle=pickled)


def _checked_options(value: Any) -> dict[str, Any]:
    options = {name: one for name, one in mapping("actor_options", value).items() if name not in _WITHOUT_EFFECT}
    if ours := sorted(set(_OURS) & set(options)):
        raise ValueError(f"actor_options must not hold {ours[0]!r}, which the mesh decides.")
    if options.get("runtime_env") is not None:
        options["runtime_env"] = mapping("actor_options['runtime_env']", options["runtime_env"])
        _refuse_reserved(options["runtime_env"])
    json_value("actor_options", options)
    return options


def _refuse_reserved(environment: Mapping[str, Any]) -> None:
    if reserved := reserved_in(environment):
        raise ValueError(
            f"runtime_env must not set {', '.join(reserved)}: these variables tell a deployment actor what it is."
        )


def _json_carries(value: tuple[tuple[Any, ...], dict[str, Any]]) -> bool:
    """Whether JSON gives back the same values."""
    args, kwargs = value
    try:
        return bool(json.loads(json.dumps([list(args), kwargs])) == [list(args), kwargs])
    except (TypeError, ValueError):
        return False


def packed_class(actor_class: Any) -> tuple[str, str]:
    """The import path of a class, and the class by value.

    Raises:
        TypeError: it is no class, or cannot be pickled.
    """
    plain = getattr(actor_class, "__ray_actor_class__", actor_class)  # what `@ray.remote` has decorated
    if not inspect.isclass(plain):
        raise TypeError(f"actor_class must be a class or an import path, not {actor_class!r}.")
    path = f"{plain.__module__}:{plain.__qualname__}"
    try:
        return path, by_value(actor_class, plain.__module__)
    except Exception as error:  # classes of users may raise anything while they are pickled
        raise TypeError(f"The class {path} of a deployment actor cannot be pickled: {error}") from error


def read_actors(value: Any) -> tuple[ActorOptions, ...]:
    """The option `deployment_actors`: a list of configurations or their fields; None for none.

    Raises:
        TypeError: it is no list, or as `DeploymentActorConfig`.
        ValueError: two have the same name, or as `DeploymentActorConfig`.
    """
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"deployment_actors must be a list of DeploymentActorConfig or dicts, not {value!r}.")
    read = tuple(
        one if isinstance(one, ActorOptions) else config("deployment_actors", one, DeploymentActorConfig).to_options()
        for one in value
    )
    names = [one.name for one in read]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"deployment_actors must have unique names. Duplicate name(s): {twice}")
    return read


def check_environment(options: DeploymentOptions) -> None:
    """What the replicas' environment must not have, since their actors get it as well; raises ValueError."""
    if options.deployment_actors:
        _refuse_reserved(options.ray_actor_options.get("runtime_env") or {})


def with_classes(options: DeploymentOptions) -> DeploymentOptions:
    """The options with the classes of actors that were named by their import paths; imports them.

    Raises:
        ImportError, ValueError, TypeError: one cannot be imported, or is no class.
    """
    actors = tuple(
        one if one.class_pickle else replace(one, class_pickle=packed_class(import_object(one.actor_class))[1])
        for one in options.deployment_actors
    )
    return replace(options, deployment_actors=actors) if actors else options


def as_written(actors: Sequence[ActorOptions]) -> list[dict[str, Any]] | None:
    """Actors as they are written in a file; None when one has what a file cannot say."""
    if any(one.arguments_pickle or "<" in one.actor_class or one.actor_class.startswith("__") for one in actors):
        return None
    return [_entry(one) for one in actors]


def _entry(actor: ActorOptions) -> dict[str, Any]:
    entry = {
        "name": actor.name,
        "actor_class": actor.actor_class,
        "init_args": list(actor.init_args),
        "init_kwargs": dict(actor.init_kwargs),
        "actor_options": dict(actor.actor_options),
    }
    return {name: value for name, value in entry.items() if value}
