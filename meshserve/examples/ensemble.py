"""Ensemble: ask two models at once and answer with their average.

The same class is deployed twice under two names, each with its own parameters. The ingress calls both
before it waits for either, so the answer takes as long as the slower model, not as long as both.

    meshserve run meshserve.examples.ensemble:app

    curl localhost:8000 -d '{"area_m2": 80, "rooms": 3}'
    {"prices":[250000.0,270000.0],"average":260000.0}
"""

import asyncio
from statistics import mean

from starlette.requests import Request

import meshserve as serve
from meshserve.handle import DeploymentHandle


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class PriceModel:
    """A linear model of what a flat costs."""

    def __init__(self, base: float, per_m2: float, per_room: float) -> None:
        self._base = base
        self._per_m2 = per_m2
        self._per_room = per_room

    def predict(self, area_m2: float, rooms: int) -> float:
        return self._base + self._per_m2 * area_m2 + self._per_room * rooms


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Ensemble:
    """Averages the predictions of its models."""

    def __init__(self, *models: DeploymentHandle) -> None:
        self._models = models

    async def __call__(self, request: Request) -> dict[str, float | list[float]]:
        flat = await request.json()
        calls = [model.predict.remote(flat["area_m2"], flat["rooms"]) for model in self._models]
        prices = await asyncio.gather(*calls)
        return {"prices": prices, "average": mean(prices)}


app = Ensemble.bind(
    PriceModel.options(name="PriceByArea").bind(base=10_000.0, per_m2=3_000.0, per_room=0.0),
    PriceModel.options(name="PriceByRooms").bind(base=0.0, per_m2=1_500.0, per_room=50_000.0),
)
