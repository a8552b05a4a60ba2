"""Placement groups of processes: one of a process's own, or one that several share.

Ray reserves all bundles of a group at once or none, and a process waits in a group that has no place yet.
"""

from __future__ import annotations

import threading

from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    remove_placement_group,
)

from meshserve.launch.launcher import ProcessSpec


class PlacementGroups:
    """The groups that this program has made for others to share, by name. Its methods block."""

    def __init__(self) -> None:
        self._shared: dict[str, PlacementGroup] = {}
        self._lock = threading.Lock()

    def group_of(self, spec: ProcessSpec) -> PlacementGroup | None:
        """The group a process is to run in, made if it is not there; None for none."""
        if not spec.placement_group_bundles:
            return None
        if not spec.placement_group:
            return _create(spec.name, spec)
        # Those who share it are started at the same time, each on a thread.
        with self._lock:
            if spec.placement_group not in self._shared:
                self._shared[spec.placement_group] = _create(spec.placement_group, spec)
            return self._shared[spec.placement_group]

    def remove(self, name: str) -> None:
        """Removes a group; a name without one is ignored."""
        with self._lock:
            self._shared.pop(name, None)
        try:
            group = get_placement_group(name)
        except ValueError:  # Ray's way to say that there is none
            return
        remove_placement_group(group)


def _create(name: str, spec: ProcessSpec) -> PlacementGroup:
    selector = [dict(labels) for labels in spec.placement_group_bundle_label_selector]
    if len(selector) == 1:
        selector *= len(spec.placement_group_bundles)  # one for all of them; Ray wants one for each
    return placement_group(
        [dict(bundle) for bundle in spec.placement_group_bundles],
        strategy=spec.placement_group_strategy,
        name=name,
        lifetime="detached",
        bundle_label_selector=selector or None,
    )
