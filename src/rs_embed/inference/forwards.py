"""How many forward passes the engine will make, from the plans alone: its queue played through without a pixel."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from rs_embed.inference.engine import LOAD_BYTES, LOADERS, PATIENCE

__all__ = ["BlockLoad", "count_forwards"]


@dataclass
class BlockLoad:
    """A block of windows as the engine queues it."""

    nbytes: int
    windows: tuple[tuple[Hashable, int], ...]
    """Of each window that will be encoded its signature and the windows of a full batch; none: the region fails."""
    waiting: int = 0


@dataclass
class _Group:
    since: int
    members: list[BlockLoad] = field(default_factory=list)


class _Queue:
    """The bookkeeping of `rs_embed.inference.engine` alone: what is held, what waits for a full batch."""

    def __init__(self) -> None:
        self.held = self.taken = self.windows = self.forwards = 0
        self.loads: deque[BlockLoad] = deque()
        self.groups: dict[Hashable, _Group] = {}

    def admits(self, load: BlockLoad) -> bool:
        """Whether a block's bytes fit beside those that are held."""
        return len(self.loads) < 4 * LOADERS and (self.held == 0 or self.held + load.nbytes <= LOAD_BYTES)

    def submit(self, load: BlockLoad) -> None:
        """Begin to load a block."""
        self.held += load.nbytes
        self.loads.append(load)

    def take(self) -> None:
        """Put the windows of the oldest block into their groups; full and old groups are encoded."""
        load = self.loads.popleft()
        load.waiting = len(load.windows)
        self.taken += 1
        if not load.windows:
            self.held -= load.nbytes
        for signature, batch in load.windows:
            self.windows += 1
            group = self.groups.setdefault(signature, _Group(self.taken))
            group.members.append(load)
            if len(group.members) >= batch:
                self._encode(self.groups.pop(signature))
        for signature in [s for s, group in self.groups.items() if self.taken - group.since >= PATIENCE]:
            self._encode(self.groups.pop(signature))

    def flush(self) -> None:
        """Encode the groups that are not full."""
        groups, self.groups = self.groups, {}
        for group in groups.values():
            self._encode(group)

    def _encode(self, group: _Group) -> None:
        self.forwards += 1
        for load in group.members:
            load.waiting -= 1
            if load.waiting == 0:
                self.held -= load.nbytes


def count_forwards(loads: Iterable[BlockLoad]) -> tuple[int, int]:
    """Return (windows, forward passes) of blocks in the order of submission.

    Windows that turn out to hold no usable pixel are not encoded; they are counted here.
    """
    queue, coming = _Queue(), iter(loads)
    upcoming = next(coming, None)
    while upcoming is not None or queue.loads or queue.groups:
        while upcoming is not None and queue.admits(upcoming):
            queue.submit(upcoming)
            upcoming = next(coming, None)
        if queue.loads:
            queue.take()
        elif queue.groups:
            queue.flush()
    return queue.windows, queue.forwards
