"""Routing over a whole mesh: policies by option, routers of users, calls to chosen replicas, warm models."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter

import meshserve as serve
from meshserve.config import RequestRouterConfig
from meshserve.request_router import LocalityMixin, RequestRouter


def local_classes():
    """Classes that go by value, as those of a driver's own program do."""

    class Who:
        def __init__(self):
            self.heard = []
            self.loads = 0

        async def __call__(self, request=None):
            return serve.get_replica_context().replica_tag

        async def hear(self, word):
            self.heard.append(word)
            return serve.get_replica_context().replica_tag, list(self.heard)

        @serve.multiplexed(max_num_models_per_replica=3)
        async def load(self, model_id):
            self.loads += 1
            return model_id

        async def predict(self):
            return await self.load(serve.get_multiplexed_model_id()), serve.get_replica_context().replica_tag

    class Lowest(LocalityMixin, RequestRouter):
        def initialize_state(self, take=1):
            self.take = take

        async def choose_replicas(self, candidate_replicas, pending_request=None):
            near = self.rank_replicas_via_locality(candidate_replicas)[0]
            ordered = sorted(near, key=lambda replica: replica.replica_id.unique_id)
            return [ordered[: self.take]]

    return Who, Lowest


def deployed(run, replicas=3, **options):
    who, _ = local_classes()
    return run(serve.deployment(num_replicas=replicas, ray_actor_options={"num_cpus": 0.1}, **options)(who).bind())


def test_round_robin_by_the_peers_path(run):
    path = "ray.serve.experimental.round_robin_router:RoundRobinRouter"
    app = deployed(run, request_router_config=RequestRouterConfig(request_router_class=path))
    order = [app.handle.remote().result() for _ in range(12)]
    assert order[:3] == order[3:6] == order[9:] and len(set(order)) == 3


def test_sessions_stick_to_their_replica(run):
    app = deployed(run, request_router_config={"request_router_class": "by_key"})
    homes = {
        session: {app.handle.options(session_id=session).remote().result() for _ in range(3)}
        for session in map(str, range(20))
    }
    assert all(len(home) == 1 for home in homes.values())
    assert len(set.union(*homes.values())) == 3


def test_a_users_router_decides_for_handles_and_for_http(run):
    _, lowest = local_classes()
    config = RequestRouterConfig(request_router_class=lowest, request_router_kwargs={"take": 1})
    app = deployed(run, request_router_config=config)
    chosen = {app.handle.remote().result() for _ in range(10)}
    assert len(chosen) == 1
    for _ in range(3):
        with urllib.request.urlopen(app.url) as answer:
            assert answer.read().decode() in chosen


def test_broadcast_and_chosen_replicas(run):
    app = deployed(run)
    answers = app.handle.broadcast("hear", "word").results(timeout_s=10)
    assert len(answers) == 3 and all(heard == ["word"] for _, heard in answers)

    async def choose():
        async with app.handle.choose_replica() as selection:
            return selection.replica_id, await app.handle.dispatch(selection)

    chosen, answered = asyncio.run(choose())
    assert chosen == answered


def test_calls_for_a_model_find_the_replica_that_has_it(run):
    app = deployed(run)
    homes = Counter()
    for _ in range(5):
        for model in "abcdef":
            answer = app.handle.predict.options(multiplexed_model_id=model).remote().result()
            homes[tuple(answer)] += 1
    assert len(homes) == 6 and set(homes.values()) == {5}  # each model in one place
    assert len({tag for _, tag in homes}) == 3  # and none where others are missing
