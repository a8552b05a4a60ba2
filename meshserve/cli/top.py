"""`meshserve top`: the page of a proxy, in a terminal. Needs no Ray: it asks a proxy over HTTP."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.live import Live

from meshserve.cli.failures import CommandError
from meshserve.cli.top_view import screen

TIMEOUT_S = 10.0


@click.command()
@click.argument("url", default="http://localhost:8000")
@click.option("-i", "--interval", type=click.FloatRange(min=0.5), default=2.0, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Print it once. Done anyway where there is no terminal.")
def top(url: str, interval: float, once: bool) -> None:
    """Shows what a mesh is doing, live: applications, deployments, rates, latencies, queues, events.

    URL is where a proxy serves HTTP, or its metrics where these have a port of their own. Ctrl-C ends it.
    """
    console = Console()
    address = _address(url)
    first = _state(address)  # a wrong address is said at once, not drawn
    if once or not sys.stdout.isatty():
        time.sleep(interval)  # a rate takes two looks
        console.print(screen(_state(address)))
        return
    with Live(screen(first), console=console, screen=True, auto_refresh=False) as live:
        shown, failure = first, ""
        try:
            while True:
                time.sleep(interval)
                try:
                    shown, failure = _state(address), ""
                except CommandError as error:
                    failure = error.message
                live.update(screen(shown, failure, console.height), refresh=True)
        except KeyboardInterrupt:
            pass


def _address(url: str) -> str:
    """Where the state is."""
    full = url if "://" in url else f"http://{url}"
    if urlsplit(full).scheme not in ("http", "https") or not urlsplit(full).netloc:
        raise CommandError(f"{url!r} is not the address of a proxy, such as http://localhost:8000.")
    return full.rstrip("/").removesuffix("/-/dashboard") + "/-/dashboard/state"


def _state(address: str) -> dict[str, Any]:
    """What the page shows; see docs/observability.md.

    Raises:
        CommandError: nothing is there, or it is something else.
    """
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            state: dict[str, Any] = json.load(answer)
            return state
    except urllib.error.HTTPError as error:
        raise CommandError(
            f"{address} answers {error.code}: give the address of a proxy, or of its metrics if they have a port of "
            "their own; there is nothing if http_options say `dashboard: false`."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise CommandError(f"No mesh answers at {address}: {reason}.") from error
