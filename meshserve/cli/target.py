"""The application that a command names: MODULE:APPLICATION, and KEY=VALUE arguments for a function that builds one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from meshserve.api.application import Application
from meshserve.api.builder import application_of
from meshserve.cli.failures import CommandError
from meshserve.rpc.import_path import import_object


def load_application(target: str, arguments: Sequence[str], app_dir: str) -> Application:
    """Imports or builds an application; raises what that raises.

    Args:
        target: its import path.
        arguments: each as KEY=VALUE.
        app_dir: a folder to import from, besides those Python knows.

    Raises:
        CommandError: an argument is not written KEY=VALUE.
    """
    sys.path.insert(0, str(Path(app_dir).absolute()))
    return application_of(import_object(target), read_arguments(arguments))


def read_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """The arguments by name; raises CommandError when one is not written KEY=VALUE."""
    pairs = [argument.partition("=") for argument in arguments]
    wrong = [key for key, equals, _ in pairs if not (key and equals)]
    if wrong:
        raise CommandError(f"Arguments are written KEY=VALUE, unlike {wrong[0]!r}.")
    return {key: value for key, _, value in pairs}
