"""Metrics are declared once and well; what is shipped for Grafana and Prometheus names nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from meshserve.telemetry.catalogue import BY_NAME, CATALOGUE, FROM_PROMETHEUS_CLIENT
from meshserve.telemetry.declared import Declared, Kind, counter, gauge, histogram
from meshserve.telemetry.export import ASSETS, asset, export_assets

PROCESS_LABELS = {"component", "application", "deployment", "replica", "instance"}
METRIC = re.compile(r"\b(?:meshserve|grpc_server|process|python)_[a-z0-9_]+")
SELECTOR = re.compile(r"((?:meshserve|grpc_server)_[a-z0-9_]+)\{([^}]*)\}")


def shipped_expressions() -> list[str]:
    dashboard = json.loads(asset("dashboard.json"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    rules = [rule["expr"] for group in yaml.safe_load(asset("alerts.yaml"))["groups"] for rule in group["rules"]]
    return queries + variables + rules


def declared_name(series: str) -> str:
    """The metric that a series belongs to."""
    base = re.sub("_(bucket|sum|count)$", "", series)
    return base if base in BY_NAME and BY_NAME[base].kind is Kind.HISTOGRAM else series


def test_every_metric_is_declared_once_under_the_meshs_name_or_the_ecosystems() -> None:
    assert len(BY_NAME) == len(CATALOGUE)
    assert all(one.name.startswith(("meshserve_", "grpc_server_")) for one in CATALOGUE)
    assert all(one.help.endswith((".", "internal.")) for one in CATALOGUE)


def test_no_metric_ends_like_the_series_of_a_histogram() -> None:
    assert not [one.name for one in CATALOGUE if one.name.endswith(("_bucket", "_sum", "_count"))]


@pytest.mark.parametrize(
    "declare",
    [
        lambda: counter("meshserve_things", "No total."),
        lambda: counter("meshserve_things_seconds_total", "The unit is not said.", unit="bytes"),
        lambda: gauge("Meshserve_things", "A capital."),
        lambda: histogram("meshserve_things", "No buckets.", buckets=()),
        lambda: Declared("meshserve_things", Kind.GAUGE, "Buckets.", buckets=(1.0,)),
    ],
)
def test_a_declaration_that_breaks_the_rules_is_refused(declare: Callable[[], Declared]) -> None:
    with pytest.raises(ValueError, match="eshserve_things"):
        declare()


def test_dashboard_and_alerts_name_only_metrics_that_exist() -> None:
    named = {name for expression in shipped_expressions() for name in METRIC.findall(expression)}
    unknown = {name for name in named if declared_name(name) not in {*BY_NAME, *FROM_PROMETHEUS_CLIENT}}
    assert not unknown


def test_dashboard_and_alerts_select_by_labels_that_exist() -> None:
    for expression in shipped_expressions():
        for series, selector in SELECTOR.findall(expression):
            used = set(re.findall(r"([a-z_]+)\s*(?:=~|!=|!~|=)", selector))
            assert used <= {*BY_NAME[declared_name(series)].labels, *PROCESS_LABELS}, expression


def test_every_declared_metric_is_on_the_dashboard() -> None:
    panels = [panel for panel in json.loads(asset("dashboard.json"))["panels"] if "targets" in panel]
    shown = {declared_name(name) for panel in panels for name in METRIC.findall(json.dumps(panel["targets"]))}
    assert {one.name for one in CATALOGUE} <= shown


def test_the_documentation_tells_of_every_metric_as_it_is_declared() -> None:
    page = files("meshserve").joinpath("docs", "observability.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \((\w+)\) \| (.*?) \| (.*) \|$", page, re.MULTILINE)
    told = {name: (kind, re.findall("`([a-z_]+)`", labels), text) for name, kind, labels, text in rows}
    assert told == {one.name: (one.kind.value, list(one.labels), one.help) for one in CATALOGUE}


def test_export_writes_the_dashboard_and_the_rules_to_a_folder(tmp_path: Path) -> None:
    written = export_assets(tmp_path / "new" / "folder")
    assert [path.name for path in written] == [f"meshserve-{name}" for name in ASSETS]
    assert json.loads(written[0].read_text())["title"] == "meshserve"
    assert len(yaml.safe_load(written[1].read_text())["groups"]) == 3
