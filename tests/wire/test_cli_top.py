"""`meshserve top`, `meshserve metrics export` and the drawing of a terminal."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner, Result
from dashboard_mesh import HOSTILE, add_shop, dashboard_mesh, traffic
from replicas import on_io
from rich.console import Console

from meshserve.cli.main import main
from meshserve.cli.top_view import amount, duration, screen
from meshserve.proxy.options import HttpOptions


async def command(*args: str) -> Result:
    """Runs a command in this process, on a thread of its own."""
    result = await asyncio.to_thread(CliRunner(env={"COLUMNS": "120"}).invoke, main, args)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@on_io
async def test_top_prints_what_the_page_shows() -> None:
    async with dashboard_mesh() as mesh:
        add_shop(mesh)
        traffic(mesh, 100)

        async def go_on() -> None:
            while True:
                await asyncio.sleep(0.05)
                traffic(mesh, 10)

        going = asyncio.create_task(go_on())
        printed = (await command("top", mesh.url, "--once", "--interval", "1.2")).output
        going.cancel()
    assert "shop  /shop" in printed and HOSTILE in printed and "deploy failed" in printed
    front = next(line.split() for line in printed.splitlines() if line.strip().startswith("Front"))
    assert front[1:3] == ["healthy", "2/2"] and float(front[3]) > 0 and front[-2:] == ["6/16", "0"]
    assert "Request failed. ValueError" in printed


@on_io
async def test_top_says_what_is_wrong_with_an_address() -> None:
    async with dashboard_mesh(HttpOptions(dashboard=False)) as mesh:
        off = await command("top", mesh.url)
    nobody = await command("top", "localhost:1")
    nonsense = await command("top", "ftp://x")
    assert [one.exit_code for one in (off, nobody, nonsense)] == [1, 1, 1]
    assert "answers 404" in off.output and "dashboard: false" in off.output
    assert "No mesh answers at http://localhost:1/-/dashboard/state" in nobody.output
    assert "such as http://localhost:8000" in nonsense.output


@on_io
async def test_a_screen_tells_when_the_controller_is_away_and_when_nothing_newer_came() -> None:
    async with dashboard_mesh() as mesh, httpx.AsyncClient() as client:
        mesh.controller.away = True
        state: dict[str, Any] = (await client.get(f"{mesh.url}/-/dashboard/state")).json()
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(screen(state), screen(state, "No mesh answers."))
    text = console.export_text()
    assert "The controller does not answer" in text and "No mesh answers." in text and "no applications" in text


def test_numbers_are_short() -> None:
    assert [amount(value) for value in (None, 0, 3, 3.14159, 314.1, 31415)] == ["-", "0", "3", "3.1", "314", "31.4k"]
    assert [duration(value) for value in (None, 0.0004, 0.0123, 3.1)] == ["-", "400 µs", "12.3 ms", "3.1 s"]


def test_export_writes_the_dashboard_and_the_alerts(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["metrics", "export", str(tmp_path / "monitoring")])
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "monitoring").iterdir()) == [
        "meshserve-alerts.yaml",
        "meshserve-dashboard.json",
    ]
    (tmp_path / "file").touch()
    refused = CliRunner().invoke(main, ["metrics", "export", str(tmp_path / "file" / "x")])
    assert refused.exit_code == 1 and "The files were not written" in refused.output
