"""JSON values <-> google.protobuf.Value, for calls without protos of their own.

Numbers are doubles there. A whole one that a double holds exactly becomes an int, so that counts stay counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from meshserve.v1.generic_pb2 import JsonArguments

EXACT = 1 << 53
"""Whole numbers up to this size survive as doubles."""


def decode_arguments(body: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of a serialized JsonArguments."""
    arguments = JsonArguments.FromString(body)
    return [_plain(value) for value in arguments.args], {key: _plain(value) for key, value in arguments.kwargs.items()}


def decode_json(body: bytes) -> Any:
    """The value of a serialized Value."""
    return _plain(Value.FromString(body))


def encode_json(value: Any) -> bytes:
    """A serialized Value.

    Raises:
        TypeError: the value, or a part of it, has no form in JSON; names the part.
    """
    target = Value()
    _fill(target, value)
    return target.SerializeToString()


def encode_arguments_json(args: Sequence[Any], kwargs: Mapping[str, Any]) -> JsonArguments:
    """Arguments as values; raises as `encode_json`."""
    arguments = JsonArguments()
    for arg in args:
        _fill(arguments.args.add(), arg)
    for key, value in kwargs.items():
        _fill(arguments.kwargs[key], value)
    return arguments


def _plain(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= EXACT else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return {key: _plain(field) for key, field in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case _:
            return None


def _fill(target: Value, value: Any) -> None:
    match value:
        case None:
            target.null_value = 0  # type: ignore[assignment]  # NULL_VALUE
        case bool():
            target.bool_value = value
        case str():
            target.string_value = value
        case int() if abs(value) > EXACT:
            raise TypeError(f"the integer {value} does not fit a JSON number: send it as text.")
        case int() | float():
            target.number_value = value
        case Mapping():
            _fill_struct(target.struct_value, value)
        case list() | tuple() | set() | frozenset():
            _fill_list(target.list_value, value)
        case _:
            _fill(target, _reduced(value))


def _fill_struct(target: Struct, value: Mapping[Any, Any]) -> None:
    target.SetInParent()
    for key, field in value.items():
        if not isinstance(key, str):
            raise TypeError(f"a JSON object has text as keys, not {type(key).__name__} {key!r}.")
        _fill(target.fields[key], field)


def _fill_list(target: ListValue, value: Any) -> None:
    target.SetInParent()
    for item in value:
        _fill(target.values.add(), item)


def _reduced(value: Any) -> Any:
    """Something closer to JSON: data classes, pydantic models, numpy arrays and scalars."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    for name in ("model_dump", "tolist"):
        reduce = getattr(value, name, None)
        if callable(reduce) and not isinstance(value, type):
            return reduce()
    raise TypeError(f"a value of type {type(value).__name__} has no form in JSON: return plain data, or bytes.")
