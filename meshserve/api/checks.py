"""Checks of single values that users give, each with an error that says what is wanted and what was found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from numbers import Real
from typing import Any, TypeVar

from meshserve.api.config_class import validation_error

T = TypeVar("T")


def integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """An int in a range.

    Raises:
        TypeError: it is not an int.
        ValueError: it is outside the range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}.")
    if value < least or (most is not None and value > most):
        wanted = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {wanted}, not {value}.")
    return value


def number(name: str, value: Any, above: float | None = None, least: float | None = None) -> float:
    """A finite number above, or not below, a limit; raises as `integer`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {value!r}.")
    if not math.isfinite(value) or (above is not None and value <= above) or (least is not None and value < least):
        wanted = "" if least is None else f" and at least {least:g}"
        wanted = wanted if above is None else f" and above {above:g}"
        raise ValueError(f"{name} must be finite{wanted}, not {value}.")
    return float(value)


def read_integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """As `integer`, also of a number that is written as text, as arguments of builders are, or as a float."""
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            pass
    return integer(name, int(value) if isinstance(value, float) and value.is_integer() else value, least, most)


def read_number(name: str, value: Any, above: float | None = None, least: float | None = None) -> float:
    """As `number`, also of a number that is written as text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            pass
    return number(name, value, above, least)


def json_value(name: str, value: Any) -> Any:
    """A value that JSON can carry.

    Raises:
        ValueError: it is something else.
    """
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not JSON-serializable: {error}.") from error
    return value


def config(name: str, value: Any, kind: type[T]) -> T:
    """An object of a configuration class, also given as a dict of its fields, or as its schema's model.

    Raises:
        TypeError: it is neither.
        ValidationError: a ValueError: there is no such field, one is missing, or a field's value is not valid.
    """
    if isinstance(value, kind):
        return value
    value = plain_config(value)
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a {kind.__name__} or a dict, not {value!r}.")
    try:
        return _made(name, value, kind)
    except (TypeError, ValueError) as error:
        raise validation_error(kind.__name__, error, value) from error


def _made(name: str, value: Mapping[str, Any], kind: type[T]) -> T:
    value = kind.renamed(value)  # type: ignore[attr-defined]  # a `Config`
    known = {field.name: field for field in fields(kind) if field.init}  # type: ignore[arg-type]  # a dataclass
    unknown = sorted(value.keys() - known.keys())
    if unknown:
        raise ValueError(f"{name} has no field {unknown[0]!r}. Its fields are: {', '.join(sorted(known))}.")
    for one in known.values():
        if one.default is MISSING and one.default_factory is MISSING and one.name not in value:
            raise ValueError(f"{name} needs the field {one.name!r}, which was not given.")
    made: T = kind.made(**value)  # type: ignore[attr-defined]  # as above
    return made


def plain_config(value: Any) -> Any:
    """A model of the configuration file's schema as a dict of the fields that were given; other values as they are."""
    dump = None if is_dataclass(value) else getattr(value, "model_dump", None)
    return value if dump is None else dump(exclude_unset=True)


def mapping(name: str, value: Any) -> dict[str, Any]:
    """A dict with text keys.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a dict with text keys, not {value!r}.")
    return dict(value)
