"""Metrics of your own: `Counter`, `Gauge`, `Histogram`, shown at the proxies' `/metrics` beside the mesh's."""

from __future__ import annotations

from meshserve.telemetry.user_metrics import Counter, Gauge, Histogram

__all__ = ["Counter", "Gauge", "Histogram"]
