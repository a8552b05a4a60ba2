"""Where a program imports its own modules from, so that replicas can do so too."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path


def import_paths() -> tuple[str, ...]:
    """The folders of `sys.path` that hold neither the standard library nor installed packages.

    Replicas may be processes of another program's job: Ray gives them that program's path, not ours.
    """
    installed = tuple(Path(path) for path in set(sysconfig.get_paths().values()))
    folders = dict.fromkeys(Path(entry or ".").absolute() for entry in sys.path)
    return tuple(str(folder) for folder in folders if folder.is_dir() and not _within(folder, installed))


def _within(folder: Path, others: tuple[Path, ...]) -> bool:
    return any(folder.is_relative_to(other) for other in others)
