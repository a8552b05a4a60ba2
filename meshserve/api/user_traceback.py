"""Tracebacks without the machinery: what the author of an application can do something about."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import CodeType, TracebackType

import meshserve

_OURS = str(Path(meshserve.__file__).parent)
_EXAMPLES = str(Path(meshserve.__file__).parent / "examples")


def users_part(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the first frame of user code on; None when there is none."""
    while trace is not None and _is_machinery(trace.tb_frame.f_code):
        trace = trace.tb_next
    return trace


def users_text(error: BaseException) -> str:
    """What user code raised, as text: its part of the traceback and of its causes, and the errors themselves."""
    told = []
    cause: BaseException | None = error
    while cause is not None:
        told.append(
            "".join(traceback.format_exception(type(cause), cause, users_part(cause.__traceback__), chain=False))
        )
        cause = cause.__cause__
    return "\nThe cause of:\n\n".join(reversed(told)).strip()


def _is_machinery(code: CodeType) -> bool:
    filename = code.co_filename
    if (filename, code.co_name) == ("<string>", "__init__"):  # the constructor of a dataclass
        return True
    inside = filename.startswith(_OURS) and not filename.startswith(_EXAMPLES)
    return inside or "importlib" in filename or filename.startswith("<frozen")
