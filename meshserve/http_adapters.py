"""Functions from HTTP requests to inputs of graphs, for the `http_adapter` of `DAGDriver`."""

from __future__ import annotations

from meshserve.user.http_adapters import (
    NdArray,
    image_to_ndarray,
    json_request,
    json_to_multi_ndarray,
    json_to_ndarray,
    pandas_read_json,
    starlette_request,
)

__all__ = [
    "NdArray",
    "image_to_ndarray",
    "json_request",
    "json_to_multi_ndarray",
    "json_to_ndarray",
    "pandas_read_json",
    "starlette_request",
]
