"""An application moves to another route prefix without a lost request.

The new prefix is routed at once, as that of any application. The former one stays, by whichever prefix the replicas
know themselves, until the application runs as it was set last, the proxies have heard of that, and `LINGER_S` has
passed: whoever was told the new prefix when `run` returned had the old one until then, and what is on its way by a kept
connection or to another proxy arrives. When the update fails the former prefix serves on.

Another application that is set to a former prefix takes it at once: what people ask for goes first.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshserve.model.control import ApplicationSpec, Desired, DesiredApplication
from meshserve.model.replace import replace

LINGER_S = 0.02
"""How long former prefixes stay once the application runs by its new one: as long as it takes that to be heard. Who
looks after `run` has returned finds the former one gone."""


def former_prefixes(applications: Mapping[str, DesiredApplication], spec: ApplicationSpec) -> tuple[str, ...]:
    """The prefixes by which an application is reached still once `spec` was set."""
    before = applications.get(spec.name)
    if before is None or before.deleting or not before.spec.deployments:
        return ()
    taken = {one.spec.route_prefix for one in applications.values() if one is not before and not one.deleting}
    routed = dict.fromkeys((*before.former_prefixes, before.spec.route_prefix))
    return tuple(one for one in routed if one is not None and one != spec.route_prefix and one not in taken)


def take_prefix(applications: dict[str, DesiredApplication], prefix: str | None) -> None:
    """A prefix is no former one of anybody from now on; edits `applications`."""
    for name, one in applications.items():
        if prefix in one.former_prefixes:
            left = tuple(former for former in one.former_prefixes if former != prefix)
            applications[name] = replace(one, former_prefixes=left)


def leave_prefixes(desired: Desired, app: str, generation: int) -> Desired:
    """An application has moved; ignored when it was set again meanwhile."""
    application = desired.applications.get(app)
    if application is None or application.generation != generation or not application.former_prefixes:
        return desired
    moved = replace(application, former_prefixes=())
    return replace(desired, applications={**desired.applications, app: moved})
