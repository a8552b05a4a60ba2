"""What goes into the client programs and what comes out: one call each, described and answered in JSON.

A program is started with the order as its only argument and prints the outcome:

    {"address": "127.0.0.1:9000", "method": "Down", "metadata": {"application": "wide"}, "requests": [{"number": 3}],
     "timeout_ms": 300, "cancel_after": 2, "gzip": false, "service": "",
     "service_config": ""}

    {"code": 0, "message": "", "replies": [{"text": "", "number": 0}], "health": [], "head": {}, "trailers": {},
     "details": [{"type": "RetryInfo", "retry_delay_ms": 1000}]}

Methods are the four of ShapesService, where `Both` sends the next request when the reply to the last is there, and
`Check` and `Watch` of grpc.health.v1 for `service`. A call is cancelled by its client after `cancel_after` replies.
Binary metadata are in hexadecimal. Details are those of `google.rpc.Status`, as each library's own reader sees them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from notes import Note

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class Outcome:
    """How a call went, as a client of another language saw it.

    Attributes:
        health: statuses that the health service told.
        head: initial metadata.
        details: of the rich error, by type.
    """

    code: grpc.StatusCode
    message: str
    replies: list[Note]
    health: list[str]
    head: Mapping[str, str]
    trailers: Mapping[str, str]
    details: Mapping[str, Mapping[str, Any]]

    @property
    def numbers(self) -> list[int]:
        """Those of the replies."""
        return [reply.number for reply in self.replies]


class Client:
    """A client program.

    Args:
        command: starts it.
        address: of the mesh's gRPC ingress.
    """

    def __init__(self, command: Sequence[str], address: str) -> None:
        self._command = command
        self._address = address

    def call(self, method: str, *requests: Note, application: str = "wide", **order: Any) -> Outcome:
        """Makes one call and waits for its end; `order` has what the module describes, `metadata` included."""
        order["metadata"] = {"application": application, **order.get("metadata", {})}
        order |= {"address": self._address, "method": method}
        order["requests"] = [{"text": request.text, "number": request.number} for request in requests]
        done = subprocess.run([*self._command, json.dumps(order)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"the client failed\n{done.stdout}\n{done.stderr}"
        return _outcome(json.loads(done.stdout))


def _outcome(said: dict[str, Any]) -> Outcome:
    return Outcome(
        _CODES[said["code"]],
        said["message"],
        [Note(**reply) for reply in said["replies"]],
        said["health"],
        said["head"],
        said["trailers"],
        {detail["type"]: detail for detail in said["details"]},
    )
