"""What there is to draw of an application: its deployments, the calls bound between them, the input; and as a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from meshserve.api.application import Application, CallNode
from meshserve.api.code import Arguments, Bound
from meshserve.api.dag_build import is_call
from meshserve.api.dag_input import InputNode, InputPart
from meshserve.api.dag_root import rooted
from meshserve.api.graph import deployment_names


class BoxKind(Enum):
    """What a box stands for."""

    DEPLOYMENT = "deployment"
    CALL = "call"
    INPUT = "input"


@dataclass(frozen=True, slots=True)
class Box:
    """A deployment, a call or the input.

    Attributes:
        title: its name; of a call `deployment.method`, of a function its name.
        note: how many replicas the deployment has, when that is not one.
        kind: what it stands for.
    """

    title: str
    note: str
    kind: BoxKind


@dataclass(frozen=True, slots=True)
class Line:
    """A box needs another.

    Attributes:
        user: the index of the one that needs.
        needed: the index of the one that is needed.
        label: the name of the argument and the part of the input, as far as there are any.
        is_result: whether the argument is a result (or the input); else it is a handle.
    """

    user: int
    needed: int
    label: str
    is_result: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """An application.

    Attributes:
        boxes: the first is the ingress.
        lines: between them, in the order of the arguments.
    """

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def picture_of(application: Application) -> Picture:
    """What there is to draw of an application; raises as building it does."""
    painter = _Painter(rooted(application))
    return Picture(tuple(painter.boxes), tuple(painter.lines))


class _Painter:
    """Looks through an application from its root on."""

    def __init__(self, root: Application) -> None:
        self.boxes: list[Box] = []
        self.lines: list[Line] = []
        self._names = deployment_names(root)
        self._places: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no identity is used twice while this lives
        self._box(root)
        unseen: list[Application] = [root]
        while unseen:
            node = unseen.pop()
            unseen += reversed(self._draw_lines(node))

    def _draw_lines(self, node: Application) -> list[Application]:
        """Draws the lines from a node to what it needs; returns the nodes that were not seen before."""
        new: list[Application] = []
        for name, found, is_result in _needs(node):
            whole = found.whole if isinstance(found, InputPart) else found
            is_new = id(whole) not in self._places
            label = " = ".join(filter(None, [name, repr(found) if isinstance(found, InputPart) else ""]))
            self.lines.append(Line(self._places[id(node)], self._box(whole), label, is_result))
            if is_new and isinstance(whole, Application):
                new.append(whole)
        return new

    def _box(self, node: Application | InputNode) -> int:
        if id(node) not in self._places:
            self._places[id(node)] = len(self.boxes)
            self._kept.append(node)
            self.boxes.append(self._boxed(node))
        return self._places[id(node)]

    def _boxed(self, node: Application | InputNode) -> Box:
        if isinstance(node, InputNode):
            return Box("input", "", BoxKind.INPUT)
        name = self._names[id(node.target if isinstance(node, CallNode) else node)]
        note = _scale(node)
        if not isinstance(node, CallNode):
            return Box(name, note, BoxKind.DEPLOYMENT)
        return Box(name if node.method == "__call__" else f"{name}.{node.method}", note, BoxKind.CALL)


def _needs(node: Application) -> Iterator[tuple[str, Bound, bool]]:
    """What a node is bound to: the name of the argument, what it is, whether it arrives as a result."""
    owner = node.target if isinstance(node, CallNode) else node
    if isinstance(node, CallNode):
        for name, found in _found_in(node.call_args, node.call_kwargs):
            yield name, found, not isinstance(found, Application) or is_call(found)
    for name, found in _found_in(owner._bound_deployment.init_args, owner._bound_deployment.init_kwargs):
        yield name, found, isinstance(found, CallNode)


def _found_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Bound]]:
    """Everything bound in arguments, with the argument's name; in a dict, such as a driver's routes, with the key."""
    for name, value in (*(("", value) for value in args), *kwargs.items()):
        for key, part in value.items() if isinstance(value, dict) else ((name, value),):
            yield from ((str(key), found) for found in Arguments(part).found)


def _scale(node: Application) -> str:
    options = node._bound_deployment._options
    scaling = options.autoscaling_config
    if scaling is not None:
        return f"{scaling.min_replicas} to {scaling.max_replicas} replicas"
    return "" if options.num_replicas == 1 else f"{options.num_replicas} replicas"


# -- as a text ---------------------------------------------------------------------------------------------------------


def as_text(picture: Picture) -> str:
    """A tree: below each box what it needs. What several need is shown in full the first time."""
    shown: set[int] = set()
    rows: list[str] = []
    # Each with the line's beginning for itself, that for what is below it, and the name of the argument.
    todo: list[tuple[int, str, str, str]] = [(0, "", "", "")]
    while todo:
        index, before, below, label = todo.pop()
        box, needs = picture.boxes[index], [line for line in picture.lines if line.user == index]
        is_again = index in shown and bool(needs)
        rows.append(before + _titled(box, label) + (" (see above)" if is_again else ""))
        if is_again:
            continue
        shown.add(index)
        for place, line in reversed(list(enumerate(needs))):
            last = place == len(needs) - 1
            todo.append(
                (line.needed, below + ("└── " if last else "├── "), below + ("    " if last else "│   "), line.label)
            )
    return "\n".join(rows)


def _titled(box: Box, label: str) -> str:
    note = f" ({box.note})" if box.note else ""
    if box.kind is BoxKind.INPUT and label:
        return label
    return (f"{label} = " if label else "") + box.title + note
