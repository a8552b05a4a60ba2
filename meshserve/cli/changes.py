"""What applying a configuration file changes, as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from meshserve.api.client import ConfigAnswer
from meshserve.model.declared import Change, ChangeKind, FieldChange

_SIGNS = {
    ChangeKind.ADD: ("+", "is new"),
    ChangeKind.UPDATE: ("~", "changes in place"),
    ChangeKind.REBUILD: ("!", "is built again; its replicas are replaced"),
    ChangeKind.DELETE: ("-", "is deleted"),
    ChangeKind.UNCHANGED: ("=", "does not change"),
}


def as_lines(answer: ConfigAnswer) -> list[str]:
    """A line for each application, and one for each of its fields that differ."""
    lines = [line for change in answer.changes for line in _lines(change)] or ["There are no applications."]
    if answer.changes and all(change.kind is ChangeKind.UNCHANGED for change in answer.changes):
        lines.append("Nothing changes. Modules that have changed are taken up with another --revision.")
    if answer.ignored:
        lines.append(f"Ignored, since the mesh runs already with other ones: {', '.join(answer.ignored)}.")
    return lines


def _lines(change: Change) -> Sequence[str]:
    sign, text = _SIGNS[change.kind]
    # Of a new application everything is new: its entry is the file's.
    fields = () if change.kind is ChangeKind.ADD else change.fields
    return [f"{sign} {change.app} {text}", *(f"    {_field(one)}" for one in fields)]


def _field(field: FieldChange) -> str:
    if not field.before:
        return f"{field.path}: {field.after}"
    if not field.after:
        return f"{field.path}: no longer {field.before}"
    return f"{field.path}: {field.before} -> {field.after}"
