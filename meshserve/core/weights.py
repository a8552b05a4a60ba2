"""What a change of a deployment's options costs: nothing, a call to each replica, or a new process.

Four weights, from light to heavy:

* light: only the number of replicas, or only what routers and the controller itself read; no replica is touched;
* steering: drain and health times; the controller uses the new ones from now on;
* in place: each replica is sent the options (`Reconfigure`) and takes no new calls meanwhile;
* heavy: what a process is made of; replicas are replaced.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from hashlib import blake2b
from typing import Any

from meshserve.model.control import DesiredDeployment
from meshserve.model.options import ActorOptions, DeploymentOptions
from meshserve.model.replace import replace

_HEAVY = (
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "placement_group_bundle_label_selector",
    "max_replicas_per_node",
    "gang_scheduling_config",
)

_IN_PLACE = (
    "max_ongoing_requests",
    "user_config",
    "graceful_shutdown_wait_loop_s",
    "backpressure_config",
    "request_router_config",
    "logging_config",
)

_OF_ACTORS = tuple(field.name for field in fields(ActorOptions) if field.name != "class_pickle")

_MOST_DIGESTS = 1_000
_DIGESTS: dict[int, tuple[DeploymentOptions, str]] = {}
"""Of the actors of options, by the options' id; they are asked for several times whenever a deployment is planned."""


def build_version(code_version: str, options: DeploymentOptions) -> str:
    """Names what a process is made of: two replicas with the same one differ at most in what `Reconfigure` changes."""
    heavy = [getattr(options, name) for name in _HEAVY]
    return f"{code_version}-{_digest([*heavy, *map(_made_of, options.deployment_actors)])}"


def actors_version(version: str, options: DeploymentOptions) -> str:
    """Names what the actors that replicas share are made of: the code, what is said of them, their environment.

    Args:
        version: of the replicas, by `build_version`. Replicas with the same code may share actors across updates.
    """
    if not options.deployment_actors:
        return ""
    known = _DIGESTS.get(id(options))
    if known is None or known[0] is not options:
        if len(_DIGESTS) >= _MOST_DIGESTS:
            _DIGESTS.clear()
        environment = options.ray_actor_options.get("runtime_env")
        known = options, _digest([environment, *map(_made_of, options.deployment_actors)])
        _DIGESTS[id(options)] = known
    return f"{version.rpartition('-')[0]}-{known[1]}"


def _made_of(actor: ActorOptions) -> list[Any]:
    """What distinguishes an actor from others; its class is named, since two pickles of one differ."""
    return [getattr(actor, name) for name in _OF_ACTORS]


def _digest(values: list[Any]) -> str:
    return blake2b(json.dumps(values, sort_keys=True, default=asdict).encode(), digest_size=8).hexdigest()


def needs_reconfigure(applied: DeploymentOptions, wanted: DeploymentOptions) -> bool:
    """Whether a replica with `applied` has to be sent `wanted`."""
    if applied is wanted:
        return False
    if any(getattr(applied, name) != getattr(wanted, name) for name in _IN_PLACE):
        return True
    before, after = applied.autoscaling_config, wanted.autoscaling_config
    if before is None or after is None:
        return False
    # A replica measures its own load at these intervals; the rest of the autoscaling options is the controller's.
    return (before.metrics_interval_s, before.look_back_period_s) != (
        after.metrics_interval_s,
        after.look_back_period_s,
    )


def changes_only_count(before: DesiredDeployment, after: DesiredDeployment) -> bool:
    """Whether the number of replicas is all that changed (nothing at all counts as well)."""
    same = replace(before.spec.options, num_replicas=after.spec.options.num_replicas) == after.spec.options
    return same and (before.version, before.deleting, before.route_prefix) == (
        after.version,
        after.deleting,
        after.route_prefix,
    )
