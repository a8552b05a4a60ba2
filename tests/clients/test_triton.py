"""An unmodified `tritonclient` against a deployment that is a model of the Open Inference Protocol."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from conftest import Mesh
from toolchains import built

pytestmark = pytest.mark.timeout(600)  # the first test may have to install the client

DOUBLED = [[2.0, 4.0], [6.0, 8.0]]
ALL = {"doubled": DOUBLED, "shouted": ["ONE", "ZWÖLF 二"]}


@pytest.fixture(scope="module")
def said(mesh: Mesh) -> dict[str, Any]:
    """What the client got."""
    done = subprocess.run([*built("triton"), mesh.grpc], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def test_server_and_model_are_live_and_ready(said: dict[str, Any]) -> None:
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, [True, False])
    assert said["server"]["name"] == "meshserve"


def test_the_model_describes_its_tensors(said: dict[str, Any]) -> None:
    assert said["metadata"]["name"] == "model"
    assert said["metadata"]["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": ["-1", "2"]},
        {"name": "words", "datatype": "BYTES", "shape": ["-1"]},
    ]
    assert [output["name"] for output in said["metadata"]["outputs"]] == ["doubled", "shouted"]


@pytest.mark.parametrize("way", ["infer", "compressed", "async"])
def test_arrays_of_numbers_and_bytes_go_there_and_back(said: dict[str, Any], way: str) -> None:
    assert said[way] == ALL


def test_a_client_that_wants_one_output_gets_one(said: dict[str, Any]) -> None:
    assert said["one output"] == {"doubled": DOUBLED}


def test_a_stream_goes_on_after_a_request_that_was_wrong(said: dict[str, Any]) -> None:
    first, wrong, last = said["streamed"]
    assert (first, last) == (DOUBLED, [[20.0, 40.0], [60.0, 80.0]])
    assert "[2, 1]" in wrong


@pytest.mark.parametrize(
    ("case", "status", "message"),
    [
        ("unknown model", "StatusCode.NOT_FOUND", "nowhere"),
        ("no model", "StatusCode.UNIMPLEMENTED", "wide"),
        ("wrong shape", "StatusCode.INVALID_ARGUMENT", "[2, 1]"),
        ("wrong type", "StatusCode.INVALID_ARGUMENT", "INT32"),
        ("late", "StatusCode.DEADLINE_EXCEEDED", ""),
    ],
)
def test_what_cannot_be_answered_has_its_status(said: dict[str, Any], case: str, status: str, message: str) -> None:
    found, text = said[case]
    assert found == status
    assert message in text
