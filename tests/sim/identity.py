"""Whether two simulated meshes are the same: what is known and real in each, as a small number.

States share almost everything with the one before, and what is known is never edited. So each value is looked through
once and remembered with a number; equal values have the same number (hash consing), and a new state costs what is new
in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from enum import Enum
from itertools import chain
from operator import attrgetter
from typing import Any

from meshserve.core.seen import Seen, SeenDeployment
from meshserve.model.ids import DeploymentId, ReplicaId
from meshserve.model.targets import DeploymentTargets, RouteTable
from sim.world import Happening, World

_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
"""Types whose values stand for themselves."""

_PLAIN_NAMES = frozenset({"str", "bytes", "int", "float", "bool"})
"""What fields of such types are declared to be."""

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
        self._known: dict[int, int] = {}
        self._kept: list[Any] = []
        self._forms: dict[type, Callable[[Any], Iterable[Any]]] = {}

    def of_world(self, world: World) -> int:
        """The same for worlds with the same future, in whatever way each came about."""
        known = world.seen.deployments
        # Nobody hears anything new from a process that is dead and of which the controller does not know any more.
        replicas = [one for one in world.replicas.values() if one.alive or _is_known(one.id, known)]
        real = (*replicas, *world.proxies.values(), *world.actors.all.values(), *world.nodes.values())
        return self._number(
            (
                world.now,
                world.life,
                world.stored,
                *self._all((world.desired, world.seen, *world.published.values())),
                *self._all(real),
                *sorted([self._known.get(id(one)) or self._of_happening(one) for one in world.under_way]),
                *world.groups.items(),
            )
        )

    def _of_happening(self, happening: Happening) -> int:
        """Without its place among those of one instant: what may happen, happens in any order."""
        due, _, happens, arguments = happening
        return self._remember(happening, self._number((due, happens, *self._all(arguments))))

    def _of_value(self, value: Any) -> int:
        """The same for equal values that are never edited; below zero, unlike most numbers that are values."""
        kind = type(value)
        return self._remember(value, self._number((kind, *(self._forms.get(kind) or self._form_of(kind))(value))))

    def _remember(self, value: Any, number: int) -> int:
        self._known[id(value)] = number
        self._kept.append(value)  # so that its id stays its own
        return number

    def _all(self, values: Iterable[Any]) -> list[Any]:
        known = self._known
        return [value if type(value) in _PLAIN else known.get(id(value)) or self._of_value(value) for value in values]

    def _form_of(self, kind: type) -> Callable[[Any], Iterable[Any]]:
        """What makes of a value of this type plain values and numbers that tell it from others."""
        form: Callable[[Any], Iterable[Any]]
        if issubclass(kind, Enum):
            form = _name
        elif issubclass(kind, Mapping):
            form = self._items
        elif issubclass(kind, (tuple, list)):
            form = self._all
        elif issubclass(kind, (set, frozenset)):
            form = self._sorted
        else:
            form = self._form_of_record(kind)
        self._forms[kind] = form
        return form

    def _items(self, value: Mapping[Any, Any]) -> Iterable[Any]:
        return self._all(chain.from_iterable(value.items()))

    def _sorted(self, values: Iterable[Any]) -> list[Any]:
        return sorted(self._all(values))

    def _form_of_record(self, kind: type) -> Callable[[Any], Iterable[Any]]:
        """Fields that are declared to be plain are not looked at one by one."""
        left_out = _LEFT_OUT.get(kind, frozenset())
        told = [field for field in fields(kind) if field.name not in left_out]
        plain = _getter([field.name for field in told if field.type in _PLAIN_NAMES])
        others = _getter([field.name for field in told if field.type not in _PLAIN_NAMES])
        return lambda value: (*plain(value), *self._all(others(value)))

    def _number(self, form: tuple[Any, ...]) -> int:
        return self._numbers.setdefault(form, -1 - len(self._numbers))


def _is_known(replica: ReplicaId, deployments: Mapping[DeploymentId, SeenDeployment]) -> bool:
    return replica.deployment in deployments and replica.tag in deployments[replica.deployment].replicas


def _getter(names: list[str]) -> Callable[[Any], Iterable[Any]]:
    get = attrgetter(*names) if names else lambda value: ()
    return get if len(names) != 1 else lambda value: (get(value),)


def _name(value: Enum) -> Iterable[Any]:
    return (value.name,)
