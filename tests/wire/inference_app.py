"""Models of the inference tests: `infer` in every form."""

from __future__ import annotations

import asyncio

import numpy as np

from meshserve import inference
from meshserve.inference import Tensor


@inference.model(
    inputs=[Tensor("x", "FP32", [-1, 2]), Tensor("factor", "INT64", [1])],
    outputs=[Tensor("product", "FP32", [-1, 2]), Tensor("sum", "FP64", [])],
    versions=("1", "2"),
)
class Scale:
    """Synchronous, with everything declared."""

    def infer(self, inputs):
        product = inputs["x"] * inputs["factor"].astype(np.float32)
        return {"product": product, "sum": np.float64(product.sum())}


@inference.model()
class Echo:
    """Asynchronous, with nothing declared: gives what it gets."""

    def __init__(self) -> None:
        self.seen: list[inference.InferenceRequest] = []

    async def infer(self, inputs, request):
        self.seen.append(request)
        if "fail" in request.parameters:
            raise ValueError(request.parameters["fail"])
        if "wait" in request.parameters:
            await asyncio.sleep(60)
        return inputs


@inference.model(inputs=[Tensor("upto", "INT32", [1])])
class Count:
    """A generator: many responses to one request."""

    async def infer(self, inputs):
        for number in range(int(inputs["upto"][0])):
            yield {"number": np.array([number], np.int32)}


@inference.model(outputs=[Tensor("y", "INT32", [2])])
class Broken:
    """Gives what it did not declare."""

    def infer(self, inputs):
        return [{"y": np.zeros(3, np.int32)}, {"y": np.zeros(2)}, {"z": np.zeros(2)}, None][int(inputs["case"][0])]
