"""Decoded blocks of products, kept in memory: each is read once, however many regions and threads want it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

from numpy.typing import NDArray

__all__ = ["MEMORY", "Memory"]

LIMIT = 2**28
"""Bytes of decoded blocks that are kept."""


class _Failed(Exception):  # noqa: N818 -- it never leaves this module
    """Who loaded a block could not."""


class Memory:
    """The arrays used last, by key, up to a number of bytes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.held = limit, 0
        self.lock = threading.Lock()
        self.kept: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self.coming: dict[Hashable, Future[NDArray[Any]]] = {}

    def get(self, key: Hashable, load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return what is kept under a key, else load it; others that want it meanwhile wait for this one."""
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
            waiting = self.coming.get(key)
            if waiting is None:
                mine = self.coming[key] = Future[NDArray[Any]]()
        if waiting is not None:
            try:
                return waiting.result()
            except _Failed:
                return self.get(
                    key, load
                )  # what went wrong for another region goes wrong for this one in its own words
        found: NDArray[Any] | None = None
        try:
            found = load()
            found.flags.writeable = False
            return found
        finally:
            with self.lock:
                del self.coming[key]
                if found is not None:
                    self._keep(key, found)
            if found is not None:
                mine.set_result(found)
            else:
                mine.set_exception(_Failed())

    def _keep(self, key: Hashable, found: NDArray[Any]) -> None:
        if found.nbytes > self.limit:
            return
        self.kept[key] = found
        self.held += found.nbytes
        while self.held > self.limit:
            _, oldest = self.kept.popitem(last=False)
            self.held -= oldest.nbytes

    def clear(self) -> None:
        """Forget all."""
        with self.lock:
            self.kept.clear()
            self.held = 0


MEMORY = Memory()


def _forget() -> None:
    """A forked process has no threads that could finish what was being loaded."""
    MEMORY.lock = threading.Lock()
    MEMORY.coming.clear()


os.register_at_fork(after_in_child=_forget)
