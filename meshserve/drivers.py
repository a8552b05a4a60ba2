"""Ready-made ingress deployments."""

from __future__ import annotations

from meshserve.api.dag_driver import DAGDriver

__all__ = ["DAGDriver"]
