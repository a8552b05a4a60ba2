"""What `deploy` and `run` are given: a configuration file, or an import path that stands for a file of one entry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from meshserve.api.merging import merged_environment
from meshserve.api.schema_application import ServeApplicationSchema
from meshserve.api.schema_file import ServeDeploySchema
from meshserve.api.validation import mistakes
from meshserve.cli.config_file import ConfigFile
from meshserve.cli.failures import CommandError
from meshserve.cli.target import read_arguments


@dataclass(frozen=True, slots=True)
class Source:
    """A file to apply.

    Attributes:
        schema: its content.
        import_paths: where modules are that it names.
    """

    schema: ServeDeploySchema
    import_paths: tuple[str, ...]

    @property
    def json(self) -> str:
        """Its content as the control API takes it."""
        return json.dumps(self.schema.model_dump(mode="json", exclude_unset=True))

    def within(self, environment: Mapping[str, Any]) -> Source:
        """The same with a runtime environment around those of its applications."""
        if not environment:
            return self
        plain = self.schema.model_dump(mode="json", exclude_unset=True)
        for entry in plain["applications"]:
            entry["runtime_env"] = merged_environment(environment, entry.get("runtime_env") or {})
        return Source(ServeDeploySchema.model_validate(plain), self.import_paths)


def is_file(target: str) -> bool:
    """Whether a target is a file; otherwise it is an import path.

    Raises:
        CommandError: it looks like a file that does not exist.
    """
    if Path(target).is_file():
        return True
    if target.endswith((".yaml", ".yml", ".json")):
        raise CommandError(f"There is no file {target!r}.")
    return False


def file_source(path: str, app_dir: str) -> Source:
    """A file; modules beside it and in `app_dir` are found."""
    folders = dict.fromkeys((str(Path(app_dir).absolute()), str(Path(path).absolute().parent)))
    return Source(ConfigFile(path).schema, tuple(folders))


def path_source(
    target: str, arguments: Sequence[str], name: str | None, environment: Mapping[str, Any], app_dir: str
) -> Source:
    """An import path, with arguments for a function that builds an application."""
    entry: dict[str, Any] = {"import_path": target, "args": read_arguments(arguments), "runtime_env": environment}
    if name is not None:
        entry["name"] = name
    written = {field: value for field, value in entry.items() if value != {}}
    try:
        schema = ServeApplicationSchema.model_validate(written)
    except ValidationError as error:
        raise CommandError(" ".join(f"{one}." for one in mistakes(error))) from error
    return Source(ServeDeploySchema(applications=[schema]), (str(Path(app_dir).absolute()),))
