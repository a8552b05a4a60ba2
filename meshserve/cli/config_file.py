"""Reading a configuration file: YAML or JSON, checked, with the line of every mistake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import ValidationError

from meshserve.api.file_fields import ignored, misspelt
from meshserve.api.schema_file import ServeDeploySchema
from meshserve.api.validation import Mistake, Place, mistakes
from meshserve.cli.failures import CommandError


class ConfigFile:
    """A file that is valid.

    Args:
        path: of the file.

    Attributes:
        content: what stands in it.
        schema: the same, checked.

    Raises:
        CommandError: it cannot be read, or is not valid; says where.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        text = _read(path)
        node = _compose(path, text)
        self._lines = _lines(node)
        self._repeated = _repeated(node)
        self.content: Any = yaml.safe_load(text)
        self.schema = self._checked()
        for mistake in ignored(self.content):
            click.echo(f"Warning: {path}: {self._told(mistake)}.", err=True)

    def _checked(self) -> ServeDeploySchema:
        if not isinstance(self.content, dict):
            raise CommandError(f"{self.path} is not a configuration file: it must hold fields such as applications.")
        if "applications" not in self.content and "import_path" in self.content:
            raise CommandError(
                f"{self.path} describes one application: put it into a list under the field applications "
                "(ValidationError of ServeDeploySchema)."
            )
        found = [*self._repeated, *misspelt(self.content)]
        places = {mistake.place for mistake in found}
        schema, invalid = _validate(self.content)
        # A misspelt field is often the reason of what the schema says of the level that holds it.
        found += [one for one in invalid if not any(place[: len(one.place)] == one.place for place in places)]
        if found or schema is None:
            raise CommandError(self._refusal(found or invalid))
        return schema

    def _refusal(self, found: Sequence[Mistake]) -> str:
        count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
        lines = "\n".join(f"  {self._told(mistake)}" for mistake in found)
        return f"{self.path} is not valid: {count} (ValidationError of ServeDeploySchema).\n{lines}"

    def _told(self, mistake: Mistake) -> str:
        place = mistake.place
        while place not in self._lines and place:
            place = place[:-1]
        return f"line {self._lines.get(place, 1)}: {mistake}"


def _validate(content: Any) -> tuple[ServeDeploySchema | None, list[Mistake]]:
    try:
        return ServeDeploySchema.model_validate(content), []
    except ValidationError as error:
        return None, mistakes(error)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error


def _compose(path: str, text: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise CommandError(f"{path} is not YAML: {error}") from error
    return node


def _lines(node: yaml.Node | None, place: Place = ()) -> dict[Place, int]:
    """The line of every field and entry."""
    if node is None:
        return {}
    found = {place: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, str(key.value))
            found |= {**_lines(value, here), here: key.start_mark.line + 1}
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            found |= _lines(value, (*place, at))
    return found


def _repeated(node: yaml.Node | None, place: Place = ()) -> list[Mistake]:
    """Fields that stand twice on one level, of which YAML would keep the last without a word."""
    found: list[Mistake] = []
    if isinstance(node, yaml.MappingNode):
        names = [str(key.value) for key, _ in node.value]
        found += [Mistake((*place, name), "it is written twice") for name in {*names} if names.count(name) > 1]
        for key, value in node.value:
            found += _repeated(value, (*place, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            found += _repeated(value, (*place, at))
    return found
