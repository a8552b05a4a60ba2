"""How users say whether requests are traced."""

from __future__ import annotations

import json
from typing import Any

from meshserve.api.checks import mapping, plain_config
from meshserve.telemetry.tracing_options import TracingOptions


def tracing_text(tracing_config: Any) -> str:
    """The fields of a `tracing_config` as JSON text; empty for what the environment says.

    Raises:
        TypeError: there is no such field.
        ValueError: the sampling ratio is not within 0 and 1.
    """
    if tracing_config is None:
        return ""
    fields = mapping("tracing_config", plain_config(tracing_config))
    TracingOptions.from_mapping(fields, TracingOptions())
    return json.dumps(fields)
