"""What type checkers make of handles; read by `test_handle_types`, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

import meshserve as serve
from meshserve.handle import DeploymentResponse, DeploymentResponseGenerator


class Score:
    async def __call__(self, text: str) -> float:
        return float(len(text))

    def best(self, texts: list[str]) -> str:
        return texts[0]


class Words:
    def __call__(self, text: str) -> list[str]:
        return text.split()


class Tokens:
    async def __call__(self, text: str) -> AsyncIterator[str]:
        yield text


class Chunks:
    def __call__(self, size: int) -> Iterator[bytes]:
        yield bytes(size)


class OnlyMethods:
    def one(self) -> int:
        return 1


async def calls(score: serve.DeploymentHandle[Score], words: serve.DeploymentHandle[Words]) -> None:
    assert_type(score.remote("a"), DeploymentResponse[float])
    assert_type(await score.remote("a"), float)
    assert_type(words.remote("a b").result(timeout_s=1), list[str])
    assert_type(await words.remote(score.remote("a")), list[str])  # an argument may be a response
    assert_type(await score.options(session_id="s", timeout_s=1).remote("a"), float)


async def streams(tokens: serve.DeploymentHandle[Tokens], chunks: serve.DeploymentHandle[Chunks]) -> None:
    assert_type(tokens.options(stream=True).remote("a"), DeploymentResponseGenerator[str])
    async for token in tokens.options(stream=True).remote("a"):
        assert_type(token, str)
    for chunk in chunks.options(stream=True).remote(3):
        assert_type(chunk, bytes)


async def what_typing_cannot_carry(
    score: serve.DeploymentHandle[Score],
    methods: serve.DeploymentHandle[OnlyMethods],
    unknown: serve.DeploymentHandle,
    anything: serve.DeploymentHandle[Any],
) -> None:
    assert_type(await score.best.remote(["a"]), Any)
    assert_type(await score.options(method_name="best").remote(["a"]), Any)
    assert_type(await methods.one.remote(), Any)
    assert_type(await methods.remote(), Any)
    assert_type(await unknown.remote(1), Any)
    assert_type(await anything.remote(1), Any)
