"""Every example answers over its ingress, as its docstring says."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import examples_cases
import pytest

import meshserve as serve

SERVICERS = {
    "streaming": ["meshserve.examples.v1.streaming_pb2_grpc.add_TokenServiceServicer_to_server"],
    "ocr": ["meshserve.examples.v1.ocr_pb2_grpc.add_OcrServiceServicer_to_server"],
}


@pytest.mark.parametrize("name", ["quickstart", "ensemble", "conditional", "chain", "streaming", "chat", "ocr"])
def test_example_answers_over_its_ingress(mesh, name):
    app = importlib.import_module(f"meshserve.examples.{name}").app
    check: Callable[[str, str], None] = getattr(examples_cases, f"check_{name}")
    serve.run(app, route_prefix="/", grpc_servicer_functions=SERVICERS.get(name, []))
    try:
        check(f"{mesh.http}/", mesh.grpc)
    finally:
        serve.delete("default")
