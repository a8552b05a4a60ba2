"""What applying a configuration file would change, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from meshserve.core.declare import declared_names
from meshserve.model.control import Declared, Desired, ProxyOptions
from meshserve.model.declared import Change, ChangeKind, Declaration, FieldChange


def changes(desired: Desired, file: Declared) -> tuple[Change, ...]:
    """What applying a file does to each application: those of the file in its order, then those that it deletes."""
    gone = sorted(declared_names(desired) - {one.name for one in file.applications})
    return (
        *(_change(desired, one) for one in file.applications),
        *(Change(name, ChangeKind.DELETE) for name in gone),
    )


def _change(desired: Desired, declaration: Declaration) -> Change:
    name, before = declaration.name, desired.applications.get(declaration.name)
    if before is None or before.deleting:
        return Change(name, ChangeKind.ADD, _fields("{}", declaration.config_json))
    if before.declaration is None:
        return Change(name, ChangeKind.REBUILD, _fields("{}", declaration.config_json))
    fields = _fields(before.declaration.config_json, declaration.config_json)
    if before.declaration.code_key != declaration.code_key or (before.build is not None and before.build.failure):
        return Change(name, ChangeKind.REBUILD, fields)
    same = before.declaration.says_the_same(declaration)
    return Change(name, ChangeKind.UNCHANGED) if same else Change(name, ChangeKind.UPDATE, fields)


def _fields(before_json: str, after_json: str) -> tuple[FieldChange, ...]:
    before, after = _flat(json.loads(before_json), ""), _flat(json.loads(after_json), "")
    return tuple(
        FieldChange(path, before.get(path, ""), after.get(path, ""))
        for path in {**before, **after}
        if before.get(path) != after.get(path)
    )


def _flat(value: Any, path: str) -> dict[str, str]:
    """Every leaf as JSON, by its path. Deployments go by their names: their order says nothing."""
    if isinstance(value, Mapping) and value:
        parts = {f"{path}.{name}" if path else str(name): part for name, part in value.items()}
    elif path == "deployments" and isinstance(value, list):
        parts = {f"{path}[{one['name']}]": _without_name(one) for one in value}
    else:
        return {path: json.dumps(value)}
    return {leaf: text for name, part in parts.items() for leaf, text in _flat(part, name).items()}


def _without_name(deployment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in deployment.items() if name != "name"}


def config_in_force(desired: Desired) -> str:
    """The file last applied as JSON, with what is still there of its applications; empty when none was applied."""
    if not desired.config_json:
        return ""
    file = json.loads(desired.config_json)
    living = declared_names(desired)
    return json.dumps({**file, "applications": [one for one in file["applications"] if _name(one) in living]})


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("name", "default"))


def ignored_options(desired: Desired, file: Declared) -> tuple[str, ...]:
    """Options of proxies that the file sets in another way than they are in force, by their paths."""
    found = desired.proxies
    if found is None:
        return ()
    before, after = _proxy_fields(found), _proxy_fields(file.proxies)
    written = _flat({name: value for name, value in json.loads(file.config_json).items() if name in _PROXIES}, "")
    return tuple(path for path in written if path in after and after[path] != before.get(path))


_PROXIES = ("proxy_location", "http_options", "grpc_options")


def _proxy_fields(options: ProxyOptions) -> dict[str, str]:
    parts = {"http_options": options.http_json, "grpc_options": options.grpc_json}
    read = {name: json.loads(text or "{}") for name, text in parts.items()}
    return _flat({"proxy_location": options.location, **read}, "")
