"""Local testing mode: applications in one process, without Ray and without ports."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import ClassVar
from unittest import mock

import pytest

import meshserve as serve
from meshserve.errors import DeploymentUnavailableError, MeshServeException, RequestCancelledError
from meshserve.handle import DeploymentHandle
from meshserve.routing.directory import process_directory
from meshserve.telemetry.logs import LOGGERS
from meshserve.testing.local import shutdown_local


@serve.deployment
class Adder:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, value: int) -> int:
        return value + self.amount

    def reconfigure(self, config: dict) -> None:
        self.amount = config["amount"]

    async def numbers(self, n: int):
        for i in range(n):
            yield i

    async def total(self, items):
        return sum([item async for item in items])

    async def hang(self):
        await asyncio.sleep(60)


@serve.deployment
class Chain:
    def __init__(self, first, second) -> None:
        self.first, self.second = first, second

    async def __call__(self, value: int) -> int:
        return await self.second.remote(self.first.remote(value))

    async def streamed(self, n: int):
        async for item in self.first.options(stream=True).numbers.remote(n):
            yield item * 2


@pytest.fixture(autouse=True)
def _ends():
    yield
    shutdown_local()


def test_composed_application_runs_in_this_process():
    handle = serve.run(Chain.bind(Adder.bind(1), Adder.options(name="Ten").bind(10)), _local_testing_mode=True)
    assert handle.remote(5).result() == 16
    assert list(handle.options(method_name="streamed", stream=True).remote(4)) == [0, 2, 4, 6]


async def test_async_callers_input_streams_and_cancellation():
    handle = serve.run(Adder.bind(1), _local_testing_mode=True)
    assert await handle.remote(1) == 2
    assert await handle.total.remote(i for i in range(2000)) == sum(range(2000))
    response = handle.hang.remote()
    response.cancel()
    with pytest.raises(RequestCancelledError):
        await response


def test_there_are_no_actors_that_replicas_share():
    @serve.deployment
    class Alone:
        def __call__(self):
            return serve.get_deployment_actor("counter")

    with pytest.raises(ValueError, match="local testing mode makes none"):
        serve.run(Alone.bind(), _local_testing_mode=True).remote().result()


def test_several_applications_are_run_at_once_and_again():
    first, second = serve.run_many(
        [serve.RunTarget(Adder.bind(1), name="a"), serve.RunTarget(Adder.bind(2), name="b", route_prefix="/b")],
        _local_testing_mode=True,
    )
    assert (first.remote(1).result(), second.remote(1).result()) == (2, 3)
    serve._run_many([serve.RunTarget(Adder.bind(5), name="b")], _local_testing_mode=True)
    assert (first.remote(1).result(), second.remote(1).result()) == (2, 6)
    assert serve._run(Adder.bind(7), name="a", _local_testing_mode=True).remote(1).result() == 8


@serve.deployment
class Named:
    ended: ClassVar[list[str]] = []

    def __init__(self, other: DeploymentHandle | None = None) -> None:
        self.other = other
        self.name = serve.get_replica_context().deployment

    def __del__(self) -> None:
        Named.func_or_class.ended.append(self.name)

    async def __call__(self) -> list[str]:
        others = await self.other.remote() if self.other is not None else []
        return [f"{self.name} {serve.get_replica_context().deployment}", *others]


def test_every_deployment_has_its_own_context_and_its_own_destructor():
    app = Named.bind(Named.options(name="Inner").bind())
    for _ in range(2):
        handle = serve.run(app, _local_testing_mode=True)
        assert handle.remote().result() == ["Named Named", "Inner Inner"]
        shutdown_local()
        gc.collect()
        ended = Named.func_or_class.ended
        assert sorted(ended) == ["Inner", "Named"]
        ended.clear()


def test_handles_by_name():
    @serve.deployment
    class Finder:
        def __init__(self, adder: DeploymentHandle) -> None:
            pass

        async def __call__(self, value: int) -> int:
            return await serve.get_deployment_handle("Adder").remote(value)

    serve.run(Finder.bind(Adder.bind(3)), name="found", _local_testing_mode=True)
    assert serve.get_app_handle("found").remote(1).result() == 4
    with pytest.raises(KeyError, match="no deployment 'Other' in application 'found'"):
        serve.get_deployment_handle("Other", "found")
    with pytest.raises(MeshServeException, match="Application 'other' does not exist; there are: found"):
        serve.get_app_handle("other")


def test_results_cannot_become_object_refs():
    handle = serve.run(Adder.bind(1), _local_testing_mode=True)
    with pytest.raises(RuntimeError, match="not supported in local testing mode"):
        handle.remote(1)._to_object_ref_sync()
    with pytest.raises(RuntimeError, match="not supported in local testing mode"):
        handle.options(stream=True).numbers.remote(1)._to_object_ref_gen_sync()


def test_shutdown_ends_it_and_handles_look_for_a_mesh_again():
    before = process_directory()
    handle = serve.run(Adder.bind(1), _local_testing_mode=True)
    assert handle.remote(1).result() == 2
    serve.shutdown()
    assert process_directory() is before


def test_the_log_level_of_an_application_is_that_of_the_loggers_of_user_code():
    @serve.deployment
    def level() -> int:
        return logging.getLogger("ray.serve").level

    try:
        handle = serve.run(level.bind(), logging_config={"log_level": "WARNING"}, _local_testing_mode=True)
        assert handle.remote().result() == logging.WARNING
    finally:
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.NOTSET)


def test_user_config_reaches_reconfigure():
    handle = serve.run(Adder.options(user_config={"amount": 7}).bind(1), _local_testing_mode=True)
    assert handle.remote(1).result() == 8


def test_options_of_the_controller_are_checked_where_there_is_none():
    assert serve.run(Adder.bind(1), controller_options={}, _local_testing_mode=True).remote(1).result() == 2
    for run in (serve.run, serve._run):
        with pytest.raises(ValueError, match="env_vars only"):
            run(Adder.bind(1), controller_options={"runtime_env": {"pip": []}}, _local_testing_mode=True)


def test_constructor_error_is_raised_from_run():
    @serve.deployment
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no weights")

    with pytest.raises(ValueError, match="no weights"):
        serve.run(Broken.bind(), _local_testing_mode=True)


def test_a_deployment_that_was_not_run_is_unavailable():
    serve.run(Adder.bind(1), _local_testing_mode=True)
    other = DeploymentHandle("Other", "default")
    with pytest.raises(DeploymentUnavailableError, match="does not run in this process"):
        other.remote(1).result()


def test_a_handle_can_stand_model_for_a_mock():
    handle = serve.run(Adder.bind(2), _local_testing_mode=True)
    assert mock.Mock(spec=handle).deployment_name is not None
    assert mock.create_autospec(handle, instance=True).app_name is not None
    assert handle.__call__.remote(1).result() == 3
    with pytest.raises(TypeError, match=r"call its \.remote"):
        handle.__call__(1)
