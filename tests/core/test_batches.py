"""Calls and results in columns: what was sent arrives, in order."""

from typing import Any

import pytest

from meshserve.model.call import Call, CallContext, CallKind, Encoding, GrpcCallInfo, Payload
from meshserve.model.ids import DeploymentId
from meshserve.v1 import replica_pb2
from meshserve.wire.batches import ResultBatches, StartBatches, calls_from_batch, fits_batch, results_from_batch
from meshserve.wire.calls import call_from_start

DEPLOYMENT = DeploymentId("app", "Model")


def call(method: str = "predict", request_id: str = "r", **fields: object) -> Call:
    context = CallContext(request_id, "app", "/route", client=str(fields.pop("client", "")))
    body = request_id.encode()
    return Call(DEPLOYMENT, method, CallKind.UNARY, Payload(body, Encoding.PICKLE), context, **fields)  # type: ignore[arg-type]


def sent(*calls: Call, now: float = 100.0) -> replica_pb2.SessionRequest:
    """The message with these calls, as it arrives."""
    message = replica_pb2.SessionRequest()
    batches = StartBatches(message, now)
    for number, one in enumerate(calls, 1):
        batches.add(number, one, one.payload, 0)
    batches.close()
    return replica_pb2.SessionRequest.FromString(message.SerializeToString())


def arrived(message: replica_pb2.SessionRequest, now: float = 200.0) -> list[tuple[int, Call]]:
    alone = [(frame.call_id, call_from_start(frame, DEPLOYMENT, now)) for frame in message.starts]
    return alone + [pair for batch in message.batches for pair in calls_from_batch(batch, DEPLOYMENT, now)]


def test_calls_that_are_alike_share_a_frame_and_keep_what_is_their_own() -> None:
    calls = [call(request_id=f"r{number}", client=f"1.2.3.4:{number}") for number in range(5)]
    message = sent(*calls)
    assert len(message.batches) == 1
    there = arrived(message)
    assert [call_id for call_id, _ in there] == [1, 2, 3, 4, 5]
    assert [one.payload for _, one in there] == [one.payload for one in calls]
    assert [one.context.client for _, one in there] == [one.context.client for one in calls]
    assert {(one.method, one.context.route, one.context.app) for _, one in there} == {("predict", "/route", "app")}
    assert [one.context.request_id for _, one in there] == ["r0", "r1", "r2", "r3", "r4"]


def test_calls_that_differ_stay_in_order() -> None:
    message = sent(call("a"), call("a"), call("b"), call("a", accepts_claims=True), call("a"))
    assert len(message.batches) == 4 and not message.starts
    there = arrived(message)
    assert [one.method for _, one in there] == ["a", "a", "b", "a", "a"]
    assert [one.accepts_claims for _, one in there] == [False, False, False, True, False]


def test_each_call_has_its_own_deadline_and_its_own_client_or_none() -> None:
    there = arrived(sent(call(deadline=103.0), call(deadline=99.0), call(), call(client="1.1.1.1:1")))
    deadlines = [one.deadline for _, one in there]
    assert deadlines[0] == 203.0 and deadlines[1] is not None and 200.0 < deadlines[1] < 200.001
    assert deadlines[2:] == [None, None]
    assert [one.context.client for _, one in there] == ["", "", "", "1.1.1.1:1"]


def test_what_has_no_column_does_not_fit() -> None:
    plain = call()
    assert fits_batch(plain, plain.payload)
    assert fits_batch(plain, Payload(b"", Encoding.PICKLE, [b"buffer"]))
    assert not fits_batch(plain, Payload(b"", Encoding.PICKLE, [b"buffer", b"another"]))
    assert not fits_batch(call(bypass_limit=True), plain.payload)
    assert not fits_batch(call(reserve=True), plain.payload)
    assert not fits_batch(call(reservation=3), plain.payload)
    traced = call()
    traced.context.traceparent = "00-1-2-01"
    assert not fits_batch(traced, plain.payload)


def test_a_call_like_no_other_goes_alone_unless_it_would_overtake() -> None:
    message = sent(call("a"), call("b"), call("b"), call("c"))
    assert (len(message.starts), len(message.batches)) == (1, 2)
    there = arrived(message)
    assert [call_id for call_id, _ in there] == [1, 2, 3, 4]
    assert [one.method for _, one in there] == ["a", "b", "b", "c"]


def over_grpc(number: int, **fields: Any) -> Call:
    one = call(request_id=f"r{number}", client=f"1.1.1.1:{number}")
    metadata = (("user-agent", "test"), ("key-bin", b"\x00"))
    fields = {"full_method": "/a.B/C", "metadata": metadata, "servicer_function": "a.add_B"} | fields
    one.context.grpc = GrpcCallInfo(f"ipv4:1.1.1.1:{number}", **fields)
    return one


def test_grpc_calls_that_are_alike_share_a_frame_and_keep_their_peers() -> None:
    calls = [over_grpc(number) for number in range(3)]
    message = sent(*calls)
    assert len(message.batches) == 1 and not message.starts
    assert [one.context.grpc for _, one in arrived(message)] == [one.context.grpc for one in calls]
    assert [one.context.client for _, one in arrived(message)] == ["1.1.1.1:0", "1.1.1.1:1", "1.1.1.1:2"]


@pytest.mark.parametrize(
    "fields",
    [
        {"full_method": "/a.B/D"},
        {"metadata": (("user-agent", "other"),)},
        {"servicer_function": "b.add_B"},
        {"peer_identity_key": "x509_common_name", "peer_identities": (b"ana",), "auth_context": (("a", b"b"),)},
    ],
)
def test_grpc_calls_that_differ_do_not(fields: dict[str, Any]) -> None:
    calls = [over_grpc(0), over_grpc(1), over_grpc(2, **fields), call()]
    message = sent(*calls)
    assert len(message.batches) == 3
    there = [one.context for _, one in arrived(message)]
    assert [one.grpc for one in there] == [one.context.grpc for one in calls]


def test_buffers_have_a_column_where_there_are_any() -> None:
    payloads = [Payload(b"a", Encoding.HTTP, (b"1",)), Payload(b"b", Encoding.HTTP, (memoryview(b""),))]
    calls = [Call(DEPLOYMENT, "m", CallKind.SERVER_STREAM, one, CallContext("r")) for one in payloads]
    bare = Call(DEPLOYMENT, "m", CallKind.SERVER_STREAM, Payload(b"c", Encoding.HTTP), CallContext("r"))
    message = sent(*calls, bare)
    assert len(message.batches) == 2
    assert [list(one.payload.buffers) for _, one in arrived(message)] == [[b"1"], [b""], []]
    response = replica_pb2.SessionResponse()
    batches = ResultBatches(response.result_batches)
    for number, one in enumerate([*payloads, None, bare.payload], 1):
        batches.add(number, one, Encoding.HTTP)
    batches.close()
    there = {
        call_id: (body, buffers)
        for batch in replica_pb2.SessionResponse.FromString(response.SerializeToString()).result_batches
        for call_id, body, buffers in results_from_batch(batch)
    }
    assert there == {1: (b"a", (b"1",)), 2: (b"b", (b"",)), 3: (b"", ()), 4: (b"c", ())}


def test_results_say_their_encoding_only_where_it_is_not_that_of_the_arguments() -> None:
    message = replica_pb2.SessionResponse()
    batches = ResultBatches(message.result_batches)
    batches.add(1, Payload(b"one", Encoding.PICKLE), Encoding.PICKLE)
    batches.add(2, None, Encoding.HTTP)
    batches.add(3, Payload(b"three", Encoding.CLAIM), Encoding.CLAIM)
    batches.add(4, Payload(b"four", Encoding.PICKLE), Encoding.CHAIN)
    batches.close()
    there = {
        call_id: (batch.encoding, body)
        for batch in replica_pb2.SessionResponse.FromString(message.SerializeToString()).result_batches
        for call_id, body, _ in results_from_batch(batch)
    }
    assert there == {1: (0, b"one"), 2: (0, b""), 3: (Encoding.CLAIM, b"three"), 4: (Encoding.PICKLE, b"four")}
