"""Configuration files from programs: applied, waited for, and what they would change."""

from __future__ import annotations

from collections.abc import Sequence

from meshserve.api.client import ConfigAnswer, client, wait_for
from meshserve.api.declarations import read
from meshserve.api.waiting import OnProgress, until_heard, until_running
from meshserve.core.declared_changes import changes
from meshserve.model.control import Desired
from meshserve.model.declared import ChangeKind
from meshserve.model.overview import MeshOverview


def apply_config(
    config_json: str, import_paths: Sequence[str] = (), revision: str = "", dry_run: bool = False
) -> ConfigAnswer:
    """Sets the applications of a configuration file, or tells what that would change.

    Args:
        config_json: the file's content.
        import_paths: folders to import from, where they exist.
        revision: names the state of the modules in them; with another one applications are built again.
        dry_run: change nothing.

    Raises:
        ValueError: the file is not valid.
        MeshServeException: the controller refuses it.
    """
    return wait_for(client().apply_config(config_json, import_paths, revision, dry_run))


def changes_of_nothing(config_json: str) -> ConfigAnswer:
    """What a file would change where no mesh runs; raises ValueError when it is not valid."""
    return ConfigAnswer(0, changes(Desired(), read(config_json)))


def wait_until_applied(answer: ConfigAnswer, with_ingress: bool, on_progress: OnProgress) -> MeshOverview:
    """Waits until the applications of a file run; raises DeploymentFailedError when they will not."""
    touched = [one.app for one in answer.changes if one.kind not in (ChangeKind.UNCHANGED, ChangeKind.DELETE)]
    kept = [one.app for one in answer.changes if one.kind is ChangeKind.UNCHANGED]

    async def both() -> MeshOverview:
        controller = client()
        await until_running(controller, touched, answer.generation, with_ingress, on_progress)
        mesh = await until_running(controller, kept, 0, with_ingress, on_progress)
        await until_heard(mesh, (*touched, *kept))
        return mesh

    return wait_for(both())


def config_in_force() -> str:
    """The configuration file in force as JSON, without the applications that were deleted; empty for none."""
    return wait_for(client().config())
