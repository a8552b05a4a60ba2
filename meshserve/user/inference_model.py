"""What a model of the Open Inference Protocol declared, and what follows from it for requests and responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc

from meshserve.errors import InvalidCallError
from meshserve.user.grpc_context import MeshServegRPCContext
from meshserve.v1.inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
)
from meshserve.wire.tensors import DATATYPES, Array, read_inputs, typed, write_outputs


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that a model takes or gives.

    Attributes:
        name: of the tensor.
        datatype: the protocol's name of its element type: FP32, INT64, BYTES, ...
        shape: -1 for a dimension of any size.

    Raises:
        ValueError: there is no such datatype, or a dimension is less than -1.
    """

    name: str
    datatype: str
    shape: Sequence[int]

    def __post_init__(self) -> None:
        if self.datatype not in DATATYPES:
            raise ValueError(f"there is no datatype {self.datatype!r}; there are {', '.join(DATATYPES)}.")
        if any(size < -1 for size in self.shape):
            raise ValueError(f"the shape {list(self.shape)} of {self.name!r} has a dimension below -1 (any size).")

    def misfit(self, datatype: str, shape: Sequence[int]) -> str:
        """Why a tensor is not this one; empty when it is."""
        if datatype != self.datatype:
            return f"{self.name!r} is {self.datatype}, not {datatype}"
        fits = len(shape) == len(self.shape) and all(
            wanted in (-1, size) for wanted, size in zip(self.shape, shape, strict=True)
        )
        return "" if fits else f"{self.name!r} has the shape {list(self.shape)} (-1 is any size), not {list(shape)}"


@dataclass(frozen=True, slots=True)
class DeclaredModel:
    """What a class declared.

    Attributes:
        inputs: by name; None for whatever comes.
        outputs: by name; None for whatever `infer` gives.
        versions: of the model.
        platform: what runs it.
        datatypes: of the outputs declared.
    """

    inputs: dict[str, Tensor] | None
    outputs: dict[str, Tensor] | None
    versions: tuple[str, ...]
    platform: str
    datatypes: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.datatypes.update({name: tensor.datatype for name, tensor in (self.outputs or {}).items()})

    def metadata(self, request: ModelMetadataRequest, context: MeshServegRPCContext) -> ModelMetadataResponse:
        """Tells what the model is."""
        self.check_version(request.version, context)
        response = ModelMetadataResponse(
            name=request.name or context.application(), versions=self.versions, platform=self.platform
        )
        for tensors, told in ((self.inputs, response.inputs), (self.outputs, response.outputs)):
            for tensor in (tensors or {}).values():
                told.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        return response

    def check_version(self, version: str, context: MeshServegRPCContext) -> None:
        """Ends the call with NOT_FOUND when there is no such version."""
        if version and version not in self.versions:
            problem = f"there is no version {version!r} of this model; there are {', '.join(self.versions)}."
            refuse(context, grpc.StatusCode.NOT_FOUND, problem)

    def read(self, request: ModelInferRequest, context: MeshServegRPCContext) -> dict[str, Array]:
        """The arrays of a request; ends the call with INVALID_ARGUMENT when they are not what the model takes."""
        self.check_version(request.model_version, context)
        try:
            arrays = read_inputs(request)
        except ValueError as error:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if problem := self._misfit(request) or self._unknown_output(request):
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, problem)
        return arrays

    def _misfit(self, request: ModelInferRequest) -> str:
        if self.inputs is None:
            return ""
        came = {tensor.name: tensor for tensor in request.inputs}
        if came.keys() != self.inputs.keys():
            return f"the inputs are {_names(self.inputs)}, not {_names(came)}."
        problems = (self.inputs[name].misfit(tensor.datatype, tensor.shape) for name, tensor in came.items())
        return next((f"input {problem}." for problem in problems if problem), "")

    def _unknown_output(self, request: ModelInferRequest) -> str:
        for wanted in request.outputs:
            if wanted.parameters:
                told = ", ".join(sorted(wanted.parameters))
                return f"output {wanted.name!r}: the parameters {told} are not served here."
            if self.outputs is not None and wanted.name not in self.outputs:
                return f"the outputs are {_names(self.outputs)}; there is no {wanted.name!r}."
        return ""

    def write(self, request: ModelInferRequest, result: Any, context: MeshServegRPCContext) -> ModelInferResponse:
        """The response for what `infer` gave."""
        arrays = self._wanted(request, result, context)
        response = self.empty(request, context)
        write_outputs(response, arrays, self.datatypes)
        for tensor in response.outputs:
            if self.outputs is not None and (
                problem := self.outputs[tensor.name].misfit(tensor.datatype, tensor.shape)
            ):
                raise TypeError(f"infer gave an output that was not declared so: {problem}.")
        if not request.raw_input_contents and request.inputs:
            typed(response)
        return response

    def empty(self, request: ModelInferRequest, context: MeshServegRPCContext) -> ModelInferResponse:
        """A response without tensors."""
        return ModelInferResponse(
            model_name=request.model_name or context.application(),
            model_version=request.model_version or self.versions[-1],
            id=request.id,
        )

    def _wanted(self, request: ModelInferRequest, result: Any, context: MeshServegRPCContext) -> dict[str, Array]:
        """The arrays to answer with: those that were asked for, in that order."""
        if not isinstance(result, Mapping):
            raise TypeError(f"infer gives a mapping from names to arrays, not {type(result).__name__}.")
        if self.outputs is not None and result.keys() != self.outputs.keys():
            raise TypeError(f"infer gave {_names(result)}, but the outputs declared are {_names(self.outputs)}.")
        names = [wanted.name for wanted in request.outputs] or list(result)
        if missing := [name for name in names if name not in result]:
            problem = f"the outputs are {_names(result)}; there is no {_names(missing)}."
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, problem)
        return {name: result[name] for name in names}


def refuse(context: MeshServegRPCContext, code: grpc.StatusCode, problem: str) -> NoReturn:
    """Ends a call with a code, and what is wrong with its request."""
    context.set_code(code)
    raise InvalidCallError(problem)


def _names(tensors: Iterable[str]) -> str:
    return ", ".join(sorted(tensors)) or "none"
