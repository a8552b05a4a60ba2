"""Tells the instance from the arguments when a decorated function is called.

A decorator sees a plain function and cannot know whether it will be called as a method; nor does a call say so. What
can be known is the class in whose body the function was defined, by its qualified name, and that a first parameter
called `self` means what everybody means by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class MethodOwner:
    """The class that a function belongs to, if any.

    Args:
        function: as decorated.

    Attributes:
        takes_self: whether its first parameter is called `self`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        code = getattr(function, "__code__", None)
        self.takes_self = code is not None and code.co_varnames[: code.co_argcount][:1] == ("self",)
        owner = getattr(function, "__qualname__", "").rpartition(".")[0]
        self._class_name = "" if owner.endswith("<locals>") else owner
        self._module = getattr(function, "__module__", None)
        self._known: dict[type, bool] = {}

    @property
    def may_be_method(self) -> bool:
        """Whether calls may bring an instance as their first argument."""
        return self.takes_self or bool(self._class_name)

    def split(self, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The instance (a tuple of one, or none) and the arguments proper. A static method's data is no instance."""
        if not args or not self.may_be_method:
            return (), args
        if self.takes_self:
            return args[:1], args[1:]
        cls = type(args[0])
        if (owns := self._known.get(cls)) is None:
            owns = self._known[cls] = any(
                ancestor.__qualname__ == self._class_name and ancestor.__module__ == self._module
                for ancestor in cls.__mro__
            )
        return (args[:1], args[1:]) if owns else ((), args)
