"""Clients of `RayServeAPIService`, which every gRPC ingress serves: what it is called with Ray Serve's imports."""

from meshserve.v1.application_pb2_grpc import ApplicationServiceStub as RayServeAPIServiceStub

__all__ = ["RayServeAPIServiceStub"]
