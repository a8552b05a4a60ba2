"""The processes the controller starts, in the launcher's terms."""

from __future__ import annotations

import base64

from meshserve.core.actions import StartActor, StartProxy, StartReplica
from meshserve.launch.actor_launcher import ActorSpec
from meshserve.launch.launcher import ProcessSpec
from meshserve.model.actor_environment import actor_environment
from meshserve.model.process_names import actor_name, proxy_name, replica_name
from meshserve.wire.control import proxy_options_to_proto


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
    return ProcessSpec(
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


def shared_actor(action: StartActor) -> ActorSpec:
    """An actor that replicas share, in their runtime environment with its own put before it."""
    options = action.options
    own = options.actor_options
    environment = actor_environment(action.actor, action.environment, own.get("runtime_env") or {})
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
