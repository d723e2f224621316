"""A memory of what was asked: each thing is fetched once, however many threads ask for it at the same time."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakSet

__all__ = ["Memo"]

T = TypeVar("T")


@dataclass
class _Entry(Generic[T]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the value is fetched."""
    values: list[T] = field(default_factory=list)
    """The value, or nothing yet."""
    until: float = float("inf")
    """Moment of `time.monotonic` from which it is fetched again."""


_ALL: WeakSet[Memo[Any]] = WeakSet()


class Memo(Generic[T]):
    """Values by key; the least recently used go first, failures are not kept.

    Parameters
    ----------
    size
        Most values that are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._lock = threading.Lock()
        _ALL.add(self)

    def get(self, key: Hashable, fetch: Callable[[], T], *, lifetime: Callable[[T], float] | None = None) -> T:
        """Return the value of ``key``; who comes first fetches it, who comes meanwhile waits for it.

        Parameters
        ----------
        fetch
            Makes the value; where it fails, the next who waits tries again.
        lifetime
            Seconds for which a value may be kept; None: always.
        """
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        with entry.lock:
            if not entry.values or entry.until <= time.monotonic():
                entry.values = [fetch()]
                entry.until = float("inf") if lifetime is None else time.monotonic() + lifetime(entry.values[0])
            return entry.values[0]

    def forget(self, key: Hashable) -> None:
        """Drop a value."""
        with self._lock:
            self._entries.pop(key, None)

    def forget_unfinished(self) -> None:
        """Drop what other threads are fetching: a forked process has none of them."""
        self._lock = threading.Lock()
        for key in [key for key, entry in self._entries.items() if entry.lock.locked()]:
            del self._entries[key]


def _forget_unfinished() -> None:
    for memo in list(_ALL):
        memo.forget_unfinished()


os.register_at_fork(after_in_child=_forget_unfinished)
