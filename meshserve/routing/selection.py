"""Choosing a replica first and calling it later: `handle.choose_replica()` and `handle.dispatch()`.

    async with handle.choose_replica() as selection:
        tell_somebody(selection.address)
        result = await handle.dispatch(selection, argument)

Choosing goes through the same line and policy as a call and reserves a slot, which counts as one of the replica's
ongoing calls. The slot is given back on every way out of the block that did not use it.
"""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from meshserve.model.call import Call
from meshserve.model.ids import DeploymentId
from meshserve.model.targets import ReplicaTarget
from meshserve.routing.crossing import to_io
from meshserve.routing.layers import CALLER_STACK
from meshserve.routing.response import DeploymentResponse
from meshserve.routing.scope import RequestScope
from meshserve.routing.sending import Connect, send
from meshserve.routing.service import Service, Slot, stack

if TYPE_CHECKING:
    from meshserve.routing.handle import HandleOptions


class SlotConnection:
    """A handle's way to the one replica that holds a slot for it; in the place of `routing.handle.Connection`.

    Args:
        deployment: of the replica.
        slot: the reservation.
    """

    __slots__ = ("_service", "deployment", "initialized")

    def __init__(self, deployment: DeploymentId, slot: Slot) -> None:
        self.initialized = True
        self.deployment = deployment
        self._service: Service = stack(CALLER_STACK, slot)

    def service(self) -> Service:
        """See `routing.handle.Connection`."""
        return self._service


@dataclass(frozen=True)
class ReplicaSelection:
    """The replica that was chosen.

    Attributes:
        replica_id: unique for the life of the mesh.
        node_ip: where it runs.
        port: of its mesh endpoint.
        node_id: Ray's id of that node.
        availability_zone: of that node, empty for not known.
        replica_metadata: what its `record_replica_metadata` returned.
    """

    replica_id: str
    node_ip: str
    port: int
    node_id: str
    availability_zone: str
    replica_metadata: dict[str, Any]
    deployment_id: DeploymentId = field(repr=False)
    options: HandleOptions = field(repr=False, compare=False)
    connection: SlotConnection = field(repr=False, compare=False)

    @property
    def address(self) -> str:
        """`ip:port` of its mesh endpoint."""
        return f"{self.node_ip}:{self.port}"

    def to_dict(self) -> dict[str, Any]:
        """What it says of the replica, as data that can be sent elsewhere."""
        names = ("replica_id", "node_ip", "port", "node_id", "availability_zone", "replica_metadata")
        return {name: getattr(self, name) for name in names} | {"deployment": self.deployment_id._asdict()}


class Choosing(AbstractAsyncContextManager[ReplicaSelection]):
    """The block in which a chosen replica holds a slot; made by `DeploymentHandle.choose_replica`.

    Args:
        connect: finds the deployment's service.
        call: only reserves.
        options: of the handle, for the call that uses the slot.
        reserve: False to give the slot back at once and only name the replica.
        scope: of the request that is being served, if any.
    """

    def __init__(
        self, connect: Connect, call: Call, options: HandleOptions, reserve: bool, scope: RequestScope | None
    ) -> None:
        self._connect = connect
        self._call = call
        self._options = options
        self._reserve = reserve
        self._scope = scope
        self._response: DeploymentResponse[None] | None = None

    async def __aenter__(self) -> ReplicaSelection:
        """Waits for a replica.

        Raises:
            RuntimeError: the block was entered before.
            BackPressureError: too many calls wait already.
            DeploymentUnavailableError: the deployment cannot serve.
            TimeoutError: the handle's `timeout_s` has passed.
        """
        if self._response is not None:
            raise RuntimeError("This choice was made already: call choose_replica() again.")
        response = self._response = DeploymentResponse(self._call.context.request_id, self._scope)
        to_io(send, self._connect, self._call, response)
        try:
            await response
        except BaseException:  # also when this task is cancelled just as the slot is granted
            to_io(_give_up, response)
            raise
        if not self._reserve:
            to_io(_give_up, response)
        slot = _slot(response)
        assert slot is not None
        return _selection(slot, self._call.deployment, self._options)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._response is not None
        to_io(_give_up, self._response)


def _slot(response: DeploymentResponse[None]) -> Slot | None:
    return response._reply.slot if response._reply is not None else None


def _give_up(response: DeploymentResponse[None]) -> None:
    """Gives the slot back, or ends the search for one; on the I/O thread."""
    slot = _slot(response)
    if slot is not None:
        slot.release()
    elif not response._over:
        response._cancel_flight()


def _selection(slot: Slot, deployment: DeploymentId, options: HandleOptions) -> ReplicaSelection:
    target: ReplicaTarget = slot.target
    host, _, port = target.address.rpartition(":")
    return ReplicaSelection(
        replica_id=target.tag,
        node_ip=target.node_ip or host,
        port=int(port) if port.isdigit() else 0,
        node_id=target.node_id,
        availability_zone=target.availability_zone,
        replica_metadata=json.loads(target.metadata_json) if target.metadata_json else {},
        deployment_id=deployment,
        options=options,
        connection=SlotConnection(deployment, slot),
    )
