"""What applying a configuration file changes <-> the wire."""

from __future__ import annotations

from collections.abc import Sequence

from meshserve.model.declared import Change, ChangeKind, FieldChange
from meshserve.v1 import controller_pb2


def config_answer_to_proto(changes: Sequence[Change], ignored: Sequence[str]) -> controller_pb2.ApplyConfigResponse:
    """The answer to a file, without its generation."""
    return controller_pb2.ApplyConfigResponse(changes=[_change_to_proto(one) for one in changes], ignored=ignored)


def _change_to_proto(change: Change) -> controller_pb2.ConfigChange:
    return controller_pb2.ConfigChange(
        app=change.app,
        kind=int(change.kind),  # type: ignore[arg-type]  # the enum's numbers are the wire's
        fields=[
            controller_pb2.ConfigFieldChange(path=one.path, before_json=one.before, after_json=one.after)
            for one in change.fields
        ],
    )


def changes_from_proto(proto: controller_pb2.ApplyConfigResponse) -> tuple[Change, ...]:
    """What becomes of each application."""
    return tuple(
        Change(
            one.app,
            ChangeKind(one.kind),
            tuple(FieldChange(field.path, field.before_json, field.after_json) for field in one.fields),
        )
        for one in proto.changes
    )
