"""What is wrong with a configuration file: each mistake with its path, as people write paths."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

Place = tuple[int | str, ...]
"""Where something stands in a file: keys and indices from the top."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong.

    Attributes:
        place: where it is; empty for the file as a whole.
        text: what was wanted, and what was found.
    """

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{path_of(self.place)}: {self.text}" if self.place else self.text


def mistakes(error: ValidationError) -> list[Mistake]:
    """Every mistake that a schema has found, once each."""
    found = {str(mistake): mistake for details in error.errors() for mistake in (_mistake(details),)}
    return list(found.values())


def _mistake(details: ErrorDetails) -> Mistake:
    # pydantic names the branches of unions and the keys of dicts too: they are no part of the file's path.
    place = tuple(part for part in details["loc"] if isinstance(part, int) or part.isidentifier())
    known = tuple(part for part in place if part not in _BRANCHES)
    text = details["msg"].removeprefix("Value error, ").rstrip(".")
    if details["type"] == "missing":
        return Mistake(known, "it is missing")
    if details["type"] == "value_error" or details["type"].startswith("json"):
        return Mistake(known, text)
    return Mistake(known, f"{text[0].lower()}{text[1:]}, not {details['input']!r}")


_BRANCHES = ("int", "str", "float", "bool", "dict", "list")


def path_of(place: Place) -> str:
    """`applications[0].deployments[1].num_replicas`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")
