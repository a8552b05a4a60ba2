"""Longest-prefix routing and request labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshserve.core.routes import RouteMatcher, label_of
from meshserve.model.ids import DeploymentId
from meshserve.model.targets import ApplicationRoute


def route(prefix: str | None, patterns: tuple[str, ...] = ()) -> ApplicationRoute:
    return ApplicationRoute(
        app=str(prefix), route_prefix=prefix, ingress=DeploymentId("a", "b"), route_patterns=patterns
    )


def matched(prefixes: list[str], path: str) -> str | None:
    found = RouteMatcher(map(route, prefixes)).match(path)
    return found.route_prefix if found else None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/a/x", "/a"),
        ("/ab", None),
        ("/ab/a", None),
        ("/", None),
        ("", None),
        ("*", None),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a/bc", "/a"),
        ("/a/b/c/d", "/a/b"),
        ("/a//b", "/a"),
        ("//a", None),
    ],
)
def test_prefix_matches_whole_segments_and_the_longest_wins(path: str, expected: str | None) -> None:
    assert matched(["/a", "/a/b"], path) == expected


@pytest.mark.parametrize("path", ["/", "", "/x", "/ab", "*", "//"])
def test_root_is_the_catch_all(path: str) -> None:
    assert matched(["/a", "/"], path) == "/"


def test_application_without_prefix_is_not_reachable() -> None:
    assert RouteMatcher([route(None)]).match("/") is None


def test_no_applications_match_nothing() -> None:
    assert RouteMatcher().match("/x") is None


def test_hostile_path_costs_no_more_than_a_short_one() -> None:
    assert matched(["/a"], "/a" + "/" * 1_000_000) == "/a"
    assert matched(["/a"], "/" * 1_000_000) is None


SEGMENT = st.text(alphabet="ab", min_size=1, max_size=2)
PREFIX = st.lists(SEGMENT, max_size=3).map(lambda parts: "/" + "/".join(parts))
PATH = st.lists(st.text(alphabet="ab", max_size=2), max_size=5).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(PREFIX, unique=True, max_size=6), PATH)
def test_matcher_agrees_with_trying_every_prefix(prefixes: list[str], path: str) -> None:
    fitting = [p for p in prefixes if p == "/" or path == p or path.startswith(p + "/")]
    assert matched(prefixes, path) == max(fitting, key=len, default=None)


def test_label_is_the_pattern_that_matched() -> None:
    shop = route("/shop", ("/items/{id}", "/files/{rest:path}", "/n/{n:int}", "/"))
    assert label_of(shop, "/shop/items/7") == "/shop/items/{id}"
    assert label_of(shop, "/shop/files/a/b.txt") == "/shop/files/{rest:path}"
    assert label_of(shop, "/shop/n/12") == "/shop/n/{n:int}"
    assert label_of(shop, "/shop/n/x") == "/shop"
    assert label_of(shop, "/shop") == "/shop/"
    assert label_of(shop, "/shop/items/7/reviews") == "/shop"


def test_label_is_the_first_pattern_for_the_method_or_else_for_the_path() -> None:
    shop = route("/", ("GET,HEAD /{status}", "PUT /fail", "/ws"))
    assert label_of(shop, "/fail", "GET") == "/{status}"
    assert label_of(shop, "/fail", "PUT") == "/fail"
    assert label_of(shop, "/fail", "PATCH") == "/{status}"
    assert label_of(shop, "/ws") == "/ws"


def test_label_without_patterns_is_the_prefix() -> None:
    assert label_of(route("/"), "/anything") == "/"
    assert label_of(route("/", ("/items/{id}",)), "/items/1") == "/items/{id}"
