"""Which application answers a path, and under which label its requests are counted. Called once per HTTP request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from meshserve.model.replace import replace
from meshserve.model.targets import ApplicationRoute

_PARAMETER = re.compile(r"{([^}:]+)(?::([^}]+))?}")

_CONVERTORS = {"path": ".*", "int": "[0-9]+", "float": r"[0-9]+(?:\.[0-9]+)?", "uuid": "[0-9a-fA-F-]{32,36}"}
"""What a parameter of a route pattern matches, by its convertor; without one it is a segment."""


class RouteMatcher:
    """Finds the application with the longest route prefix.

    A prefix matches whole segments: `/a` answers for `/a`, `/a/` and `/a/x`, not for `/ab`. `/` answers for the rest.
    What is found by a former prefix has that as its route prefix, as its requests know it.

    Args:
        routes: the applications; those without a prefix are left out.
    """

    def __init__(self, routes: Iterable[ApplicationRoute] = ()) -> None:
        self._routes: dict[str, ApplicationRoute] = {}
        for route in routes:
            self._routes |= {prefix: replace(route, route_prefix=prefix) for prefix in route.former_prefixes}
            if route.route_prefix is not None:
                self._routes[route.route_prefix] = route
        self._longest = max((len(prefix) for prefix in self._routes), default=0)

    def match(self, path: str) -> ApplicationRoute | None:
        """The application for a path, or None.

        Looks only at the path's beginnings that end at a slash, from the longest that any prefix has: the work
        does not grow with the number of applications, nor with what a hostile client puts behind the prefix.
        """
        routes = self._routes
        longest = self._longest
        if len(path) > longest:
            boundary = path[longest] == "/"
            path = path[:longest] if boundary else path[: path.rfind("/", 0, longest) + 1 or 1]
        while True:
            route = routes.get(path)
            if route is not None:
                return route
            cut = path.rfind("/")
            if cut <= 0:
                return routes.get("/")
            path = path[:cut]


def label_of(route: ApplicationRoute, path: str, method: str = "") -> str:
    """The label of a request: prefix and pattern (`/shop/items/{id}`) when its application has one, else the prefix.

    As in Starlette, the first pattern that takes path and method counts, or else the first that takes the path.

    Args:
        route: what `RouteMatcher.match` found.
        path: the full path, prefix included.
        method: of the request, as `GET`.
    """
    prefix = route.route_prefix or "/"
    if not route.route_patterns:
        return prefix
    base = "" if prefix == "/" else prefix
    rest = path[len(base) :] or "/"
    near = ""
    for written in route.route_patterns:
        methods, _, pattern = written.rpartition(" ")
        if _compiled(pattern).fullmatch(rest):
            if not methods or method in methods.split(","):
                return base + pattern
            near = near or base + pattern
    return near or prefix


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a route pattern; parameters are `{name}` or `{name:convertor}`."""
    parts, at = [], 0
    for parameter in _PARAMETER.finditer(pattern):
        parts.append(re.escape(pattern[at : parameter.start()]))
        parts.append(_CONVERTORS.get(parameter.group(2) or "", "[^/]+"))
        at = parameter.end()
    return re.compile("".join(parts) + re.escape(pattern[at:]))
