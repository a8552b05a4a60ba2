"""What a client sent -> a `Call`, and the service it goes to: which application, on whose behalf, until when.

No body is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from meshserve.model.call import Call, CallContext, CallKind, GrpcCallInfo, Payload
from meshserve.model.ids import DeploymentId
from meshserve.model.targets import ApplicationRoute
from meshserve.proxy.applications import Applications
from meshserve.proxy.grpc_options import GrpcOptions
from meshserve.proxy.metrics_grpc import called
from meshserve.routing.service import Service
from meshserve.rpc.status_details import REQUEST_ID_KEY, Refused, chosen_request_id, refusal

APPLICATION_KEY = "application"
_KEYS = frozenset({APPLICATION_KEY, REQUEST_ID_KEY, "multiplexed_model_id", "session_id", "traceparent", "tracestate"})

_NO_DEADLINE_S = 10 * 365 * 86400.0
"""gRPC may report a deadline in the far future where there is none."""


Context = grpc.aio.ServicerContext[Any, Any]


class CallReader:
    """Makes calls.

    Args:
        applications: those there are.
        options: of the ingress.
        now: the monotonic clock.
    """

    def __init__(
        self, applications: Applications, options: GrpcOptions, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._applications = applications
        self._timeout_s = options.timeout_s
        self._secure = options.secure
        self._max_metadata_bytes = options.max_metadata_bytes
        self._now = now

    def read(
        self,
        context: Context,
        rpc: str,
        method: str,
        kind: CallKind,
        payload: Payload,
        *,
        servicer_function: str = "",
        application: str = "",
    ) -> tuple[Call, Service]:
        """The call for what a client sent, and where it goes; its request id is in the trailers from here on.

        Args:
            rpc: the full name of the gRPC method.
            method: of the user's class.
            servicer_function: which brought the gRPC method.
            application: named in the request; goes before the metadata.

        Raises:
            Refused: no application can be told, or the metadata are above the limit.
        """
        metadata: Any = context.invocation_metadata() or ()
        known = {key: value for key, value in metadata if key in _KEYS}
        request_id = chosen_request_id(known.get(REQUEST_ID_KEY, ""))
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        if self._max_metadata_bytes is not None:
            _bound(metadata, self._max_metadata_bytes, request_id)
        route = self._route(application or known.get(APPLICATION_KEY), request_id)
        peer = context.peer() or ""
        grpc_info = GrpcCallInfo(peer, rpc, tuple(metadata), servicer_function=servicer_function)
        if self._secure:
            _identify(grpc_info, context)
        call_context = CallContext(
            request_id,
            route.app,
            rpc,
            known.get("multiplexed_model_id", ""),
            known.get("session_id", ""),
            known.get("traceparent", ""),
            known.get("tracestate", ""),
            _client(peer),
            0,
            grpc_info,
        )
        deadline = self._deadline(context.time_remaining())
        call = Call(route.ingress, method, kind, payload, call_context, deadline)
        called(call)
        return call, self._applications.service(route)

    def _route(self, wanted: str | None, request_id: str) -> ApplicationRoute:
        """The application that was named, or the only one when none was."""
        applications = self._applications
        if wanted:
            found = applications.by_name(wanted)
            if found is None:
                raise _not_found(f"Application {wanted!r} not found.", applications, request_id, wanted)
            return found
        there = applications.all()
        if len(there) != 1:
            what = f"there are {len(there)} applications" if there else "there is no application"
            raise _not_found(f"Application metadata not set, and {what}.", applications, request_id)
        return there[0]

    def _deadline(self, remaining_s: float | None) -> float | None:
        """The earlier of the client's deadline and the ingress's limit, on the monotonic clock."""
        limits = [limit for limit in (remaining_s, self._timeout_s) if limit is not None and limit < _NO_DEADLINE_S]
        return self._now() + min(limits) if limits else None


def _bound(metadata: Any, limit_bytes: int, request_id: str) -> None:
    """Refuses metadata above the limit. gRPC does so itself, but not before a client has acknowledged its settings."""
    size_bytes = sum(len(key) + len(value) for key, value in metadata)
    if size_bytes > limit_bytes:
        message = f"the metadata have {size_bytes} bytes, more than max_metadata_bytes, which is {limit_bytes}."
        facts = {"limit_bytes": str(limit_bytes), "size_bytes": str(size_bytes)}
        raise Refused(refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, message, "METADATA_TOO_LARGE", request_id, facts))


def facts_of(deployment: DeploymentId) -> Mapping[str, str]:
    """What the ErrorInfo of a failed call tells."""
    return {"application": deployment.app, "deployment": deployment.name}


def _not_found(problem: str, applications: Applications, request_id: str, wanted: str = "") -> Refused:
    names = sorted(route.app for route in applications.all())
    there = f"Set the metadata 'application' to one of: {', '.join(names)}." if names else "Deploy one first."
    message = f"{problem} {there} meshserve.v1.ApplicationService/ListApplications lists them."
    return Refused(
        refusal(grpc.StatusCode.NOT_FOUND, message, "APPLICATION_NOT_FOUND", request_id, {"application": wanted[:128]})
    )


def _identify(info: GrpcCallInfo, context: Context) -> None:
    """Adds what TLS knows of the client."""
    info.peer_identity_key = context.peer_identity_key() or ""
    info.peer_identities = tuple(context.peer_identities() or ())
    known: Any = context.auth_context()
    info.auth_context = tuple((key, value) for key, values in known.items() for value in values)


@lru_cache(maxsize=4096)
def _client(peer: str) -> str:
    """`host:port` of a peer as gRPC names it; one per connection, so that remembering pays."""
    kind, _, address = peer.partition(":")
    return unquote(address) if kind in ("ipv4", "ipv6") else ""
