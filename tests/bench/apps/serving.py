"""Which `serve` module the applications of this process are written against.

`BENCH_SERVE` is set by the session for the runner, and reaches every Ray worker with its environment.
"""

import importlib
import os
from typing import Any

serve: Any = importlib.import_module(os.environ["BENCH_SERVE"])


def deployed(user_class: type[Any], **options: Any) -> Any:
    """The class as a deployment with the options that all of them share, and some of its own.

    Admission is out of the way, and no CPU is reserved, or on two cores Ray would place two replicas and stop.
    """
    return serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0}, **options)(user_class)
