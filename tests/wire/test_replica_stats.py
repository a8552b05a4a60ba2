"""What replicas measure of themselves: the real steering service of a replica, over loopback."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import cloudpickle
import grpc
import grpc.aio
import pytest
from replicas import TOKEN, on_io

from meshserve.model.ids import DeploymentId
from meshserve.model.options import DeploymentOptions
from meshserve.replica.admission import Admission
from meshserve.replica.control import ReplicaControl
from meshserve.replica.door import Door
from meshserve.rpc.channel import internal_channel
from meshserve.rpc.io_thread import io_thread
from meshserve.rpc.mailbox import Mailbox
from meshserve.rpc.server import start_internal_server
from meshserve.rpc.token import token_metadata
from meshserve.v1 import replica_control_pb2 as pb
from meshserve.v1 import replica_control_pb2_grpc
from meshserve.wire.options import options_to_json


def classes():
    """Replicas' classes; by value, as those of a program."""

    class Both:
        def record_routing_stats(self):
            return {"cache": ["a", "b"]}

        async def record_autoscaling_stats(self):
            return {"queue": 3, "gpu": 0.5}

    class Useless:
        def __init__(self, stats):
            self.stats = stats

        def record_autoscaling_stats(self):
            if isinstance(self.stats, Exception):
                raise self.stats
            return self.stats

    class Stuck:
        async def record_autoscaling_stats(self):
            await asyncio.sleep(1000)

    class Silent:
        pass

    return Both, Useless, Stuck, Silent


Both, Useless, Stuck, Silent = classes()


@asynccontextmanager
async def steered(target, *args):
    """A replica of a class, and the stub it is steered by, with what it said of itself."""
    users = []
    door = Door(
        DeploymentId("app", "M"),
        "r1",
        Admission(5),
        lambda running: None,
        Mailbox(io_thread().loop, lambda mail: None),
        tuple,
    )
    control = ReplicaControl(door, users.append)
    server, address = await start_internal_server(
        TOKEN,
        "127.0.0.1",
        [lambda on: replica_control_pb2_grpc.add_ReplicaControlServiceServicer_to_server(control, on)],
    )
    channel = internal_channel(address)
    stub = replica_control_pb2_grpc.ReplicaControlServiceStub(channel)
    request = pb.InitializeRequest(
        app="app",
        deployment="M",
        replica_tag="r1",
        code=cloudpickle.dumps((target, args, {})),
        options_json=options_to_json(DeploymentOptions()),
    )
    try:
        said = await stub.Initialize(request, metadata=token_metadata(TOKEN))
        assert not said.failure

        async def ask(timeout_s=5.0, **wanted):
            request = pb.RecordStatsRequest(**wanted)
            return await stub.RecordStats(request, metadata=token_metadata(TOKEN), timeout=timeout_s)

        async def health():
            return (await stub.CheckHealth(pb.CheckHealthRequest(), metadata=token_metadata(TOKEN))).failure

        yield said, ask, health
    finally:
        await channel.close()
        await server.stop(0)
        for user in users:
            user.close()


@on_io
async def test_a_replica_says_what_it_can_measure_and_measures_what_it_is_asked_for():
    async with steered(Both) as (said, ask, _):
        assert (said.records_routing_stats, said.records_autoscaling_stats) == (True, True)
        both = await ask(routing=True, autoscaling=True)
        assert both.routing_stats_json == '{"cache": ["a", "b"]}'
        assert both.autoscaling_stats_json == '{"queue": 3, "gpu": 0.5}'
        assert (await ask(routing=True)).autoscaling_stats_json == ""


@on_io
async def test_a_replica_without_such_methods_measures_nothing():
    async with steered(Silent) as (said, ask, _):
        assert (said.records_routing_stats, said.records_autoscaling_stats) == (False, False)
        assert await ask(routing=True, autoscaling=True) == pb.RecordStatsResponse()


@pytest.mark.parametrize(
    ("stats", "complaint"),
    [
        ({"counter": "many"}, "finite numbers"),
        ({"counter": True}, "finite numbers"),
        ({1: 2}, "text keys"),
        (3, "dict with text keys"),
        (OSError("no sensor"), "no sensor"),
    ],
)
def test_what_is_of_no_use_is_logged_and_the_replica_stays_well(stats, complaint, caplog):
    @on_io
    async def check():
        async with steered(Useless, stats) as (_, ask, health):
            assert (await ask(autoscaling=True)).autoscaling_stats_json == ""
            assert await health() == ""

    check()
    assert complaint in caplog.text


@on_io
async def test_a_measurement_that_takes_for_ever_is_given_up_and_the_replica_stays_well():
    async with steered(Stuck) as (_, ask, health):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(timeout_s=0.2, autoscaling=True)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await health() == ""
