"""Figures from Prometheus for autoscaling policies: queried in the background, read without waiting.

A policy that mixes in `PrometheusQueryMixin` names its queries; from the first look on a thread evaluates them every
few seconds for as long as the policy lives. A decision is never held up by the network: it sees what came last, or
nothing when that is too old to act on.

    class QueueDepth(PrometheusQueryMixin):
        def __init__(self, **kwargs):
            super().__init__(prometheus_queries=["sum(queue_depth)"], **kwargs)

        def __call__(self, context):
            depth = (self.prometheus_metrics or {}).get("sum(queue_depth)")
            return (context.target_num_replicas if depth is None else depth / 10), {}
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
import urllib.parse
import urllib.request
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from meshserve.settings import Settings

QUERY_TIMEOUT_S = 5.0

log = logging.getLogger("meshserve.controller")


@dataclass(frozen=True)
class PrometheusScalar:
    """One number, without labels."""

    value: float
    timestamp: float


@dataclass(frozen=True)
class PrometheusSample:
    """One number of a vector, with its labels."""

    labels: Mapping[str, str]
    value: float
    timestamp: float


@dataclass(frozen=True)
class PrometheusVector:
    """Numbers by labels; none, when nothing matches."""

    samples: tuple[PrometheusSample, ...] = ()


PrometheusQueryResult: TypeAlias = PrometheusScalar | PrometheusVector


@dataclass
class _Cache:
    """What policy and thread share; the thread must not keep the policy alive."""

    ended: threading.Event = field(default_factory=threading.Event)
    latest: tuple[float, dict[str, PrometheusQueryResult]] = (-math.inf, {})


class PrometheusQueryMixin:
    """Keeps results of queries fresh for a policy.

    Args:
        prometheus_address: `host:port` or a URL; None for `RAY_PROMETHEUS_HOST`. Without either there are no results.
        prometheus_queries: evaluated each time.
        fetch_interval_s: from the end of one evaluation to the next.
        cache_ttl_s: results older than this are none.
        kwargs: handed on.
    """

    def __init__(
        self,
        *,
        prometheus_address: str | None = None,
        prometheus_queries: Sequence[str] | None = None,
        fetch_interval_s: float = 5.0,
        cache_ttl_s: float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        settings = Settings.from_environment()
        self._address = prometheus_address or settings.prometheus_host
        self._headers = _headers(settings.prometheus_headers)
        self._queries = tuple(prometheus_queries or ())
        self._fetch_interval_s = fetch_interval_s
        self._cache_ttl_s = cache_ttl_s
        self._cache: _Cache | None = None

    @property
    def prometheus_results(self) -> dict[str, PrometheusQueryResult] | None:
        """Query -> result, without the queries that failed or had no number; None when nothing fresh is known."""
        if self._cache is None:
            self._cache = self._begin()
        fetched_at, results = self._cache.latest
        return dict(results) if results and time.monotonic() - fetched_at <= self._cache_ttl_s else None

    @property
    def prometheus_metrics(self) -> dict[str, float] | None:
        """Query -> number, of the queries that have exactly one; None when there is none."""
        results = self.prometheus_results or {}
        return {query: value for query, result in results.items() if (value := _single(result)) is not None} or None

    def _begin(self) -> _Cache:
        cache = _Cache()
        if self._address and self._queries:
            args = (cache, _query_url(self._address), self._queries, self._headers, self._fetch_interval_s)
            threading.Thread(target=_refresh, args=args, name="meshserve-prometheus", daemon=True).start()
            weakref.finalize(self, cache.ended.set)
        return cache


def _refresh(cache: _Cache, url: str, queries: Sequence[str], headers: Mapping[str, str], interval_s: float) -> None:
    while not cache.ended.is_set():
        results: dict[str, PrometheusQueryResult] = {}
        for query in queries:
            try:
                result = _evaluate(url, query, headers)
            except Exception as error:  # noqa: BLE001 - whatever a server may answer; the next time may go well
                log.warning("Prometheus could not evaluate %r: %s", query, error)
            else:
                if result is not None:
                    results[query] = result
        cache.latest = time.monotonic(), results
        cache.ended.wait(interval_s)


def _evaluate(url: str, query: str, headers: Mapping[str, str]) -> PrometheusQueryResult | None:
    """Runs an instant query; None when its scalar is no finite number.

    Raises:
        OSError: Prometheus cannot be reached or refuses.
        ValueError: the answer is no scalar and no vector of numbers.
    """
    request = urllib.request.Request(f"{url}?{urllib.parse.urlencode({'query': query})}", headers=dict(headers))
    with urllib.request.urlopen(request, timeout=QUERY_TIMEOUT_S) as response:
        answer = json.load(response)
    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise ValueError(answer.get("error", "it gave no reason") if isinstance(answer, dict) else repr(answer))
    data = answer["data"]
    match data["resultType"]:
        case "scalar":
            at, value = _number(data["result"])
            return PrometheusScalar(value, at) if math.isfinite(value) else None
        case "vector":
            return PrometheusVector(tuple(_samples(data["result"])))
    raise ValueError(f"the result is a {data['resultType']}; only a scalar or a vector can be used")


def _samples(found: Sequence[Mapping[str, Any]]) -> list[PrometheusSample]:
    samples = []
    for one in found:
        if "value" not in one:
            raise ValueError("the result is a vector of histograms; only numbers can be used")
        at, value = _number(one["value"])
        if math.isfinite(value):  # the quantile of an idle histogram is NaN: no figure
            samples.append(PrometheusSample(dict(one.get("metric", {})), value, at))
    return samples


def _number(pair: Sequence[Any]) -> tuple[float, float]:
    at, value = pair
    return float(at), float(value)


def _single(result: PrometheusQueryResult) -> float | None:
    match result:
        case PrometheusScalar(value) | PrometheusVector((PrometheusSample(value=value),)):
            return value
    return None


def _query_url(address: str) -> str:
    url = address.rstrip("/")
    url = url if url.startswith(("http://", "https://")) else f"http://{url}"
    return url if url.endswith("/api/v1/query") else f"{url}/api/v1/query"


def _headers(text: str) -> dict[str, str]:
    """Reads an object of headers, or a list of pairs.

    Raises:
        ValueError: it is something else.
    """
    try:
        headers = dict(json.loads(text)) if text else {}
    except (TypeError, ValueError):
        headers = {"": None}
    if not all(key and isinstance(key, str) and isinstance(value, str) for key, value in headers.items()):
        raise ValueError(
            f"RAY_PROMETHEUS_HEADERS must be a JSON object of texts or a list of [name, value] pairs, not {text!r}."
        )
    return headers
