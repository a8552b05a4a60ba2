"""The route prefix as an option of a deployment, as in older releases: that of the ingress is the application's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshserve.api.default import DEFAULT
from meshserve.routing.deprecation import warn_once


def checked_prefix(prefix: Any) -> Any:
    """A route prefix that was written as a deployment's option; `DEFAULT.VALUE` when none was."""
    if prefix is not DEFAULT.VALUE:
        warn_once(
            "route_prefix",
            "The option route_prefix of deployments is that of older releases and will be removed: write "
            "`run(app, route_prefix=...)`, or `route_prefix` of the application in the configuration file.",
        )
    return prefix


def prefix_in_force(wanted: str | None, ingress: Any, others: Sequence[tuple[str, Any]]) -> str | None:
    """The prefix of an application.

    Args:
        wanted: by whoever runs it; `/`, the default, gives way to what the ingress says.
        ingress: the option of its ingress.
        others: name and option of its other deployments.

    Raises:
        ValueError: another one has a prefix as well.
    """
    named = [name for name, prefix in others if prefix not in (DEFAULT.VALUE, None)]
    if named:
        raise ValueError(
            f"Only the ingress deployment of an application can have a route_prefix; {', '.join(named)} has one too."
        )
    own: str | None = wanted if ingress is DEFAULT.VALUE or wanted != "/" else ingress
    return own
