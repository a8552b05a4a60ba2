"""The handles of older Serve releases, for code that was written for them: calls give Ray ObjectRefs.

    ref = await handle.remote(x)      # in a deployment: MeshServeHandle
    value = await ref
    value = ray.get(handle.remote(x)) # in a driver: MeshServeSyncHandle

The calls are the same calls as those of a `DeploymentHandle`, which is what these are underneath. The ObjectRef is real
and is there as soon as a replica has the call, long before the result. A result that is not there yet and is an
argument of another call, as an ObjectRef or not yet awaited, does not hold that call up: it travels as a claim, and the
replica that needs the value waits for it.

In a process without Ray (local testing mode) a `DeploymentResponse` takes the place of the ObjectRef: it is awaited,
and given to other calls, in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from typing import Any

from meshserve.model.call import Payload
from meshserve.model.failure import Failure
from meshserve.routing.crossing import to_io
from meshserve.routing.deprecation import warn_once, was_told
from meshserve.routing.handle import DeploymentHandle
from meshserve.routing.response import DeploymentResponse, interop
from meshserve.routing.response_stream import DeploymentResponseGenerator
from meshserve.routing.sending import claims_usable
from meshserve.settings import Settings

Settled = Callable[[Payload | None, Failure | None], None]

_BY_OPTION, _BY_ENVIRONMENT = "use_new_handle_api", "MESHSERVE_ENABLE_NEW_HANDLE_API"

_in_flight: dict[Any, DeploymentResponse[Any]] = {}
"""The responses behind the ObjectRefs made here, by ObjectRef, while their results are awaited."""


class MeshServeHandle(DeploymentHandle[Any]):
    """The legacy handle of deployment code; made by `options(use_new_handle_api=False)` or the environment switch."""

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the deployment, from a running event loop; returns at once.

        Returns:
            A task. Its result is, as soon as a replica has the call, a `ray.ObjectRef` of the call's result; with
            `stream=True` a `ReferenceStream`. The call goes on whether or not the task is awaited. Not awaited, it can
            be an argument of another call, also inside containers.

        Raises:
            RuntimeError: there is no running event loop.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "A legacy handle was called outside an event loop: call handle.options(use_new_handle_api=True)"
                ".remote(...) and take its result()."
            ) from None
        _warn_of_use()
        response = super().remote(*map(_early, args), **{name: _early(value) for name, value in kwargs.items()})
        if isinstance(response, DeploymentResponseGenerator):
            return loop.create_task(_opened(ReferenceStream(response)))
        return PendingReference(response)


class MeshServeSyncHandle(DeploymentHandle[Any]):
    """The legacy handle of drivers; made by `options(use_new_handle_api=False)` or the environment switch."""

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the deployment; blocks until a replica has the call, however long that takes.

        Returns:
            A `ray.ObjectRef` of the result, which may not be there yet; with `stream=True` a `ReferenceStream`. Errors
            are raised from `ray.get`.
        """
        _warn_of_use()
        response = super().remote(*map(_early, args), **{name: _early(value) for name, value in kwargs.items()})
        if isinstance(response, DeploymentResponseGenerator):
            return ReferenceStream(response)
        if not claims_usable():
            return response
        return _remember(response._to_object_ref_sync(_allow_running_in_asyncio_loop=True), response)


RayServeHandle = MeshServeHandle
RayServeSyncHandle = MeshServeSyncHandle
RayServeDeploymentHandle = MeshServeHandle


class PendingReference(asyncio.Task[Any]):
    """What a legacy handle's call gives in a loop: a task for the ObjectRef of its result.

    Args:
        response: the call.
    """

    def __init__(self, response: DeploymentResponse[Any]) -> None:
        self._response = response
        super().__init__(reference_to(response), loop=asyncio.get_running_loop())

    def _when_settled(self, callback: Settled) -> None:
        """As that of `DeploymentResponse`; how a call knows that it has to wait for this argument."""
        self._response._when_settled(callback)

    def __reduce__(self) -> Any:
        """Inside the arguments of a call: arrives as an ObjectRef."""
        return self._response.__reduce__()


class ReferenceStream:
    """The items of a streaming call as `ray.ObjectRef`s, as they come; iterate it with `async for` or `for`.

    Args:
        items: the call.
    """

    def __init__(self, items: DeploymentResponseGenerator[Any]) -> None:
        self._items = items

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await interop().put(await anext(self._items))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(interop().put_items(iter([next(self._items)])))


class _Early:
    """An argument that arrives as a call's result, and does not wait for it here.

    Args:
        response: the call.
    """

    def __init__(self, response: DeploymentResponse[Any]) -> None:
        self._response = response

    def _when_settled(self, callback: Settled) -> None:
        """Calls back with a claim on the result, or with the outcome if that is there first."""
        interop().when_claimable(self._response, callback)


async def reference_to(response: DeploymentResponse[Any]) -> Any:
    """The ObjectRef of a call's result, once a replica has the call; the response itself without Ray.

    Cancelled before that, it cancels the call.
    """
    if not claims_usable():
        return response
    try:
        return _remember(await response._to_object_ref(), response)
    except asyncio.CancelledError:
        response.cancel()
        raise


async def _opened(stream: ReferenceStream) -> ReferenceStream:
    return stream


def _remember(ref: Any, response: DeploymentResponse[Any]) -> Any:
    _in_flight[ref] = response

    def settled(_payload: Payload | None, _failure: Failure | None) -> None:
        _in_flight.pop(ref, None)

    to_io(response._when_settled, settled)
    return ref


def _early(argument: Any) -> Any:
    """An argument of a legacy call, such that it does not hold the call up."""
    if type(argument).__name__ == "ObjectRef":
        response = _in_flight.get(argument)
    else:
        response = argument._response if isinstance(argument, PendingReference) else argument
    if not isinstance(response, DeploymentResponse) or response._over or not claims_usable():
        return argument
    return _Early(response)


# -- which kind of handle ----------------------------------------------------------------------------------------------


def open_handle(deployment_name: str, app_name: str, *, sync: bool) -> DeploymentHandle[Any]:
    """A handle of the kind that the environment wants: a DeploymentHandle, or with the switch off a legacy one.

    Args:
        sync: whether it is for a driver; else it is for code in a deployment.
    """
    handle = DeploymentHandle[Any](deployment_name, app_name, _sync=sync)
    if _new_api_wanted():
        return handle
    warn_once(_BY_ENVIRONMENT, f"{_BY_ENVIRONMENT} (or RAY_SERVE_ENABLE_NEW_HANDLE_API) is not 1: {_ADVICE}")
    return _legacy(handle)


def in_style(handle: DeploymentHandle[Any], new: bool) -> DeploymentHandle[Any]:
    """The handle with everything it has, as a DeploymentHandle or as the legacy handle of its side."""
    if new:
        return handle._derive(handle._options, DeploymentHandle)
    _warn_of_use()
    return _legacy(handle)


def _legacy(handle: DeploymentHandle[Any]) -> DeploymentHandle[Any]:
    return handle._derive(handle._options, MeshServeSyncHandle if handle._sync else MeshServeHandle)


@cache
def _new_api_wanted() -> bool:
    return Settings.from_environment().new_handle_api


_ADVICE = (
    "handles whose calls give ObjectRefs are those of older releases and will be removed. The replacement is the "
    "DeploymentHandle: `response = handle.remote(...)`, then `await response` or `response.result()`."
)


def _warn_of_use() -> None:
    """Once in a process, and not where the environment's warning said it already."""
    if not was_told(_BY_ENVIRONMENT):
        warn_once(_BY_OPTION, f"use_new_handle_api=False: {_ADVICE}")
