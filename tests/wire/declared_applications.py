"""Applications that configuration files of tests name."""

from pydantic import BaseModel

import meshserve as serve
from meshserve.request_router import RequestRouter

QUICK = {"graceful_shutdown_wait_loop_s": 0.01, "health_check_period_s": 7.0}


@serve.deployment(num_replicas=2, max_ongoing_requests=11, **QUICK)
class Model:
    pass


@serve.deployment(autoscaling_config={"min_replicas": 2, "max_replicas": 8, "initial_replicas": 4}, **QUICK)
class Scaled:
    pass


@serve.deployment(ray_actor_options={"num_cpus": 2, "runtime_env": {"env_vars": {"A": "code", "B": "code"}}}, **QUICK)
class Front:
    def __init__(self, model):
        self.model = model


class First(RequestRouter):
    async def choose_replicas(self, candidate_replicas, pending_request=None):
        return [candidate_replicas[:1]]


def two_replicas(context):
    return 2, {}


class Arguments(BaseModel):
    replicas: int


def build(arguments: Arguments):
    return Model.options(num_replicas=arguments.replicas).bind()


def failing(arguments):
    raise RuntimeError("cannot build")


app = Front.bind(Model.bind())
model = Model.bind()
scaled = Scaled.bind()
