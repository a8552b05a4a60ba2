"""Which method of which service is answered how: looked up for every call, replaced when applications change."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import grpc
import grpc.aio

from meshserve.proxy.grpc_call import Context
from meshserve.rpc.servicers import Handlers, RpcMethod, load_methods
from meshserve.rpc.status_details import abort, refusal, request_id_of

logger = logging.getLogger(__name__)


class MethodTable(grpc.GenericRpcHandler):
    """What gRPC asks for the handler of a method.

    Attributes:
        failed: servicer functions that could not be loaded, and why.
        settled: cleared while services are being loaded; calls of unknown methods wait for it, so that an application's
            services answer as soon as the application does.
    """

    def __init__(self) -> None:
        self._handlers: Handlers = {}
        self.failed: dict[str, str] = {}
        self.settled = asyncio.Event()
        self.settled.set()

    def replace(self, handlers: Handlers) -> None:
        """Answers these methods from now on; calls in flight go on."""
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method; one that waits or refuses for a method that nobody serves now."""
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is not None:
            return handler

        async def unknown(requests: object, context: Context) -> None:
            await self.settled.wait()
            late: Any = self._handlers.get(method)
            if late is None:
                await self._refuse(method, context)
            elif late.response_streaming:
                await late.stream_stream(requests, context)
            else:
                await context.write(await late.stream_unary(requests, context))

        return grpc.stream_stream_rpc_method_handler(unknown)

    async def _refuse(self, method: str, context: Context) -> NoReturn:
        service, _, name = method.lstrip("/").rpartition("/")
        methods = sorted(known.rpartition("/")[2] for known in self._handlers if known.startswith(f"/{service}/"))
        if methods:
            message = f"service {service!r} has no method {name!r}; it has {', '.join(methods)}."
        else:
            message = f"no service {service!r} here. Is its servicer function among grpc_servicer_functions?"
            if self.failed:
                message += f" These could not be loaded: {', '.join(sorted(self.failed))}."
        code, facts = grpc.StatusCode.UNIMPLEMENTED, {"method": method[:256]}
        await abort(context, refusal(code, message, "METHOD_NOT_FOUND", request_id_of(context), facts))


class ServicerLoader:
    """Loads servicer functions on a thread: importing a user's modules may take seconds.

    Args:
        failed: where to note what could not be loaded.
    """

    def __init__(self, failed: dict[str, str]) -> None:
        self._failed = failed

    async def load(self, functions: Iterable[str]) -> list[RpcMethod]:
        """The methods of all functions; of two with the same full name the first counts.

        Raises:
            ModuleNotFoundError: a function cannot be imported.
            ValueError: a function adds no services.
        """
        found = await asyncio.to_thread(lambda: [method for function in functions for method in load_methods(function)])
        return _unique(found)

    async def load_what_can_be(self, functions: Iterable[str], import_paths: Iterable[str]) -> list[RpcMethod]:
        """As `load`, but a function that cannot be loaded is logged and left out: it came with one application, and
        the others must not suffer."""
        return await asyncio.to_thread(self._load_each, tuple(functions), tuple(import_paths))

    def _load_each(self, functions: tuple[str, ...], import_paths: tuple[str, ...]) -> list[RpcMethod]:
        # Behind everything else, so that a folder of one application shadows nothing of this process.
        sys.path.extend(path for path in import_paths if path not in sys.path and os.path.isdir(path))
        importlib.invalidate_caches()  # modules may have appeared since a folder was last looked into
        found: list[RpcMethod] = []
        failed: dict[str, str] = {}
        for function in functions:
            try:
                found.extend(load_methods(function))
            except Exception as error:  # noqa: BLE001 - importing user code may raise anything
                failed[function] = str(error)
                if self._failed.get(function) != str(error):
                    logger.error("gRPC services of %s are not served: %s", function, error)
        self._failed.clear()
        self._failed.update(failed)
        return _unique(found)


def _unique(methods: list[RpcMethod]) -> list[RpcMethod]:
    first: dict[str, RpcMethod] = {}
    for method in methods:
        first.setdefault(method.full_name, method)
    return list(first.values())
