"""Which nodes have proxies, and what becomes of one that is not well."""

from dataclasses import replace

import pytest

from meshserve.core import events as ev
from meshserve.core.actions import CheckProxy, DrainProxy, FindProxy, KillProxy, StartProxy
from meshserve.core.fold_proxy import fold_proxy
from meshserve.core.proxies import plan_proxies, proxy_nodes
from meshserve.core.seen import Process, ProxyPhase, ProxyReport, SeenNode, SeenProxy
from meshserve.model.control import ProxyOptions
from meshserve.model.status import ProxyState
from meshserve.model.targets import RouteTable

NODES = {"head": SeenNode("head", is_head=True), "n1": SeenNode("n1"), "n2": SeenNode("n2")}
ROUTES = RouteTable((1, 7))
UP = SeenProxy("n1", ProxyPhase.UP, since=0.0, process=Process("p:1", "n1"))
WELL = ev.ProxyChecked("n1", ProxyReport(routes=(1, 7)), Process("p:1", "n1"))


def step(proxy, now, wanted=("n1",), quick=False):
    found = plan_proxies(ProxyOptions(), {proxy.node_id: proxy}, NODES, frozenset(wanted), quick, now)
    return found.proxies.get(proxy.node_id), found.actions, found.wake_at


@pytest.mark.parametrize(
    ("location", "nodes"),
    [("EveryNode", {"head", "n1"}), ("HeadOnly", {"head"}), ("Disabled", set()), ("NoServer", set())],
)
def test_location_decides_where_proxies_are(location, nodes):
    assert proxy_nodes(ProxyOptions(location), NODES, frozenset({"n1", "gone"})) == nodes


def test_without_options_there_are_none():
    assert proxy_nodes(None, NODES, frozenset({"n1"})) == frozenset()


def test_a_listed_proxy_is_found_again_instead_of_started():
    _, actions, _ = step(replace(UP, phase=ProxyPhase.LISTED), 1.0)
    assert actions == (FindProxy("n1"),)


def test_a_proxy_is_checked_when_due():
    after, actions, _ = step(UP, 1.0)
    assert isinstance(actions[0], CheckProxy)
    assert step(after, 1.0)[1] == ()


def test_a_proxy_is_healthy_once_it_has_the_newest_routes():
    behind = fold_proxy(UP, replace(WELL, report=ProxyReport(routes=(1, 6))), ROUTES, 0.0, 1.0)
    assert behind.status is ProxyState.STARTING and behind.health.check_at < 1.1
    assert fold_proxy(behind, WELL, ROUTES, 0.0, 1.1).status is ProxyState.HEALTHY
    tired = fold_proxy(behind, replace(WELL, report=ProxyReport(routes=(1, 6))), ROUTES, 0.0, 5.1)
    assert tired.status is ProxyState.HEALTHY


def test_what_a_proxy_does_not_serve_and_need_not_is_its_message():
    well = replace(WELL, report=replace(WELL.report, remark="gRPC is not served"))
    proxy = fold_proxy(UP, well, ROUTES, 0.0, 1.0)
    assert (proxy.status, proxy.message) == (ProxyState.HEALTHY, "gRPC is not served")


def test_what_keeps_a_proxy_from_serving_is_its_message_and_it_is_replaced():
    proxy = UP
    failing = replace(WELL, report=ProxyReport(failure="port 8000 is in use"))
    for at in range(3):
        proxy = fold_proxy(proxy, failing, ROUTES, 0.0, float(at))
        assert (proxy.status, proxy.message) == (ProxyState.UNHEALTHY, "port 8000 is in use")
    proxy, actions, _ = step(proxy, 3.0)
    assert actions == (KillProxy("n1"),)
    proxy = fold_proxy(proxy, ev.ProxyDied("n1"), ROUTES, 0.0, 3.1)
    proxy, actions, _ = step(proxy, 3.1)
    assert isinstance(actions[0], StartProxy) and proxy.message == "port 8000 is in use"


def test_restarts_that_do_not_help_come_more_and_more_slowly():
    waits = [
        step(replace(UP, phase=ProxyPhase.WAITING, since=10.0, starts=starts), 10.0)[2] for starts in (1, 2, 3, 20)
    ]
    assert waits == [10.5, 11.0, 12.0, 40.0]


def test_a_proxy_nobody_needs_drains_a_while_and_can_be_called_back():
    draining, actions, _ = step(UP, 1.0, wanted=())
    assert isinstance(actions[0], DrainProxy) and actions[0].draining
    assert draining.status is ProxyState.DRAINING
    rested = replace(draining, health=replace(draining.health, checking=False, check_at=99.0))
    assert step(rested, 30.9, wanted=())[1] == ()
    assert step(rested, 31.0, wanted=())[1] == (KillProxy("n1"),)
    _, actions, _ = step(rested, 5.0)
    assert actions[0] == DrainProxy("n1", "p:1", draining=False)


def test_how_long_it_drains_at_least_is_an_option():
    draining, _, _ = step(UP, 1.0, wanted=())
    rested = replace(draining, health=replace(draining.health, checking=False, check_at=99.0))
    found = plan_proxies(ProxyOptions(min_drain_s=2.0), {"n1": rested}, NODES, frozenset(), False, 3.0)
    assert found.actions == (KillProxy("n1"),)


def test_at_the_end_of_the_mesh_it_is_killed_at_once():
    assert step(UP, 1.0, wanted=(), quick=True)[1] == (KillProxy("n1"),)


def test_a_dead_proxy_is_replaced_at_once():
    dead = fold_proxy(replace(UP, status=ProxyState.HEALTHY), ev.ProxyDied("n1"), ROUTES, 0.0, 5.0)
    killing, actions, _ = step(dead, 5.0)
    assert actions == (KillProxy("n1"),)
    gone = fold_proxy(killing, ev.ProxyDied("n1"), ROUTES, 0.0, 5.0)
    assert isinstance(step(gone, 5.0)[1][0], StartProxy)
