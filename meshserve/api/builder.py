"""What an import path may name: an application, or a function that builds one from arguments."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from meshserve.api.application import Application
from meshserve.api.deployment import Deployment


def application_of(target: Any, arguments: Mapping[str, Any]) -> Application:
    """The application that a target is or builds.

    Args:
        target: an application, or a function of one parameter. If that is annotated with a pydantic model, it gets
            the arguments as that model read them (text becomes numbers where the model says so); else it gets a dict.
        arguments: for the function.

    Raises:
        TypeError: the target is something else, takes another number of parameters, or builds something else.
        ValueError: arguments were given for an application that is built already, or do not fit the model.
    """
    if isinstance(target, Application):
        if arguments:
            raise ValueError(
                f"Arguments ({', '.join(arguments)}) were given, but the application is built already: "
                "name a function that builds one."
            )
        return target
    if isinstance(target, Deployment):
        raise TypeError(f"{target!r} is not bound yet: name an application, {target.name}.bind(...).")
    if not inspect.isroutine(target):
        raise TypeError(f"What is run must be an Application or a function that builds one, not {target!r}.")
    built = target(_argument(target, arguments))
    if not isinstance(built, Application):
        raise TypeError(f"{target.__qualname__}() must return an Application, not {built!r}.")
    return built


def _argument(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 1:
        raise TypeError(
            f"{function.__qualname__}() must take one parameter, the arguments, to build an application; "
            f"it takes {len(parameters)}."
        )
    annotation = typing.get_type_hints(function).get(parameters[0].name)
    validate = getattr(annotation, "model_validate", None)
    return dict(arguments) if validate is None else validate(dict(arguments))
