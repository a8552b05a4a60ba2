"""Every language's own gRPC library against a mesh: what works here works for a stranger."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from client import Client
from conftest import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES, Mesh, wait_until
from notes import SERVICE, Note

import meshserve.client

Code = grpc.StatusCode

pytestmark = pytest.mark.timeout(600)  # the first test of a language may have to build its client


def test_a_unary_call_has_its_reply_its_initial_metadata_and_its_trailers(client: Client) -> None:
    done = client.call("Unary", Note(text="hi", number=3), metadata={"request_id": "r-1"})
    assert (done.code, done.replies) == (Code.OK, [Note(text="HI", number=3)])
    assert done.head["early"] == "bird"
    assert done.trailers["served-by"] == "notes"
    assert done.trailers["raw-bin"] == "0001ff"
    assert done.trailers["request_id"] == "r-1"


def test_metadata_of_the_client_reach_the_method(client: Client) -> None:
    done = client.call("Unary", Note(text="headers"), metadata={"colour": "red"})
    assert (done.code, done.replies) == (Code.OK, [Note(text="red")])


def test_a_server_stream_has_all_items_in_order(client: Client) -> None:
    done = client.call("Down", Note(number=2000))
    assert (done.code, done.numbers) == (Code.OK, list(range(2000)))
    assert done.trailers["served-by"] == "notes"


def test_a_client_stream_has_one_reply_to_all_requests(client: Client) -> None:
    done = client.call("Up", *(Note(number=number) for number in range(500)))
    assert (done.code, done.numbers) == (Code.OK, [sum(range(500))])


def test_a_client_stream_may_be_empty(client: Client) -> None:
    done = client.call("Up")
    assert (done.code, done.numbers) == (Code.OK, [0])


def test_a_bidirectional_stream_answers_each_request_before_the_next(client: Client) -> None:
    done = client.call("Both", *(Note(text="a", number=number) for number in range(50)))
    assert (done.code, done.numbers) == (Code.OK, [number * 2 for number in range(50)])
    assert {reply.text for reply in done.replies} == {"A"}


def test_a_compressed_request_is_read(client: Client) -> None:
    done = client.call("Unary", Note(text="x" * 100_000), gzip=True)
    assert (done.code, done.replies) == (Code.OK, [Note(text="X" * 100_000)])


def test_a_deadline_reaches_user_code_as_time_left(client: Client) -> None:
    done = client.call("Unary", Note(text="time left"), timeout_ms=20_000)
    assert done.code is Code.OK
    assert 10_000 < done.numbers[0] <= 20_000


@pytest.mark.parametrize("method", ["Unary", "Down", "Both"])
def test_a_deadline_that_passes_ends_the_call_and_user_code(client: Client, mesh: Mesh, method: str) -> None:
    cancelled = mesh.wide.cancelled.remote().result()
    done = client.call(method, Note(text="wait", number=2), timeout_ms=2000)  # a client's first call is slow
    assert done.code is Code.DEADLINE_EXCEEDED
    assert done.numbers == {"Unary": [], "Down": [0, 1], "Both": [4]}[method]
    wait_until(lambda: mesh.wide.cancelled.remote().result() == cancelled + 1)


@pytest.mark.parametrize("method", ["Down", "Both"])
def test_cancelling_a_stream_reaches_user_code(client: Client, mesh: Mesh, method: str) -> None:
    cancelled = mesh.wide.cancelled.remote().result()
    done = client.call(method, Note(text="wait", number=1), cancel_after=1)
    assert (done.code, len(done.replies)) == (Code.CANCELLED, 1)
    wait_until(lambda: mesh.wide.cancelled.remote().result() == cancelled + 1)


def test_code_and_message_of_user_code_reach_the_client_with_an_error_info(client: Client) -> None:
    done = client.call("Unary", Note(text="refuse"))
    assert (done.code, done.message) == (Code.FAILED_PRECONDITION, "not today: 5 % of naïve 客")
    assert done.trailers["served-by"] == "notes"
    info = done.details["ErrorInfo"]
    assert (info["reason"], info["domain"]) == ("USER", "meshserve.dev")
    assert info["metadata"]["application"] == "wide"
    assert info["metadata"]["request_id"] == done.trailers["request_id"]


def test_a_stream_that_fails_after_its_last_item_has_both(client: Client) -> None:
    done = client.call("Down", Note(text="refuse", number=3))
    assert (done.code, done.numbers) == (Code.FAILED_PRECONDITION, [0, 1, 2])
    assert done.details["ErrorInfo"]["reason"] == "USER"


def test_an_exception_of_user_code_is_internal_without_its_traceback(client: Client) -> None:
    done = client.call("Unary", Note(text="fail"))
    assert (done.code, list(done.details)) == (Code.INTERNAL, ["ErrorInfo"])
    assert "Traceback" not in done.message


def test_a_bad_request_that_user_code_describes_is_read_by_the_library(client: Client) -> None:
    done = client.call("Unary", Note(text="invalid"))
    assert (done.code, done.message) == (Code.INVALID_ARGUMENT, "the note is not one")
    assert done.details == {"BadRequest": {"type": "BadRequest", "fields": ["text"]}}


@pytest.mark.usefixtures("narrow_is_full")
def test_a_call_that_is_shed_is_told_when_to_come_back(client: Client) -> None:
    done = client.call("Unary", Note(text="hi"), application="narrow")
    assert done.code is Code.RESOURCE_EXHAUSTED
    assert done.details["ErrorInfo"]["reason"] == "BACKPRESSURE"
    assert done.details["RetryInfo"]["retry_delay_ms"] > 0
    assert done.trailers["grpc-retry-pushback-ms"] == str(done.details["RetryInfo"]["retry_delay_ms"])


@pytest.mark.parametrize("client", ["go", "java", "node"], indirect=True)  # tonic has no service config
def test_the_service_config_of_the_package_is_understood(client: Client) -> None:
    config = (Path(meshserve.client.__file__).parent / "service_config.json").read_text()
    assert client.call("Unary", Note(text="hi"), service_config=config).replies == [Note(text="HI")]
    assert client.call("Unary", Note(text="refuse"), service_config=config).code is Code.FAILED_PRECONDITION


def test_an_unknown_application_is_not_found_and_those_there_are_are_named(client: Client) -> None:
    done = client.call("Unary", Note(text="hi"), application="nowhere")
    assert done.code is Code.NOT_FOUND
    assert "model, narrow, wide" in done.message
    assert done.details["ErrorInfo"]["reason"] == "APPLICATION_NOT_FOUND"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("method", ["Unary", "Both"])
def test_a_message_above_the_limit_is_resource_exhausted(client: Client, method: str, compressed: bool) -> None:
    done = client.call(method, Note(text="x" * (MAX_MESSAGE_BYTES + 1)), gzip=compressed)
    assert (done.code, done.replies) == (Code.RESOURCE_EXHAUSTED, [])


def test_metadata_above_the_limit_do_not_reach_user_code(client: Client) -> None:
    done = client.call("Unary", Note(text="hi"), metadata={"big": "x" * (2 * MAX_METADATA_BYTES)})
    # Some libraries know the server's limit and send nothing, which is an INTERNAL of their own.
    assert done.code in (Code.RESOURCE_EXHAUSTED, Code.INTERNAL)
    assert done.replies == []


@pytest.mark.parametrize("service", ["", "wide", SERVICE])
def test_health_says_that_server_application_and_service_serve(client: Client, service: str) -> None:
    done = client.call("Check", service=service)
    assert (done.code, done.health) == (Code.OK, ["SERVING"])


def test_health_of_what_is_not_there_is_not_found(client: Client) -> None:
    assert client.call("Check", service="nowhere").code is Code.NOT_FOUND


def test_watching_health_tells_at_once(client: Client) -> None:
    done = client.call("Watch", service="wide", cancel_after=1)
    assert (done.code, done.health) == (Code.CANCELLED, ["SERVING"])
    assert client.call("Watch", service="nowhere", cancel_after=1).health == ["SERVICE_UNKNOWN"]
