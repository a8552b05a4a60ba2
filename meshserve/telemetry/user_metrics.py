"""Metrics of deployment code: `Counter`, `Gauge`, `Histogram` with the programming model's arguments.

A metric may be made anywhere, also where it is not used: at the top of a module, or in a driver whose code is pickled
to replicas. Two of the same name and tag keys in one process are the same one. In a replica, `application`,
`deployment` and `replica` are added to every series; a tag key `route` is filled in from the request, when there is
one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshserve.telemetry.current import current_request
from meshserve.telemetry.declared import Declared, Kind
from meshserve.telemetry.registry import PROCESS, Registry
from meshserve.telemetry.series import Histogram as Buckets
from meshserve.telemetry.series import Reading

RESERVED = ("application", "deployment", "replica", "component")
"""Tags that name the process; nobody may set them."""

ROUTE = "route"

_PREFIX = "meshserve_"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_TAG = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_lock = threading.Lock()
"""User code counts from many threads."""


class Family:
    """All series of one name; what user code's objects of that name share.

    Args:
        declared: the metric.
    """

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.values: dict[tuple[str, ...], float] = {}
        self.distributions: dict[tuple[str, ...], Buckets] = {}

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        for labels, value in tuple(self.values.items()):
            yield self.declared, labels, value
        for labels, distribution in tuple(self.distributions.items()):
            yield self.declared, labels, distribution


class _Metric:
    """What the three kinds have in common."""

    kind: Kind

    def __init__(
        self,
        name: str,
        description: str = "",
        tag_keys: Sequence[str] | None = None,
        boundaries: Sequence[float] = (),
    ) -> None:
        self._arguments = (name, description, tuple(tag_keys or ()), tuple(boundaries))
        self._tag_keys = _checked_keys(tag_keys)
        self._default_tags: dict[str, str] = {}
        self._family = _family(self._declared(name, description, self._tag_keys, self._arguments[3]), PROCESS)

    def _declared(self, name: str, description: str, tag_keys: tuple[str, ...], buckets: tuple[float, ...]) -> Declared:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"A metric's name has letters, digits, _ and :, and no digit first; not {name!r}.")
        if name.startswith(_PREFIX):
            raise ValueError(f"Names that begin with {_PREFIX!r} are the mesh's own; {name!r} needs another one.")
        # The mesh's rules for names are not the user's: only what Prometheus asks for is seen to.
        shown = name if self.kind is not Kind.COUNTER or name.endswith("_total") else f"{name}_total"
        return _UserDeclared(shown, self.kind, description or name, tag_keys, "", buckets)

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag keys and default tags."""
        name, description, _, _ = self._arguments
        return {
            "name": name,
            "description": description,
            "tag_keys": self._tag_keys,
            "default_tags": dict(self._default_tags),
        }

    def set_default_tags(self, default_tags: Mapping[str, str]) -> None:
        """Sets the values of tags that are not given with a value.

        Raises:
            ValueError: a key is not among the tag keys, or names the process.
            TypeError: a value is not a str.
        """
        self._check_tags(default_tags)
        self._default_tags = dict(default_tags)

    def _check_tags(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            _check_not_reserved(key)
            if key not in self._tag_keys:
                raise ValueError(f"Unrecognized tag key {key}. The tag keys of this metric are {self._tag_keys}.")
            if not isinstance(value, str):
                raise TypeError(f"The value of tag {key!r} must be a str, not {type(value).__name__}.")

    def _labels(self, tags: Mapping[str, str] | None) -> tuple[str, ...]:
        if not self._tag_keys and not tags:
            return ()
        if tags:
            self._check_tags(tags)
        given = {**self._default_tags, **(tags or {})}
        if ROUTE in self._tag_keys and ROUTE not in given:
            request = current_request()
            given[ROUTE] = request.route if request is not None else ""
        missing = [key for key in self._tag_keys if key not in given]
        if missing:
            raise ValueError(
                f"Missing value for tag key(s): {', '.join(missing)}. Give it here, or by set_default_tags."
            )
        return tuple(given[key] for key in self._tag_keys)


class Counter(_Metric):
    """A number that only grows.

    Args:
        name: shown with `_total` behind it.
        description: what it counts.
        tag_keys: names of tags.

    Raises:
        ValueError: the name is none, is the mesh's, or is in use for something else; a tag key names the process.
        TypeError: a tag key is not a str.
    """

    kind = Kind.COUNTER

    def __init__(self, name: str, description: str = "", tag_keys: Sequence[str] | None = None) -> None:
        super().__init__(name, description, tag_keys)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (Counter, self._arguments[:3], self._default_tags)

    def inc(self, value: float = 1.0, tags: Mapping[str, str] | None = None) -> None:
        """Adds to it.

        Raises:
            ValueError: the value is not positive, or a tag has no value.
            TypeError: the value is no number.
        """
        if _checked_number(value) <= 0:
            raise ValueError(f"value must be >0, got {value}: a counter only grows.")
        labels = self._labels(tags)
        with _lock:
            self._family.values[labels] = self._family.values.get(labels, 0.0) + value


class Gauge(_Metric):
    """A number that comes and goes.

    Args:
        name: as shown.
        description: what it tells.
        tag_keys: names of tags.

    Raises:
        ValueError, TypeError: as `Counter`.
    """

    kind = Kind.GAUGE

    def __init__(self, name: str, description: str = "", tag_keys: Sequence[str] | None = None) -> None:
        super().__init__(name, description, tag_keys)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (Gauge, self._arguments[:3], self._default_tags)

    def set(self, value: float | None, tags: Mapping[str, str] | None = None) -> None:
        """Sets it; None takes the series away. Raises TypeError when it is no number."""
        labels = self._labels(tags)
        with _lock:
            if value is None:
                self._family.values.pop(labels, None)
            else:
                self._family.values[labels] = float(_checked_number(value))


class Histogram(_Metric):
    """A distribution.

    Args:
        name: as shown.
        description: what it tells.
        boundaries: upper bounds of the buckets, positive and ascending.
        tag_keys: names of tags.

    Raises:
        ValueError: as `Counter`; or there are no boundaries, or not such.
        TypeError: as `Counter`.
    """

    kind = Kind.HISTOGRAM

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: Sequence[str] | None = None,
    ) -> None:
        bounds = tuple(boundaries or ())
        if not bounds or bounds[0] <= 0 or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"boundaries of {name!r} must be positive numbers in ascending order, not {boundaries!r}.")
        super().__init__(name, description, tag_keys, bounds)

    def __reduce__(self) -> tuple[Any, ...]:
        name, description, tag_keys, boundaries = self._arguments
        return _again, (Histogram, (name, description, boundaries, tag_keys), self._default_tags)

    def observe(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Counts one value; raises TypeError when it is no number."""
        labels = self._labels(tags)
        _checked_number(value)
        with _lock:
            found = self._family.distributions.get(labels)
            if found is None:
                found = self._family.distributions[labels] = Buckets(self._family.declared.buckets)
            found.observe(value)


class _UserDeclared(Declared):
    """A declaration by the user's names, which need not follow ours."""

    def __post_init__(self) -> None:
        """Nothing to check: see `_Metric._declared`."""


def _family(declared: Declared, registry: Registry) -> Family:
    """The series of a name and its tag keys; the same ones for everybody who declares it so."""
    first = registry.add(("user metric", declared.name), lambda: Family(declared))
    key = ("user metric", declared.name, declared.labels)
    found = first if first.declared.labels == declared.labels else registry.add(key, lambda: Family(declared))
    if first.declared.kind is not declared.kind or found.declared.buckets != declared.buckets:
        raise ValueError(f"There is a metric {declared.name!r} already, of another kind or with other boundaries.")
    return found


def _again(kind: type[Any], arguments: tuple[Any, ...], default_tags: dict[str, str]) -> Any:
    """A metric that went through pickle."""
    metric = kind(*arguments)
    metric.set_default_tags(default_tags)
    return metric


def _checked_keys(tag_keys: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(tag_keys, str):
        raise TypeError(f"tag_keys should be a tuple type, got: {tag_keys!r}.")
    for key in tag_keys or ():
        if not isinstance(key, str):
            raise TypeError(f"A tag key must be a str, not {key!r}.")
        _check_not_reserved(key)
        if not _TAG.fullmatch(key):
            raise ValueError(f"A tag key has letters, digits and _, and no digit first; not {key!r}.")
    return tuple(tag_keys or ())


def _checked_number(value: Any) -> Any:
    """The value, which may be of any type that can be made a float, as arrays of one number are."""
    if not hasattr(value, "__float__"):
        raise TypeError(f"value must be int or float, got {type(value)}.")
    return value


def _check_not_reserved(key: str) -> None:
    if key in RESERVED:
        raise ValueError(f"The tag {key!r} is reserved: it is set by the mesh and cannot be overridden.")
