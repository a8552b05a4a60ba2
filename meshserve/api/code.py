"""A deployment's code on its way to replicas: the callable with its constructor arguments, by cloudpickle.

Classes and functions of importable modules go by name, those of the main program or of functions by value. Applications
and inputs of graphs among the arguments are found wherever pickling finds them, so that something else can take their
place.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import cloudpickle

from meshserve.api.application import Application
from meshserve.api.dag_input import InputNode, InputPart
from meshserve.user.dag_graph import fill_template
from meshserve.user.ingress_freeze import web_reduction

_PLAIN = frozenset({int, float, str, bool, bytes, type(None)})


Bound: TypeAlias = Application | InputNode | InputPart
"""What is not sent as it is."""


class Arguments:
    """Arguments, with the applications and inputs that are anywhere in them.

    Args:
        value: the arguments.

    Attributes:
        found: those found, each once.
        template: the pickle of the arguments, with the numbers of what was found in its place.

    Raises:
        Exception: whatever pickling the arguments raises.
    """

    def __init__(self, value: Any) -> None:
        self._value = value
        stream = io.BytesIO()
        finder = _Finder(stream)
        finder.dump(value)
        self.found = finder.found
        self.template = stream.getvalue()

    @property
    def is_itself(self) -> bool:
        """Whether the value is an application or input, not something around one."""
        return len(self.found) == 1 and self.found[0] is self._value

    def filled(self, fillings: Sequence[Any]) -> Any:
        """The arguments with fillings in the places of what was found, in the same order."""
        return fill_template(self.template, fillings) if self.found else self._value


class _CodePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles code; also code that uses an application of FastAPI's, which does not pickle by itself."""

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler`."""
        reduction = web_reduction(obj)
        return super().reducer_override(obj) if reduction is NotImplemented else reduction


class _Finder(_CodePickler):
    """Pickles, leaving numbered holes in the places of what is not sent as it is."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=5)
        self.found: list[Bound] = []

    def persistent_id(self, obj: Any) -> int | None:
        """The number of an application or input; None for what is pickled as usual."""
        if not isinstance(obj, Application | InputNode | InputPart):
            return None
        for number, found in enumerate(self.found):
            if found is obj:
                return number
        self.found.append(obj)
        return len(self.found) - 1


def pack(name: str, target: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """The code of a deployment, as replicas load it.

    Raises:
        TypeError: something cannot be pickled; the message names it.
    """
    stream = io.BytesIO()
    try:
        _CodePickler(stream, protocol=5).dump((target, args, dict(kwargs)))
        return stream.getvalue()
    except Exception as error:  # classes of users may raise anything while they are pickled
        raise TypeError(explain(name, target, args, kwargs, error)) from error


def check_local(name: str, target: Callable[..., Any]) -> None:
    """Refuses a class or function of a function, which goes by value with what it uses, if it cannot be pickled.

    Raises:
        TypeError: it cannot; the message names what it uses.
    """
    if "<locals>" in getattr(target, "__qualname__", ""):
        pack(name, target, (), {})


def explain(
    name: str, target: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], error: Exception
) -> str:
    """Which part of a deployment cannot be pickled."""
    parts = [(f"constructor argument {index + 1}", arg) for index, arg in enumerate(args)]
    parts += [(f"constructor argument {key!r}", arg) for key, arg in kwargs.items()]
    parts += [(f"{what}, which {name!r} uses,", value) for what, value in _surroundings(target)]
    for what, value in parts:
        if not _picklable(value):
            return (
                f"Could not serialize the deployment {name!r} for its replicas: {what} is {_innermost(value)}, which "
                f"was found to be non-serializable: {error}. Make it in the constructor instead, or give what is "
                "needed to make it."
            )
    return f"Could not serialize the deployment {name!r} for its replicas: {error}."


def _surroundings(target: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """The globals and closure variables that go along with a class or function that goes by value."""
    candidates = vars(target).values() if inspect.isclass(target) else [target]
    for function in filter(inspect.isfunction, candidates):
        used = inspect.getclosurevars(function)
        yield from ((f"global {key!r}", value) for key, value in used.globals.items())
        yield from ((f"variable {key!r}", value) for key, value in used.nonlocals.items())


def _innermost(value: Any) -> str:
    """The innermost part of a container that cannot be pickled."""
    parts: list[Any] = []
    if isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    elif isinstance(value, dict):
        parts = list(value.values())
    elif hasattr(value, "__dict__") and not inspect.isclass(value) and not inspect.isroutine(value):
        parts = list(vars(value).values())
    for part in parts:
        if not _picklable(part):
            return _innermost(part)
    text = repr(value)
    return f"a {type(value).__name__} ({text if len(text) <= 80 else text[:77] + '...'})"


def _picklable(value: Any) -> bool:
    if type(value) in _PLAIN:
        return True
    try:
        _Finder(io.BytesIO()).dump(value)
    except Exception:  # noqa: BLE001 - as in `pack`
        return False
    return True
