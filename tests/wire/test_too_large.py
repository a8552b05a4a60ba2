"""A replica that makes what no message can carry says so of that call alone; the session and its other calls go on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from replicas import LocalMesh, LocalReplica, call, on_io

from meshserve.model.call import CallKind
from meshserve.replica import session_end
from meshserve.routing import service
from meshserve.routing.service import CallFailed
from meshserve.wire.values import decode_value

LIMIT_BYTES = 1000


class Model:
    """Makes text."""

    async def text(self, length: int) -> str:
        return "y" * length

    async def texts(self, length: int) -> AsyncIterator[str]:
        yield "first"
        yield "y" * length


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real limit is 2 GiB."""
    for module in (service, session_end):
        monkeypatch.setattr(module, "LARGEST_BODY_BYTES", LIMIT_BYTES)


@on_io
async def test_a_result_that_no_message_can_carry_fails_its_call_alone() -> None:
    replica = LocalReplica("a", Model)
    async with LocalMesh(replica) as mesh:
        with pytest.raises(CallFailed, match=r"the result of 2,\d+ bytes cannot be sent"):
            await mesh.router.unary(call("text", 2 * LIMIT_BYTES))
        assert decode_value(await mesh.router.unary(call("text", 3))) == "yyy"
        assert replica.admission.ongoing == 0


@on_io
async def test_an_item_that_no_message_can_carry_ends_its_stream_after_those_before_it() -> None:
    replica = LocalReplica("a", Model)
    async with LocalMesh(replica) as mesh:
        stream = mesh.router.stream(call("texts", 2 * LIMIT_BYTES, kind=CallKind.SERVER_STREAM))
        found: list[str] = []
        with pytest.raises(CallFailed, match="an item of 2,"):
            while items := await stream.take():
                found.extend(decode_value(item) for item in items)
        assert found == ["first"]
        assert replica.admission.ongoing == 0
