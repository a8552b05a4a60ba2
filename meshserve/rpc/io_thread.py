"""The one thread of a process on which all gRPC objects live.

grpc.aio has a single poller per process and wakes every event loop that ever used it on every event, so exactly one
loop may touch it. That loop runs here, on its own thread, so that user code that blocks its loop blocks neither
heartbeats nor cancellation nor other callers.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

try:
    import uvloop
except ImportError:  # optional: not on every platform
    uvloop = None

T = TypeVar("T")

WAITS_FOR_ITSELF = (
    "This call blocks, and user code shares the event loop that would bring its answer "
    "(RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD=0): call it in a thread, with `await asyncio.to_thread(...)`, or give "
    "user code a thread of its own."
)
"""What is wrong with waiting on the I/O thread."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Makes a loop of the fastest kind at hand."""
    return uvloop.new_event_loop() if uvloop is not None else asyncio.new_event_loop()


class LoopThread:
    """An event loop on a daemon thread of its own.

    Args:
        name: the thread's name, seen in profilers.
    """

    def __init__(self, name: str) -> None:
        self.loop = new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> LoopThread:
        """Starts the thread; returns itself."""
        self._thread.start()
        return self

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return threading.current_thread() is self._thread

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs a coroutine here, from any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Runs a coroutine here and waits for it.

        Raises:
            RuntimeError: called on this thread, which would wait for itself.
            TimeoutError: it did not end in time; it is cancelled then.
        """
        if self.is_current:
            coroutine.close()
            raise RuntimeError(WAITS_FOR_ITSELF)
        future = self.submit(coroutine)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Runs a callback here soon, from any thread."""
        self.loop.call_soon_threadsafe(callback, *args)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Starts a task owned by this thread; to be called on this thread."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def stop(self, timeout_s: float = 2.0) -> None:
        """Cancels the tasks of the loop, ends it and waits for the thread."""
        if not self._thread.is_alive():
            return
        self.loop.call_soon_threadsafe(self._finish)
        if not self.is_current:
            self._thread.join(timeout_s)

    def _finish(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        asyncio.gather(*tasks, return_exceptions=True).add_done_callback(lambda _: self.loop.stop())


_io_thread: LoopThread | None = None
_io_lock = threading.Lock()


def io_thread() -> LoopThread:
    """The process's I/O thread, started on first use; a forked child gets its own."""
    global _io_thread
    if _io_thread is None:
        with _io_lock:
            if _io_thread is None:
                _io_thread = LoopThread("meshserve-io").start()
    return _io_thread


def _forget_after_fork() -> None:
    """Threads do not survive a fork. (A hook, because asking for the process id at every call is a system call.)"""
    global _io_thread
    _io_thread = None


os.register_at_fork(after_in_child=_forget_after_fork)
