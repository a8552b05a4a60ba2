"""Frozen dataclasses at the price of plain objects: `record` declares one, `replace` changes some of its fields.

What is known of a mesh is made and replaced all the time it is planned. A frozen dataclass sets each of its fields
through `object.__setattr__`, and `dataclasses.replace` asks the class for its fields at every call. Here an object is
*open* while its fields are set: it is of a twin class that has the same slots and is not frozen. Making one takes a
third of the time that way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, dataclass_transform

T = TypeVar("T")

_Copier: TypeAlias = Callable[[Any], Any]

_OPEN = object.__dict__["__class__"].__set__

_COPIERS: dict[type, _Copier] = {}

if TYPE_CHECKING:
    from dataclasses import replace as replace  # type checkers know what it may change
else:

    def replace(before: T, /, **changes: Any) -> T:
        """The same but for `changes`.

        Args:
            before: of a dataclass with slots and without `__post_init__`.
        """
        kind = before.__class__
        after = (_COPIERS.get(kind) or _COPIERS.setdefault(kind, _copier(kind)))(before)
        for name, value in changes.items():
            setattr(after, name, value)
        after.__class__ = kind
        return after


@dataclass_transform(frozen_default=True)
def record(plain: type[T]) -> type[T]:
    """A frozen dataclass with slots whose objects are made quickly; for classes of which many are made.

    There may be no default factories.
    """
    kind: Any = dataclass(frozen=True, slots=True)(plain)
    if factories := [field.name for field in fields(kind) if field.default_factory is not MISSING]:
        raise TypeError(f"{kind.__name__} has default factories, for {factories}: use `dataclass`")
    sets = "".join(f"    self.{name} = {name}\n" for name in kind.__slots__)
    arguments = ", ".join(kind.__slots__)
    source = f"def made(self, {arguments}):\n    _open(self, _twin)\n{sets}    self.__class__ = _kind"
    made, by_dataclass = _defined(source, "made", _twin=_twin(kind), _kind=kind, _open=_OPEN), kind.__init__
    made.__defaults__, made.__annotations__ = by_dataclass.__defaults__, by_dataclass.__annotations__
    made.__qualname__ = by_dataclass.__qualname__
    kind.__init__ = made
    made_quickly: type[T] = kind
    return made_quickly


def _copier(kind: type) -> _Copier:
    """What makes an open copy of an object of this class."""
    sets = "\n".join(f"    after.{field.name} = before.{field.name}" for field in fields(kind))
    source = f"def copy(before):\n    after = new(twin)\n{sets}\n    return after"
    copier: _Copier = _defined(source, "copy", twin=_twin(kind), new=object.__new__)
    return copier


def _twin(kind: Any) -> type:
    """A class with the same slots that is not frozen."""
    if hasattr(kind, "__post_init__"):
        raise TypeError(f"{kind.__name__} looks at its fields when it is made: use `dataclasses.replace`")
    return type(kind.__name__, (), {"__slots__": kind.__slots__})


def _defined(source: str, name: str, **names: Any) -> Any:
    exec(source, names)
    return names[name]
