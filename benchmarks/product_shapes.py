"""Every product in every shape of a region: bytes and requests beside the bytes that its own pixels or chips take."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import shapely

from benchmarks.rows import Row
from benchmarks.scenes import Served, served
from rs_embed import BBox, OutputSpec, Polygon, TemporalSpec, get_embedding
from rs_embed.providers.products.memory import MEMORY

__all__ = ["run"]

LEFT, TOP = 717_900.0, 5_406_720.0
"""Of the painted tiles, in EPSG:32632: they reach across 12° E, where zone 33 begins."""
NEXT = 276_000.0
"""The same in EPSG:32633: the tile of the next zone begins west of the first one's end."""
SIDE = 200
"""Pixels of a region of 2 km."""
YEAR = TemporalSpec.year(2024)


@dataclass(frozen=True)
class _Case:
    """A product in a store, a region within, and one across a border."""

    model: str | None
    """Of a file that is a model itself, ``None``."""
    store: str
    inside: BBox
    crossing: BBox
    pixel_bytes: int | None
    """As it is stored; of chips ``None``."""
    border: str
    temporal: TemporalSpec | None = YEAR


def run(quick: bool) -> Iterator[Row]:
    """Yield each product pooled, as a grid, over a polygon and across a border."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the painters of the tests
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        cases = [*_alphaearth(folder), *_tessera(folder), _copernicus(folder), _chips(folder)]
        with served(folder, 0.0) as server:
            for case in cases:
                yield from _rows(server, case)


def _rows(server: Served, case: _Case) -> Iterator[Row]:
    west, south, east, north = case.inside.minlon, case.inside.minlat, case.inside.maxlon, case.inside.maxlat
    middle = (west + east) / 2
    diamond = Polygon(
        shapely.Polygon([(middle, south), (east, (south + north) / 2), (middle, north), (west, (south + north) / 2)]),
        crs=case.inside.crs,
    )
    shapes: list[tuple[str, Any, OutputSpec]] = [("pooled", case.inside, OutputSpec.pooled())]
    if case.pixel_bytes is not None:
        shapes.append(("grid", case.inside, OutputSpec.grid()))
    shapes += [
        ("polygon", diamond, OutputSpec.pooled()),
        (f"across {case.border}", case.crossing, OutputSpec.pooled()),
    ]
    for name, region, output in shapes:
        url = f"{server.root}/{quote(case.store)}"
        model, backend = (case.model, url) if case.model else (f"{url}?{quote(name)}", "auto")  # nothing is kept of it
        MEMORY.clear()
        server.counts()
        found = get_embedding(model, spatial=region, temporal=case.temporal, output=output, backend=backend)
        assert np.isfinite(found.values()).any()
        requests, sent = server.counts()
        needed = case.pixel_bytes * _pixels(found) if case.pixel_bytes else found.meta["chip_count"] * 2048 * 4
        yield Row(f"{case.store}: {name}", sent / 2**20, "MiB", needed / 2**20, note=f"{requests} requests")


def _pixels(found: Any) -> int:
    height, width = found.meta["grid_hw"] or found.shape[1:]
    return int(height * width)


def _box(left: float, top: float, crs: str = "EPSG:32632", *, size: float = 10.0 * SIDE) -> BBox:
    return BBox(left, top - size, left + size, top, crs=crs)


def _alphaearth(folder: Path) -> Iterator[_Case]:
    import product_stores as stores
    from zarr_stores import paint_mosaic

    side = 1024
    tiles = [
        stores.paint_aef(
            folder / "gse files", stores.codes(seed, 64, side, side), year=2024, epsg=epsg, left=left, top=TOP,
            block=512, name=name,
        )
        for seed, epsg, left, name in ((0, 32632, LEFT, "xa"), (1, 32633, NEXT, "xb"))
    ]  # fmt: skip
    stores.index_aef(folder / "gse files", tiles)
    edge = LEFT + 10 * side - 1000
    yield _Case("gse", "gse files", _box(LEFT + 500, TOP - 500), _box(edge - 200, TOP - 500), 64, "two zones")
    paint_mosaic(
        folder / "gse.zarr", stores.codes(2, 64, side, side)[None], years=(2024,), left=11.0, top=48.0, pixel=1e-4,
        chunk=256, shard=512,
    )  # fmt: skip
    inside = BBox(11.002, 48.0 - 0.022, 11.022, 48.0 - 0.002)
    crossing = BBox(11.0412, 48.0 - 0.0612, 11.0612, 48.0 - 0.0412)
    yield _Case("gse", "gse.zarr", inside, crossing, 64, "four shards")


def _tessera(folder: Path) -> Iterator[_Case]:
    import product_stores as stores
    from zarr_stores import full_zone, paint_zones

    first, second = (stores.paint_tessera(folder / "tessera tiles", lon, 48.15) for lon in (11.95, 12.05))
    inside = _box(first.affine.c + 2000, first.affine.f - 2000, f"EPSG:{first.epsg}")
    middle = _box(first.affine.c + 10 * first.code.shape[1] - 1400, first.affine.f - 2000, f"EPSG:{first.epsg}")
    yield _Case("tessera", "tessera tiles", inside, middle, 132, "two zones")
    shape = 512, 512
    zones = [
        full_zone(32, first.affine.c + 10 * first.code.shape[1] - 4000, first.affine.f, shape, years=(2024,)),
        full_zone(33, second.affine.c, second.affine.f, shape, years=(2024,)),
    ]
    paint_zones(folder / "tessera.zarr", zones, chunk=32, shard=512)
    inside = _box(zones[0].left + 200, zones[0].top - 2000, f"EPSG:{first.epsg}")
    yield _Case("tessera", "tessera.zarr", inside, middle, 132, "two zones")


def _copernicus(folder: Path) -> _Case:
    from product_stores import paint_copernicus

    rows = 32
    cells = np.random.default_rng(3).standard_normal((768, rows, 1440)).astype(np.float32)
    paint_copernicus(folder / "copernicus" / "embed_map_310k.tif", cells, first=160)
    top = 90.125 - 0.25 * 160
    inside, crossing = BBox(10, top - 3, 12, top - 1), BBox(179, top - 3, -179, top - 1)
    return _Case("copernicus", "copernicus", inside, crossing, 768 * 4, "the antimeridian", None)


def _chips(folder: Path) -> _Case:
    from chip_files import fragments, paint_majortom

    paint_majortom(folder / "majortom.parquet", fragments(11.0, 48.1, 30), group=30)
    inside, crossing = BBox(11.1, 47.985, 11.12, 47.99), BBox(11.1, 47.9, 11.12, 47.99)
    return _Case(None, "majortom.parquet", inside, crossing, None, "row groups", None)
