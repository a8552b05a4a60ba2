"""Which function makes the input of a graph from an HTTP request: what a driver was given, checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from meshserve.rpc.import_path import import_object
from meshserve.user.http_adapters import starlette_request


def load_http_adapter(adapter: Any) -> Callable[..., Any]:
    """The FastAPI dependency that an adapter is, names or describes.

    Args:
        adapter: a function whose parameters FastAPI can fill, the import path of one, a pydantic model for the JSON of
            the body, or None for the request itself.

    Raises:
        ValueError: it is something else, or a parameter has no type annotation.
        ImportError: the path names nothing.
    """
    if adapter is None:
        return starlette_request
    if isinstance(adapter, str):
        adapter = import_object(adapter)
    if inspect.isclass(adapter) and issubclass(adapter, BaseModel):
        return _body_of(adapter)
    if not inspect.isfunction(adapter):
        raise ValueError(f"http_adapter must be a callable function or pydantic model, not {adapter!r}.")
    for name, parameter in inspect.signature(adapter).parameters.items():
        if parameter.annotation is inspect.Parameter.empty:
            raise ValueError(
                f"The parameters of an http_adapter must be type annotated; {name!r} of {adapter!r} is not."
            )
    return adapter


def _body_of(model: type[BaseModel]) -> Callable[..., Any]:
    """A dependency that is the body of a request, read as a model."""

    def read_body(body: Any) -> Any:
        return body

    parameter = inspect.Parameter("body", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=model)
    read_body.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]  # read by FastAPI
    return read_body
