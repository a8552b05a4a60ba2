"""The Open Inference Protocol between an ingress and a replica: its methods, as a servicer function."""

from __future__ import annotations

from typing import Any

import grpc

from meshserve.v1.inference_pb2 import ModelInferRequest, ModelStreamInferResponse
from meshserve.v1.inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server

SERVICE = "inference.GRPCInferenceService"

SERVICER_FUNCTION = "meshserve.rpc.inference:add_model_methods"
"""What brings the methods to a replica."""


def add_model_methods(servicer: Any, server: Any) -> None:
    """Adds the protocol's methods as a replica sees them. A stream of requests ends at the ingress, where each may
    go to another replica, so what a replica serves of a stream is one request with many responses."""
    add_GRPCInferenceServiceServicer_to_server(servicer, server)
    handler: Any = grpc.unary_stream_rpc_method_handler(
        servicer.ModelStreamInfer, ModelInferRequest.FromString, ModelStreamInferResponse.SerializeToString
    )
    server.add_registered_method_handlers(SERVICE, {"ModelStreamInfer": handler})
