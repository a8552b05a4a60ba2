"""Watching a folder for changes of code. Looks at times and sizes of files: that works on every file system."""

from __future__ import annotations

import os
import time
from pathlib import Path

PERIOD_S = 0.5
"""Between looks."""

_SUFFIXES = (".py", ".yaml", ".yml", ".json", ".toml")

Picture = dict[str, tuple[float, int]]
"""Files with their times of change and sizes."""


def picture(folder: Path) -> Picture:
    """The files of a folder and its subfolders that applications are made of; hidden folders are left out."""
    found: Picture = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__", "node_modules"))]
        for name in names:
            if name.endswith(_SUFFIXES):
                path = os.path.join(place, name)
                try:
                    state = os.stat(path)
                except FileNotFoundError:  # an editor was replacing it
                    continue
                found[path] = state.st_mtime, state.st_size
    return found


def wait_for_change(folder: Path, before: Picture) -> tuple[Picture, list[str]]:
    """Waits until files differ, and have come to rest; returns the new picture and the names of what differs."""
    while (now := picture(folder)) == before:
        time.sleep(PERIOD_S)
    while (later := picture(folder)) != now:
        now = later
        time.sleep(PERIOD_S)
    differs = sorted(path for path in {**before, **now} if before.get(path) != now.get(path))
    return now, [os.path.relpath(path, folder) for path in differs]
