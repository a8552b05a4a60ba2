"""The next desired state: what setting, deleting and scaling make of the present one.

Pure and small, so that what the controller stores and what it acts on can never differ: the ledger applies one of
these functions, writes the result, and hands it to the loop. A change that touches nothing returns its input.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshserve.core.capacity import at_capacity, scaling_bounds
from meshserve.core.gang_counts import whole_gangs
from meshserve.core.prefixes import former_prefixes, take_prefix
from meshserve.core.weights import build_version, changes_only_count
from meshserve.model.control import (
    ApplicationSpec,
    CountSource,
    DeploymentSpec,
    Desired,
    DesiredApplication,
    DesiredDeployment,
    ProxyOptions,
)
from meshserve.model.declared import Capacity
from meshserve.model.ids import DeploymentId
from meshserve.model.replace import replace


def restore(
    generation: int,
    records: Iterable[tuple[DesiredApplication, tuple[DesiredDeployment, ...]]],
    proxies: ProxyOptions | None,
    shutting_down: bool,
) -> Desired:
    """The desired state that an earlier controller stored: each application with its deployments."""
    entries = list(records)
    return Desired(
        generation,
        {application.spec.name: application for application, _ in entries},
        {deployment.spec.id: deployment for _, deployments in entries for deployment in deployments},
        proxies,
        shutting_down,
    )


def set_applications(desired: Desired, specs: Sequence[ApplicationSpec], at_s: float) -> Desired:
    """Applications are wanted as these specs say; others stay as they are.

    Args:
        at_s: now, in seconds since the epoch, for reports.
    """
    desired = replace(desired, generation=desired.generation + 1)
    for spec in specs:
        desired = set_application(desired, spec, at_s)
    return desired


def set_application(desired: Desired, spec: ApplicationSpec, at_s: float) -> Desired:
    """One of them, in the generation that is there already. Deployments that do not change stay the same objects."""
    before = desired.applications.get(spec.name)
    names = {deployment.id for deployment in spec.deployments}
    dropped: dict[DeploymentId, DeploymentSpec] = {}
    if before is not None:
        earlier = (*before.dropped, *before.spec.deployments)
        dropped = {one.id: one for one in earlier if one.id not in names and one.id in desired.deployments}
    deployments = dict(desired.deployments)
    for deployment in spec.deployments:
        deployments[deployment.id] = _wanted(desired, spec, deployment)
    for gone in dropped:
        deployments[gone] = replace(deployments[gone], deleting=True, generation=desired.generation)
    former = former_prefixes(desired.applications, spec)
    applications = dict(desired.applications)
    take_prefix(applications, spec.route_prefix)
    applications[spec.name] = DesiredApplication(
        spec, desired.generation, at_s, dropped=tuple(dropped.values()), former_prefixes=former
    )
    return replace(desired, applications=applications, deployments=deployments)


def _wanted(desired: Desired, app: ApplicationSpec, spec: DeploymentSpec) -> DesiredDeployment:
    before = desired.deployments.get(spec.id)
    count, source = _first_count(spec, before, desired.capacity_of(app))
    wanted = replace(wanted_deployment(app, spec, desired.generation), count=count, count_source=source)
    if before is not None and before.failure and changes_only_count(before, wanted):
        # Setting only another count is no new attempt: the version that failed would fail again.
        wanted = replace(wanted, failure=before.failure)
    if before is not None and before == replace(wanted, generation=before.generation):
        return before
    return wanted


def wanted_deployment(app: ApplicationSpec, spec: DeploymentSpec, generation: int) -> DesiredDeployment:
    """A deployment of an application as its specification alone describes it."""
    ingress = spec.id.name == app.ingress
    return DesiredDeployment(
        spec=spec,
        version=build_version(spec.code_version, spec.options),
        count=spec.options.num_replicas,
        generation=generation,
        ingress=ingress,
        route_prefix=(app.route_prefix or "") if ingress else "",
        import_paths=app.import_paths,
    )


def _first_count(spec: DeploymentSpec, before: DesiredDeployment | None, capacity: Capacity) -> tuple[int, CountSource]:
    """How many replicas a deployment that was just set has: autoscaled ones keep theirs as far as the bounds allow."""
    auto = spec.options.autoscaling_config
    gang_size = spec.options.gang_size
    if auto is None:
        count = at_capacity(spec.options.num_replicas, capacity.target)
        return whole_gangs(count, gang_size), CountSource.PEOPLE
    bounds = scaling_bounds(auto, capacity.target, capacity.direction, gang_size)
    fresh = before is None or before.deleting
    changed = fresh or (before is not None and before.spec.options.autoscaling_config != auto)
    if auto.initial_replicas is not None and changed:
        return whole_gangs(at_capacity(auto.initial_replicas, capacity.target), gang_size), CountSource.AUTOSCALER
    if before is None or fresh:
        return bounds.clip(whole_gangs(bounds.lower, gang_size)), CountSource.AUTOSCALER
    count = bounds.clip(whole_gangs(before.count, gang_size))
    # Bounds that no longer allow the count, as at another target capacity, are people's doing.
    return count, before.count_source if count == before.count else CountSource.PEOPLE


def delete_applications(desired: Desired, names: Iterable[str]) -> Desired:
    """Applications are to go away; unknown names are ignored."""
    known = [name for name in names if name in desired.applications and not desired.applications[name].deleting]
    if not known:
        return desired
    generation = desired.generation + 1
    applications, deployments = dict(desired.applications), dict(desired.deployments)
    for name in known:
        applications[name] = replace(applications[name], deleting=True, generation=generation)
        for spec in applications[name].spec.deployments:
            deployments[spec.id] = replace(deployments[spec.id], deleting=True, generation=generation)
    return replace(desired, generation=generation, applications=applications, deployments=deployments)


def shut_down(desired: Desired) -> Desired:
    """Everything is to go away, proxies too."""
    return replace(delete_applications(desired, tuple(desired.applications)), shutting_down=True)


def set_count(desired: Desired, deployment: DeploymentId, count: int, source: CountSource) -> Desired:
    """A deployment is to have so many replicas, rounded up to whole gangs.

    One that is unknown, going away or has them already is left alone.
    """
    before = desired.deployments.get(deployment)
    if before is None or before.deleting:
        return desired
    count = whole_gangs(count, before.spec.options.gang_size)
    if before.count == count:
        return desired
    after = replace(before, count=count, count_source=source)
    return replace(desired, deployments={**desired.deployments, deployment: after})


def set_failure(desired: Desired, deployment: DeploymentId, version: str, message: str) -> Desired:
    """A version was given up; remembered so that a restarted controller does not try it again."""
    before = desired.deployments.get(deployment)
    if before is None or before.version != version or before.failure == message:
        return desired
    after = replace(before, failure=message)
    return replace(desired, deployments={**desired.deployments, deployment: after})


def set_proxies(desired: Desired, options: ProxyOptions) -> Desired:
    """Proxies are to run as these options say; later options change nothing while the mesh lives."""
    return desired if desired.proxies is not None else replace(desired, proxies=options)


def forget(desired: Desired, app: str, generation: int) -> Desired:
    """What was to go away of an application is gone; ignored when the application was set again meanwhile."""
    application = desired.applications.get(app)
    if application is None or application.generation != generation:
        return desired
    applications, deployments = dict(desired.applications), dict(desired.deployments)
    gone = (*application.dropped, *(application.spec.deployments if application.deleting else ()))
    for spec in gone:
        deployments.pop(spec.id, None)
    if application.deleting:
        del applications[app]
    else:
        applications[app] = replace(application, dropped=())
    return replace(desired, applications=applications, deployments=deployments)
