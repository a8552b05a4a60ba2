"""What a configuration file says, in the mesh's terms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class CapacityDirection(IntEnum):
    """Where target capacity is heading, compared with the configuration before."""

    DOWN = -1
    NONE = 0
    UP = 1


@dataclass(frozen=True, slots=True)
class Capacity:
    """How large the applications of the file are to be, while a cluster is being swapped for another.

    Attributes:
        target: in percent; None for full size.
    """

    target: float | None = None
    direction: CapacityDirection = CapacityDirection.NONE


FULL = Capacity()
"""As the code and the file say, not scaled."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a file says of one application.

    Attributes:
        config_json: its entry of the file, as it was written, with sorted keys.
        import_paths: folders to import from, where they exist.
        code_key: names what the application is built from: its import path, arguments and environment.
        route_prefix: None when it is not to be reachable by HTTP.
    """

    name: str
    config_json: str
    import_paths: tuple[str, ...]
    code_key: str
    route_prefix: str | None

    def says_the_same(self, other: Declaration) -> bool:
        """Whether there is nothing to do. From which folder a file was applied makes no difference."""
        return (self.config_json, self.code_key) == (other.config_json, other.code_key)


class ChangeKind(IntEnum):
    """What applying a file does to an application. Numbers are those of the wire."""

    UNCHANGED = 1
    ADD = 2
    UPDATE = 3
    REBUILD = 4
    DELETE = 5


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs.

    Attributes:
        path: from the application's entry on, for example `deployments[Model].num_replicas`.
        before: its value as JSON; empty when it was not written.
        after: the same of the new file.
    """

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Change:
    """What applying a file does to one application."""

    app: str
    kind: ChangeKind
    fields: tuple[FieldChange, ...] = ()
