"""Handles and Ray: references before results exist, references inside containers, ObjectRefs in, large values."""

import asyncio
import gc
import os
import time

import numpy as np
import pytest
import ray

import meshserve as serve
from meshserve.launch.locator import locate


@serve.deployment(max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
class Preprocessor:
    def __init__(self):
        self.finished_at = 0.0

    async def __call__(self, value):
        await asyncio.sleep(0.5)
        self.finished_at = time.time()
        return value * 2

    async def fail(self):
        raise KeyError("upstream")

    async def array(self, megabytes):
        return np.full(megabytes << 17, 7.0)

    async def items(self, n):
        for i in range(n):
            yield i

    async def arrays(self, megabytes, count):
        for i in range(count):
            yield np.full(megabytes << 20, i, dtype=np.uint8)

    async def stream_to(self, name, megabytes, count):
        downstream = serve.get_deployment_handle(name, "references").options(stream=True)
        return [last async for last in downstream.last_ones.remote(self.arrays(megabytes, count))]

    async def when_finished(self):
        return self.finished_at


@serve.deployment(max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
class Downstream:
    def __init__(self, preprocessor):
        self.preprocessor = preprocessor

    async def by_value(self, value):
        return value + 1

    async def by_reference(self, boxed):
        started_at = time.time()
        ref = boxed["nested"][0]
        assert isinstance(ref, ray.ObjectRef)
        return started_at, await ref + 1

    async def pass_by_value(self, value):
        return await self.by_value(await self.preprocessor.remote(value))

    async def both(self, value):
        response = self.preprocessor.remote(value)
        return await self.by_reference({"nested": [await response._to_object_ref()]})

    def total(self, array):
        return float(array.sum()), array.flags.writeable

    async def length(self, data):
        return len(data)

    async def last_ones(self, arrays):
        async for array in arrays:
            yield array.size, int(array[-1])


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Ingress:
    def __init__(self, preprocessor, downstream, elsewhere):
        self.preprocessor = preprocessor
        self.downstream = downstream
        self.elsewhere = elsewhere

    async def by_reference(self, value):
        response = self.preprocessor.remote(value)
        return await self.downstream.by_reference.remote({"nested": [response]})

    async def chain(self, megabytes):
        return await self.downstream.total.remote(self.preprocessor.array.remote(megabytes))

    async def sizes(self, megabytes, count):
        arrays = self.elsewhere.options(stream=True).arrays.remote(megabytes, count)
        return [(array.size, int(array[-1])) async for array in arrays]


@pytest.fixture(scope="module")
def handles(mesh):
    preprocessor = Preprocessor.bind()
    downstream = Downstream.bind(preprocessor)
    no_shared_memory = {"env_vars": {"MESHSERVE_SHARED_MEMORY_BYTES": "0"}}
    elsewhere = Preprocessor.options(
        name="Elsewhere", ray_actor_options={"num_cpus": 0, "runtime_env": no_shared_memory}
    ).bind()
    serve.run(Ingress.bind(preprocessor, downstream, elsewhere), name="references", route_prefix=None)
    names = ("Preprocessor", "Downstream", "Ingress", "Elsewhere")
    yield {name: serve.get_deployment_handle(name, "references") for name in names}
    serve.delete("references")


def test_a_response_inside_a_container_arrives_as_a_reference_before_it_is_finished(handles):
    response = handles["Preprocessor"].remote(20)
    started_at, value = handles["Downstream"].by_reference.remote({"nested": [response]}).result()
    finished_at = handles["Preprocessor"].when_finished.remote().result()
    assert value == 41
    assert started_at < finished_at


def test_references_inside_containers_also_between_replicas(handles):
    started_at, value = handles["Ingress"].by_reference.remote(1).result()
    assert value == 3
    assert started_at < handles["Preprocessor"].when_finished.remote().result()


def test_passing_by_value_works_too(handles):
    assert handles["Downstream"].pass_by_value.remote(5).result() == 11
    assert handles["Downstream"].both.remote(5).result()[1] == 11


def test_an_object_ref_exists_before_the_result(handles):
    since = time.monotonic()
    ref = handles["Preprocessor"].remote(3)._to_object_ref_sync()
    assert time.monotonic() - since < 0.4
    assert isinstance(ref, ray.ObjectRef)
    ready, waiting = ray.wait([ref], timeout=0)
    assert waiting == [ref] and ready == []
    assert ray.get(ref) == 6

    @ray.remote(num_cpus=0)
    def plus_one(value):
        return value + 1

    assert ray.get(plus_one.remote(handles["Preprocessor"].remote(4)._to_object_ref_sync())) == 9


def test_an_object_ref_of_a_finished_call_and_of_a_failed_one(handles):
    response = handles["Downstream"].by_value.remote(1)
    assert response.result() == 2
    assert ray.get(response._to_object_ref_sync()) == 2
    with pytest.raises(KeyError):
        ray.get(handles["Preprocessor"].fail.remote()._to_object_ref_sync())


def test_a_stream_gives_references(handles):
    stream = handles["Preprocessor"].options(method_name="items", stream=True).remote(5)
    assert [ray.get(ref) for ref in stream._to_object_ref_gen_sync()] == list(range(5))


def test_object_refs_as_arguments_arrive_as_values(handles):
    assert handles["Downstream"].by_value.remote(ray.put(9)).result() == 10

    @ray.remote(num_cpus=0)
    def fail():
        raise ValueError("from a task")

    with pytest.raises(ValueError, match="from a task"):
        handles["Downstream"].by_value.remote(fail.remote()).result()


@pytest.mark.parametrize("megabytes", [1, 10, 50])
def test_large_arrays_arrive_intact_both_ways(handles, megabytes):
    array = np.arange(megabytes << 17, dtype=np.float64)
    total, writeable = handles["Downstream"].total.remote(array).result()
    assert total == float(array.sum()) and not writeable
    returned = handles["Preprocessor"].array.remote(megabytes).result()
    assert returned.shape == array.shape and returned.sum() == 7.0 * array.size


def test_large_bytes_and_a_chain_of_large_values(handles):
    assert handles["Downstream"].length.remote(bytes(3 << 20)).result() == 3 << 20
    assert handles["Ingress"].chain.remote(10).result()[0] == 7.0 * (10 << 17)
    chained = handles["Downstream"].total.remote(handles["Preprocessor"].array.remote(10))
    assert chained.result()[0] == 7.0 * (10 << 17)


def test_a_forked_process_is_told_that_it_has_no_connection_instead_of_waiting_for_an_answer(handles):
    readable, writable = os.pipe()
    gc.disable()  # a child that collected what its parent has of Ray and gRPC would need threads it has not got
    child = os.fork()
    if child == 0:
        try:
            locate().send(None)  # what calls begin with, without a loop: as little as can be is done in a fork
        except BaseException as error:
            os.write(writable, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    gc.enable()
    os.close(writable)
    os.waitpid(child, 0)
    with os.fdopen(readable) as pipe:
        said = pipe.read()
    assert said.startswith("ControllerUnreachableError: ") and "was forked from one" in said
    assert handles["Downstream"].by_value.remote(1).result() == 2


def test_large_items_without_shared_memory_come_by_the_object_store(handles):
    arrays = handles["Elsewhere"].options(stream=True).arrays.remote(20, 3)
    assert [(array.size, int(array[-1])) for array in arrays] == [(20 << 20, i) for i in range(3)]
    assert handles["Ingress"].sizes.remote(20, 3).result() == [(20 << 20, i) for i in range(3)]
    assert handles["Elsewhere"].stream_to.remote("Downstream", 20, 3).result() == [(20 << 20, i) for i in range(3)]
