"""The applications that the clients here call: all four kinds of methods, where a request's text says what happens,
and a model."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2, status_pb2

import meshserve as serve
from meshserve import inference

# The proto of the wire tests. This folder reaches replicas and proxies with the application, as a driver's would.
sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))

from rpcs.v1.shapes_pb2 import Note
from rpcs.v1.shapes_pb2_grpc import ShapesServiceStub, add_ShapesServiceServicer_to_server

__all__ = ["SERVICE", "Note", "ShapesServiceStub", "add_ShapesServiceServicer_to_server", "model", "narrow", "wide"]

SERVICE = "meshserve.tests.v1.ShapesService"


class Notes:
    """The user's object."""

    def __init__(self) -> None:
        self._cancelled = 0
        self._waiting = 0

    async def Unary(self, request: Any, grpc_context: Any) -> Any:
        grpc_context.send_initial_metadata([("early", "bird")])
        grpc_context.set_trailing_metadata([("served-by", "notes"), ("raw-bin", b"\0\1\xff")])
        match request.text:
            case "wait":
                await self._wait()
            case "refuse":
                _refuse(grpc_context)
            case "fail":
                raise KeyError("secret of the traceback")
            case "invalid":
                _say_what_is_invalid(grpc_context)
            case "time left":
                return Note(number=round(grpc_context.time_remaining() * 1000))
            case "headers":
                return Note(text=dict(grpc_context.invocation_metadata()).get("colour", ""))
        return Note(text=request.text.upper(), number=request.number)

    async def Down(self, request: Any, grpc_context: Any) -> Any:
        for number in range(request.number):
            yield Note(number=number, text=request.text if request.text.startswith("x") else "")
        grpc_context.set_trailing_metadata([("served-by", "notes")])
        match request.text:
            case "wait":
                await self._wait()
            case "refuse":
                _refuse(grpc_context)

    async def Up(self, requests: Any) -> Any:
        return Note(number=sum([request.number async for request in requests]))

    async def Both(self, requests: Any) -> Any:
        async for request in requests:
            yield Note(text=request.text.upper(), number=request.number * 2)
            if request.text == "wait":
                await self._wait()

    async def _wait(self) -> None:
        self._waiting += 1
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            self._cancelled += 1
            raise
        finally:
            self._waiting -= 1

    def cancelled(self) -> int:
        """How many waits were cut short so far."""
        return self._cancelled

    def waiting(self) -> int:
        """How many wait now."""
        return self._waiting


def _refuse(grpc_context: Any) -> None:
    grpc_context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
    grpc_context.set_details("not today: 5 % of naïve 客")
    raise ValueError("never shown")


def _say_what_is_invalid(grpc_context: Any) -> None:
    """A rich error of the user's own."""
    violation = error_details_pb2.BadRequest.FieldViolation(field="text", description="says that it is invalid")
    detail = Packed()
    detail.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    message = "the note is not one"
    status = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=message, details=[detail])
    grpc_context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
    grpc_context.set_details(message)
    grpc_context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
    raise ValueError(message)


@inference.model(
    inputs=[inference.Tensor("x", "FP32", [-1, 2]), inference.Tensor("words", "BYTES", [-1])],
    outputs=[inference.Tensor("doubled", "FP32", [-1, 2]), inference.Tensor("shouted", "BYTES", [-1])],
)
class Doubling:
    """A model for clients of the Open Inference Protocol, which has to think about negative numbers."""

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if (inputs["x"] < 0).any():
            time.sleep(2)
        shouted = [word.decode().upper().encode() for word in inputs["words"]]
        return {"doubled": inputs["x"] * 2, "shouted": np.array(shouted, np.object_)}


_LIGHT: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0.0}

wide = serve.deployment(Notes, name="wide", max_ongoing_requests=4000, **_LIGHT).bind()
narrow = serve.deployment(Notes, name="narrow", max_ongoing_requests=1, max_queued_requests=1, **_LIGHT).bind()
model = serve.deployment(Doubling, name="model", **_LIGHT).bind()
