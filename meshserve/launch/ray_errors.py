"""Errors of the mesh under Ray's names too: programs that were written for Ray's actors catch those.

Not needed where Ray is not: `meshserve.errors` stands by itself, and these are what callers in a Ray process see.
"""

from __future__ import annotations

from ray.exceptions import ActorDiedError, RayActorError, TaskCancelledError

from meshserve import errors


class RequestCancelledError(errors.RequestCancelledError, TaskCancelledError):  # type: ignore[misc]  # Ray is untyped
    """See `meshserve.errors`."""


class ReplicaDiedError(errors.ReplicaDiedError, ActorDiedError):  # type: ignore[misc]  # Ray is untyped
    """See `meshserve.errors`.

    Args:
        message: what is known of the death.
    """

    def __init__(self, message: str = "") -> None:
        RayActorError.__init__(self, error_msg=message)
        self.args = (message,)


_TWINS: dict[type[BaseException], type[BaseException]] = {
    errors.RequestCancelledError: RequestCancelledError,
    errors.ReplicaDiedError: ReplicaDiedError,
}


def also_of_ray(error: BaseException) -> BaseException:
    """The same error, such that Ray's name for it catches it too; others as they are."""
    twin = _TWINS.get(type(error))
    if twin is None:
        return error
    both = twin(*error.args)
    both.__cause__ = error.__cause__
    return both
