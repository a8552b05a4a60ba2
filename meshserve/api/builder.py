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
                "Arguments can only be passed to an application builder function, and this application is built "
                f"already: {', '.join(arguments)}."
            )
        return target
    if isinstance(target, Deployment):
        raise TypeError(f"{target!r} is not bound yet: name an application, {target.name}.bind(...).")
    if not inspect.isroutine(target):
        raise TypeError(f"Expected a built Serve application or an application builder function, not {target!r}.")
    built = target(_argument(target, arguments))
    if not isinstance(built, Application):
        raise TypeError(
            f"Application builder functions must return a built application (`Deployment.bind()`); "
            f"{target.__qualname__}() returned {built!r}."
        )
    return built


def _argument(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 1:
        raise TypeError(
            "Application builder functions should take exactly one parameter, the arguments; "
            f"{function.__qualname__}() takes {len(parameters)}."
        )
    try:
        annotation = typing.get_type_hints(function).get(parameters[0].name)
    except NameError:  # a name of its own scope, in quotes: nobody can look it up
        annotation = None
    validate = getattr(annotation, "model_validate", None) or getattr(annotation, "parse_obj", None)  # pydantic 2 or 1
    return dict(arguments) if validate is None else validate(dict(arguments))
