"""What users write in `http_options`, and what the environment adds."""

import json
import math
import warnings
from typing import Any

import pytest
from pydantic import ValidationError

from meshserve.api.mesh import Mesh, proxy_options
from meshserve.api.urls import http_url
from meshserve.config import HTTPOptions, ProxyLocation
from meshserve.launch.ray_cluster import Cluster
from meshserve.model.overview import MeshOverview, ProxyOverview
from meshserve.proxy.options import HttpOptions


@pytest.mark.parametrize("given", [{"ssl_keyfile": "key.pem"}, {"ssl_certfile": "cert.pem"}])
def test_a_key_without_its_certificate_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="Both ssl_keyfile and ssl_certfile must be provided together"):
        HTTPOptions(**given)  # type: ignore[arg-type]  # text for every field


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"host": 1}, "host must be text, not 1"),
        ({"root_path": None}, "root_path must be text, not None"),
        ({"root_path": "api"}, "root_path must start with '/', not 'api'"),
        ({"port": "http"}, "port must be an integer, not 'http'"),
        ({"port": 70_000}, "port must be from 0 to 65535, not 70000"),
        ({"request_timeout_s": "soon"}, "request_timeout_s must be a number, not 'soon'"),
        ({"request_timeout_s": math.nan}, "request_timeout_s must be finite, not nan"),
        ({"keep_alive_timeout_s": 0}, "keep_alive_timeout_s must be at least 1, not 0"),
        ({"location": "Everywhere"}, "'Everywhere' is not a valid ProxyLocation: give one of Disabled, HeadOnly"),
        ({"ssl_ca_certs": "ca.pem"}, "ssl_ca_certs asks clients for certificates, which needs HTTPS"),
        ({"metrics_port": 8000}, "metrics_port must be another port than port, not 8000 as well"),
    ],
)
def test_a_wrong_option_is_refused_with_what_was_wanted(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HTTPOptions(**given)
    with pytest.raises(ValidationError, match=message):
        proxy_options(http=given)


def test_numbers_may_come_as_text_as_from_the_environment() -> None:
    options = HTTPOptions(port="8001", request_timeout_s="1.5", workers="2")  # type: ignore[arg-type]  # what is tested
    assert (options.port, options.request_timeout_s, options.workers) == (8001, 1.5, 2)


def test_a_request_timeout_below_zero_is_none() -> None:
    assert HTTPOptions(request_timeout_s=-1).request_timeout_s is None


@pytest.mark.parametrize(("name", "value"), [("middlewares", [object()]), ("num_cpus", 1)])
def test_options_that_were_removed_are_refused_unless_empty(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{name}` in HTTPOptions has been removed"):
        HTTPOptions(**{name: value})
    HTTPOptions(middlewares=[], num_cpus=0, root_url="")


@pytest.mark.parametrize(
    ("given", "location"), [("HeadOnly", "HeadOnly"), ("NoServer", "Disabled"), (ProxyLocation.Disabled, "Disabled")]
)
def test_the_older_place_of_the_location_works_and_warns(given: str, location: str) -> None:
    with pytest.warns(DeprecationWarning, match="`location` in HTTPOptions is deprecated"):
        assert proxy_options("EveryNode", {"location": given}).location == location


def test_without_a_location_there_is_no_ingress() -> None:
    assert proxy_options(None, {"location": None}).location == "Disabled"
    assert proxy_options(None, {"port": 8001}).location == "EveryNode"


def test_no_location_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert proxy_options("HeadOnly", {"location": None}).location == "HeadOnly"


def test_no_host_means_no_proxies_unless_grpc_is_asked_for() -> None:
    assert proxy_options(None, {"host": None}).location == "Disabled"
    assert proxy_options(None, {"host": None}, {"port": 0}).location == "EveryNode"


def test_proxies_are_told_what_they_know_and_nothing_else() -> None:
    sent = json.loads(HTTPOptions(port=1234).to_json())
    assert HttpOptions.from_json(json.dumps(sent)) == HttpOptions(**sent) == HttpOptions(port=1234)


def test_the_environment_gives_host_and_middlewares_and_overrides_the_keep_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_SERVE_DEFAULT_HTTP_HOST", "0.0.0.0")
    monkeypatch.setenv("RAY_SERVE_HTTP_KEEP_ALIVE_TIMEOUT_S", "333")
    monkeypatch.setenv("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "package.module:function")
    options = HttpOptions.from_json(HTTPOptions(keep_alive_timeout_s=222).to_json())
    assert (options.host, options.keep_alive_timeout_s) == ("0.0.0.0", 333)
    assert options.middlewares_from == "package.module:function"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://127.0.0.1:8000/app"),
        ({"ssl_certfile": "c", "ssl_keyfile": "k"}, "https://127.0.0.1:8000/app"),
    ],
)
def test_an_application_is_shown_where_it_can_be_opened(given: dict[str, Any], url: str) -> None:
    mesh = Mesh(Cluster("", started=True, nodes=1), started=True, options=proxy_options(http=given))
    proxies = {"n": ProxyOverview("n", "HEALTHY", "0.0.0.0:8000", "", "")}
    assert http_url(MeshOverview(proxies=proxies), "/app", mesh.http_scheme) == url
