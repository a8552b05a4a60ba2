"""What a call's start frame carries to the replica."""

import pytest

from meshserve.model.call import Call, CallContext, CallKind, Encoding, Payload
from meshserve.model.ids import DeploymentId
from meshserve.v1 import replica_pb2
from meshserve.wire.calls import call_from_start, fill_start

DEPLOYMENT = DeploymentId("app", "Model")
CONTEXT = CallContext("r1", "app", "/route", "model", "session", "00-1-2-01", "vendor=1", "1.2.3.4", 3)


def arrived(call: Call) -> Call:
    """The call at the other end, half a second later."""
    frame = replica_pb2.StartFrame()
    fill_start(frame, 7, call, call.payload, 100.0, 0)
    return call_from_start(replica_pb2.StartFrame.FromString(frame.SerializeToString()), DEPLOYMENT, 100.5)


@pytest.mark.parametrize("accepts_claims", [False, True])
@pytest.mark.parametrize("bypass_limit", [False, True])
def test_every_field_that_the_replica_needs_arrives(accepts_claims: bool, bypass_limit: bool) -> None:
    payload = Payload(b"body", Encoding.PICKLE, [b"first", b"second"])
    call = Call(DEPLOYMENT, "predict", CallKind.SERVER_STREAM, payload, CONTEXT, 104.0, bypass_limit, accepts_claims)
    there = arrived(call)
    assert (there.method, there.kind, there.payload) == ("predict", CallKind.SERVER_STREAM, payload)
    assert there.deadline == pytest.approx(104.5), "four seconds are left, on the clock of the other end"
    assert (there.bypass_limit, there.accepts_claims) == (bypass_limit, accepts_claims)
    assert there.context.traceparent == CONTEXT.traceparent and there.context.priority == 3
    assert (there.context.route, there.context.multiplexed_model_id) == ("/route", "model")


def test_a_call_without_a_deadline_has_none_at_the_other_end() -> None:
    assert arrived(Call(DEPLOYMENT, "predict", CallKind.UNARY, Payload(b"", Encoding.RAW), CONTEXT)).deadline is None
