"""Watching a folder for changes of code, and importing it anew.

Looks at times and sizes of files: that works on every file system.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from pathlib import Path

import meshserve

PERIOD_S = 0.5
"""Between looks."""

_SUFFIXES = (".py", ".yaml", ".yml", ".json", ".toml")

Picture = dict[str, tuple[float, int]]
"""Files with their times of change and sizes."""


def picture(folder: Path) -> Picture:
    """The files of a folder and its subfolders that applications are made of; hidden folders are left out."""
    found: Picture = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if _is_of_the_program(place, name)]
        for name in names:
            if name.endswith(_SUFFIXES):
                path = os.path.join(place, name)
                try:
                    state = os.stat(path)
                except FileNotFoundError:  # an editor was replacing it
                    continue
                found[path] = state.st_mtime, state.st_size
    return found


def _is_of_the_program(place: str, name: str) -> bool:
    """Whether a folder is the program's own: not hidden, not made by tools, no environment of installed packages."""
    made = name.startswith(".") or name in ("__pycache__", "node_modules")
    return not made and not os.path.exists(os.path.join(place, name, "pyvenv.cfg"))


def forget_modules(folder: Path) -> None:
    """Modules of a folder are to be imported anew; installed packages and this one's own are not among them."""
    installed = (*map(Path, sysconfig.get_paths().values()), Path(meshserve.__file__).parent)
    for name, module in tuple(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path is None or name == "__main__":
            continue
        place = Path(path).absolute()
        if place.is_relative_to(folder) and not any(place.is_relative_to(other) for other in installed):
            del sys.modules[name]


def wait_for_change(folder: Path, before: Picture) -> tuple[Picture, list[str]]:
    """Waits until files differ, and have come to rest; returns the new picture and the names of what differs."""
    while (now := picture(folder)) == before:
        time.sleep(PERIOD_S)
    while (later := picture(folder)) != now:
        now = later
        time.sleep(PERIOD_S)
    differs = sorted(path for path in {**before, **now} if before.get(path) != now.get(path))
    return now, [os.path.relpath(path, folder) for path in differs]
