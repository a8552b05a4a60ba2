"""What user code measures of itself: `record_routing_stats` for routers, `record_autoscaling_stats` for autoscaling.

The controller asks now and then. What is of no use is logged here and not told: a measurement that fails must not make
a replica that serves well look ill.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from meshserve.replica.user_code import UserCode

ROUTING = "record_routing_stats"
AUTOSCALING = "record_autoscaling_stats"

log = logging.getLogger("meshserve.replica")


def hook(user: UserCode, name: str) -> Callable[[], Any] | None:
    """A method of the user's object; None when it has none of that name, or is a function."""
    found = None if user.is_function else getattr(user.callable, name, None)
    return found if callable(found) else None


async def record(user: UserCode, name: str) -> str:
    """What a method measured, as JSON; empty for nothing, and for what is of no use.

    Args:
        name: `ROUTING` or `AUTOSCALING`.
    """
    method = hook(user, name)
    if method is None:
        return ""
    try:
        stats = await user.on_loop(method)
        if stats is None:
            return ""
        _check(name, stats)
        return json.dumps(dict(stats))
    except Exception:  # user code may raise anything
        log.exception("%s of %s gave nothing that can be used.", name, user.context.deployment)
        return ""


def _check(name: str, stats: Any) -> None:
    if not isinstance(stats, Mapping) or not all(isinstance(key, str) for key in stats):
        raise TypeError(f"{name} must return a dict with text keys, not {stats!r}.")
    for key, value in stats.items():
        if name == AUTOSCALING and (isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value)):
            raise TypeError(f"{name} must return finite numbers, not {value!r} for {key!r}.")
