"""Chain: the response of one call is the argument of the next, without waiting in between.

`remote()` returns at once with a response that stands for a result still to come. Given to another
call, it arrives there as the result: the ingress awaits only the end of the chain.

    meshserve run meshserve.examples.chain:app

    curl localhost:8000 -d '{"number": 4}'
    {"result":18}

The same chain from Python, while the application runs:

    import meshserve as serve

    adder = serve.get_deployment_handle("Adder", "default")
    multiplier = serve.get_deployment_handle("Multiplier", "default")
    multiplier.remote(adder.remote(4)).result()  # 18
"""

from starlette.requests import Request

import meshserve as serve
from meshserve.handle import DeploymentHandle


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Adder:
    """Adds what it was given when it was bound."""

    def __init__(self, increment: int) -> None:
        self._increment = increment

    def __call__(self, number: int) -> int:
        return number + self._increment


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Multiplier:
    """Multiplies by what it was given when it was bound."""

    def __init__(self, factor: int) -> None:
        self._factor = factor

    def __call__(self, number: int) -> int:
        return number * self._factor


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Chain:
    """Answers with (number + increment) * factor."""

    def __init__(self, adder: DeploymentHandle, multiplier: DeploymentHandle) -> None:
        self._adder = adder
        self._multiplier = multiplier

    async def __call__(self, request: Request) -> dict[str, int]:
        number = (await request.json())["number"]
        added = self._adder.remote(number)
        return {"result": await self._multiplier.remote(added)}


app = Chain.bind(Adder.bind(2), Multiplier.bind(3))
