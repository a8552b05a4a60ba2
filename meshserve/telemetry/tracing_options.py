"""Whether requests are traced, and where spans go: the fields of `tracing_config`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshserve.settings import Settings


@dataclass(frozen=True, slots=True)
class TracingOptions:
    """See the module.

    Args:
        enabled: whether anything is traced.
        exporter_import_path: a function without arguments that gives a list of OpenTelemetry span processors; empty
            for files, one per process.
        sampling_ratio: of requests that come without a decision; one that comes with one keeps it.

    Raises:
        ValueError: the ratio is not within 0 and 1.
    """

    enabled: bool = False
    exporter_import_path: str = ""
    sampling_ratio: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.sampling_ratio <= 1:
            raise ValueError(f"sampling_ratio must be within 0 and 1, not {self.sampling_ratio}.")

    @staticmethod
    def from_settings(settings: Settings) -> TracingOptions:
        """What the environment says: naming an exporter is what turns tracing on."""
        path = settings.tracing_exporter
        return TracingOptions(bool(path), path, settings.tracing_ratio)

    @staticmethod
    def from_mapping(config: Mapping[str, Any], default: TracingOptions) -> TracingOptions:
        """With the fields of a `tracing_config` in place of the default's.

        Raises:
            ValueError: the ratio is not within 0 and 1.
            TypeError: there is no such field.
        """
        known = TracingOptions.__dataclass_fields__
        unknown = sorted(set(config) - set(known))
        if unknown:
            raise TypeError(f"tracing_config has no field {unknown[0]!r}; those are {', '.join(known)}.")
        given = {name: value for name, value in config.items() if value is not None}
        enabled = bool(config.get("enabled", default.enabled or bool(given.get("exporter_import_path"))))
        return TracingOptions(
            enabled,
            str(given.get("exporter_import_path", default.exporter_import_path)),
            float(given.get("sampling_ratio", default.sampling_ratio)),
        )

    @staticmethod
    def from_json(text: str, default: TracingOptions) -> TracingOptions:
        """The same from JSON text; empty for the default."""
        return TracingOptions.from_mapping(json.loads(text), default) if text else default
