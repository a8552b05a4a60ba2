"""The Grafana dashboard and the Prometheus alert rules that come with the mesh, as files."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

ASSETS = ("dashboard.json", "alerts.yaml")
"""For Grafana, for Prometheus."""


def export_assets(folder: Path) -> tuple[Path, ...]:
    """Writes the dashboard and the alert rules to a folder, which is made; returns the files.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in ASSETS:
        path = folder / f"meshserve-{name}"
        path.write_bytes(asset(name))
        written.append(path)
    return tuple(written)


def asset(name: str) -> bytes:
    """One of `ASSETS`."""
    return files("meshserve.telemetry").joinpath("assets", name).read_bytes()
