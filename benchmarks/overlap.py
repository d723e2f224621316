"""32 regions that take 100 ms each to load, and a model that costs nothing: loading overlaps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from benchmarks.paint import SPAN, Painter, regions
from benchmarks.rows import Row
from rs_embed import TemporalSpec, get_embeddings_batch

__all__ = ["run"]

REGIONS, LATENCY = 32, 0.1


def run(quick: bool) -> Iterator[Row]:
    """Yield the seconds of one call."""
    seconds = []
    for number in range(4 if quick else 10):
        start = time.perf_counter()
        get_embeddings_batch(
            "imagestats",
            spatials=regions(REGIONS, 16),
            temporal=TemporalSpec.range(*SPAN),
            backend=Painter(LATENCY),
        )
        if number:
            seconds.append(time.perf_counter() - start)
    note = f"fastest {min(seconds):.3f} s; one after the other {REGIONS * LATENCY:g} s"
    yield Row(f"{REGIONS} regions, {LATENCY * 1e3:g} ms each", statistics.median(seconds), "s", target=0.5, note=note)
