"""The page in a browser: everything can be read, on a desk and on a phone, and nothing that the mesh says is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Tab, browser
from dashboard_mesh import HOSTILE, DashboardMesh, add_shop, dashboard_mesh, traffic

from meshserve.rpc.io_thread import io_thread

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def mesh() -> Iterator[DashboardMesh]:
    made = dashboard_mesh()
    found: Any = io_thread().run(made.__aenter__(), timeout_s=30)
    add_shop(found)
    traffic(found, 100)
    yield found
    io_thread().run(made.__aexit__(None, None, None), timeout_s=30)


def test_everything_can_be_read_and_live_figures_come(tab: Tab, mesh: DashboardMesh, tmp_path: Path) -> None:
    tab.open(f"{mesh.url}/-/dashboard")
    tab.until("state")
    traffic(mesh, 100)
    tab.until("state.window_s")
    text = tab.text()
    for shown in ("1 application not well", "shop", "Embedder", "Deployment 'Vision' is DEPLOY_FAILED.", "10.0.0.1"):
        assert shown in text
    assert tab.value("document.querySelectorAll('.graph .edge.live').length") == 4
    tab.screenshot(tmp_path / "desk.png")
    assert (tmp_path / "desk.png").stat().st_size > 20_000


def test_what_the_mesh_says_is_shown_as_text_and_never_run(tab: Tab, mesh: DashboardMesh) -> None:
    tab.open(f"{mesh.url}/-/dashboard")
    tab.until("state")
    assert HOSTILE in tab.text() and f"ValueError: {HOSTILE}" in tab.text()
    assert tab.value("document.querySelectorAll('img, script[src], link:not([rel=icon])').length") == 0
    assert tab.problems == []


def test_replicas_unfold_and_stay_so_while_figures_change(tab: Tab, mesh: DashboardMesh) -> None:
    tab.open(f"{mesh.url}/-/dashboard")
    tab.until("state")
    assert "ranker-1" not in tab.value("document.getElementById('applications').innerText")
    tab.value("[...document.querySelectorAll('button.fold')].find((one) => one.innerText === 'Ranker').click()")
    looked = tab.value("state.at_s")
    tab.until(f"state.at_s > {looked}")
    applications = tab.value("document.getElementById('applications').innerText")
    assert "ranker-1" in applications and "/logs/replica_shop_Ranker_1.log" in applications
    assert "embedder-1" not in applications


def test_only_errors_are_shown_when_asked_for(tab: Tab, mesh: DashboardMesh) -> None:
    tab.open(f"{mesh.url}/-/dashboard")
    tab.until("state")
    tab.value("[...document.querySelectorAll('.choice button')].at(-1).click()")
    events = tab.value("document.getElementById('notices').innerText")
    assert "ValueError" in events and "'shop' is RUNNING" not in events


def test_a_phone_shows_it_without_scrolling_sideways(tab: Tab, mesh: DashboardMesh, tmp_path: Path) -> None:
    tab.open(f"{mesh.url}/-/dashboard", 390, 844, phone=True)
    tab.until("state")
    assert tab.value("document.documentElement.scrollWidth") <= 390
    assert "Calls/s" in tab.value("getComputedStyle(document.querySelectorAll('td')[3], '::before').content")
    tab.screenshot(tmp_path / "phone.png")
    assert (tmp_path / "phone.png").stat().st_size > 20_000


def test_nothing_is_cut_off_whatever_the_width(tab: Tab, mesh: DashboardMesh) -> None:
    tab.open(f"{mesh.url}/-/dashboard")
    tab.until("state")
    for width in (320, 600, 820, 981, 1100, 1920):
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        tab.until(f"window.innerWidth === {width}")
        tables = (
            "[...document.querySelectorAll('table')].every((one) => one.scrollWidth <= one.parentElement.clientWidth)"
        )
        assert tab.value(f"document.documentElement.scrollWidth <= {width} && {tables}"), width


def test_who_looks_is_told_when_the_controller_or_the_proxy_is_away(tab: Tab, mesh: DashboardMesh) -> None:
    tab.open(f"{mesh.url}/-/dashboard")
    tab.until("state")
    mesh.controller.away = True
    tab.until("document.getElementById('banner').innerText.includes('The controller does not answer')")
    assert "Embedder" in tab.text()
