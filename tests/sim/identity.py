"""Whether two simulated meshes are the same: what is known and real in each, as a small number.

States share almost everything with the one before, and what is known is never edited. So each value is looked through
once and remembered with a number; equal values have the same number (hash consing), and a new state costs what is new
in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from enum import Enum
from operator import attrgetter
from typing import Any

from meshserve.core.seen import Seen
from meshserve.model.targets import DeploymentTargets, RouteTable
from sim.world import World

_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
"""Types whose values stand for themselves."""

_LEFT_OUT: dict[type, frozenset[str]] = {
    Seen: frozenset({"number", "epoch"}),
    DeploymentTargets: frozenset({"version"}),
    RouteTable: frozenset({"version"}),
}
"""Versions of what is published only have to rise; how far they have risen makes no other mesh."""


class Identities:
    """Numbers for values and for worlds, for as long as one exploration goes on."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._known: dict[int, tuple[Any, int]] = {}
        self._fields: dict[type, Callable[[Any], tuple[Any, ...]]] = {}

    def of_world(self, world: World) -> int:
        """The same for worlds with the same future, in whatever way each came about."""
        real = [*world.replicas.values(), *world.proxies.values(), *world.actors.all.values()]
        under_way = sorted(
            (due, happens.__name__, self._all(arguments)) for due, _, happens, arguments in world.under_way
        )
        parts = (
            world.now,
            world.life,
            world.stored,
            self._all((world.desired, world.seen, *world.nodes.values(), *world.published.values())),
            tuple([self._all(vars(one).values()) for one in real]),
            tuple(under_way),
            tuple(world.groups.items()),
        )
        return self._number(parts)

    def _of_value(self, value: Any) -> int:
        """The same for equal values that are never edited; below zero, unlike most numbers that are values."""
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        number = self._number((type(value), self._parts(value)))
        self._known[id(value)] = value, number  # with the value, so that its id stays its own
        return number

    def _all(self, values: Iterable[Any]) -> tuple[Any, ...]:
        return tuple([value if type(value) in _PLAIN else self._of_value(value) for value in values])

    def _parts(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, Enum):
            return (value.name,)
        if isinstance(value, Mapping):
            return self._all(part for item in value.items() for part in item)
        if isinstance(value, (tuple, list)):
            return self._all(value)
        if isinstance(value, (set, frozenset)):
            return tuple(sorted(self._all(value)))
        return self._all(self._fields_of(type(value))(value))

    def _fields_of(self, kind: type) -> Callable[[Any], tuple[Any, ...]]:
        if kind not in self._fields:
            left_out = _LEFT_OUT.get(kind, frozenset())
            self._fields[kind] = _getter([field.name for field in fields(kind) if field.name not in left_out])
        return self._fields[kind]

    def _number(self, form: Any) -> int:
        return self._numbers.setdefault(form, -1 - len(self._numbers))


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    get = attrgetter(*names) if names else lambda value: ()
    return get if len(names) != 1 else lambda value: (get(value),)
