"""Applications that move to another route prefix."""

from control_pictures import MODEL

from meshserve.core import desire
from meshserve.core.prefixes import leave_prefixes
from meshserve.core.route_table import route_table
from meshserve.core.routes import RouteMatcher
from meshserve.core.targets import UNPUBLISHED
from meshserve.model.control import ApplicationSpec, DeploymentSpec, Desired
from meshserve.model.ids import DeploymentId
from meshserve.wire.stored import application_from_record, application_record
from meshserve.wire.targets import routes_from_proto, routes_to_proto


def app(prefix, name="app"):
    return ApplicationSpec(name, (DeploymentSpec(DeploymentId(name, MODEL.name), "v1"),), MODEL.name, prefix)


def after(*changes):
    """Applications set one after the other; those of a list at once."""
    desired = Desired()
    for change in changes:
        desired = desire.set_applications(desired, change if isinstance(change, list) else [change], 1.0)
    return desired


def paths(desired):
    """Which application answers at which prefix."""
    matcher = RouteMatcher(route_table(desired, {}, (), UNPUBLISHED).applications)
    found = {path: matcher.match(path) for path in ("/a", "/b", "/c")}
    return {path: (route.app, route.route_prefix) for path, route in found.items() if route is not None}


def test_an_application_that_moves_is_reached_by_both_prefixes_until_it_has_moved():
    desired = after(app("/a"), app("/b"))
    assert paths(desired) == {"/a": ("app", "/a"), "/b": ("app", "/b")}
    assert paths(leave_prefixes(desired, "app", desired.generation)) == {"/b": ("app", "/b")}


def test_moving_on_before_having_moved_keeps_every_prefix_that_was_told():
    desired = after(app("/a"), app("/b"), app("/c"))
    assert paths(desired).keys() == {"/a", "/b", "/c"}
    assert leave_prefixes(desired, "app", desired.generation - 1) is desired, "it was set again meanwhile"


def test_moving_back_makes_a_former_prefix_the_present_one():
    desired = after(app("/a"), app("/b"), app("/a"))
    assert desired.applications["app"].former_prefixes == ("/b",)


def test_an_application_that_is_to_be_reached_no_more_leaves_its_prefix_as_one_that_moves_does():
    desired = after(app("/a"), app(None))
    assert paths(desired) == {"/a": ("app", "/a")}
    assert paths(leave_prefixes(desired, "app", desired.generation)) == {}


def test_who_is_set_to_a_former_prefix_has_it_at_once():
    moving = after(app("/a"), app("/b"))
    taken = desire.set_applications(moving, [app("/a", "other")], 2.0)
    assert paths(taken) == {"/a": ("other", "/a"), "/b": ("app", "/b")}
    assert taken.applications["app"].former_prefixes == ()


def test_applications_can_exchange_their_prefixes():
    desired = after([app("/a", "one"), app("/b", "two")], [app("/b", "one"), app("/a", "two")])
    assert paths(desired) == {"/a": ("two", "/a"), "/b": ("one", "/b")}


def test_a_deleted_application_that_comes_back_elsewhere_has_no_former_prefix():
    deleted = desire.delete_applications(after(app("/a")), ["app"])
    assert paths(desire.set_applications(deleted, [app("/b")], 2.0)) == {"/b": ("app", "/b")}


def test_former_prefixes_survive_the_controller_and_reach_the_proxies():
    desired = after(app("/a"), app("/b"))
    stored, _ = application_from_record(application_record(desired.applications["app"], desired), {})
    assert stored.former_prefixes == ("/a",)
    table = route_table(desired, {}, (), UNPUBLISHED)
    assert routes_from_proto(routes_to_proto(table)) == table
