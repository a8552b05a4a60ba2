"""What happened between two plans, as sentences for people: the events of the mesh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshserve.core.deployment import Part
from meshserve.core.plan import Plan
from meshserve.core.seen import Phase, SeenReplica
from meshserve.model.ids import DeploymentId
from meshserve.model.status import ApplicationState, DeploymentState, ProxyState, ReplicaState, Trigger

_BAD = (
    ApplicationState.UNHEALTHY,
    ApplicationState.DEPLOY_FAILED,
    DeploymentState.UNHEALTHY,
    DeploymentState.DEPLOY_FAILED,
    ProxyState.UNHEALTHY,
)

_FAILED = (Phase.BROKEN, Phase.KILLING)
_TELLING = (Trigger.REPLICA_STARTUP_FAILED, Trigger.HEALTH_CHECK_FAILED)


@dataclass(frozen=True, slots=True)
class Happening:
    """One event.

    Attributes:
        text: a sentence.
        bad: whether somebody should look.
        application: that it is about; empty for none, and so on.
        replica: its tag.
    """

    text: str
    bad: bool = False
    application: str = ""
    deployment: str = ""
    replica: str = ""


def happenings(before: Plan, after: Plan) -> Iterator[Happening]:
    """What is different in a plan from the one before it."""
    for changed in after.parts.changed:
        was, now = before.parts.all.get(changed), after.parts.all[changed]
        if was is not now:
            yield from _of_replicas(was, now)
            yield from _of_deployment(changed, was, now)
    for gone in before.parts.all.keys() - after.parts.all.keys():
        yield Happening(f"Deployment {gone.name!r} is gone.", False, gone.app, gone.name)
    yield from _of_applications(before, after)
    yield from _of_proxies(before, after)


def _of_deployment(id_: DeploymentId, was: Part | None, now: Part) -> Iterator[Happening]:
    if was is not None and was.status.state is now.status.state:
        return
    state = now.status.state
    text = _sentence(f"Deployment {id_.name!r} is {state}", now.status.message if state in _BAD else "")
    yield Happening(text, state in _BAD, id_.app, id_.name)


def _of_replicas(was: Part | None, now: Part) -> Iterator[Happening]:
    known = was.seen.replicas if was is not None else {}
    for tag, replica in now.seen.replicas.items():
        before, state = known.get(tag), replica.phase.state
        if before is not None and before.phase.state is state:
            continue
        if replica.phase in _FAILED and not replica.retire:
            yield _about(replica, "has failed", now.status.message if now.status.trigger in _TELLING else "", bad=True)
        else:
            yield _about(replica, f"is {state}", replica.retire if state is ReplicaState.STOPPING else "")
    for tag, replica in known.items():
        if tag not in now.seen.replicas:
            yield _about(replica, "has ended")


def _about(replica: SeenReplica, what: str, why: str = "", bad: bool = False) -> Happening:
    id_ = replica.id
    text = _sentence(f"Replica {id_.tag} of {id_.deployment.name!r} {what}", why)
    return Happening(text, bad, id_.deployment.app, id_.deployment.name, id_.tag)


def _of_applications(before: Plan, after: Plan) -> Iterator[Happening]:
    was, now = before.seen.applications, after.seen.applications
    if was is now:
        return
    for name, status in now.items():
        if name not in was or was[name].state is not status.state:
            bad = status.state in _BAD
            yield Happening(
                _sentence(f"Application {name!r} is {status.state}", status.message if bad else ""), bad, name
            )
    for name in was.keys() - now.keys():
        yield Happening(f"Application {name!r} is gone.", False, name)


def _of_proxies(before: Plan, after: Plan) -> Iterator[Happening]:
    was, now = before.seen.proxies, after.seen.proxies
    if was is now:
        return
    for node_id, proxy in now.items():
        if node_id not in was or was[node_id].status is not proxy.status:
            bad = proxy.status in _BAD
            yield Happening(
                _sentence(f"The proxy of node {node_id[:8]} is {proxy.status}", proxy.message if bad else ""), bad
            )
    for node_id in was.keys() - now.keys():
        yield Happening(f"The proxy of node {node_id[:8]} is gone.")


def _sentence(what: str, why: str) -> str:
    return f"{what}: {why}" if why else f"{what}."
