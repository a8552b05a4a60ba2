"""The log of a process: one file, for the loggers `meshserve` and `ray.serve` (the name that ported code uses) and for
the access log. Lines go to standard error besides, where Ray shows them to the driver; of many requests only some do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from meshserve.settings import Settings
from meshserve.telemetry.access_log import ACCESS
from meshserve.telemetry.exposition import set_process_labels
from meshserve.telemetry.log_format import REQUEST, STDERR, Access, Format, make_format
from meshserve.telemetry.log_options import Identity, LogOptions
from meshserve.telemetry.log_streams import log_what_is_printed
from meshserve.telemetry.log_writer import LogWriter
from meshserve.telemetry.notices import NOTICES
from meshserve.telemetry.registry import PROCESS

LOGGERS = ("meshserve", "ray.serve")
"""They do not propagate: the root logger is the user's."""

SHOWN_REQUESTS = 5
"""Of the requests that end within a tenth of a second so many are shown on standard error: people read it, and each of
its lines goes through Ray to the driver. The file has all of them."""

Line: TypeAlias = "str | Access"


class ErrorStream(logging.Handler):
    """Standard error, where Ray shows lines to the driver.

    Args:
        log: knows how lines look and which there are.
    """

    def __init__(self, log: ProcessLog) -> None:
        super().__init__()
        self._log = log

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Handler`: a record may ask to be in the file only."""
        return self._log.filter(record) and bool(getattr(record, STDERR, True))

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            line = self._log.line(record)
        except Exception:  # noqa: BLE001 - the log says what is wrong with it
            return
        sys.stderr.write(f"{line}\n")


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
        self._handlers = (ErrorStream(self), self) if options.to_stderr else (self,)

    @property
    def path(self) -> str:
        """The file."""
        return str(self.writer.path)

    @property
    def target(self) -> ProcessLog:
        """Where lines go: ported code asks a handler for its `target.baseFilename`."""
        return self

    @property
    def baseFilename(self) -> str:  # noqa: N802 - the name of logging's handlers of files
        """The file, by the name that `logging.FileHandler` has for it."""
        return self.path

    def open(self) -> None:
        """Takes over the loggers."""
        for logger in self._loggers:
            for handler in self._handlers:
                logger.addHandler(handler)
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

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Handler`: what deployment code marks as a request's line is treated as one."""
        return bool(super().filter(record)) and (self._options.access or not getattr(record, REQUEST, False))

    def line(self, record: logging.LogRecord) -> str:
        """A record as it is written."""
        return self._format.record(record)

    def _to_text(self, lines: Sequence[Line]) -> str:
        """The text of lines; some of the requests among them also go to standard error."""
        if not all(logger.isEnabledFor(logging.INFO) for logger in self._loggers):
            lines = [line for line in lines if type(line) is str]
        access = self._format.access
        texts = [line if type(line) is str else access(line) for line in lines]  # type: ignore[arg-type]  # mypy does not narrow by `type(...) is`, which is the faster question
        if self._options.to_stderr:
            requests = (text for text, line in zip(texts, lines, strict=True) if type(line) is not str)
            sys.stderr.write("".join(f"{text}\n" for text in islice(requests, SHOWN_REQUESTS)))
        return "\n".join([*texts, ""]) if texts else ""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            line = self.line(record)
        except Exception:  # noqa: BLE001 - arguments that do not fit the message must not end who logs
            self.handleError(record)
            return
        NOTICES.note(record, self._who)
        self.writer.put(line)
        if record.levelno >= logging.ERROR:
            self.writer.hurry()

    def flush(self) -> None:
        """Writes everything."""
        self.writer.flush()

    def close(self) -> None:
        """Gives the loggers back and writes everything."""
        for logger in self._loggers:
            for handler in self._handlers:
                logger.removeHandler(handler)
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
    if not options.to_stderr:
        log_what_is_printed()


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
