"""The processes the controller starts, in the launcher's terms."""

from __future__ import annotations

import base64
from dataclasses import replace

from meshserve.core.actions import StartActor, StartProxy, StartReplica
from meshserve.core.waiting import required_resources
from meshserve.launch.actor_launcher import ActorSpec
from meshserve.launch.launcher import ProcessSpec
from meshserve.model.actor_environment import actor_environment
from meshserve.model.gang import GangContext
from meshserve.model.options import DeploymentOptions
from meshserve.model.process_names import actor_name, proxy_name, replica_name
from meshserve.wire.control import proxy_options_to_proto

_TRACE = 0.001
"""Of a resource, when only being there matters."""


def replica_process(
    action: StartReplica, token: str, host: str, tracing_json: str = "", spread: bool = True
) -> ProcessSpec:
    """The process of a replica; what it is to become is told to it once it listens.

    Args:
        host: the address to bind, completed by the launcher.
        tracing_json: whether requests are traced; empty for what the environment says.
        spread: prefer machines with fewer processes.
    """
    replica, options = action.replica, action.want.spec.options
    name = replica_name(replica)
    spec = ProcessSpec(
        name=name,
        entry="meshserve.replica.process:main",
        boot={
            "token": token,
            "host": host,
            "node_id": "",
            "app": replica.deployment.app,
            "deployment": replica.deployment.name,
            "replica_tag": replica.tag,
            "actor_name": name,
            "tracing_json": tracing_json,
        },
        actor_options=options.ray_actor_options,
        placement_group_bundles=options.placement_group_bundles,
        placement_group_strategy=options.placement_group_strategy,
        placement_group_bundle_label_selector=options.placement_group_bundle_label_selector,
        max_per_node=options.max_replicas_per_node,
        group=str(replica.deployment),
        spread=spread,
    )
    return spec if action.gang is None else _in_gang(spec, action.gang, options)


def _in_gang(spec: ProcessSpec, gang: GangContext, options: DeploymentOptions) -> ProcessSpec:
    """The process of a member, which runs in the first of its bundles of the gang's placement group."""
    own = options.placement_group_bundles or (_bundle(options),)
    selector = options.placement_group_bundle_label_selector
    placement = options.gang_scheduling_config
    return replace(
        spec,
        placement_group=gang.pg_name,
        placement_group_bundles=own * gang.world_size,
        placement_group_bundle=gang.rank * len(own),
        placement_group_strategy=placement.gang_placement_strategy if placement is not None else "PACK",
        placement_group_bundle_label_selector=selector if len(selector) == 1 else selector * gang.world_size,
    )


def _bundle(options: DeploymentOptions) -> dict[str, float]:
    """What a replica takes that reserves nothing but what it runs on."""
    accelerator = options.ray_actor_options.get("accelerator_type")
    constraint = {f"accelerator_type:{accelerator}": _TRACE} if accelerator else {}
    # Ray refuses a bundle of nothing.
    return {**required_resources(options), **constraint} or {"CPU": _TRACE}


def shared_actor(action: StartActor) -> ActorSpec:
    """An actor that replicas share, in their runtime environment with its own put before it."""
    options = action.options
    own = options.actor_options
    environment = actor_environment(action.actor, action.environment, own.get("runtime_env") or {}, action.import_paths)
    return ActorSpec(
        name=actor_name(action.actor),
        class_pickle=base64.b64decode(options.class_pickle),
        arguments_pickle=base64.b64decode(options.arguments_pickle),
        args=options.init_args,
        kwargs=options.init_kwargs,
        actor_options={**own, "runtime_env": environment},
        environment=action.environment,
        import_paths=action.import_paths,
    )


def proxy_process(action: StartProxy, token: str, host: str) -> ProcessSpec:
    """The process of a proxy, on the node it serves."""
    return ProcessSpec(
        name=proxy_name(action.node_id),
        entry="meshserve.proxy.process:main",
        boot={
            "token": token,
            "host": host,
            "node_id": action.node_id,
            "options": proxy_options_to_proto(action.options).SerializeToString(),
        },
        actor_options={"num_cpus": 0},
        node_id=action.node_id,
        spread=False,
    )
