"""The log of a process: one file, for the loggers `meshserve` and `ray.serve` (the name that ported code uses) and for
the access log. What is not a request goes to standard error besides, where Ray shows it to the driver.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from meshserve.settings import Settings
from meshserve.telemetry.access_log import ACCESS
from meshserve.telemetry.exposition import set_process_labels
from meshserve.telemetry.log_format import Access, Format, make_format
from meshserve.telemetry.log_options import Identity, LogOptions
from meshserve.telemetry.log_writer import LogWriter
from meshserve.telemetry.notices import NOTICES
from meshserve.telemetry.registry import PROCESS

LOGGERS = ("meshserve", "ray.serve")
"""They do not propagate: the root logger is the user's."""

Line: TypeAlias = "str | Access"


class ProcessLog(logging.Handler):
    """See the module. There is one in a process of the mesh, none in a driver.

    Args:
        who: writes.
        options: the process's default.

    Attributes:
        writer: of the file.
    """

    def __init__(self, who: Identity, options: LogOptions) -> None:
        super().__init__()
        self._who = who
        self._default = options
        self._options = options
        self._format: Format = make_format(who, options)
        path = options.folder / who.file_name
        self.writer: LogWriter[Line] = LogWriter(path, self._to_text, options.max_bytes, options.backups)
        self._loggers = tuple(logging.getLogger(name) for name in LOGGERS)

    @property
    def path(self) -> str:
        """The file."""
        return str(self.writer.path)

    def open(self) -> None:
        """Takes over the loggers."""
        for logger in self._loggers:
            logger.addHandler(self)
            logger.propagate = False
        self._apply()

    def configure(self, config: Mapping[str, Any] | None) -> None:
        """Applies the fields of a `logging_config`; what it does not name is as it was when the process began.

        Raises:
            ValueError: a level that `logging` does not know.
        """
        options = self._default.changed(config)
        if options == self._options:
            return
        self._options = options
        self.writer.flush()
        self.writer.path = options.folder / self._who.file_name
        self._format = make_format(self._who, options)
        self._apply()

    def _apply(self) -> None:
        for logger in self._loggers:
            logger.setLevel(self._options.level)
        logs_access = self._options.access and self._options.level <= logging.INFO
        ACCESS.write_to(self.writer.put if logs_access else None)

    def _to_text(self, lines: Sequence[Line]) -> str:
        access = self._format.access
        return "\n".join([line if type(line) is str else access(line) for line in lines] + [""])  # type: ignore[arg-type]  # mypy does not narrow by `type(...) is`, which is the faster question

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            line = self._format.record(record)
        except Exception:  # noqa: BLE001 - arguments that do not fit the message must not end who logs
            self.handleError(record)
            return
        NOTICES.note(record, self._who)
        self.writer.put(line)
        sys.stderr.write(line + "\n")
        if record.levelno >= logging.ERROR:
            self.writer.hurry()

    def flush(self) -> None:
        """Writes everything."""
        self.writer.flush()

    def close(self) -> None:
        """Gives the loggers back and writes everything."""
        for logger in self._loggers:
            logger.removeHandler(self)
            logger.propagate = True
        ACCESS.write_to(None)
        self.writer.close()
        super().close()


_process_log: ProcessLog | None = None


def start_process(who: Identity, log_dir: str, config: Mapping[str, Any] | None = None) -> None:
    """Says who this process is, to its metrics and its log; called once, by the main of a role.

    Args:
        who: this process.
        log_dir: of the Ray session; empty to keep no log.
        config: the fields of a `logging_config`, or None.
    """
    global _process_log
    set_process_labels(who.labels)
    if not log_dir:
        return
    options = LogOptions.from_settings(Path(log_dir) / "meshserve", Settings.from_environment())
    log = _process_log = ProcessLog(who, options)
    PROCESS.add(("log",), lambda: log.writer)
    log.open()
    log.configure(config)


def configure_log(config: Mapping[str, Any] | None) -> None:
    """Applies the fields of a `logging_config` to this process's log, if it keeps one."""
    if _process_log is not None:
        _process_log.configure(config)


def log_path() -> str:
    """The file of this process's log; empty when it keeps none."""
    return _process_log.path if _process_log is not None else ""


def stop_process_log() -> None:
    """Writes what waits and closes the log."""
    global _process_log
    if _process_log is not None:
        _process_log.close()
        _process_log = None
