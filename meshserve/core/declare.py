"""Desired state by a configuration file: what has to be built, what only has to be set, what is to go away.

An application is built once for what it is made of (`Declaration.code_key`). The result is kept as the code describes
it (`Build.base`), and every later file is laid over that, so that an option which leaves the file is the code's again.
While an application is being built, or when that has failed, what ran before goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from meshserve.core.capacity import next_capacity
from meshserve.core.desire import delete_applications, set_application, set_proxies
from meshserve.model.control import ApplicationSpec, Build, Declared, Desired, DesiredApplication, Source
from meshserve.model.declared import Declaration
from meshserve.model.replace import replace

Merge: TypeAlias = Callable[[Build, Declaration], ApplicationSpec]
"""Lays a declaration over an application that was built; raises ValueError when it does not fit."""


def declare(desired: Desired, file: Declared, at_s: float, merge: Merge) -> Desired:
    """The file's applications are wanted, those of an earlier file are not; those that programs have set stay.

    Args:
        at_s: now, in seconds since the epoch, for reports.
    """
    names = {one.name for one in file.applications}
    known = declared_names(desired)
    capacity = next_capacity(desired.capacity, known, file.target_capacity, names)
    resized = capacity != desired.capacity
    stale = [one for one in file.applications if resized or not _is_settled(desired.applications.get(one.name), one)]
    after = desired
    if stale or resized:
        after = replace(desired, generation=desired.generation + 1, capacity=capacity)
    for one in stale:
        after = _declare_one(after, one, at_s, merge)
    after = delete_applications(after, known - names)
    after = set_proxies(after, file.proxies)
    return after if after.config_json == file.config_json else replace(after, config_json=file.config_json)


def declared_names(desired: Desired) -> set[str]:
    """The applications that a file has set and that are not going away."""
    return {name for name, one in desired.applications.items() if one.declaration is not None and not one.deleting}


def _is_settled(before: DesiredApplication | None, declaration: Declaration) -> bool:
    """Whether an application is as declared, or on its way there; one that could not be built is tried again."""
    if before is None or before.deleting or before.declaration is None:
        return False
    if not before.declaration.says_the_same(declaration):
        return False
    return before.build is None or not before.build.failure


def _declare_one(desired: Desired, declaration: Declaration, at_s: float, merge: Merge) -> Desired:
    before = desired.applications.get(declaration.name)
    if before is None or before.deleting:
        nothing = ApplicationSpec(declaration.name, (), "", declaration.route_prefix, source=Source.DECLARATIVE)
        desired = set_application(desired, nothing, at_s)
        before = desired.applications[declaration.name]
    build = before.build
    if build is not None and build.base is not None and build.code_key == declaration.code_key:
        return _lay_over(desired, replace(before, declaration=declaration), build, at_s, merge)
    # A build that failed is forgotten, so that the same file is a new attempt.
    kept = build if build is not None and build.base is not None else None
    waiting = replace(before, declaration=declaration, build=kept, generation=desired.generation, deployed_at_s=at_s)
    return replace(desired, applications={**desired.applications, declaration.name: waiting})


def _lay_over(desired: Desired, application: DesiredApplication, built: Build, at_s: float, merge: Merge) -> Desired:
    """The application as declared, of what was built; as it was when the declaration does not fit."""
    declaration = application.declaration
    assert declaration is not None  # callers have one
    build = replace(built, failure="")
    try:
        desired = set_application(desired, merge(build, declaration), at_s)
        after = replace(desired.applications[declaration.name], declaration=declaration, build=build)
    except ValueError as error:
        failed = replace(build, failure=str(error))
        after = replace(application, build=failed, generation=desired.generation, deployed_at_s=at_s)
    return replace(desired, applications={**desired.applications, declaration.name: after})


def finish_build(desired: Desired, app: str, build: Build, merge: Merge) -> Desired:
    """An application was built, or could not be; ignored when it is not what is wanted any more."""
    application = desired.applications.get(app)
    if application is None or application.declaration is None or not application.building:
        return desired
    if build.code_key != application.declaration.code_key:
        return desired
    desired = replace(desired, generation=desired.generation + 1)
    if build.base is not None:
        return _lay_over(desired, application, build, application.deployed_at_s, merge)
    failed = replace(application, build=build, generation=desired.generation)
    return replace(desired, applications={**desired.applications, app: failed})


def to_build(desired: Desired) -> dict[str, Declaration]:
    """The applications that have to be built, by name."""
    return {
        name: one.declaration
        for name, one in desired.applications.items()
        if one.declaration is not None and one.building
    }
