"""Values as JSON bodies of HTTP responses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def to_json(value: Any) -> bytes:
    """Compact JSON; numbers that are none are written as Python writes them, `NaN` and `Infinity`.

    Plain data goes straight through; the rest (models, dataclasses, dates, arrays, frames) passes FastAPI's encoder.

    Raises:
        ValueError, TypeError: it has no form in JSON.
    """
    try:
        return _dumps(value)
    except TypeError:
        from fastapi.encoders import jsonable_encoder  # noqa: PLC0415 - slow to import, and plain data does not need it

        return _dumps(jsonable_encoder(value, custom_encoder=extra_encoders()))


def _dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def extra_encoders() -> dict[Any, Callable[[Any], Any]]:
    """How to encode what FastAPI does not know; nothing is imported for it that user code has not imported itself."""
    encoders: dict[Any, Callable[[Any], Any]] = {Exception: str}
    if (numpy := sys.modules.get("numpy")) is not None:
        encoders[numpy.ndarray] = lambda array: array.tolist()
        encoders[numpy.generic] = lambda scalar: scalar.item()
    if (pandas := sys.modules.get("pandas")) is not None:
        encoders[pandas.DataFrame] = lambda frame: frame.to_dict(orient="records")
        encoders[pandas.Series] = lambda series: series.to_list()
    return encoders
