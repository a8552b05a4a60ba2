"""Long texts on one line."""

from __future__ import annotations

_TRACEBACK = "Traceback (most recent call last):"


def one_line(text: str, limit: int) -> str:
    """The first and the last line of a text: of a traceback, what failed and how. What is left is cut at the limit."""
    plain = text.replace(_TRACEBACK, "")
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    brief = " ".join((lines[0], lines[-1])) if len(lines) > 1 else "".join(lines)
    return brief if len(brief) <= limit else brief[: limit - 1] + "…"
