"""A Ray cluster of several machines, as far as Ray can tell: all of them are processes here, and come and go."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import ray
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2
from ray.exceptions import TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import meshserve as serve
from meshserve.settings import NAMESPACE


class Machines:
    """The machines of the cluster.

    Attributes:
        head: the node id of the one that is always there.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._added: dict[str, Any] = {}
        self.head = cluster.head_node.node_id

    def add(self, labels: dict[str, str] | None = None, **resources: float) -> str:
        """Another machine, with a core, these labels and these resources; its node id."""
        for _ in range(3):
            node = self._cluster.add_node(num_cpus=1, resources=resources, labels=labels or {})
            self._cluster.wait_for_nodes()
            self._added[node.node_id] = node
            # Known to the cluster, it is not yet known to whoever places; now and then Ray never tells.
            if _becomes(partial(_takes_tasks, node.node_id), 20.0):
                return str(node.node_id)
            self.lose(node.node_id)
        raise AssertionError("three machines were added, and whoever places has heard of none")

    def lose(self, node_id: str) -> None:
        """A machine dies, with all that runs on it."""
        self._cluster.remove_node(self._added.pop(node_id), allow_graceful=False)

    def announce_end(self, node_id: str, in_s: float) -> None:
        """A machine is going to be taken away, as a spot instance is."""
        deadline_ms = int((time.time() + in_s) * 1000)
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        accepted, why = GcsClient(address=self._cluster.address).drain_node(node_id, reason, "spot", deadline_ms)
        assert accepted, why

    def lose_all_added(self) -> None:
        """Only the head is left."""
        for node_id in tuple(self._added):
            self.lose(node_id)


def _takes_tasks(node_id: str) -> bool:
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    try:
        ray.get(ray.remote(num_cpus=1)(lambda: None).options(scheduling_strategy=there).remote(), timeout=60)
    except TaskUnschedulableError:
        return False  # the machine that was asked has not heard of this one
    return True


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The head, without a mesh."""
    # Sockets lie in it, and their names must be short.
    scratch = tempfile.mkdtemp(prefix="ms-", dir="/tmp")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("RAY_ADDRESS", raising=False)
        environment.setenv("PYTHONPATH", os.path.dirname(__file__), prepend=os.pathsep)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 4,
                "include_dashboard": False,
                "temp_dir": scratch,
                "_system_config": {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000},
            },
        )
        ray.init(
            cluster.address,
            namespace=NAMESPACE,
            logging_level=logging.ERROR,
            log_to_driver=False,
            configure_logging=False,
        )
    yield cluster
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture
def machines(cluster: Cluster) -> Iterator[Machines]:
    """The head with a mesh, and machines that are gone when the test is over."""
    machines = Machines(cluster)
    # All "machines" share one address: each proxy takes a port of its own.
    serve.start(http_options={"port": 0}, grpc_options={"port": 0})
    yield machines
    for name in serve.status().applications:
        serve.delete(name)
    machines.lose_all_added()


def wait_until(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """What a condition gives once it is true; fails when it is not in time."""
    found = _becomes(condition, timeout_s)
    assert found, "the condition was not met in time"
    return found


def _becomes(condition: Callable[[], Any], timeout_s: float) -> Any:
    """What a condition gives once it is true, or when its time is over."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
