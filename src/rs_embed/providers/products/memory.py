"""Decoded blocks of products, kept in memory: each is read once, however many regions and threads want it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from numpy.typing import NDArray

__all__ = ["MEMORY", "Memory"]

LIMIT = 2**28
"""Bytes of decoded blocks that are kept."""
Load = Callable[[list[Hashable]], Sequence[NDArray[Any]]]
"""From keys to an array each."""
Coming = Future[NDArray[Any]]


class _Failed(Exception):  # noqa: N818 -- it never leaves this module
    """Who loaded a block could not."""


class Memory:
    """The arrays used last, by key, up to a number of bytes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.held = limit, 0
        self.lock = threading.Lock()
        self.kept: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self.coming: dict[Hashable, Coming] = {}

    def get(self, key: Hashable, load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return what is kept under a key, else load it; others that want it meanwhile wait for this one."""
        return self.many([key], lambda _: [load()])[key]

    def many(self, keys: Iterable[Hashable], load: Load) -> dict[Hashable, NDArray[Any]]:
        """Return what is kept under keys; what is neither kept nor being loaded by others is loaded at one go."""
        found, mine, others = self._claim(keys)
        loaded: dict[Hashable, NDArray[Any]] = {}
        try:
            if mine:
                loaded = dict(zip(mine, load(list(mine)), strict=True))
        finally:
            self._settle(mine, loaded)
        for key, future in others.items():
            try:
                found[key] = future.result()
            except _Failed:  # what went wrong for another region goes wrong for this one in its own words
                found[key] = self.many([key], load)[key]
        return found | loaded

    def _claim(
        self, keys: Iterable[Hashable]
    ) -> tuple[dict[Hashable, NDArray[Any]], dict[Hashable, Coming], dict[Hashable, Coming]]:
        """Sort keys by what is kept, what is to be loaded here, and what others load."""
        kept, mine, others = dict[Hashable, NDArray[Any]](), dict[Hashable, Coming](), dict[Hashable, Coming]()
        with self.lock:
            for key in dict.fromkeys(keys):
                if key in self.kept:
                    self.kept.move_to_end(key)
                    kept[key] = self.kept[key]
                elif key in self.coming:
                    others[key] = self.coming[key]
                else:
                    mine[key] = self.coming[key] = Coming()
        return kept, mine, others

    def _settle(self, mine: Mapping[Hashable, Coming], loaded: Mapping[Hashable, NDArray[Any]]) -> None:
        """Keep what was loaded and tell those that wait for it."""
        with self.lock:
            for key in mine:
                del self.coming[key]
                if key in loaded:
                    loaded[key].flags.writeable = False
                    self._keep(key, loaded[key])
        for key, future in mine.items():
            if key in loaded:
                future.set_result(loaded[key])
            else:
                future.set_exception(_Failed())

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
