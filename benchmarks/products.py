"""Precomputed products from a range server 30 ms away: bytes, requests and seconds beside plain reads of the same."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.memory import forget_peak, peak, resident
from benchmarks.rows import Row
from benchmarks.scenes import Served, served
from rs_embed import BBox, OutputSpec, TemporalSpec, get_embedding, get_embeddings_batch
from rs_embed.providers.products.memory import MEMORY

__all__ = ["run"]

LATENCY = 0.03
LEFT, TOP = 655_360.0, 5_406_720.0
SIDE = 400
"""Pixels of a region of 4 km."""
YEAR = TemporalSpec.year(2024)


def _stores() -> Any:
    """The painter of the tests: the stores' layout stands once."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import product_stores

    return product_stores


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    MEMORY.clear()
    start = time.perf_counter()
    found = act()
    return time.perf_counter() - start, found


def run(quick: bool) -> Iterator[Row]:
    """Yield a region and a thousand points of AlphaEarth, and a region of TESSERA."""
    stores = _stores()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        side = 1024 if quick else 2048
        tile = stores.paint_aef(
            folder / "aef", stores.codes(0, 64, side, side), year=2024, epsg=32632, left=LEFT, top=TOP, block=1024
        )
        stores.index_aef(folder / "aef", [tile])
        painted = stores.paint_tessera(folder / "tessera", 11.55, 48.15)
        with served(folder, LATENCY) as server:
            yield from _alphaearth(server, folder, tile)
            yield from _points(server, folder, tile, 200 if quick else 1000)
            yield from _tessera(server, painted)
        yield from _memory(folder / "aef", tile, side, 200 if quick else 1000)


def _stored(file: Path, window: Window) -> int:
    """Bytes of the blocks of all bands that a window touches."""
    with rasterio.open(file) as dataset:
        high, wide = dataset.block_shapes[0]
        rows = range(window.row_off // high, -(-(window.row_off + window.height) // high))
        cols = range(window.col_off // wide, -(-(window.col_off + window.width) // wide))
        return sum(
            int(dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band))
            for band in dataset.indexes
            for row in rows
            for col in cols
        )


def _alphaearth(server: Served, folder: Path, tile: Any) -> Iterator[Row]:
    row, col = 300, 500  # within one block
    window = Window(col, tile.code.shape[1] - row - SIDE, SIDE, SIDE)  # the file is bottom-up
    region = BBox(LEFT + 10 * col, TOP - 10 * (row + SIDE), LEFT + 10 * (col + SIDE), TOP - 10 * row, crs=tile.crs)
    server.counts()
    seconds, found = _timed(
        lambda: get_embedding(
            "gse", spatial=region, temporal=YEAR, output=OutputSpec.grid(), backend=f"{server.root}/aef"
        )
    )
    requests, sent = server.counts()
    environment = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MULTIPLEX": "YES"}

    def plain() -> Any:
        with rasterio.Env(**environment), rasterio.open(f"/vsicurl/{server.root}/aef/{tile.path}") as dataset:
            return dataset.read(window=window)[:, ::-1]

    reference, stored = _timed(plain)
    wanted = np.sign(stored) * (stored.astype(np.float64) / 127.5) ** 2
    assert np.array_equal(found.values(), wanted.astype(np.float32))
    theirs = server.counts()
    needed = _stored(folder / "aef" / tile.path, window)
    yield Row("gse, 4 km: bytes beside those of the touched blocks", sent / 2**20, "MiB", needed / 2**20, 1.5)
    yield Row("gse, 4 km: requests (30 ms each)", requests, "", theirs[0], note="reference: rasterio over vsicurl")
    yield Row("gse, 4 km: seconds of the call", seconds, "s", reference, note="reference: rasterio over vsicurl")


def _points(server: Served, folder: Path, tile: Any, count: int) -> Iterator[Row]:
    side, file = tile.code.shape[1], folder / "aef" / tile.path
    at = np.random.default_rng(1).integers(0, side - 3, (count, 2)).tolist()
    places = [BBox(LEFT + 10 * c, TOP - 10 * (r + 3), LEFT + 10 * (c + 3), TOP - 10 * r, crs=tile.crs) for r, c in at]
    server.counts()
    seconds, _ = _timed(
        lambda: get_embeddings_batch("gse", spatials=places, temporal=YEAR, backend=f"{server.root}/aef")
    )
    requests, sent = server.counts()
    few = at[:20]
    reference, _ = _timed(lambda: [_one(file, side, row, col) for row, col in few])
    yield Row(
        f"gse, {count} points: bytes beside the whole tile", sent / 2**20, "MiB", file.stat().st_size / 2**20, 1.1
    )
    yield Row(f"gse, {count} points: requests", requests, "")
    note = f"reference: rasterio from the disk, point by point ({len(few)} of them, scaled)"
    yield Row(f"gse, {count} points: seconds", seconds, "s", reference * count / len(few), note=note)


def _one(file: Path, side: int, row: int, col: int) -> Any:
    with rasterio.open(file) as dataset:
        return dataset.read(window=Window(col, side - row - 3, 3, 3))


TARGET_MB = 1500
"""Peak of a pooled region above the base, however large: 256 MB of blocks that are kept, and 16 parts in flight."""


def _memory(root: Path, tile: Any, side: int, count: int) -> Iterator[Row]:
    """Peaks of processes of their own, from the disk: pooled regions, points, and the plain way for the largest."""
    large = min(4 * SIDE, side - 8)
    ask = [sys.executable, "-m", "benchmarks.products", str(root), tile.path, tile.crs]
    found: dict[str, Any] = {}
    for how, number in (("pooled", SIDE), ("pooled", large), ("plain", large), ("points", count)):
        done = subprocess.run([*ask, how, str(number)], capture_output=True, text=True, timeout=1800, check=False)
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
        found[f"{how} {number}"] = json.loads(done.stdout.splitlines()[-1])
    one, whole, plain = found[f"pooled {SIDE}"], found[f"pooled {large}"], found[f"plain {large}"]
    name = f"gse, {large / 100:g} km pooled: peak"
    note = f"{one['peak']:.0f} MB for 4 km; reference: rasterio's window of {large} x {large} px and numpy"
    yield Row(name, whole["peak"], "MB", plain["peak"], note=note)
    yield Row(f"{name}, alone", whole["peak"], "MB", target=TARGET_MB, note=f"base {whole['base']:.0f} MB")
    points = found[f"points {count}"]
    yield Row(f"gse, {count} points, iter_embeddings: peak", points["peak"], "MB", target=TARGET_MB)


def _child(root: str, path: str, crs: str, how: str, number: int) -> dict[str, float]:
    """A small region, so that all is imported; then the peak of what is asked for."""
    from rs_embed import iter_embeddings

    def square(pixels: int, row: int = 4, col: int = 4) -> BBox:
        left, top = LEFT + 10 * col, TOP - 10 * row
        return BBox(left, top - 10 * pixels, left + 10 * pixels, top, crs=crs)

    get_embedding("gse", spatial=square(4), temporal=YEAR, backend=root)
    MEMORY.clear()
    forget_peak()
    base = resident()
    if how == "pooled":
        get_embedding("gse", spatial=square(number), temporal=YEAR, backend=root)
    elif how == "plain":
        with rasterio.open(Path(root) / path) as dataset:
            window = Window(4, dataset.height - 4 - number, number, number)
            stored = dataset.read(window=window).astype(np.float32)
        (np.sign(stored) * np.square(stored / np.float32(127.5))).mean(axis=(1, 2))
    else:
        with rasterio.open(Path(root) / path) as dataset:
            at = np.random.default_rng(1).integers(0, dataset.height - 3, (number, 2)).tolist()
        places = [square(3, row, col) for row, col in at]
        for _ in iter_embeddings("gse", spatials=places, temporal=YEAR, backend=root, show_progress=False):
            pass
    return {"peak": 1000 * (peak() - base), "base": 1000 * base}


def _tessera(server: Served, tile: Any) -> Iterator[Row]:
    a, row, col = tile.affine, 200, 150
    left, top = a.c + 10 * col, a.f - 10 * row
    region = BBox(left, top - 10 * SIDE, left + 10 * SIDE, top, crs=f"EPSG:{tile.epsg}")
    server.counts()
    seconds, found = _timed(
        lambda: get_embedding(
            "tessera", spatial=region, temporal=YEAR, output=OutputSpec.grid(), backend=f"{server.root}/tessera"
        )
    )
    requests, sent = server.counts()
    folder = f"{server.root}/tessera/npy/v1/2024/{tile.name}"

    def plain() -> Any:
        code, scales = (_whole(f"{folder}/{tile.name}{end}") for end in (".npy", "_scales.npy"))
        inside = slice(row, row + SIDE), slice(col, col + SIDE)
        return np.moveaxis(code[inside] * scales[inside][..., None], -1, 0)

    reference, wanted = _timed(plain)
    assert np.allclose(found.values(), wanted, rtol=1e-6, equal_nan=True)
    theirs = server.counts()
    needed = SIDE * SIDE * (128 + 4) / 2**20
    yield Row("tessera, 4 km: bytes beside those of the region's pixels", sent / 2**20, "MiB", needed, 1.5)
    yield Row("tessera, 4 km: requests (30 ms each)", requests, "", theirs[0], note="reference: the two whole files")
    yield Row("tessera, 4 km: seconds of the call", seconds, "s", reference, note="reference: whole files and numpy")


def _whole(url: str) -> Any:
    """An array as a client without ranges gets it."""
    with urllib.request.urlopen(url) as answer:
        return np.load(io.BytesIO(answer.read()))


if __name__ == "__main__":
    _root, _path, _crs, _how, _number = sys.argv[1:6]
    print(json.dumps(_child(_root, _path, _crs, _how, int(_number))))
