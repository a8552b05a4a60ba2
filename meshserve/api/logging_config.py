"""How users say what is logged, and how."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from typing import Any

from meshserve.api.config_class import Config

_ENCODINGS = ("TEXT", "JSON")


@dataclass(frozen=True, kw_only=True)
class LoggingConfig(Config):
    """Logging of an application or deployment.

    Args:
        encoding: "TEXT" or "JSON".
        log_level: a level's name or number.
        logs_dir: a folder to write files to; None for the default.
        enable_access_log: whether each request is logged.
        additional_log_standard_attrs: attributes of `logging.LogRecord` to add to each line.

    Raises:
        ValueError: a field has a value that is not known.
    """

    encoding: str = "TEXT"
    log_level: str | int = "INFO"
    logs_dir: str | None = None
    enable_access_log: bool = True
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in _ENCODINGS:
            raise ValueError(f"encoding must be one of {', '.join(_ENCODINGS)}, not {self.encoding!r}.")
        object.__setattr__(self, "log_level", _level_name(self.log_level))
        wanted = list(dict.fromkeys(self.additional_log_standard_attrs))
        unknown = [name for name in wanted if name not in _RECORD_ATTRIBUTES]
        if unknown:
            raise ValueError(
                f"Unknown attribute {unknown[0]!r}. Additional log standard attributes must be one of "
                f"{', '.join(sorted(_RECORD_ATTRIBUTES))}."
            )
        object.__setattr__(self, "additional_log_standard_attrs", wanted)

    def to_json(self) -> dict[str, Any]:
        """The fields of the configuration file."""
        return asdict(self)

    def to_text(self) -> str:
        """The same as JSON text."""
        return json.dumps(self.to_json())


_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def _level_name(level: str | int) -> str:
    name = logging.getLevelName(level) if isinstance(level, int) else level.upper()
    known = logging.getLevelNamesMapping()
    if name not in known:
        raise ValueError(f"log_level must be one of {list(known)}, not {level!r}.")
    return str(name)
