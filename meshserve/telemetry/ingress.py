"""What the ingresses count: HTTP requests and gRPC calls. One recorder for each in a proxy; on its I/O thread."""

from __future__ import annotations

from collections.abc import Iterator

from meshserve.telemetry import catalogue
from meshserve.telemetry.declared import LATENCY_BUCKETS
from meshserve.telemetry.series import Histogram, Reading

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "WEBSOCKET"})
_OTHER = "OTHER"


class _HttpSeries:
    __slots__ = ("by_status", "duration")

    def __init__(self) -> None:
        self.duration = Histogram(LATENCY_BUCKETS)
        self.by_status: dict[int, int] = {}


class HttpMetrics:
    """HTTP requests of a proxy.

    Attributes:
        began: requests begun.
    """

    def __init__(self) -> None:
        self.began = 0
        self._series: dict[tuple[str, str, str], _HttpSeries] = {}

    def ended(self, application: str, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered.

        Args:
            route: the label of its route; empty when none matched.
            method: as the client sent it.
        """
        series = self._series.get((application, route, method))
        if series is None:
            key = (application, route, method if method in _METHODS else _OTHER)
            series = self._series.setdefault(key, _HttpSeries())
        series.duration.observe(seconds)
        series.by_status[status] = series.by_status.get(status, 0) + 1

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        answered = 0
        for labels, series in tuple(self._series.items()):
            answered += series.duration.count
            yield catalogue.HTTP_DURATION, labels, series.duration
            for status, count in tuple(series.by_status.items()):
                yield catalogue.HTTP_REQUESTS, (*labels, str(status)), count
        yield catalogue.INGRESS_IN_FLIGHT, ("http",), max(self.began - answered, 0)


class GrpcMethodMetrics:
    """Calls of one gRPC method.

    Attributes:
        started: calls begun.
    """

    __slots__ = ("_handled", "_labels", "_seconds", "started")

    def __init__(self, kind: str, service: str, method: str) -> None:
        self.started = 0
        self._labels = (kind, service, method)
        self._handled: dict[str, int] = {}
        self._seconds = Histogram(LATENCY_BUCKETS)

    def ended(self, code: str, seconds: float) -> None:
        """A call has ended.

        Args:
            code: the status code's name as the ecosystem's dashboards write it: `OK`, `NotFound`.
        """
        self._handled[code] = self._handled.get(code, 0) + 1
        self._seconds.observe(seconds)

    @property
    def in_flight(self) -> int:
        """Calls begun and not ended."""
        return self.started - sum(self._handled.values())

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        yield catalogue.GRPC_STARTED, self._labels, self.started
        yield catalogue.GRPC_HANDLING, self._labels, self._seconds
        for code, count in tuple(self._handled.items()):
            yield catalogue.GRPC_HANDLED, (*self._labels, code), count


class GrpcMetrics:
    """Calls of a proxy's gRPC ingress. Only methods that are served are counted: others would be labels that clients
    make up."""

    def __init__(self) -> None:
        self._methods: dict[str, GrpcMethodMetrics] = {}

    def method(self, kind: str, full_name: str) -> GrpcMethodMetrics:
        """The recorder of a method.

        Args:
            kind: unary, client_stream, server_stream or bidi_stream.
            full_name: `/package.Service/Method`.
        """
        found = self._methods.get(full_name)
        if found is None:
            service, _, method = full_name.lstrip("/").rpartition("/")
            found = self._methods[full_name] = GrpcMethodMetrics(kind, service, method)
        return found

    def read(self) -> Iterator[Reading]:
        """See `telemetry.series.Recorder`."""
        methods = tuple(self._methods.values())
        for method in methods:
            yield from method.read()
        if methods:
            yield catalogue.INGRESS_IN_FLIGHT, ("grpc",), sum(method.in_flight for method in methods)
