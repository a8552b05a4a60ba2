"""How a command ends that could not do what it was asked to: what was wrong on standard error, and exit code 1."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from meshserve.api.user_traceback import users_part


@contextmanager
def reporting(what: str) -> Iterator[None]:
    """Turns what the mesh raises into an end of the command.

    Args:
        what: what could not be done, for the message.
    """
    try:
        yield
    except (click.ClickException, BrokenPipeError):
        raise  # whoever read the output has closed it: no more is to be said, and click says nothing
    except Exception as error:
        raise CommandError(f"{what}: {_text(error)}") from error


@contextmanager
def reporting_user_code(what: str) -> Iterator[None]:
    """The same around code of the user, whose part of the traceback is shown."""
    with reporting(what):
        try:
            yield
        except Exception as error:
            for raised in (error.__cause__, error):
                own = users_part(raised.__traceback__) if raised is not None else None
                if raised is not None and own is not None:
                    traceback.print_exception(type(raised), raised, own)
            raise


class CommandError(click.ClickException):
    """Printed as `Error: ...`; the command ends with exit code 1."""


def _text(error: Exception) -> str:
    named = isinstance(error, ImportError | KeyError | AttributeError | NameError | SyntaxError)
    return f"{type(error).__name__}: {error}" if named or not str(error) else str(error)
