"""An application that takes as long as whoever has its folder wants."""

import os
import time
from pathlib import Path
from typing import Any

import meshserve as serve

LIGHT: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}, "graceful_shutdown_wait_loop_s": 0.05}


@serve.deployment(**LIGHT)
class Slow:
    """Constructs until there is a file `go`; a call lasts until there is a file `end`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.joinpath(str(os.getpid())).touch()
        self.wait_for("go")

    def __call__(self) -> int:
        return os.getpid()

    def wait_for(self, name: str) -> None:
        while not self.folder.joinpath(name).exists():
            time.sleep(0.02)


def pids(folder: Path) -> list[int]:
    """The processes that began to construct."""
    return [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
