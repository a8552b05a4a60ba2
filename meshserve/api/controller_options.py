"""How users say what the controller's process is to be like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from meshserve.api.config_class import Config


@dataclass(frozen=True, kw_only=True)
class ControllerOptions(Config):
    """The controller's process; counts when the mesh is started.

    Args:
        runtime_env: its runtime environment, of which only `env_vars` (names with text values) can be given.

    Raises:
        ValueError: something else is given.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    runtime_env: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        environment = self.runtime_env
        if environment is None:
            return
        if not isinstance(environment, Mapping) or set(environment) - {"env_vars"}:
            raise ValueError(f"runtime_env of the controller can have env_vars only, not {environment!r}.")
        variables = environment.get("env_vars")
        if variables is None:
            return
        if not isinstance(variables, Mapping) or not all(_is_variable(*one) for one in variables.items()):
            raise ValueError(f"env_vars of the controller must be names with text values, not {variables!r}.")


def _is_variable(name: Any, value: Any) -> bool:
    return isinstance(name, str) and bool(name) and isinstance(value, str)
