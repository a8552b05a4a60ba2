"""Runs accepted calls: chooses the adapter by encoding, the thread by the kind of code.

Asynchronous code runs on the user's loop, one task a call. Synchronous methods run in a pool of `max_ongoing_requests`
threads, and a plain synchronous call goes there straight from the I/O thread and answers straight back, without
touching the user's loop.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import Callable
from contextvars import Context

from meshserve.errors import InvalidCallError
from meshserve.model.call import CallKind, Encoding
from meshserve.model.failure import Failure
from meshserve.replica.adapter import Adapter
from meshserve.replica.kept import Kept
from meshserve.replica.python_adapter import PythonAdapter
from meshserve.replica.running import Running
from meshserve.replica.user_code import UserCode
from meshserve.replica.user_span import UserSpan
from meshserve.routing.scope import request_scope
from meshserve.rpc.mailbox import Mailbox
from meshserve.telemetry.tracing import active
from meshserve.wire.failures import failure_of

logger = logging.getLogger("meshserve.replica")

_FROM_PYTHON = (Encoding.PICKLE, Encoding.CHAIN, Encoding.CLAIM)

ADAPTERS: dict[Encoding, str] = {
    Encoding.HTTP: "meshserve.replica.http_adapter:HttpAdapter",
    Encoding.PROTOBUF: "meshserve.replica.grpc_adapter:GrpcAdapter",
    Encoding.JSON: "meshserve.replica.generic_adapter:JsonAdapter",
    Encoding.RAW: "meshserve.replica.generic_adapter:RawAdapter",
}
"""One adapter per encoding, imported at the first call that needs it: a replica that only serves handles never
loads an HTTP stack."""


def leave_process(exit: SystemExit) -> None:
    """Ends this process at once, as user code in it has asked for."""
    logger.warning("User code has raised SystemExit (%s): the replica ends.", exit.code)
    os._exit(exit.code if isinstance(exit.code, int) else int(exit.code is not None))


class Runner:
    """Runs calls on one user object.

    Args:
        user: the user's code.
        kept: where large arguments are deposited; None where none can be.
        leave: called when user code exits. Where it returns, the call fails as with any other exception.
    """

    def __init__(
        self, user: UserCode, kept: Kept | None = None, leave: Callable[[SystemExit], None] = leave_process
    ) -> None:
        self._user = user
        self._leave = leave
        self._python = PythonAdapter(user, kept or Kept())
        self._adapters: dict[Encoding, Adapter] = {}
        self._running: set[Running] = set()  # the loop itself holds its tasks weakly
        self._to_user: Mailbox[Running] = Mailbox(user.loop, self._begin)

    def start(self, running: Running) -> None:
        """Starts an accepted call; on the I/O thread."""
        call = running.call
        if call.payload.encoding in _FROM_PYTHON and call.kind is CallKind.UNARY and self._user.is_sync(call.method):
            self._user.submit(Context().run, self._run_sync, running)
        else:
            self._to_user.post(running)

    def _run_sync(self, running: Running) -> None:
        request_scope.set(running.scope)
        span = UserSpan.begin(running.call) if active() is not None else None
        failure: Failure | None = None
        try:
            if running.cancelled:
                raise asyncio.CancelledError
            result = self._python.call_sync(running)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; the caller gets it
            failure = self._failure(error)
            running.complete(None, failure)
            return
        finally:
            if span is not None:
                span.end(failure)
        if result is None:
            self._to_user.post(running)  # it returned something to await: its task does that
        else:
            running.complete(result, None)

    def _begin(self, running: Running) -> None:
        self._running.add(running)
        running.task = self._user.loop.create_task(self._run(running))

    async def _run(self, running: Running) -> None:
        running.begun = True
        request_scope.set(running.scope)
        span = UserSpan.begin(running.call) if active() is not None else None
        failure: Failure | None = None
        try:
            if running.cancelled:
                raise asyncio.CancelledError
            payload = await self._adapter(running.call.payload.encoding).run(running)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; the caller gets it
            failure = self._failure(error)
            running.complete(None, failure)
        else:
            running.complete(payload, None)
        finally:
            self._running.discard(running)
            if span is not None:
                span.end(failure)

    def _failure(self, error: BaseException) -> Failure:
        if isinstance(error, SystemExit):
            self._leave(error)
        return failure_of(error)

    def _adapter(self, encoding: Encoding) -> Adapter:
        if encoding in _FROM_PYTHON:
            return self._python
        adapter = self._adapters.get(encoding)
        if adapter is None:
            path = ADAPTERS.get(encoding)
            if path is None:
                raise InvalidCallError(f"This replica has no way to read arguments encoded as {encoding.name}.")
            module, _, name = path.partition(":")
            make: Callable[[UserCode], Adapter] = getattr(importlib.import_module(module), name)
            adapter = self._adapters[encoding] = make(self._user)
        return adapter
