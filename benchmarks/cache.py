"""The cache of pixels: milliseconds of a block that is there and of one that is not, and what requests share."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from benchmarks.rows import Row
from rs_embed.core.imagery import ImageRequest, Interval, Scene
from rs_embed.providers.base import SceneProvider
from rs_embed.providers.cache import cached

__all__ = ["run"]

BLOCK, SIDE = 256, 2048
SCENE = Scene("one", datetime(2023, 7, 1, tzinfo=UTC), frozenset({"B4"}))
Window = tuple[int, int, int, int]
"""Row, column, height and width."""


class Held(SceneProvider):
    """Pixels in memory; counts what is read."""

    name = source = "held"

    def __init__(self, pixels: NDArray[np.float32]) -> None:
        self.pixels, self.reads = pixels, list[Window]()

    def offers(self, sensor: str) -> bool:
        return True

    def search(self, request: ImageRequest, interval: Interval) -> list[Scene]:
        return [SCENE]

    def scene_key(self, scene: Scene) -> str:
        return scene.id

    def read(self, scene: Scene, bands: Sequence[str], geobox: GeoBox) -> NDArray[np.float32]:
        row, col = round(-geobox.affine.f / 10), round(geobox.affine.c / 10)
        height, width = geobox.shape
        self.reads.append((row, col, height, width))
        part = self.pixels[row : row + height, col : col + width]
        return np.broadcast_to(part, (len(bands), height, width)).copy()


def _box(window: Window) -> GeoBox:
    row, col, height, width = window
    return GeoBox((height, width), Affine(10, 0, 10 * col, 0, -10, -10 * row), "EPSG:32633")


def _seconds(kind: str, pixels: NDArray[np.float32], repeats: int) -> Iterator[Row]:
    """Times of a block that is not there, and then is, less those of the provider alone."""
    whole = _box((0, 0, SIDE, SIDE))
    blocks = (SIDE // BLOCK) ** 2
    times: dict[str, list[float]] = {"alone": [], "miss": [], "hit": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            provider = cached(Held(pixels), folder=Path(folder))
            calls: tuple[tuple[str, SceneProvider], ...] = (
                ("alone", Held(pixels)),
                ("miss", provider),
                ("hit", provider),
            )
            for name, one in calls:
                start = time.perf_counter()
                one.read(SCENE, ["B4"], whole)
                times[name].append((time.perf_counter() - start) / blocks * 1e3)
            size = sum(file.stat().st_size for file in Path(folder).rglob("*.pixels")) / blocks / 1e3
    alone, miss, hit = (min(times[name]) for name in ("alone", "miss", "hit"))  # load disturbs the fastest least
    note = f"median {statistics.median(times['hit']):.2f} ms; {size:.0f} kB a block on the disk"
    yield Row(f"{kind}: a block of 256 x 256 that is there", hit, "ms", target=1.0, note=note)
    yield Row(
        f"{kind}: what keeping one adds to reading it", miss - alone, "ms", note=f"reading it takes {alone:.2f} ms"
    )


def _by_window(windows: Sequence[Window]) -> list[Window]:
    """Reads where each window is an entry of its own."""
    return list(dict.fromkeys(windows))


def _by_block(windows: Sequence[Window]) -> list[Window]:
    """Reads where whole blocks are entries: the rectangle of the blocks that are not there."""
    there: set[tuple[int, int]] = set()
    reads = []
    for row, col, height, width in windows:
        rows = range(row // BLOCK, (row + height - 1) // BLOCK + 1)
        cols = range(col // BLOCK, (col + width - 1) // BLOCK + 1)
        lacking = {(r, c) for r in rows for c in cols} - there
        if lacking:
            top, left = min(r for r, _ in lacking), min(c for _, c in lacking)
            bottom, right = max(r for r, _ in lacking) + 1, max(c for _, c in lacking) + 1
            reads.append((top * BLOCK, left * BLOCK, (bottom - top) * BLOCK, (right - left) * BLOCK))
            there |= lacking
    return reads


def _by_piece(windows: Sequence[Window]) -> list[Window]:
    """Reads of the cache as it is."""
    held = Held(np.zeros((SIDE * 2, SIDE * 2), np.float32))
    with tempfile.TemporaryDirectory() as folder:
        provider = cached(held, folder=Path(folder))
        for window in windows:
            provider.read(SCENE, ["B4"], _box(window))
    return held.reads


WAYS: dict[str, Callable[[Sequence[Window]], list[Window]]] = {
    "each window": _by_window,
    "whole blocks": _by_block,
    "pieces of blocks": _by_piece,
}


def _tiles(reads: Sequence[Window], size: int = 512) -> int:
    """Tiles of a source that the reads fetch: it keeps none of them."""
    return sum(
        ((row + height - 1) // size - row // size + 1) * ((col + width - 1) // size - col // size + 1)
        for row, col, height, width in reads
    )


def _workloads(count: int) -> Iterator[tuple[str, list[Window]]]:
    random = np.random.default_rng(0)
    places = random.integers(BLOCK, SIDE - BLOCK, (count, 2)).tolist()
    yield f"{count} points, 64 px", [(row, col, 64, 64) for row, col in places]
    yield f"{count} points, 410 px", [(row, col, 410, 410) for row, col in places]
    tiles = [(300 + 224 * r, 300 + 224 * c, 224, 224) for r in range(6) for c in range(6)]
    yield "36 tiles of 224 px, then their whole", [*tiles, (300, 300, 1344, 1344)]
    yield "one region of 410 px", [(300, 300, 410, 410)]


def run(quick: bool) -> Iterator[Row]:
    """Yield times, and the pixels and tiles that ways to cut the cache would read."""
    random = np.random.default_rng(1)
    whole = random.integers(1, 10_000, (SIDE, SIDE)).astype(np.float32)
    for kind, pixels in (("whole numbers", whole), ("floats", (whole / 7).astype(np.float32))):
        yield from _seconds(kind, pixels, 3 if quick else 9)
    for name, windows in _workloads(100 if quick else 1000):
        needed = np.zeros((SIDE * 2, SIDE * 2), bool)
        for row, col, height, width in windows:
            needed[row : row + height, col : col + width] = True
        for way, cut in WAYS.items():
            reads = cut(windows)
            read = sum(height * width for _, _, height, width in reads) / int(needed.sum())
            note = f"{len(reads)} reads, {_tiles(reads)} tiles of 512 px; {_tiles(reads, 1024)} of 1024 px"
            yield Row(f"{name}, kept by {way}: pixels read by pixels needed", read, "", note=note)
