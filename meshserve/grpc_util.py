"""What handlers of gRPC methods use: the call's context and its stream of requests."""

from meshserve.user.grpc_context import MeshServegRPCContext, Metadatum, RayServegRPCContext, gRPCInputStream

__all__ = ["Metadatum", "MeshServegRPCContext", "RayServegRPCContext", "gRPCInputStream"]
