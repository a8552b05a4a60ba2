"""The steps for actors that the replicas of a deployment share (`deployment_actors`).

The promise to replicas: the actors of a version are there before its first replica starts and until its last one has
ended, and one that dies is made anew. So an update has the actors of both versions for a while, and nothing of the old
version is taken away before the new one's actors are ready. They are the user's own Ray actors, each named by its
version, so that a replica finds the ones that belong to it.

Starts that fail count, apart from those of replicas, towards giving the version up, until all its actors were ready
once: that shows that they can start, and from then on they are tried for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meshserve.core.actions import Action, CheckActor, FindActor, KillActor, RecordFailure, StartActor
from meshserve.core.scene import Scene
from meshserve.core.seen import RECOVERING, SeenDeployment
from meshserve.core.seen_actors import ActorKey, ActorPhase, SeenActor, SeenActors
from meshserve.core.status import StatusEvent, transition
from meshserve.core.weights import actors_version
from meshserve.model.ids import ActorId
from meshserve.model.options import ActorOptions, DeploymentOptions
from meshserve.model.replace import replace

KILL_AGAIN_S = 10.0
"""A kill that has shown no effect for so long is repeated."""

GIVEN_UP = "The deployment failed to start deployment actors"
"""How the reason begins why a version was given up for its actors; by it that is known after a restart."""

_FIRST_BACKOFF_S = 0.25
_MAX_BACKOFF_S = 10.0
_FOREVER = float("inf")


def keep_actors(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Finds, starts and checks the actors that are needed; gives the version up whose actors fail too often."""
    want = deployment.want
    if want is None or not (deployment.actors.all or _has_actors(deployment)):
        return deployment, ()
    actors, finds = _find(deployment.actors, scene)
    if want.deleting:
        return replace(deployment, actors=actors), finds
    version = wanted_version(deployment)
    if actors.version != version:
        actors = replace(actors, version=version, failures=0, message="", proven=False)
    deployment, given_up = _judge(replace(deployment, actors=actors), scene)
    deployment, starts = _start(deployment, scene)
    actors, checks = _check(deployment.actors, scene)
    return replace(deployment, actors=actors), (*finds, *given_up, *starts, *checks)


def end_actors(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    """Kills what is broken, what no replica and no replica to come needs, and what a kill has not ended yet."""
    actors = deployment.actors
    if not actors.all:
        return deployment, ()
    needed = _needed_versions(deployment)
    due = [one for one in actors.all.values() if _must_end(one, needed) and kill_at(one) <= scene.now]
    for one in due:
        actors = actors.having(replace(one, phase=ActorPhase.KILLING, since=scene.now))
    return replace(deployment, actors=actors) if due else deployment, tuple(KillActor(one.id) for one in due)


def are_ready(deployment: SeenDeployment) -> bool:
    """Whether replicas of the wanted version may be started: all the actors they share are ready."""
    want = deployment.want
    if want is None or not want.spec.options.deployment_actors:
        return True
    version, known = wanted_version(deployment), deployment.actors.all
    return all(_is_ready(known.get((version, one.name))) for one in want.spec.options.deployment_actors)


def are_well(deployment: SeenDeployment) -> bool:
    """Whether the actors of the wanted version are ready, and there are no others."""
    want = deployment.want
    wanted = len(want.spec.options.deployment_actors) if want is not None else 0
    return len(deployment.actors.all) == wanted and are_ready(deployment)


def wanted_version(deployment: SeenDeployment) -> str:
    """The version of the actors that replicas of the wanted version share; empty when they share none."""
    want = deployment.want
    return actors_version(want.version, want.spec.options) if want is not None else ""


def actors_wake_at(deployment: SeenDeployment, now: float) -> float:
    """When time alone calls for something about its actors."""
    want, actors = deployment.want, deployment.actors
    if not actors.all and not _has_actors(deployment):
        return _FOREVER
    times = [kill_at(one) for one in actors.all.values() if one.phase is ActorPhase.KILLING]
    if want is not None and not want.deleting:
        ready = (one.health for one in actors.all.values() if one.phase is ActorPhase.READY)
        times += [health.check_at for health in ready if not health.checking]
        times += [_retry_at(actors, key) for key in _missing(deployment)]
    return min((time for time in times if time > now), default=_FOREVER)


def actors_text(deployment: SeenDeployment) -> str:
    """What is waited for about its actors, in words a user can act on; empty for nothing."""
    want, actors = deployment.want, deployment.actors
    if want is None or want.deleting or are_ready(deployment):
        return ""
    wanted, version = want.spec.options.deployment_actors, wanted_version(deployment)
    ready = sum(_is_ready(actors.all.get((version, one.name))) for one in wanted)
    text = f"{ready} of {len(wanted)} deployment actors are ready."
    if not actors.failures:
        return text
    left = "" if actors.proven else f" {want.spec.options.max_constructor_retry_count - actors.failures} more time(s)"
    return f"{text} A deployment actor failed to start. Retrying{left}. Error:\n{actors.message}"


def kill_at(actor: SeenActor) -> float:
    """When an actor that is to end is killed, at first or again."""
    return actor.since + KILL_AGAIN_S if actor.phase is ActorPhase.KILLING else float("-inf")


def _has_actors(deployment: SeenDeployment) -> bool:
    want = deployment.want
    if want is not None and want.spec.options.deployment_actors:
        return True
    return any(one.build.options.deployment_actors for one in deployment.replicas.values())


def _is_ready(actor: SeenActor | None) -> bool:
    return actor is not None and actor.phase is ActorPhase.READY


def _find(actors: SeenActors, scene: Scene) -> tuple[SeenActors, tuple[Action, ...]]:
    """Asks for actors found after a restart of the controller."""
    listed = [one for one in actors.all.values() if one.phase is ActorPhase.LISTED]
    for one in listed:
        actors = actors.having(replace(one, phase=ActorPhase.FINDING, since=scene.now))
    return actors, tuple(FindActor(one.id) for one in listed)


def _judge(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    want, actors, attempts = deployment.want, deployment.actors, deployment.attempts
    if want is None or attempts.given_up or actors.proven:
        return deployment, ()
    if actors.failures < want.spec.options.max_constructor_retry_count:
        return deployment, ()
    message = f"{GIVEN_UP} {actors.failures} times in a row. Error:\n"
    message += actors.message
    after = replace(
        deployment,
        actors=replace(actors, failures=0, message=""),
        attempts=replace(attempts, given_up=message),
        status=transition(deployment.status, StatusEvent.ACTORS_FAILED, message),
    )
    return after, (RecordFailure(deployment.id, want.version, message),)


def _start(deployment: SeenDeployment, scene: Scene) -> tuple[SeenDeployment, tuple[Action, ...]]:
    actors, starts = deployment.actors, []
    for key, (options, environment) in _missing(deployment).items():
        if _retry_at(actors, key) <= scene.now:
            actor = ActorId(deployment.id, *key)
            actors = actors.having(SeenActor(actor, ActorPhase.STARTING, scene.now))
            import_paths = deployment.want.import_paths if deployment.want is not None else ()
            starts.append(StartActor(actor, options, environment, import_paths))
    return replace(deployment, actors=actors) if starts else deployment, tuple(starts)


def _missing(deployment: SeenDeployment) -> dict[ActorKey, tuple[ActorOptions, Mapping[str, Any]]]:
    """Actors that replicas need, or are waited for by those to come, and that are not there."""
    want, missing = deployment.want, dict[ActorKey, tuple[ActorOptions, Mapping[str, Any]]]()
    sources: list[tuple[str, DeploymentOptions]] = []
    if want is not None and not deployment.attempts.given_up:
        sources.append((want.version, want.spec.options))
    sources += [(one.build.version, one.build.options) for one in deployment.replicas.values()]
    for version, options in sources:
        environment = options.ray_actor_options.get("runtime_env") or {}
        for actor in options.deployment_actors:
            missing[actors_version(version, options), actor.name] = actor, environment
    return {key: made_of for key, made_of in missing.items() if key not in deployment.actors.all}


def _retry_at(actors: SeenActors, key: ActorKey) -> float:
    """When the next start may begin: later after each failure, so that no constructor fails in a spin."""
    if key[0] != actors.version:
        return actors.failed_at + _MAX_BACKOFF_S
    rounds = min(actors.failures - 1, 16)
    return actors.failed_at + min(_FIRST_BACKOFF_S * 2.0**rounds, _MAX_BACKOFF_S) if actors.failures else -_FOREVER


def _check(actors: SeenActors, scene: Scene) -> tuple[SeenActors, tuple[Action, ...]]:
    due = [one for one in actors.all.values() if _check_is_due(one, scene.now)]
    for one in due:
        actors = actors.having(replace(one, health=replace(one.health, checking=True)))
    return actors, tuple(CheckActor(one.id, scene.actor_checks.timeout_s) for one in due)


def _check_is_due(actor: SeenActor, now: float) -> bool:
    return actor.phase is ActorPhase.READY and not actor.health.checking and actor.health.check_at <= now


def _needed_versions(deployment: SeenDeployment) -> frozenset[str] | None:
    """The versions whose actors stay; None for all, while it is not known what the replicas are."""
    want, replicas = deployment.want, deployment.replicas.values()
    if want is not None and any(one.phase in RECOVERING for one in replicas):
        return None
    needed = {actors_version(one.build.version, one.build.options) for one in replicas}
    if want is not None and not want.deleting:
        needed.add(wanted_version(deployment))
    return frozenset(needed)


def _must_end(actor: SeenActor, needed: Iterable[str] | None) -> bool:
    if actor.phase in (ActorPhase.BROKEN, ActorPhase.KILLING):
        return True
    return needed is not None and actor.id.version not in needed
