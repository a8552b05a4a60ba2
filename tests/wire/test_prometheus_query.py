"""Autoscaling policies and Prometheus: real queries to a server of ours, over loopback."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from meshserve.autoscaling_policy import (
    PrometheusQueryMixin,
    PrometheusSample,
    PrometheusScalar,
    PrometheusVector,
)


class Prometheus(ThreadingHTTPServer):
    """Answers each query as told.

    Attributes:
        answers: query -> its result, or None to refuse it.
        asked: path and headers of every request.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Prometheus

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append((parts.path, dict(self.headers)))
        data = self.server.answers.get(parse_qs(parts.query)["query"][0])
        answer = {"status": "success", "data": data} if data else {"status": "error", "error": "no such metric"}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


class Policy(PrometheusQueryMixin):
    """A user's policy."""


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    server = Prometheus()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def until(condition: Callable[[], Any]) -> Any:
    """Waits for something true, and returns it."""
    deadline = time.monotonic() + 10
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def scalar(value: str) -> dict[str, Any]:
    return {"resultType": "scalar", "result": [10, value]}


def vector(*samples: tuple[dict[str, str], str]) -> dict[str, Any]:
    return {"resultType": "vector", "result": [{"metric": labels, "value": [10, value]} for labels, value in samples]}


def test_results_keep_their_kinds_and_single_numbers_are_metrics(prometheus):
    prometheus.answers = {
        "one": scalar("3.5"),
        "single": vector(({"job": "a"}, "7")),
        "many": vector(({"job": "a"}, "1"), ({"job": "b"}, "2"), ({"job": "idle"}, "NaN")),
        "none": vector(),
    }
    policy = Policy(prometheus_address=prometheus.host, prometheus_queries=list(prometheus.answers))
    results = until(lambda: policy.prometheus_results)
    assert results["one"] == PrometheusScalar(3.5, 10)
    assert results["many"].samples == (PrometheusSample({"job": "a"}, 1, 10), PrometheusSample({"job": "b"}, 2, 10))
    assert results["none"] == PrometheusVector()
    assert policy.prometheus_metrics == {"one": 3.5, "single": 7}
    assert prometheus.asked[0][0] == "/api/v1/query"


def test_a_query_that_fails_is_left_out_and_said_in_the_log(prometheus, caplog):
    prometheus.answers = {"good": scalar("1"), "idle": scalar("NaN"), "odd": {"resultType": "matrix", "result": []}}
    queries = ["bad", "idle", "odd", "good"]
    policy = Policy(prometheus_address=f"http://{prometheus.host}/api/v1/query", prometheus_queries=queries)
    assert until(lambda: policy.prometheus_metrics) == {"good": 1}
    assert "'bad': no such metric" in caplog.text and "'odd': the result is a matrix" in caplog.text


def test_results_are_renewed_and_old_ones_are_none(prometheus):
    prometheus.answers = {"q": scalar("1")}
    policy = Policy(prometheus_address=prometheus.host, prometheus_queries=["q"], fetch_interval_s=0.01)
    until(lambda: policy.prometheus_metrics == {"q": 1})
    prometheus.answers = {"q": scalar("2")}
    until(lambda: policy.prometheus_metrics == {"q": 2})
    prometheus.answers = {}
    until(lambda: policy.prometheus_results is None)
    old = Policy(prometheus_address=prometheus.host, prometheus_queries=["q"], cache_ttl_s=0)
    prometheus.answers = {"q": scalar("1")}
    assert old.prometheus_results is None
    until(lambda: old._cache.latest[1])
    assert old.prometheus_results is None


def test_address_and_headers_come_from_the_environment_and_none_means_no_results(prometheus, monkeypatch):
    monkeypatch.delenv("RAY_PROMETHEUS_HOST", raising=False)
    assert Policy(prometheus_queries=["q"]).prometheus_metrics is None
    prometheus.answers = {"q": scalar("1")}
    monkeypatch.setenv("RAY_PROMETHEUS_HOST", prometheus.host)
    monkeypatch.setenv("RAY_PROMETHEUS_HEADERS", '[["X-Scope", "me"]]')
    policy = Policy(prometheus_queries=["q"])
    until(lambda: policy.prometheus_metrics)
    assert prometheus.asked[0][1]["X-Scope"] == "me"
    monkeypatch.setenv("RAY_PROMETHEUS_HEADERS", "3")
    with pytest.raises(ValueError, match="RAY_PROMETHEUS_HEADERS"):
        Policy()


def test_a_policy_that_is_dropped_asks_no_more(prometheus):
    prometheus.answers = {"q": scalar("1")}
    policies = [Policy(prometheus_address=prometheus.host, prometheus_queries=["q"], fetch_interval_s=0.01)]
    until(lambda: policies[0].prometheus_metrics)
    ended = policies[0]._cache.ended
    policies.clear()
    gc.collect()
    assert ended.is_set()
