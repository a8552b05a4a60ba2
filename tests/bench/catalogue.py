"""Every scenario, in the order of the tables, and every application they run on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.scenario import Goal, Scenario, Table
from bench.scenarios import handles, ingress, lifecycle, shapes

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class ApplicationSpec:
    """Where an application comes from.

    Attributes:
        build: `module:function`.
        arguments: of that function.
        probe: path, below the application's route, that answers with success once it is up; None for one that
            speaks gRPC only.
    """

    build: str
    arguments: dict[str, Any] = field(default_factory=dict)
    probe: str | None = ""


APPLICATIONS: dict[str, ApplicationSpec] = {
    "hop": ApplicationSpec("bench.apps.web:build_hop"),
    "handles": ApplicationSpec("bench.apps.handles:build"),
    "noop": ApplicationSpec("bench.apps.web:build_noop"),
    "front": ApplicationSpec("bench.apps.web:build_front", probe="/echo?message=hello"),
    "events": ApplicationSpec("bench.apps.web:build_events"),
    "rpc": ApplicationSpec("bench.apps.rpc:build", probe=None),
    "shapes": ApplicationSpec("bench.apps.shapes:build"),
    "pool8": ApplicationSpec("bench.apps.pool:build", {"replicas": 8}),
    "pool32": ApplicationSpec("bench.apps.pool:build", {"replicas": 32}),
}


def _base() -> Iterator[Scenario]:
    """The table of PERFORMANCE.md, with its targets."""
    yield Scenario("start", lifecycle.start, unit="s", application="hop", goal=Goal(times=2), quick=True, warmed=False)

    for in_flight, times in ((1, 2.5), (32, 15), (100, 25)):
        yield Scenario(
            f"handle-calls-{in_flight}",
            handles.calls(in_flight),
            application="handles",
            goal=Goal(times),
            quick=in_flight != 32,
        )
    for streams, times in ((1, 12), (16, 6)):
        yield Scenario(
            f"handle-stream-{streams}",
            handles.streams(streams),
            unit="items/s",
            application="handles",
            goal=Goal(times),
            quick=streams == 16,
        )
    yield Scenario("payload-1kB", handles.echo_bytes(1_000), application="handles", goal=Goal(2.5))
    yield Scenario("payload-1MB", handles.echo_array(MB), application="handles", goal=Goal(2), quick=True)
    yield Scenario("driver-result", handles.driver, application="handles", goal=Goal(4, peer="ray-default"))

    for row, application, path, times_at in (
        ("http-noop", "noop", "", {1: 1.0, 32: 2.0, 100: 3.0}),
        ("http-hop", "hop", "", {1: 2.5, 32: 8.0, 100: 10.0}),
        ("fastapi-echo", "front", "/echo?message=hello", {1: 2.5, 32: 4.0, 100: 4.0}),
    ):
        for connections, times in times_at.items():
            yield Scenario(
                f"{row}-{connections}",
                ingress.http(connections, path),
                unit="req/s",
                application=application,
                goal=Goal(times),
                quick=connections == 32,
            )
    yield Scenario("sse-16", ingress.http(16), unit="streams/s", application="events", goal=Goal(8))

    for clients, streams, times in ((1, 1, 1.0), (4, 8, 1.5), (4, 25, 1.7)):
        yield Scenario(
            f"grpc-unary-{clients * streams}",
            ingress.grpc_unary(clients, streams),
            unit="req/s",
            application="rpc",
            goal=Goal(times),
            quick=clients * streams == 32,
        )
    yield Scenario("grpc-stream", ingress.grpc_items(1, 1), unit="items/s", application="rpc", goal=Goal(1.3))

    # Last before the end, because a target that fails at it may be worse for it.
    yield Scenario("payload-50MB", handles.echo_array(50 * MB), application="handles", goal=Goal(3, peer="ray-default"))
    yield Scenario("shutdown", lifecycle.shutdown, unit="s", goal=Goal(at_most=3), warmed=False)


def _extra() -> Iterator[Scenario]:
    """Shapes without a target, in sessions of their own."""
    for name, measure, unit in (
        ("single-1kB", shapes.chain(1), "calls/s"),
        ("chain-3", shapes.chain(3), "chains/s"),
        ("fan-out-8", shapes.fan_out, "groups/s"),
        ("slow-stream-beside", shapes.beside_slow_stream, "calls/s"),
        ("big-body-beside", shapes.beside_big_body, "calls/s"),
    ):
        yield Scenario(name, measure, unit=unit, application="shapes", table=Table.EXTRA, session="shapes")
    yield Scenario(
        "callers-64",
        shapes.many_callers,
        application="handles",
        table=Table.EXTRA,
        session="callers",
        limit_s=240,
    )
    for replicas in (8, 32):
        yield Scenario(
            f"pool-{replicas}",
            shapes.pool,
            application=f"pool{replicas}",
            table=Table.EXTRA,
            session=f"pool{replicas}",
            limit_s=300,
        )


SCENARIOS: tuple[Scenario, ...] = (*_base(), *_extra())
