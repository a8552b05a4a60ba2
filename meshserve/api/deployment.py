"""Deployments and applications: what users write down before anything runs.

Light on purpose: every replica that imports a user's module passes through here, and none of it needs gRPC.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, Unpack, overload

from meshserve.api.application import Application, CallNode
from meshserve.api.changes import DecoratorOptions, OptionChanges
from meshserve.api.code import check_local
from meshserve.api.default import DEFAULT, given
from meshserve.api.legacy_prefix import checked_prefix
from meshserve.api.options import read_options
from meshserve.model.ids import DELIMITER
from meshserve.model.options import DeploymentOptions


class Deployment:
    """A class or function with its options: what replicas run. Made by `@deployment`, changed by `options`.

    Attributes:
        user_configured_option_names: the options that were written by the user, not taken from defaults.
    """

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("A Deployment is made by decorating a class or function with @deployment.")

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError(
            f"{self!r} cannot be called: {self.name}.bind(...) makes an application, "
            f"and {self.name}.func_or_class is what was decorated."
        )

    _name: str
    _func_or_class: Callable[..., Any]
    _options: DeploymentOptions
    _init_args: tuple[Any, ...]
    _init_kwargs: dict[str, Any]
    _route_prefix: Any
    user_configured_option_names: frozenset[str]

    @staticmethod
    def _make(func_or_class: Any, name: Any, changes: Mapping[str, Any]) -> Deployment:
        made = object.__new__(Deployment)
        made._func_or_class = _checked_target(func_or_class)
        made._name = _checked_name(getattr(func_or_class, "__name__", "") if name is DEFAULT.VALUE else name)
        made._options = DeploymentOptions()
        made._init_args, made._init_kwargs = (), {}
        made._route_prefix = DEFAULT.VALUE
        made.user_configured_option_names = frozenset()
        check_local(made._name, made._func_or_class)
        return made._changed(changes)

    def _changed(self, changes: Mapping[str, Any]) -> Deployment:
        changed = copy(self)
        changed.user_configured_option_names = self.user_configured_option_names | set(changes)
        changed._options = read_options(self._options, changes)
        return changed

    def options(
        self,
        func_or_class: Any = DEFAULT.VALUE,
        *,
        name: Any = DEFAULT.VALUE,
        version: Any = DEFAULT.VALUE,
        route_prefix: Any = DEFAULT.VALUE,
        **changes: Unpack[OptionChanges],
    ) -> Deployment:
        """A copy in which the options given are changed; see `deployment` for what they mean and what they raise."""
        _refuse_version(version)
        changed = self._changed(given(changes, OptionChanges.__annotations__))
        if func_or_class is not DEFAULT.VALUE:
            changed._func_or_class = _checked_target(func_or_class)
        if name is not DEFAULT.VALUE:
            changed._name = _checked_name(name)
        if route_prefix is not DEFAULT.VALUE:
            changed._route_prefix = checked_prefix(route_prefix)
        return changed

    def bind(self, *args: Any, **kwargs: Any) -> Application:
        """An application of this deployment.

        Args:
            args: arguments of the constructor; applications among them, also inside lists, dicts and objects, become
                deployments of the same application, and the constructor receives handles in their place. A function
                has no constructor: these are arguments of its call, which makes a graph (see `meshserve.dag`).
            kwargs: the same by name.
        """
        if (args or kwargs) and not inspect.isclass(self._func_or_class):
            return CallNode(Application(copy(self)), "__call__", args, kwargs)
        bound = copy(self)
        bound._init_args, bound._init_kwargs = args, kwargs
        return Application(bound)

    def set_logging_config(self, logging_config: Mapping[str, Any]) -> None:
        """Changes the logging of this deployment, in place."""
        self._options = self._changed({"logging_config": logging_config})._options

    @property
    def name(self) -> str:
        """Its name, unique in an application."""
        return self._name

    @property
    def version(self) -> None:
        """Always None: a version is made at every run."""
        return None

    @property
    def func_or_class(self) -> Callable[..., Any]:
        """What was decorated."""
        return self._func_or_class

    @property
    def init_args(self) -> tuple[Any, ...]:
        """The arguments it was bound with."""
        return self._init_args

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """The arguments it was bound with by name."""
        return self._init_kwargs

    def __getattr__(self, name: str) -> Any:
        """The options are properties, by their names."""
        if name.startswith("_") or name not in DeploymentOptions.__dataclass_fields__:
            raise AttributeError(f"'Deployment' object has no attribute {name!r}")
        return getattr(self._options, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Deployment):
            return NotImplemented
        mine, theirs = vars(self), vars(other)
        return all(mine[name] == theirs[name] for name in ("_name", "_options", "_init_args", "_init_kwargs"))

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"Deployment(name={self._name})"


@overload
def deployment(_func_or_class: Callable[..., Any]) -> Deployment: ...


@overload
def deployment(
    _func_or_class: str = ...,
    *,
    name: str = ...,
    version: Any = ...,
    route_prefix: str | None = ...,
    **options: Unpack[DecoratorOptions],
) -> Callable[[Callable[..., Any]], Deployment]: ...


def deployment(
    _func_or_class: Callable[..., Any] | str | None = None,
    name: Any = DEFAULT.VALUE,
    version: Any = DEFAULT.VALUE,
    route_prefix: Any = DEFAULT.VALUE,
    **options: Unpack[DecoratorOptions],
) -> Any:
    """Makes a deployment of a class or function; used bare or with options.

    Args:
        _func_or_class: the class or function, when used bare; text is a name.
        name: unique in an application; by default that of the class or function.
        version: no longer used; giving one is an error.
        route_prefix: deprecated; a parameter of `run`.
        num_replicas: how many replicas; "auto" for as many as load requires.
        ray_actor_options: what each replica asks of the cluster: `num_cpus` (1), `num_gpus`, `memory` in bytes,
            `resources`, `accelerator_type`, `label_selector`, `fallback_strategy` and `runtime_env`.
        placement_group_bundles: a group of resources reserved for each replica, which runs in the first bundle.
        placement_group_strategy: how they are placed: PACK, SPREAD, STRICT_PACK or STRICT_SPREAD.
        placement_group_bundle_label_selector: labels of the machines for the bundles; one for all, or one for each.
        max_replicas_per_node: at most so many replicas on a machine, 1 to 100; None for no limit.
        user_config: any JSON value; given to the method `reconfigure` at the start and whenever it changes.
        max_ongoing_requests: calls a replica accepts at a time.
        max_queued_requests: calls that may wait in each caller for a replica; -1 for no limit.
        backpressure_config: how a full queue is answered over HTTP; a `BackpressureConfig` or its fields.
        autoscaling_config: when to change the number of replicas; an `AutoscalingConfig` or its fields.
        graceful_shutdown_wait_loop_s: how long a replica that is to end waits for calls, and waits again.
        graceful_shutdown_timeout_s: after this time it is killed.
        health_check_period_s: how often a replica's health is checked.
        health_check_timeout_s: how long an answer may take.
        logging_config: a `LoggingConfig` or its fields.
        request_router_config: which policy picks replicas; a `RequestRouterConfig` or its fields.
        max_constructor_retry_count: how often replicas may fail to start before the deployment is given up.
        gang_scheduling_config: replicas that start and end together; a `GangSchedulingConfig` or its fields.
        rolling_update_percentage: the share of the replicas that an update replaces at a time.
        max_surge_percent: how many replicas more than wanted an update may start, in percent.
        deployment_actors: actors that the replicas share; a list of `DeploymentActorConfig` or their fields.

    Returns:
        A `Deployment`, or a decorator that makes one.

    Raises:
        ValidationError: an option is of the wrong type or out of its range; it is a ValueError.
        TypeError: what is decorated can be no deployment, or uses what cannot be sent to replicas.
        ValueError: two options contradict each other.
    """
    _refuse_version(version)
    changes = given(options, DecoratorOptions.__annotations__)

    def decorate(func_or_class: Callable[..., Any]) -> Deployment:
        return Deployment._make(func_or_class, name, changes).options(route_prefix=route_prefix)

    if isinstance(_func_or_class, str):
        name = _func_or_class if name is DEFAULT.VALUE else name
        return decorate
    return decorate if _func_or_class is None else decorate(_func_or_class)


def _checked_target(target: Any) -> Callable[..., Any]:
    if not callable(target):
        raise TypeError(f"A deployment is made of a class or a function, not of {target!r}.")
    checked: Callable[..., Any] = target
    return checked


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"The name of a deployment must be a string, not {name!r}.")
    if not name or DELIMITER in name:
        raise ValueError(f"The name of a deployment must not be empty or contain {DELIMITER!r}, as {name!r} does.")
    return name


def _refuse_version(version: Any) -> None:
    if version is not DEFAULT.VALUE:
        raise ValueError(
            "`version` in `@serve.deployment` has been removed: every run makes a new version. Leave it out."
        )
