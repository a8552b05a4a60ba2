"""What all classes of configuration have: the errors and methods of pydantic's models, which ported code expects.

They are dataclasses, since every replica that imports a user's module imports them and few look at more than a field;
pydantic itself is imported when a mistake is found.
"""

from __future__ import annotations

import builtins
import inspect
import json
import warnings
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

C = TypeVar("C", bound="Config")


class ConfigType(type):
    """The type of configuration classes: what their constructors refuse is a `pydantic.ValidationError`."""

    if not TYPE_CHECKING:  # type checkers are to see the fields

        def __call__(cls, *args: Any, **values: Any) -> Any:
            """Makes a configuration.

            Raises:
                ValidationError: a field has a wrong type or value; its cause is the TypeError or ValueError.
            """
            try:
                return cls.made(*args, **values)
            except (TypeError, ValueError) as error:
                raise validation_error(cls.__name__, error, values) from error

        @property
        def __signature__(cls) -> inspect.Signature:
            """The fields, for people who ask `help`."""
            whole = inspect.signature(cls.__init__)
            return whole.replace(parameters=list(whole.parameters.values())[1:])

    def renamed(cls, values: Mapping[str, Any]) -> builtins.dict[str, Any]:
        """The fields by today's names, with a warning for each older one."""
        older: Mapping[str, str] = cls._older_names  # type: ignore[attr-defined]  # a `Config`
        for name in older.keys() & values.keys():
            warnings.warn(f"`{name}` is now called `{older[name]}`.", DeprecationWarning, stacklevel=4)
        return {older.get(name, name): value for name, value in values.items()}

    def _without_others(cls, values: builtins.dict[str, Any]) -> builtins.dict[str, Any]:
        """Without what is no field, and a warning, if the class ignores that."""
        known = [one.name for one in fields(cls) if one.init]  # type: ignore[arg-type]  # a dataclass
        ignoring = cls._other_fields == "ignore"  # type: ignore[attr-defined]  # a `Config`
        unknown = sorted(values.keys() - set(known)) if ignoring else []
        if unknown:
            near = get_close_matches(unknown[0], known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Its fields are: {', '.join(sorted(known))}."
            warnings.warn(f"{cls.__name__} ignores {unknown[0]!r}, no field of it.{hint}", UserWarning, stacklevel=4)
        return {name: value for name, value in values.items() if name not in unknown}

    def made(cls, *args: Any, **values: Any) -> Any:
        """Makes a configuration; raises TypeError and ValueError as they come."""
        todays = cls._without_others(cls.renamed(values))
        made = super().__call__(*args, **todays)
        object.__setattr__(made, "_given", frozenset(todays))
        return made


def validation_error(title: str, error: Exception, values: Mapping[str, Any], field: str = "") -> Exception:
    """A `pydantic.ValidationError` for what is wrong with `values`.

    Args:
        title: of what was to be made.
        error: what is wrong.
        values: what was given.
        field: where; the first word of `error`, if that is a field, when not given.
    """
    from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError  # noqa: PLC0415 - see the module

    def mistake(text: str, place: tuple[int | str, ...], found: Any) -> InitErrorDetails:
        return InitErrorDetails(
            type=PydanticCustomError("value_error", "{text}", {"text": text}), loc=place, input=found
        )

    if isinstance(error, ValidationError):
        if not field:
            return error
        inner = [mistake(one["msg"], (field, *one["loc"]), one["input"]) for one in error.errors()]
        return ValidationError.from_exception_data(title, inner)
    field = field or next(iter(str(error).split()), "")
    place, found = ((field,), values[field]) if field in values else ((), dict(values))
    return ValidationError.from_exception_data(title, [mistake(f"Value error, {error}", place, found)])


class Config(metaclass=ConfigType):
    """Base of the classes of configuration, which are frozen dataclasses."""

    _older_names: ClassVar[Mapping[str, str]] = {}
    """What fields were called in older releases -> what they are called now."""

    _other_fields: ClassVar[Literal["refuse", "ignore"]] = "refuse"
    """What becomes of fields that are none: programs may give those of other releases to some classes."""

    _given: frozenset[str] = frozenset()

    @property
    def model_fields_set(self) -> set[str]:
        """The fields that were given."""
        return set(self._given)

    def model_dump(
        self,
        *,
        mode: str = "python",
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
        **_others: Any,
    ) -> builtins.dict[str, Any]:
        """The fields with their values; configurations within as dicts, too.

        Args:
            mode: "json" for values that JSON can carry.
            include: fields to give; None for all.
            exclude: fields to leave out.
            exclude_unset: leave out what was not given.
            exclude_defaults: leave out what is as by default.
            exclude_none: leave out what is None.
        """
        options: builtins.dict[str, Any] = {
            "exclude_unset": exclude_unset,
            "exclude_defaults": exclude_defaults,
            "exclude_none": exclude_none,
        }
        dumped: builtins.dict[str, Any] = {}
        for one in _fields(self):
            value = getattr(self, one.name)
            wanted = (include is None or one.name in include) and one.name not in (exclude or ())
            if not wanted or (exclude_unset and one.name not in self._given) or (exclude_none and value is None):
                continue
            if not (exclude_defaults and _is_default(one, value)):
                dumped[one.name] = _dumped(value, mode, options)
        return dumped

    def model_dump_json(self, *, indent: int | None = None, **options: Any) -> str:
        """The same as JSON text."""
        return json.dumps(self.model_dump(mode="json", **options), indent=indent)

    def model_copy(self: C, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> C:
        """A copy with some fields changed, and checked; raises as the constructor."""
        values = {one.name: getattr(self, one.name) for one in _fields(self) if one.name in self._given}
        copied: C = type(self)(**{**(deepcopy(values) if deep else values), **(update or {})})
        return copied

    @classmethod
    def model_validate(cls: type[C], obj: Any) -> C:
        """A configuration from a dict of its fields; one that is one already, as it is."""
        made: C = obj if isinstance(obj, cls) else cls(**obj)
        return made

    @classmethod
    def parse_obj(cls: type[C], obj: Any) -> C:
        """`model_validate` by its older name."""
        return cls.model_validate(obj)

    def copy(self: C, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> C:
        """`model_copy` by its older name."""
        return self.model_copy(update=update, deep=deep)

    def json(self, **options: Any) -> str:
        """`model_dump_json` by its older name."""
        return self.model_dump_json(**options)

    def dict(self, **options: Any) -> builtins.dict[str, Any]:
        """`model_dump` by its older name."""
        return self.model_dump(**options)


def _fields(config: Config) -> list[Field[Any]]:
    return [one for one in fields(config) if one.init]  # type: ignore[arg-type]  # every subclass is a dataclass


def _is_default(field: Field[Any], value: Any) -> bool:
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    return field.default is not MISSING and bool(value == field.default)


def _dumped(value: Any, mode: str, options: builtins.dict[str, Any]) -> Any:
    if isinstance(value, Config):
        return value.model_dump(mode=mode, **options)
    if isinstance(value, Mapping):
        return {name: _dumped(one, mode, options) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_dumped(one, mode, options) for one in value]
    if mode != "json":
        return value
    if isinstance(value, Enum):
        return value.value
    return f"{value.__module__}:{value.__qualname__}" if callable(value) else value
