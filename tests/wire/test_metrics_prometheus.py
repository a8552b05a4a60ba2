"""A real Prometheus scrapes the ingress, answers the dashboard's queries and loads the rules that are shipped."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conditions import until
from http_mesh import serving

from meshserve.telemetry.export import asset, export_assets

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")

CONFIG = """
global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: meshserve
    static_configs: [{{targets: ["{target}"]}}]
"""


class Model:
    async def __call__(self, request: Any) -> str:
        return "hello"


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[httpx.Client]:
    """A server that scrapes one target, and a client of its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    _, rules = export_assets(folder)
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=rules, target=target))
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=10) as client:
            yield client
    finally:
        server.terminate()
        server.wait(10)


def asked(client: httpx.Client, query: str) -> list[Any]:
    """What a query gives; fails for one that Prometheus does not understand, empty while it starts."""
    try:
        answer = client.get("/query", params={"query": query}).json()
    except (httpx.TransportError, json.JSONDecodeError):
        return []
    assert answer["status"] == "success", (query, answer)
    found: list[Any] = answer["data"]["result"]
    return found


def queries() -> list[str]:
    """The dashboard's, with its variables filled in."""
    panels = json.loads(asset("dashboard.json"))["panels"]
    texts = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    values = {"$__rate_interval": "1m", "$application": ".*", "$deployment": ".*"}
    for name, value in values.items():
        texts = [text.replace(name, value) for text in texts]
    return texts


def test_prometheus_scrapes_and_answers_every_query_of_the_dashboard(tmp_path: Path) -> None:
    with serving(Model, name="watched") as served, prometheus(tmp_path, served.mesh.url.removeprefix("http://")) as api:
        p99 = "histogram_quantile(0.99, sum by (le) (rate(meshserve_replica_call_duration_seconds_bucket[1m])))"

        def traffic_shows() -> bool:
            served.client.get("/")
            found = asked(api, p99)
            return bool(found) and 0 < float(found[0]["value"][1]) < 10

        asyncio.run(until(traffic_shows, timeout_s=30))
        for query in queries():
            asked(api, query)
        rate = 'sum(rate(meshserve_http_requests_total{application="watched"}[1m]))'
        assert float(asked(api, rate)[0]["value"][1]) > 0
        (target,) = api.get("/targets").json()["data"]["activeTargets"]
        assert target["health"] == "up" and target["lastError"] == ""
        groups = api.get("/rules").json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) >= 15 and not [rule for rule in rules if rule.get("lastError")]
