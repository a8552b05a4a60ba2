"""Deployments that are models of the Open Inference Protocol: a class opts in, and its `infer` is called with arrays.

The decorator adds to the class what the protocol asks of a model, as handlers of gRPC methods; the ingress forwards
calls to them as to any other. `infer` stays what it was: handles may call it too.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from meshserve.user.grpc_context import MeshServegRPCContext
from meshserve.user.inference_model import DeclaredModel, Tensor, refuse
from meshserve.v1.inference_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStreamInferResponse,
)

C = TypeVar("C", bound=type)

REQUEST_PARAMETER = "request"

_WANTS_FINAL = "triton_enable_empty_final_response"
_IS_FINAL = "triton_final_response"


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What a request says besides its tensors; for an `infer` with a parameter `request`.

    Attributes:
        id: chosen by the client; empty for none.
        model_name: as the client named the model; empty when it did not.
        model_version: the version asked for; empty for any.
        parameters: of the request.
        outputs: names of the tensors wanted; none for all.
    """

    id: str
    model_name: str
    model_version: str
    parameters: Mapping[str, bool | int | float | str]
    outputs: tuple[str, ...]


def model(
    *,
    inputs: Iterable[Tensor] | None = None,
    outputs: Iterable[Tensor] | None = None,
    versions: Sequence[str] = ("1",),
    platform: str = "python",
) -> Callable[[C], C]:
    """Makes a class a model: its `infer(inputs)` gets arrays by name and returns arrays by name.

    `infer` may be synchronous, asynchronous or a generator, which answers one request with many responses. With a
    second parameter `request` it also gets an `InferenceRequest`. The model's name is the application's.

    Args:
        inputs: what it takes; requests with other tensors are refused. None for no check.
        outputs: what it gives; None to tell clients nothing about it.
        versions: of the model; requests for others are refused.
        platform: what runs it, for clients that ask.

    Raises:
        TypeError: what is decorated is not a class with a method `infer`.
    """
    declared = None if inputs is None else {tensor.name: tensor for tensor in inputs}
    given = None if outputs is None else {tensor.name: tensor for tensor in outputs}

    def decorate(cls: C) -> C:
        if not inspect.isclass(cls) or not callable(getattr(cls, "infer", None)):
            raise TypeError(
                f"inference.model decorates a class with a method `infer`, below @deployment; found {cls!r}."
            )
        for name, handler in _handlers(DeclaredModel(declared, given, tuple(versions), platform), cls).items():
            setattr(cls, name, handler)
        return cls

    return decorate


def _handlers(spec: DeclaredModel, cls: type) -> dict[str, Callable[..., Any]]:
    """What the protocol asks of a model, as methods of the class; as asynchronous as its `infer`."""
    infer: Any = cls.infer  # type: ignore[attr-defined]
    takes_request = REQUEST_PARAMETER in inspect.signature(infer).parameters
    streams = inspect.isgeneratorfunction(infer) or inspect.isasyncgenfunction(infer)

    def start(self: Any, request: ModelInferRequest, context: MeshServegRPCContext) -> Any:
        inputs = spec.read(request, context)
        return self.infer(inputs, **({REQUEST_PARAMETER: _described(request)} if takes_request else {}))

    async def unary_async(self: Any, request: ModelInferRequest, grpc_context: MeshServegRPCContext) -> Any:
        return spec.write(request, await start(self, request, grpc_context), grpc_context)

    def unary_sync(self: Any, request: ModelInferRequest, grpc_context: MeshServegRPCContext) -> Any:
        return spec.write(request, start(self, request, grpc_context), grpc_context)

    def refused(self: Any, request: ModelInferRequest, grpc_context: MeshServegRPCContext) -> Any:
        problem = "this model answers a request with a stream of responses: call ModelStreamInfer."
        refuse(grpc_context, grpc.StatusCode.UNIMPLEMENTED, problem)

    async def stream_async(self: Any, request: ModelInferRequest, grpc_context: MeshServegRPCContext) -> Any:
        found = start(self, request, grpc_context)
        final = _Final(request)
        async for result in found if streams else _only(found):
            yield final.streamed(spec.write(request, result, grpc_context), last=not streams)
        if streams and final.wanted:
            yield final.empty(spec, grpc_context)

    def stream_sync(self: Any, request: ModelInferRequest, grpc_context: MeshServegRPCContext) -> Iterator[Any]:
        found = start(self, request, grpc_context)
        final = _Final(request)
        for result in found if streams else (found,):
            yield final.streamed(spec.write(request, result, grpc_context), last=not streams)
        if streams and final.wanted:
            yield final.empty(spec, grpc_context)

    def metadata(_self: Any, request: ModelMetadataRequest, grpc_context: MeshServegRPCContext) -> Any:
        return spec.metadata(request, grpc_context)

    def ready(_self: Any, request: ModelReadyRequest) -> ModelReadyResponse:
        return ModelReadyResponse(ready=not request.version or request.version in spec.versions)

    is_async = inspect.iscoroutinefunction(infer) or inspect.isasyncgenfunction(infer)
    unary = unary_async if is_async else unary_sync
    return {
        "ModelReady": ready,
        "ModelMetadata": metadata,
        "ModelInfer": refused if streams else unary,
        "ModelStreamInfer": stream_async if is_async else stream_sync,
    }


async def _only(awaitable: Any) -> AsyncIterator[Any]:
    yield await awaitable


class _Final:
    """Triton's mark of the last response to a request, for clients that ask for it."""

    def __init__(self, request: ModelInferRequest) -> None:
        self._request = request
        self.wanted = request.parameters[_WANTS_FINAL].bool_param if _WANTS_FINAL in request.parameters else False

    def streamed(self, response: ModelInferResponse, *, last: bool) -> ModelStreamInferResponse:
        """A response as it goes on a stream."""
        if self.wanted:
            response.parameters[_IS_FINAL].bool_param = last
        return ModelStreamInferResponse(infer_response=response)

    def empty(self, spec: DeclaredModel, context: MeshServegRPCContext) -> ModelStreamInferResponse:
        """The end of a stream whose last response could not know that it was the last."""
        return self.streamed(spec.empty(self._request, context), last=True)


def _described(request: ModelInferRequest) -> InferenceRequest:
    return InferenceRequest(
        request.id,
        request.model_name,
        request.model_version,
        {name: _value(parameter) for name, parameter in request.parameters.items()},
        tuple(wanted.name for wanted in request.outputs),
    )


def _value(parameter: InferParameter) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)
