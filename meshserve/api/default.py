"""The mark of an argument that was not given: None is a value that several options accept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any


class DEFAULT(Enum):
    """Its one member stands for "not given" wherever an option may be written."""

    VALUE = 1


def given(written: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The arguments that were given.

    Raises:
        TypeError: one has a name that is not known.
    """
    unknown = sorted(set(written) - set(known))
    if unknown:
        raise TypeError(f"There is no option {unknown[0]!r}. The options are: {', '.join(sorted(known))}.")
    return {name: value for name, value in written.items() if value is not DEFAULT.VALUE}
