"""Flags about the runtime environment of applications, in Ray's terms."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click
import yaml

from meshserve.cli.failures import CommandError

F = TypeVar("F", bound=Callable[..., Any])


def environment_flags(command: F) -> F:
    """`--runtime-env`, `--runtime-env-json` and `--working-dir`."""
    for flag in reversed(
        (
            click.option("--runtime-env", metavar="FILE", help="A YAML file with the runtime environment to run in."),
            click.option("--runtime-env-json", metavar="JSON", help="The same, written here as JSON."),
            click.option("--working-dir", help="Its working_dir: a folder or an archive, in place of the one there."),
        )
    ):
        command = flag(command)
    return command


def environment_of(path: str | None, text: str | None, working_dir: str | None) -> dict[str, Any]:
    """The environment that the flags say; empty for none.

    Raises:
        CommandError: two were given, or one cannot be read.
    """
    if path and text:
        raise CommandError("Give --runtime-env or --runtime-env-json, not both.")
    environment: Any = {}
    try:
        if path:
            with open(path, encoding="utf-8") as file:
                environment = yaml.safe_load(file) or {}
        elif text:
            environment = json.loads(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CommandError(f"The runtime environment cannot be read: {error}") from error
    if not isinstance(environment, dict):
        raise CommandError(f"A runtime environment has fields, unlike {environment!r}.")
    return {**environment, "working_dir": working_dir} if working_dir else environment
