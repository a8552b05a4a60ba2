"""Absorbs what is heard of an actor that replicas share."""

from __future__ import annotations

from meshserve.core import events as ev
from meshserve.core.deployment_actors import are_ready, wanted_version
from meshserve.core.health import next_check_at
from meshserve.core.seen import Health, SeenDeployment
from meshserve.core.seen_actors import ActorChecks, ActorHealth, ActorPhase, SeenActor
from meshserve.core.status import StatusEvent, transition
from meshserve.model.replace import replace

_UNHEALTHY = (
    "A deployment actor's health check failed. "
    "This deployment will be UNHEALTHY until the actor is recreated or a new deploy happens."
)


def fold_actor(
    deployment: SeenDeployment, actor: SeenActor, event: ev.ActorEvent, now: float, checks: ActorChecks
) -> SeenDeployment:
    """The deployment once `event` has been heard; the same object when it does not apply any more."""
    match event:
        case ev.ActorReady() if actor.phase in (ActorPhase.STARTING, ActorPhase.FINDING):
            return _ready(deployment, actor, now, checks)
        case ev.ActorFailed(message=message) if actor.phase is ActorPhase.STARTING:
            return _failed(deployment, actor, message, now)
        case ev.ActorHealthy() if actor.phase is ActorPhase.READY:
            return _put(deployment, replace(actor, health=_next_check(actor, 0, now, checks)))
        case ev.ActorUnhealthy() if actor.phase is ActorPhase.READY:
            return _struck(deployment, actor, event.message, now, checks)
        case ev.ActorDied():
            return _died(deployment, actor, now)
    return deployment


def _put(deployment: SeenDeployment, actor: SeenActor) -> SeenDeployment:
    return replace(deployment, actors=deployment.actors.having(actor))


def _enter(deployment: SeenDeployment, actor: SeenActor, phase: ActorPhase, now: float) -> SeenDeployment:
    return _put(deployment, replace(actor, phase=phase, since=now))


def _next_check(actor: SeenActor, strikes: int, now: float, checks: ActorChecks) -> ActorHealth:
    check_at = next_check_at(Health(), f"{actor.id.name}/{actor.id.version}", now, checks.period_s)
    return ActorHealth(check_at=check_at, strikes=strikes)


def _is_wanted(deployment: SeenDeployment, actor: SeenActor) -> bool:
    return deployment.want is not None and actor.id.version == wanted_version(deployment)


def _ready(deployment: SeenDeployment, actor: SeenActor, now: float, checks: ActorChecks) -> SeenDeployment:
    actor = replace(actor, health=_next_check(actor, 0, now, checks))
    deployment = _enter(deployment, actor, ActorPhase.READY, now)
    if not _is_wanted(deployment, actor) or not are_ready(deployment):
        return deployment
    return replace(deployment, actors=replace(deployment.actors, failures=0, message="", proven=True))


def _failed(deployment: SeenDeployment, actor: SeenActor, message: str, now: float) -> SeenDeployment:
    deployment = _enter(deployment, actor, ActorPhase.BROKEN, now)
    actors = replace(deployment.actors, failed_at=now)
    if _is_wanted(deployment, actor):
        text = f"Deployment actor {actor.id.name!r} failed: {message}"
        actors = replace(actors, failures=actors.failures + 1, message=text)
    return replace(deployment, actors=actors)


def _struck(
    deployment: SeenDeployment, actor: SeenActor, message: str, now: float, checks: ActorChecks
) -> SeenDeployment:
    actor = replace(actor, health=_next_check(actor, actor.health.strikes + 1, now, checks))
    if actor.health.strikes < checks.strikes:
        return _put(deployment, actor)
    return _unwell(deployment, actor, f"Deployment actor {actor.id.name!r} is made anew: {message}", now)


def _unwell(deployment: SeenDeployment, actor: SeenActor, message: str, now: float) -> SeenDeployment:
    deployment = _enter(deployment, actor, ActorPhase.BROKEN, now)
    if not _is_wanted(deployment, actor):
        return deployment
    status = transition(deployment.status, StatusEvent.HEALTH_FAILED, f"{_UNHEALTHY} {message}")
    return replace(deployment, status=status)


def _died(deployment: SeenDeployment, actor: SeenActor, now: float) -> SeenDeployment:
    match actor.phase:
        case ActorPhase.KILLING:
            return replace(deployment, actors=deployment.actors.without(actor))
        case ActorPhase.STARTING:
            return _failed(deployment, actor, "its process ended while it was starting", now)
        case ActorPhase.READY:
            return _unwell(deployment, actor, f"Deployment actor {actor.id.name!r} died.", now)
        case ActorPhase.FINDING:
            return _enter(deployment, actor, ActorPhase.BROKEN, now)
    return deployment
