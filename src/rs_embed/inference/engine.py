"""The stream: load, prepare, encode and assemble any number of regions with bounded memory.

A pool of threads loads and prepares blocks of windows; the consumer's thread takes them in the order of submission,
groups windows of one signature over all regions, encodes full groups, and yields each region as it is finished.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import NoImageryError, RSEmbedError
from rs_embed.inference.features import check_features, check_vector
from rs_embed.inference.meta import RegionRecord, assemble
from rs_embed.inference.plan import Block, Plan
from rs_embed.inference.pooling import Accumulator, make_accumulator
from rs_embed.inference.prepare import Sample, collate, make_samples
from rs_embed.inference.quality import check_stack
from rs_embed.inference.runtime import Runtime
from rs_embed.inference.setup import Setup
from rs_embed.providers.base import Provider

__all__ = ["Job", "stream"]

LOADERS = 16
"""Threads that load."""
LOAD_BYTES = 2**28
"""Loaded pixels that may wait to be encoded; what is prepared of them lies beside."""
FEATURE_BYTES = 2**26
"""Features of one forward pass: the windows of pixel models with many dimensions go one by one."""
PATIENCE = 256
"""Blocks that are taken before a group is encoded although it is not full: regions are finished about in order."""
BATCH = {"cpu": 32, "cuda": 64}
"""Windows of one forward pass."""


@dataclass(frozen=True)
class Job:
    """One region: planning it may fail on its own account."""

    index: int
    make_plan: Callable[[], Plan]
    provider: Provider
    id: str | int | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    near: Callable[[], tuple[str, int, int]] | None = None
    """Of a product: which block the region reads, asked when regions are sorted."""


@dataclass
class _Region:
    """What is known of a region while its windows are under way."""

    job: Job
    plan: Plan
    runtime: Runtime
    accumulator: Accumulator
    record: RegionRecord
    left: int
    failed: bool = False


@dataclass
class _Load:
    """A block on its way, and the bytes that it holds until its windows are encoded."""

    region: _Region
    block: Block
    future: Future[list[Sample]] | None = None
    """None: loaded when it is taken."""
    waiting: int = 0


@dataclass
class _Group:
    """Windows of one signature that wait for a full batch."""

    since: int
    """How many blocks had been taken when it was begun."""
    members: list[tuple[_Load, Sample]] = field(default_factory=list)


def stream(
    jobs: Iterable[Job], runtime: Callable[[Setup], Runtime], *, batch_size: int | None = None
) -> Iterator[tuple[int, Embedding | RSEmbedError]]:
    """Yield ``(index, result)`` as regions finish; an `RSEmbedError` ends its own region only.

    Parameters
    ----------
    jobs
        The regions; they are planned one after the other, as there is room to load them.
    runtime
        Returns the loaded encoder of a setup: asked for when a region is planned, so that what cannot be planned loads
        nothing.
    batch_size
        Windows of one forward pass; ``None`` chooses by device.
    """
    engine = _Engine(runtime, batch_size)
    try:
        yield from engine.run(jobs)
    finally:
        engine.close()


class _Engine:
    def __init__(self, load_runtime: Callable[[Setup], Runtime], batch_size: int | None) -> None:
        self.load_runtime, self.batch_size = load_runtime, batch_size
        self.runtimes: dict[Any, Runtime] = {}
        self.pool = ThreadPoolExecutor(LOADERS, thread_name_prefix="rs-embed-load")
        self.held, self.taken = 0, 0
        self.loads: deque[_Load] = deque()
        self.groups: dict[Any, _Group] = {}
        self.done: deque[tuple[int, Embedding | RSEmbedError]] = deque()
        self.stop = threading.Event()

    def _runtime(self, setup: Setup) -> Runtime:
        """Return the encoder of a setup, held as long as the stream runs."""
        if setup.key not in self.runtimes:
            self.runtimes[setup.key] = self.load_runtime(setup)
        return self.runtimes[setup.key]

    def close(self) -> None:
        """Cancel what is queued and wait for what runs."""
        self.stop.set()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Embedding | RSEmbedError]]:
        """Drive everything from the consumer's thread."""
        blocks = self._blocks(jobs)
        upcoming = next(blocks, None)
        while upcoming is not None or self.loads or self.groups:
            while upcoming is not None and self._admits(upcoming.block):
                following = next(blocks, None)
                self._submit(upcoming, alone=following is None and not self.loads)
                upcoming = following
            if self.loads:
                self._take(self.loads.popleft())
            elif self.groups:
                self._flush()
            while self.done:
                yield self.done.popleft()
        while self.done:
            yield self.done.popleft()

    def _blocks(self, jobs: Iterable[Job]) -> Iterator[_Load]:
        """Plan regions one after the other, as their blocks are wanted."""
        for job in jobs:
            try:
                plan = job.make_plan()
            except RSEmbedError as error:
                self.done.append((job.index, error))
                continue
            record = RegionRecord.start(plan)
            runtime = self._runtime(plan.setup)
            accumulator = make_accumulator(plan, runtime.encoder)
            region = _Region(job, plan, runtime, accumulator, record, plan.windows)
            for block in plan.blocks:
                yield _Load(region, block)

    def _admits(self, block: Block) -> bool:
        """Whether the block's bytes fit beside those that are held; one oversize block goes alone."""
        return len(self.loads) < 4 * LOADERS and (self.held == 0 or self.held + block.nbytes <= LOAD_BYTES)

    def _submit(self, load: _Load, *, alone: bool) -> None:
        """Start to load a block: in the pool, or here where there is nothing to wait for besides."""
        if load.region.failed:
            return
        self.held += load.block.nbytes
        if not alone:
            load.future = self.pool.submit(self._load, load)
        self.loads.append(load)

    def _load(self, load: _Load) -> list[Sample]:
        """In a thread of the pool: read the block and prepare its windows."""
        if self.stop.is_set() or load.region.failed:
            return []
        region = load.region
        stacks = {}
        for name, request in region.plan.requests.items():
            part = region.plan.parts(region.plan.setup.inputs[name], load.block)
            stacks[name] = next(iter(region.job.provider.load(request, [part])))
            region.record.add_stack(name, stacks[name])
            wanted = region.plan.setup.inputs[name].wanted
            if wanted.check_input:
                region.record.add_checks(check_stack(name, wanted, stacks[name], region.plan.blocks.index(load.block)))
        return make_samples(region.plan, load.block, stacks)

    def _take(self, load: _Load) -> None:
        """Wait for the oldest block; put its windows into their groups and encode the full ones."""
        try:
            samples = load.future.result() if load.future is not None else self._load(load)
        except RSEmbedError as error:
            self._fail(load.region, error)
            samples = []
        if load.region.failed:
            samples = []
        load.waiting = len(samples)
        self.taken += 1
        if not samples:
            self.held -= load.block.nbytes
        for sample in samples:
            load.region.record.add_stats(sample.stats)
            if sample.stats.valid == 0 and load.region.plan.mode != "pixel" and self._blank(sample):
                self._finish_window(load, sample, None)
                continue
            key = (load.region.plan.setup.key, sample.signature)
            group = self.groups.setdefault(key, _Group(self.taken))
            group.members.append((load, sample))
            if len(group.members) >= self._batch(load.region, sample):
                self._encode(self.groups.pop(key))
        for key in [k for k, group in self.groups.items() if self.taken - group.since >= PATIENCE]:
            self._encode(self.groups.pop(key))

    def _batch(self, region: _Region, sample: Sample) -> int:
        """Return the windows of one forward pass: as many as asked for, as far as their features are small."""
        features = 4 * max(region.plan.setup.variant.dims.values()) * sample.coverage.size
        wanted = self.batch_size or BATCH.get(region.runtime.device.split(":")[0], 16)
        return max(1, min(wanted, FEATURE_BYTES // features))

    @staticmethod
    def _blank(sample: Sample) -> bool:
        """Whether no pixel of the whole window is usable: there is nothing for the net to see."""
        return not any(item.valid.any() for item in sample.inputs.values())

    def _flush(self) -> None:
        """Encode the groups that are not full."""
        groups, self.groups = self.groups, {}
        for group in groups.values():
            self._encode(group)

    def _encode(self, group: _Group) -> None:
        members = [(load, sample) for load, sample in group.members if not load.region.failed]
        for load, _ in group.members:
            if load.region.failed:
                self._release(load)
        if not members:
            return
        plan = members[0][0].region.plan
        try:
            features = members[0][0].region.runtime.encode(collate(plan, [sample for _, sample in members]))
            check_features(plan, features, len(members), members[0][1].coverage.shape)
        except RSEmbedError as error:
            for load, _ in members:
                self._fail(load.region, error)
                self._release(load)
            return
        for i, (load, sample) in enumerate(members):
            row = {k: None if v is None else np.asarray(v[i]) for k, v in vars(features).items()}
            self._finish_window(load, sample, row)

    def _finish_window(self, load: _Load, sample: Sample, row: dict[str, Any] | None) -> None:
        """Give a window's features to its region; finish the region with its last window."""
        region = load.region
        if row is not None:
            weight = row["weight"]
            if region.plan.setup.spec.locality == "pixel":
                seen = _inner(_seen(sample), region.plan.setup.variant.window.halo)
                weight = seen.astype(np.float32) if weight is None else weight * seen
            region.accumulator.add(sample.window, sample.coverage, row["grid"], weight, row["pooled"])
        self._release(load)
        region.left -= 1
        if region.left == 0:
            self._finish(region)

    def _release(self, load: _Load) -> None:
        load.waiting -= 1
        if load.waiting == 0:
            self.held -= load.block.nbytes

    def _finish(self, region: _Region) -> None:
        try:
            data = region.accumulator.result()
            if data is None or region.record.valid == 0:
                raise NoImageryError(region.record.nothing(region.plan, region.job.provider))
            check_vector(region.plan, data.shape)
            job = region.job
            found = assemble(region.plan, data, region.record, region.runtime, job.provider, job.id, job.labels)
        except RSEmbedError as error:
            self._fail(region, error)
        else:
            self.done.append((region.job.index, found))

    def _fail(self, region: _Region, error: RSEmbedError) -> None:
        if not region.failed:
            region.failed = True
            self.done.append((region.job.index, error))


def _seen(sample: Sample) -> Any:
    """Whether any frame of any input has a pixel, ``(H, W)``."""
    return np.logical_or.reduce([item.valid.any(0) for item in sample.inputs.values()])


def _inner(valid: Any, halo: int) -> Any:
    """Cut the halo off."""
    return valid[halo : valid.shape[0] - halo, halo : valid.shape[1] - halo] if halo else valid
