"""The input of a deployment graph, as it is written down: a stand-in for what each execution is given."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NoReturn
from uuid import uuid4


class InputPart:
    """An item or an attribute of the input.

    Args:
        whole: the input.
        key: position, key or name.
        by_attribute: whether it was written with a dot.
    """

    def __init__(self, whole: InputNode, key: int | str, by_attribute: bool) -> None:
        self.whole = whole
        self.key = key
        self.by_attribute = by_attribute
        self._stable_uuid = uuid4().hex

    def get_stable_uuid(self) -> str:
        """What identifies the node; the key in `get_intermediate_object_refs`."""
        return self._stable_uuid

    def __reduce__(self) -> NoReturn:
        _refuse_pickling()

    def __repr__(self) -> str:
        return f"input.{self.key}" if self.by_attribute else f"input[{self.key!r}]"


class InputNode:
    """What a graph is given at each execution; used as `with InputNode() as inp:`.

    `inp` in the arguments of a bound call stands for the input, `inp[0]` and `inp["key"]` for an item of it, `inp.name`
    for an attribute. One positional argument is the input as it is; several, or any by name, are items: `inp[0]` the
    first positional one, `inp["x"]` and `inp.x` the one named x. One graph has one input.

    Args:
        input_type: accepted for compatibility; nothing is checked.

    Raises:
        ValueError: there are other arguments.
    """

    def __init__(self, *args: Any, input_type: Any = None, **kwargs: Any) -> None:
        if args or kwargs:
            raise ValueError("InputNode() takes no arguments but input_type: the input is given when the graph runs.")
        self._meshserve_entered = False
        self._meshserve_parts: dict[int | str, InputPart] = {}
        self._stable_uuid = uuid4().hex

    def __enter__(self) -> InputNode:
        self._meshserve_entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing ends here: the input may be bound after the block as well."""

    def get_stable_uuid(self) -> str:
        """What identifies the node; the key in `get_intermediate_object_refs`."""
        return self._stable_uuid

    def __getitem__(self, key: int | str) -> InputPart:
        if not isinstance(key, int | str):
            raise AssertionError(f"The input is indexed by a position or by text, not by {key!r}.")
        return self._part(key, by_attribute=False)

    def __getattr__(self, name: str) -> InputPart:
        if name.startswith(("__", "_meshserve_")):  # Python's own probes
            raise AttributeError(name)
        return self._part(name, by_attribute=True)

    def _part(self, key: int | str, by_attribute: bool) -> InputPart:
        """The part of that name; the first way it was written decides how it is read, as in older releases."""
        return self._meshserve_parts.setdefault(key, InputPart(self, key, by_attribute))

    __iter__ = None
    """Else Python would iterate by `inp[0]`, `inp[1]`, ... for ever."""

    def __reduce__(self) -> NoReturn:
        _refuse_pickling()

    def __repr__(self) -> str:
        return "input"


def _refuse_pickling() -> NoReturn:
    raise TypeError("The input of a graph cannot be pickled: it stands only in the arguments of bound calls.")
