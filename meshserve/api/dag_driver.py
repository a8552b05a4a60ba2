"""The driver that users bind in front of graphs. Apart from the rest: it needs FastAPI, which takes long to import."""

from __future__ import annotations

from meshserve.api.deployment import deployment
from meshserve.user import dag_driver

DAGDriver = deployment(dag_driver.DAGDriver)
