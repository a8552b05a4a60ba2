"""`logging_config` and `tracing_config` in configuration files."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from meshserve.api.logging_config import LoggingConfig as CheckedLogging
from meshserve.settings import Settings


class EncodingType(StrEnum):
    """How the lines of a log are written."""

    TEXT = "TEXT"
    JSON = "JSON"


class LoggingConfig(BaseModel):
    """What is logged, and how; see `meshserve.config.LoggingConfig`."""

    model_config = ConfigDict(extra="forbid")

    encoding: str = Field(default=EncodingType.TEXT.value, description='"TEXT" or "JSON".')
    log_level: int | str = Field(default="INFO", description="A level's name or number.")
    logs_dir: str | None = Field(default=None, description="A folder to write files to; null for the default.")
    enable_access_log: bool = Field(default=True, description="Whether each request is logged.")
    additional_log_standard_attrs: list[str] = Field(
        default_factory=list, description="Attributes of logging.LogRecord to add to each line."
    )

    @model_validator(mode="after")
    def _checked(self) -> LoggingConfig:
        """The rules are those of the Python class, and so is the form in which values are kept."""
        checked = CheckedLogging(**{name: getattr(self, name) for name in type(self).model_fields})
        for name in self.model_fields_set:
            self.__dict__[name] = getattr(checked, name)  # assigning would validate again, and so for ever
        return self


class TracingConfig(BaseModel):
    """Whether requests are traced, and where spans go; the defaults are those of the environment."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(
        default_factory=lambda: bool(Settings.from_environment().tracing_exporter),
        description="Whether requests are traced.",
    )
    exporter_import_path: str = Field(
        default_factory=lambda: Settings.from_environment().tracing_exporter,
        description="A function that gives OpenTelemetry span processors.",
    )
    sampling_ratio: float = Field(
        default_factory=lambda: Settings.from_environment().tracing_ratio,
        description="The share of requests that is traced.",
    )

    @field_validator("sampling_ratio")
    @classmethod
    def _is_share(cls, value: float) -> float:
        if not 0 <= value <= 1:
            raise ValueError(f"sampling_ratio must be between 0.0 and 1.0, got {value}.")
        return value
