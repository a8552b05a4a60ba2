"""Tools that gRPC engineers have at hand, against a mesh: no protos, no stubs, only its address."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import Mesh, sheds, wait_until
from notes import SERVICE, Note, ShapesServiceStub
from toolchains import built, installed

pytestmark = pytest.mark.timeout(600)  # the first test of a tool may have to build it


def run(*command: str, stdin: str = "", exit_code: int = 0) -> str:
    """What a command prints, both outputs together; fails when it does not exit as it should."""
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    assert done.returncode == exit_code, f"exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def grpcurl(mesh: Mesh, *what: str, flags: Sequence[str] = (), stdin: str = "", code: int = 0) -> str:
    """What grpcurl prints; it exits with 64 and the number of a status other than OK."""
    command = (*built("grpcurl"), "-plaintext", *flags, mesh.grpc, *what)
    return run(*command, stdin=stdin, exit_code=64 + code if code else 0)


def call(mesh: Mesh, method: str, *requests: dict[str, Any], flags: Sequence[str] = (), code: int = 0) -> str:
    """What grpcurl prints of a call to the application `wide`."""
    stdin = "\n".join(json.dumps(request) for request in requests)
    return grpcurl(mesh, method, flags=("-H", "application: wide", "-d", "@", *flags), stdin=stdin, code=code)


def objects(text: str) -> list[Any]:
    """The JSON documents of a text, one after the other."""
    found, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def test_grpcurl_lists_services_of_users_and_of_the_mesh(mesh: Mesh) -> None:
    services = grpcurl(mesh, "list").split()
    built_in = {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "meshserve.v1.CallService"}
    assert {SERVICE, *built_in} <= set(services)


def test_grpcurl_lists_and_describes_methods_and_messages(mesh: Mesh) -> None:
    names = ("Both", "Down", "Unary", "Up")
    assert grpcurl(mesh, "list", SERVICE).split() == [f"{SERVICE}.{name}" for name in names]
    assert "rpc Both ( stream .meshserve.tests.v1.Note )" in grpcurl(mesh, "describe", f"{SERVICE}.Both")
    assert "string text = 1;" in grpcurl(mesh, "describe", "meshserve.tests.v1.Note")


def test_grpcurl_calls_all_four_kinds(mesh: Mesh) -> None:
    notes = [{"text": "a", "number": number} for number in (1, 2, 3)]
    assert objects(call(mesh, f"{SERVICE}/Unary", notes[0])) == [{"text": "A", "number": 1}]
    assert objects(call(mesh, f"{SERVICE}/Down", notes[2])) == [{}, {"number": 1}, {"number": 2}]
    assert objects(call(mesh, f"{SERVICE}/Up", *notes)) == [{"number": 6}]
    assert [reply["number"] for reply in objects(call(mesh, f"{SERVICE}/Both", *notes))] == [2, 4, 6]


def test_grpcurl_calls_a_method_without_protos(mesh: Mesh) -> None:
    request = {"application": "wide", "method": "waiting", "json": []}
    assert objects(call(mesh, "meshserve.v1.CallService/Call", request)) == [{"json": 0}]


def test_grpcurl_shows_head_and_trailers(mesh: Mesh) -> None:
    text = call(mesh, f"{SERVICE}/Unary", {"text": "hi"}, flags=("-v", "-H", "request_id: r-7"))
    head, trailers = text.split("Response contents:")
    assert "early: bird" in head
    assert "request_id: r-7" in trailers


def test_grpcurl_shows_the_details_of_an_error(mesh: Mesh) -> None:
    text = call(mesh, f"{SERVICE}/Unary", {"text": "refuse"}, flags=("-format-error",), code=9)
    status = json.loads(text)
    assert (status["code"], status["message"]) == (9, "not today: 5 % of naïve 客")
    (info,) = status["details"]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (info["reason"], info["metadata"]["application"]) == ("USER", "wide")


def test_grpcurl_gives_up_at_its_deadline(mesh: Mesh) -> None:
    cancelled = mesh.wide.cancelled.remote().result()
    text = call(mesh, f"{SERVICE}/Down", {"text": "wait", "number": 1}, flags=("-max-time", "0.5"), code=4)
    assert "DeadlineExceeded" in text
    wait_until(lambda: mesh.wide.cancelled.remote().result() == cancelled + 1)


def test_grpcurl_asks_for_health(mesh: Mesh) -> None:
    assert objects(call(mesh, "grpc.health.v1.Health/Check", {"service": "narrow"})) == [{"status": "SERVING"}]
    (listed,) = objects(call(mesh, "grpc.health.v1.Health/List", {}))
    assert {"", "narrow", "wide", SERVICE} <= set(listed["statuses"])
    assert "nowhere" in call(mesh, "grpc.health.v1.Health/Check", {"service": "nowhere"}, code=5)


@pytest.mark.parametrize(
    ("application", "code", "said"), [("nowhere", 5, "'nowhere' not found"), ("", 5, "there are 3 applications")]
)
def test_grpcurl_is_told_which_applications_there_are(mesh: Mesh, application: str, code: int, said: str) -> None:
    text = grpcurl(mesh, f"{SERVICE}/Unary", flags=("-H", f"application: {application}", "-d", "{}"), code=code)
    assert said in text
    assert "model, narrow, wide" in text


@pytest.mark.parametrize(
    ("service", "code", "said"),
    [
        ("", 0, "status: SERVING"),
        ("narrow", 0, "status: SERVING"),
        (SERVICE, 0, "status: SERVING"),
        ("nowhere", 3, "NotFound"),
    ],
)
def test_grpc_health_probe_and_our_own_command_end_alike(mesh: Mesh, service: str, code: int, said: str) -> None:
    assert said in run(*built("grpc_health_probe"), f"-addr={mesh.grpc}", f"-service={service}", exit_code=code)
    run(sys.executable, "-m", "meshserve.cli.main", "health", mesh.grpc, *filter(None, [service]), exit_code=code)


def test_grpc_health_probe_finds_nobody_where_nobody_is() -> None:
    text = run(*built("grpc_health_probe"), "-addr=127.0.0.1:1", "-connect-timeout=500ms", exit_code=2)
    assert "failed to connect" in text


def ghz_command(
    mesh: Mesh, method: str, note: dict[str, Any], *flags: str, application: str = "wide"
) -> tuple[str, ...]:
    """What starts a short load."""
    metadata = json.dumps({"application": application})
    what = ("--insecure", "--call", f"{SERVICE}.{method}", "-d", json.dumps(note), "-m", metadata, "-O", "json")
    return (*built("ghz"), *what, *flags, mesh.grpc)


def ghz(mesh: Mesh, method: str, note: dict[str, Any], *flags: str, application: str = "wide") -> dict[str, Any]:
    """The report of a short load."""
    report: dict[str, Any] = json.loads(run(*ghz_command(mesh, method, note, *flags, application=application)))
    return report


@pytest.mark.parametrize(("method", "note"), [("Unary", {"text": "hi"}), ("Down", {"number": 20}), ("Both", {})])
def test_ghz_has_an_ok_for_each_of_its_calls(mesh: Mesh, method: str, note: dict[str, Any]) -> None:
    report = ghz(mesh, method, note, "-n", "1000", "-c", "50", "--connections", "4", "-t", "60s")
    assert report["statusCodeDistribution"] == {"OK": 1000}


def test_ghz_has_an_ok_for_each_of_a_thousand_calls_at_a_time_on_one_connection(mesh: Mesh) -> None:
    report = ghz(mesh, "Unary", {"text": "hi"}, "-n", "3000", "-c", "1000", "--connections", "1", "-t", "60s")
    assert report["statusCodeDistribution"] == {"OK": 3000}


def test_ghz_sees_a_narrow_application_shed_and_nothing_else(mesh: Mesh) -> None:
    report = ghz(mesh, "Unary", {"text": "hi"}, "-n", "300", "-c", "30", "-t", "60s", application="narrow")
    codes = report["statusCodeDistribution"]
    assert set(codes) == {"OK", "ResourceExhausted"}
    assert sum(codes.values()) == 300


def test_a_flood_at_one_application_leaves_calls_to_another_alone(mesh: Mesh) -> None:
    flags = ("-z", "60s", "-c", "50", "-t", "20s")
    command = ghz_command(mesh, "Unary", {"text": "hi"}, *flags, application="narrow")
    flood = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(mesh.grpc) as channel:
            stub = ShapesServiceStub(channel)
            wait_until(lambda: sheds(stub))
            to = {"metadata": (("application", "wide"),), "timeout": 20}
            replies = [stub.Unary(Note(number=number), **to).number for number in range(30)]
        assert replies == list(range(30))
        assert flood.poll() is None
    finally:
        flood.kill()
        flood.wait()


def test_ghz_that_gives_up_leaves_nothing_behind(mesh: Mesh) -> None:
    report = ghz(mesh, "Unary", {"text": "wait"}, "-n", "200", "-c", "100", "-t", "1s")
    assert report["statusCodeDistribution"] == {"DeadlineExceeded": 200}
    wait_until(lambda: mesh.wide.waiting.remote().result() == 0)


def test_h2load_has_a_success_for_each_of_its_requests(mesh: Mesh, tmp_path: Path) -> None:
    message = Note(text="hi").SerializeToString()
    body = tmp_path / "body"
    body.write_bytes(bytes([0, *len(message).to_bytes(4, "big")]) + message)
    headers = ("content-type: application/grpc", "te: trailers", "application: wide")
    flags = [word for header in headers for word in ("-H", header)]
    url = f"http://{mesh.grpc}/{SERVICE}/Unary"
    text = run(installed("h2load"), "-n", "2000", "-c", "4", "-m", "50", "-d", str(body), *flags, url)
    assert "2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout" in text
    # A reply is 5 bytes of frame and as many as the request has.
    assert re.search(r"traffic: .* \((\d+)\) data$", text, re.M).group(1) == str(2000 * (5 + len(message)))
