"""From a deployment's options to what chooses replicas."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from meshserve.model.options import RouterOptions
from meshserve.routing.choosing import Chooser, ModelAware
from meshserve.routing.open_replicas import OpenReplicas
from meshserve.routing.policies import POLICIES, make_policy, policy_name
from meshserve.routing.user_chooser import LineOwner, UserChooser


def make_chooser(
    options: RouterOptions, owner: LineOwner, open_replicas: OpenReplicas, now: Callable[[], float], rng: Random
) -> Chooser:
    """Makes what the options name.

    Args:
        owner: the router.
        open_replicas: those with room; kept by the router.
        now: the monotonic clock.
        rng: chance.

    Raises:
        TypeError: an argument of the policy does not exist.
        ValueError: there is no such policy, or an argument is out of its range.
    """
    name = None if options.request_router_pickle else policy_name(options.request_router_class)
    if name is not None:
        policy = make_policy(name, now, rng, options.request_router_kwargs)
        return ModelAware(policy, open_replicas, now, rng)
    if not options.request_router_pickle and not {":", "."} & set(options.request_router_class):
        known = ", ".join(POLICIES)
        raise ValueError(
            f"request_router_class {options.request_router_class!r} is neither a policy ({known}) nor an import path."
        )
    return UserChooser(options, owner, open_replicas, now, rng)
