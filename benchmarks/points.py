"""Ten thousand points in one call: seconds and memory of a batch, and the flat memory of the iterator."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.memory import forget_peak, peak, resident
from benchmarks.rows import Row

__all__ = ["run"]

FULL, QUICK = 10_000, 1_000
TARGET_MB = 64
"""Peak of the iterator above its base, however many points there are."""
COUNTRY = (6.0, 47.5, 15.0, 54.5)
"""Degrees: west, south, east, north."""
LIMIT_S = 3600


def run(quick: bool) -> Iterator[Row]:
    """Yield a batch on the synthetic landscape and on painted arrays, then the iterator."""
    count = QUICK if quick else FULL
    for backend in ("synthetic", "painter"):
        found = _in_process("batch", backend, count)
        name = f"{count} points of 100 m, {backend}, one batch"
        yield Row(
            name, found["seconds"], "s", note=f"{1000 * found['seconds'] / count:.1f} ms a point{found['failed']}"
        )
        yield Row(f"{name}: peak", found["peak"], "MB", note=f"base {found['base']:.0f} MB, all results held")
    part, whole = (_in_process("iter", "painter", number) for number in (count // 4, count))
    note = f"{whole['seconds']:.1f} s, base {whole['base']:.0f} MB; {part['peak']:.1f} MB for {count // 4} points"
    yield Row(f"{count} points, painter, iter_embeddings: peak", whole["peak"], "MB", target=TARGET_MB, note=note)


def _in_process(how: str, backend: str, count: int) -> dict[str, Any]:
    arguments = [sys.executable, "-m", "benchmarks.points", how, backend, str(count)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _child(how: str, backend: str, count: int) -> dict[str, Any]:
    """Embed some points, so that all is imported and loaded; then all of them."""
    from benchmarks.paint import SPAN, Painter
    from rs_embed import PointBuffer, Regions, TemporalSpec, get_embeddings_batch, iter_embeddings

    numbers = random.Random(1)
    west, south, east, north = COUNTRY
    places = [PointBuffer(numbers.uniform(west, east), numbers.uniform(south, north), 50) for _ in range(count)]
    regions = Regions(places, ids=range(count), table={"part": [i % 7 for i in range(count)]})
    call: dict[str, Any] = {
        "temporal": TemporalSpec.range(*SPAN),
        "backend": Painter() if backend == "painter" else backend,
        "on_error": "return",  # where a month is overcast, there is no imagery
        "show_progress": False,
    }
    get_embeddings_batch("imagestats", spatials=regions[:64], **call)
    forget_peak()
    base, start = resident(), time.perf_counter()
    embed = get_embeddings_batch if how == "batch" else iter_embeddings
    failed = sum(not embedding.ok for embedding in embed("imagestats", spatials=regions, **call))
    seconds = time.perf_counter() - start
    said = f", {failed} without imagery" if failed else ""
    return {"seconds": seconds, "peak": 1000 * (peak() - base), "base": 1000 * base, "failed": said}


if __name__ == "__main__":
    _how, _backend, _count = sys.argv[1:4]
    print(json.dumps(_child(_how, _backend, int(_count))))
