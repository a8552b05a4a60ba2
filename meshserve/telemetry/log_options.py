"""How a process logs: who it is, and the fields of `logging_config`."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from meshserve.settings import Settings

_UNFIT = re.compile(r'[^\x20-\x7e]|[<>:"/\\|?*]')
"""What a file's name should not have on some system or other."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes a log.

    Attributes:
        component: controller, proxy or replica.
        name: how text lines name it: the component, of a replica `application_deployment`.
        id: a process id, a node's address, a replica's tag.
        worker: the number of a proxy's process that is not its first.
        process: what else names the process, as fields of JSON lines: `worker_id`, `actor_id`, `actor_name`.
    """

    component: str
    name: str
    id: str
    application: str = ""
    deployment: str = ""
    replica: str = ""
    node_id: str = ""
    worker: str = ""
    process: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of_controller(node_id: str = "") -> Identity:
        """The controller of this process."""
        return Identity("controller", "controller", str(os.getpid()), node_id=node_id)

    @staticmethod
    def of_proxy(node_id: str, node_ip: str, worker: str = "") -> Identity:
        """The proxy of a node, or another process of it."""
        id_ = f"{node_ip}_worker_{worker}" if worker else node_ip
        return Identity("proxy", "proxy", id_, node_id=node_id, worker=worker)

    @staticmethod
    def of_replica(application: str, deployment: str, tag: str, node_id: str = "") -> Identity:
        """A replica."""
        return Identity("replica", f"{application}_{deployment}", tag, application, deployment, tag, node_id)

    @property
    def file_name(self) -> str:
        """`controller_<pid>.log`, `proxy_<node ip>.log` or `replica_<application>_<deployment>_<tag>.log`."""
        parts = [self.component, self.id] if self.name == self.component else [self.component, self.name, self.id]
        return _UNFIT.sub("_", "_".join(parts)) + ".log"

    @property
    def labels(self) -> dict[str, str]:
        """The labels that tell this process's metrics from others'."""
        own = {"application": self.application, "deployment": self.deployment, "replica": self.replica}
        own["worker"] = self.worker
        return {"component": self.component, **{label: value for label, value in own.items() if value}}


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What is logged, how and where to.

    Attributes:
        encoding: "TEXT" or "JSON".
        level: of `logging`.
        folder: where the file is.
        access: whether each request is logged.
        attributes: of `logging.LogRecord`, added to each line.
        max_bytes: a file that would be longer is put aside; 0 for never.
        backups: how many of those are kept.
        to_stderr: whether lines go to standard error as well.
    """

    folder: Path
    encoding: str = "TEXT"
    level: int = logging.INFO
    access: bool = True
    attributes: tuple[str, ...] = ()
    max_bytes: int = 0
    backups: int = 0
    to_stderr: bool = True

    @staticmethod
    def from_settings(folder: Path, settings: Settings) -> LogOptions:
        """The default of a process."""
        level = logging.getLevelNamesMapping().get(settings.log_level, logging.INFO)
        return LogOptions(
            folder,
            settings.log_encoding,
            level,
            max_bytes=settings.log_max_bytes,
            backups=settings.log_backups,
            to_stderr=settings.log_to_stderr,
        )

    def changed(self, config: Mapping[str, Any] | None) -> LogOptions:
        """With the fields of a `logging_config` in place of the default's.

        Raises:
            ValueError: a level that `logging` does not know.
        """
        if not config:
            return self
        folder = config.get("logs_dir")
        return replace(
            self,
            folder=Path(folder) if folder else self.folder,
            encoding=str(config.get("encoding", self.encoding)).upper(),
            level=_level(config.get("log_level", self.level)),
            access=bool(config.get("enable_access_log", self.access)),
            attributes=tuple(config.get("additional_log_standard_attrs") or self.attributes),
        )


def _level(level: str | int) -> int:
    if isinstance(level, int):
        return level
    known = logging.getLevelNamesMapping()
    if level.upper() not in known:
        raise ValueError(f"{level!r} is not a log level; those are {', '.join(known)}.")
    return known[level.upper()]
