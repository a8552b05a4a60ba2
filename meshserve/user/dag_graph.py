"""A deployment graph as it travels to the replica that executes it: which calls, in which order, with which arguments.

Made by `api.dag_build` when an application is built; knows names of deployments, not the objects they were bound with.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from meshserve.model.ids import DeploymentId


@dataclass(frozen=True, slots=True)
class Given:
    """An argument that is the same at every execution."""

    value: Any


@dataclass(frozen=True, slots=True)
class FromInput:
    """An argument that is one of the graph's reads.

    Attributes:
        index: among them.
    """

    index: int


@dataclass(frozen=True, slots=True)
class FromCall:
    """An argument that is the result of an earlier call.

    Attributes:
        index: among the graph's calls.
    """

    index: int


@dataclass(frozen=True, slots=True)
class Around:
    """An argument with others inside, in containers or in objects.

    Attributes:
        template: its pickle, with numbered holes; see `fill_template`.
        parts: what fills them.
    """

    template: bytes
    parts: tuple[Given | FromInput | FromCall, ...]


Argument: TypeAlias = Given | FromInput | FromCall | Around


@dataclass(frozen=True, slots=True)
class Read:
    """The input, or a part of it.

    Attributes:
        uuid: of the node.
        key: of the part; None for the input as a whole.
        by_attribute: whether the part was written with a dot.
    """

    uuid: str
    key: int | str | None = None
    by_attribute: bool = False


@dataclass(frozen=True, slots=True)
class GraphCall:
    """One call.

    Attributes:
        uuid: of the node.
        deployment: that is called.
        method: `__call__` for a function.
        args: of the call.
        kwargs: of the call.
    """

    uuid: str
    deployment: DeploymentId
    method: str
    args: tuple[Argument, ...]
    kwargs: tuple[tuple[str, Argument], ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything that one execution does.

    Attributes:
        reads: of the input; done before the first call.
        calls: each after those it has arguments from. The last one's result is the graph's.
        input_entered: whether the input's `with` block was entered; without one it makes no difference.
    """

    reads: tuple[Read, ...]
    calls: tuple[GraphCall, ...]
    input_entered: bool = True


class DAGInputData:
    """An input of several arguments, or of named ones.

    Args:
        args: by position: item 0, 1, ...
        kwargs: by name.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args = args
        self._kwargs = kwargs

    def __getitem__(self, key: int | str) -> Any:
        return self._args[key] if isinstance(key, int) else self._kwargs[key]

    def __repr__(self) -> str:
        return f"DAGInputData{self._args + tuple(f'{key}={value!r}' for key, value in self._kwargs.items())}"


def input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an execution is given: a single argument as it is, else a `DAGInputData`."""
    return args[0] if len(args) == 1 and not kwargs else DAGInputData(*args, **kwargs)


def read(what: Read, given: Any) -> Any:
    """The input or a part of it; raises KeyError, IndexError or AttributeError when it has no such part."""
    if what.key is None:
        return given
    if what.by_attribute and not isinstance(given, DAGInputData):
        return getattr(given, str(what.key))
    return given[what.key]


class _Filler(pickle.Unpickler):
    """Unpickles, filling the holes."""

    def __init__(self, stream: io.BytesIO, fillings: Sequence[Any]) -> None:
        super().__init__(stream)
        self._fillings = fillings

    def persistent_load(self, pid: int) -> Any:
        """What fills a hole."""
        return self._fillings[pid]


def fill_template(template: bytes, fillings: Sequence[Any]) -> Any:
    """Unpickles a value in which some objects were replaced by numbers, as persistent ids.

    Args:
        template: the pickle.
        fillings: what stands for the numbers.
    """
    return _Filler(io.BytesIO(template), fillings).load()
