"""The closed vocabulary of failures.

Every class fixes the kind of failure it is; the kind fixes the gRPC code, the HTTP status and whether
another replica may be tried (`model.failure.FailureKind`). User code may raise anything; what it raises keeps
its class on the way to a Python caller.
"""

from __future__ import annotations


class MeshServeException(Exception):
    """Root of everything the mesh itself raises."""


class BackPressureError(MeshServeException):
    """The queue of waiting calls is full; raised on the caller's side, user code did not run.

    Args:
        num_queued_requests: calls waiting when this one arrived.
        max_queued_requests: the limit (`max_queued_requests` of the deployment).
        status_code: the HTTP status an ingress answers with, 503 or 429.
        retry_after_s: seconds after which a client may try again, or None for no advice.
    """

    def __init__(
        self,
        num_queued_requests: int,
        max_queued_requests: int,
        status_code: int = 503,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(num_queued_requests, max_queued_requests, status_code, retry_after_s)
        self.num_queued_requests = num_queued_requests
        self.max_queued_requests = max_queued_requests
        self.status_code = status_code
        self.retry_after_s = retry_after_s

    @property
    def message(self) -> str:
        """The sentence shown to users and clients."""
        return (
            f"Request dropped due to backpressure: {self.num_queued_requests} requests are waiting and "
            f"max_queued_requests is {self.max_queued_requests}. Retry later, add replicas or raise the limit."
        )

    def __str__(self) -> str:
        return self.message


class RequestCancelledError(MeshServeException):
    """The call was cancelled by its own `cancel()`.

    Args:
        request_id: the request it belonged to.
    """

    def __init__(self, request_id: str | None = None) -> None:
        super().__init__(request_id)
        self.request_id = request_id

    def __str__(self) -> str:
        return f"Request {self.request_id} was cancelled." if self.request_id else "Request was cancelled."


class DeploymentUnavailableError(MeshServeException):
    """The deployment cannot serve: it failed to deploy, was deleted or never existed.

    Args:
        deployment_id: the deployment, as `app#name` or an object that prints so.
        reason: what is known about why.
    """

    def __init__(self, deployment_id: object, reason: str = "") -> None:
        super().__init__(deployment_id, reason)
        self.deployment_id = deployment_id
        self.reason = reason

    @property
    def message(self) -> str:
        """The sentence shown to users and clients."""
        why = self.reason or "it failed to deploy or was deleted"
        return f"Deployment {self.deployment_id} is unavailable: {why}."

    def __str__(self) -> str:
        return self.message


class ReplicaUnavailableError(MeshServeException):
    """The replica chosen for a call is gone or refuses calls.

    Args:
        replica_id: the replica.
    """

    def __init__(self, replica_id: object) -> None:
        super().__init__(replica_id)
        self.replica_id = replica_id

    @property
    def message(self) -> str:
        """The sentence shown to users."""
        return f"Replica {self.replica_id} is unavailable."

    def __str__(self) -> str:
        return self.message


class ReplicaDiedError(MeshServeException):
    """The replica died, or the connection to it broke, after it had accepted the call.

    The call may have run; it is not tried again by the mesh.
    """


class UpstreamDiedError(MeshServeException):
    """An argument of this call was the response of a call whose replica died; this call was not sent.

    Args:
        message: names both deployments.
        death: what that call ended with; the `__cause__`.
    """

    def __init__(self, message: str, death: BaseException | None = None) -> None:
        super().__init__(message, death)
        self.__cause__ = death

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidCallError(MeshServeException):
    """The call does not fit the deployment: unknown method, arguments that cannot be decoded."""


class CallTimeoutError(MeshServeException, TimeoutError):
    """The call's deadline passed, or a wait for it was limited and ended first."""


class RemoteError(MeshServeException):
    """User code raised something that could not be pickled; carries its text and traceback."""


class gRPCStatusError(MeshServeException):  # noqa: N801 - the peer's name
    """A gRPC status set by user code together with what it raised.

    Args:
        original_exception: what user code raised.
        code: the status code set, as a number.
        details: the details set, or None.
    """

    def __init__(self, original_exception: BaseException, code: int | None = None, details: str | None = None) -> None:
        super().__init__(original_exception, code, details)
        self.original_exception = original_exception
        self.grpc_code = code
        self.grpc_details = details

    def __str__(self) -> str:
        return self.grpc_details or str(self.original_exception)


class DeploymentFailedError(MeshServeException, RuntimeError):
    """An application could not be brought up; carries what the mesh knows about why."""


class IngressError(MeshServeException):
    """A call from outside did not get into the mesh: no such application, not let in, nobody there.

    Args:
        message: what the ingress or the connection said.
        code: the gRPC code, by name: `NOT_FOUND`, `UNAVAILABLE`, ...
        reason: the reason of the ErrorInfo; empty when there was none.
        request_id: of the call.
    """

    def __init__(self, message: str, code: str = "", reason: str = "", request_id: str = "") -> None:
        super().__init__(message, code, reason, request_id)
        self.code = code
        self.reason = reason
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.code})"


class ControllerUnreachableError(MeshServeException):
    """The controller does not answer."""


class RemoteTraceback(Exception):
    """Set as the `__cause__` of an exception that was raised in another process, to show where."""

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return f"\n\n{self.traceback}"
