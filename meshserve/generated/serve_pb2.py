"""The messages of `RayServeAPIService`: those of `ApplicationService`, which have the same fields."""

from meshserve.v1.application_pb2 import (
    HealthzRequest,
    HealthzResponse,
    ListApplicationsRequest,
    ListApplicationsResponse,
)

__all__ = ["HealthzRequest", "HealthzResponse", "ListApplicationsRequest", "ListApplicationsResponse"]
