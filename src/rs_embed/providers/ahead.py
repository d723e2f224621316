"""Calls that wait for a network, many at a time: results in order, and the first failure ends them all."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["PASSES", "READS", "Workers", "ahead", "together"]

T = TypeVar("T")


class Workers:
    """Threads that are started when they are first wanted, and anew in a forked process.

    A call may wait for calls of workers further down the list of this module, never of its own or one above: so that
    none waits for a thread that waits for it.
    """

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._pool = None

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run a call in one of the threads."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, thread_name_prefix=self.name)
            return self._pool.submit(call)


PASSES = Workers("rs-embed-pass", 16)
"""Read the passes of a composite; they wait for `READS`."""
READS = Workers("rs-embed-read", 32)
"""Read one band of one scene each; they wait for nobody but the network."""


def ahead(workers: Workers, calls: Iterable[Callable[[], T]], *, most: int) -> Iterator[T]:
    """Yield the calls' results in order, while later ones run.

    Parameters
    ----------
    workers
        Where they run.
    calls
        Taken one by one, as there is room for them.
    most
        Calls that run or have results that were not taken.

    Raises
    ------
    Exception
        Whatever any of the running calls raises, at once, although results before it are not there yet; what has not
        begun is cancelled then, and where the iterator is closed.
    """
    waiting: deque[Future[T]] = deque()
    finished: SimpleQueue[Future[T]] = SimpleQueue()
    rest = iter(calls)

    def fill() -> None:
        while len(waiting) < max(1, most):
            call = next(rest, None)
            if call is None:
                return
            future = workers.submit(call)
            waiting.append(future)
            future.add_done_callback(finished.put)

    try:
        fill()
        while waiting:
            while not waiting[0].done():
                done = finished.get()
                if not done.cancelled() and done.exception() is not None:
                    done.result()
            result = waiting.popleft().result()
            fill()
            yield result
    finally:
        for future in waiting:
            future.cancel()


def together(workers: Workers, calls: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of all calls, which run at the same time; a single one runs here."""
    return [call() for call in calls] if len(calls) < 2 else list(ahead(workers, calls, most=len(calls)))
