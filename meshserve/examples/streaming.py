"""Streaming: tokens reach the client while the model still makes the next ones.

`TokenModel` is an async generator, called with `stream=True`: the handle gives its items one by one. The
ingress offers the same stream twice, as server-sent events over HTTP and as a server stream over gRPC
(`TokenService` in `protos/meshserve/examples/v1/streaming.proto`). When a client goes away, the
generator is cancelled at its `await`.

    meshserve run meshserve.examples.streaming:app

    curl -N 'localhost:8000?prompt=the+quick+brown+fox&max_tokens=2'
    data: {"index": 0, "token": "the "}

    data: {"index": 1, "token": "quick "}

    event: done
    data: {"tokens": 2}

Over gRPC, once the mesh was started with the service:

    meshserve start \\
        --grpc-servicer-functions meshserve.examples.v1.streaming_pb2_grpc.add_TokenServiceServicer_to_server

    import grpc
    from meshserve.examples.v1.streaming_pb2 import GenerateRequest
    from meshserve.examples.v1.streaming_pb2_grpc import TokenServiceStub

    with grpc.insecure_channel("localhost:9000") as channel:
        for reply in TokenServiceStub(channel).Generate(GenerateRequest(prompt="the quick brown fox")):
            print(reply.token, end="", flush=True)
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import StreamingResponse

import meshserve as serve
from meshserve.examples.v1.streaming_pb2 import GenerateRequest, GenerateResponse
from meshserve.handle import DeploymentHandle

SECONDS_PER_TOKEN = 0.05


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class TokenModel:
    """Stands in for a language model: repeats the prompt, a token at a time, at the pace of one."""

    async def generate(self, prompt: str, max_tokens: int) -> AsyncIterator[str]:
        """The words of `prompt`, each with the space that follows it; `max_tokens` 0 is no limit."""
        tokens = re.findall(r"\S+\s*", prompt)
        for token in tokens[: max_tokens or None]:
            await asyncio.sleep(SECONDS_PER_TOKEN)
            yield token


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class TokenIngress:
    """Offers the tokens of the model over HTTP and over gRPC."""

    def __init__(self, model: DeploymentHandle) -> None:
        self._model = model.options(stream=True)

    async def __call__(self, request: Request) -> StreamingResponse:
        """HTTP: `?prompt=...&max_tokens=...`, answered with `text/event-stream`."""
        prompt = request.query_params["prompt"]
        max_tokens = int(request.query_params.get("max_tokens", 0))
        return StreamingResponse(self._events(prompt, max_tokens), media_type="text/event-stream")

    async def _events(self, prompt: str, max_tokens: int) -> AsyncIterator[str]:
        count = 0
        async for token in self._model.generate.remote(prompt, max_tokens):
            yield f"data: {json.dumps({'index': count, 'token': token})}\n\n"
            count += 1
        yield f"event: done\ndata: {json.dumps({'tokens': count})}\n\n"

    async def Generate(self, request: GenerateRequest) -> AsyncIterator[GenerateResponse]:
        """gRPC: `TokenService.Generate`."""
        index = 0
        async for token in self._model.generate.remote(request.prompt, request.max_tokens):
            yield GenerateResponse(index=index, token=token)
            index += 1


app = TokenIngress.bind(TokenModel.bind())
