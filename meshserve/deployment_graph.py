"""The older name of `meshserve.dag`."""

from __future__ import annotations

from meshserve.dag import InputNode, MeshServeDAGHandle, RayServeDAGHandle

__all__ = ["InputNode", "MeshServeDAGHandle", "RayServeDAGHandle"]
