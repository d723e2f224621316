"""Sentinel-2 scenes of full size behind a server of its own: files with texture where a region may lie, and items."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.shutil import copy

__all__ = ["ASSETS", "Served", "items", "needed_bytes", "paint_scenes", "region", "served"]

CRS, LEFT, TOP = "EPSG:32633", 600_000, 5_300_040
TILE = 512
ASSETS = {
    "coastal": 60, "blue": 10, "green": 10, "red": 10, "rededge1": 20, "rededge2": 20, "rededge3": 20, "nir": 10,
    "nir08": 20, "nir09": 60, "swir16": 20, "swir22": 20, "scl": 20,
}  # fmt: skip
"""Assets as Earth Search names them, with the pixel size that their files have, metres."""
FIRST, STEP = 15_360, 20_480
"""Metres from the corner of a tile to the textured square, and its side."""


def _texture(side: int, seed: int) -> NDArray[np.uint16]:
    """Noise whose power falls with frequency as that of landscapes does, and that compresses as imagery does."""
    random = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(random.standard_normal((side, side)))
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    smooth = np.fft.irfft2(spectrum / np.maximum(radius, 1 / side) ** 1.2, s=(side, side))
    values = 1500 + 500 * smooth / smooth.std() + 15 * random.standard_normal((side, side))
    return values.clip(1, 16_000).astype(np.uint16)


def paint_scenes(folder: Path) -> None:
    """Write one cloud-optimised file of each pixel size, and one of classes: 10 980 pixels at 10 m, mostly sparse."""
    for name, gsd in (("g10", 10), ("g20", 20), ("g60", 60), ("scl", 20)):
        side, first, step = 109_800 // gsd, FIRST // gsd, min(STEP, 109_800 - FIRST) // gsd
        values = _texture(step, gsd)
        if name == "scl":
            values = np.where(values > 1900, 9, np.where(values > 1400, 4, 5)).astype(np.uint8)
        profile = {
            "driver": "GTiff", "dtype": values.dtype, "count": 1, "height": side, "width": side, "crs": CRS,
            "transform": Affine(gsd, 0, LEFT, 0, -gsd, TOP), "nodata": 0, "tiled": True, "blockxsize": TILE,
            "blockysize": TILE, "compress": "deflate", "SPARSE_OK": True,
        }  # fmt: skip
        plain = folder / f"{name}.plain.tif"
        with rasterio.open(plain, "w", **profile) as dataset:
            dataset.write(values, 1, window=((first, first + step), (first, first + step)))
        options = {"compress": "deflate", "predictor": 2, "blocksize": TILE, "sparse_ok": True}
        copy(plain, folder / f"{name}.tif", driver="COG", overview_resampling="nearest", **options)
        plain.unlink()


def region(pixels: int, margin: int = 3640) -> GeoBox:
    """A square of the texture on the files' own 10 m grid, ``margin`` metres from the texture's corner."""
    start = FIRST + margin
    return GeoBox((pixels, pixels), Affine(10, 0, LEFT + start, 0, -10, TOP - start), CRS)


def needed_bytes(folder: Path, asset: str, box: GeoBox) -> int:
    """Bytes of the header and of the tiles that a region touches."""
    gsd = ASSETS[asset]
    with rasterio.open(folder / _file(asset)) as dataset:
        rows, cols = (
            range(int((edge - start) // (gsd * TILE)), int((edge - start + n * 10 - 1) // (gsd * TILE)) + 1)
            for edge, start, n in ((TOP - box.affine.f, 0, box.shape[0]), (box.affine.c, LEFT, box.shape[1]))
        )
        tiles = sum(int(dataset.get_tag_item(f"BLOCK_SIZE_{c}_{r}", "TIFF", bidx=1) or 0) for r in rows for c in cols)
        return tiles + _header(dataset)


def _header(dataset: Any) -> int:
    """Where the first tile of the smallest overview begins."""
    levels = len(dataset.overviews(1))
    starts = [
        int(found)
        for level in range(levels)
        for c in range(4)
        for r in range(4)
        if (found := dataset.get_tag_item(f"BLOCK_OFFSET_{c}_{r}", "TIFF", bidx=1, ovr=level))
    ]
    return min(starts)


def _file(asset: str) -> str:
    return "scl.tif" if asset == "scl" else f"g{ASSETS[asset]}.tif"


def items(root: str, days: int, step: int, run: str) -> list[dict[str, Any]]:
    """Return STAC items of a scene every ``step`` days; ``run`` makes the URLs new to every cache."""
    first = datetime(2023, 1, 3, 10, 5, tzinfo=UTC)
    corners = [(LEFT, TOP), (LEFT + 109_800, TOP), (LEFT + 109_800, TOP - 109_800), (LEFT, TOP - 109_800)]
    outline = list(zip(*Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(*zip(*corners, strict=True)),
                       strict=True))  # fmt: skip
    return [_item(root, first + timedelta(days=day), outline, run) for day in range(0, days, step)]


def _item(root: str, time: datetime, outline: list[Any], run: str) -> dict[str, Any]:
    name = f"S2A_33UVP_{time:%Y%m%d}_0_L2A"
    ring = [list(point) for point in [*outline, outline[0]]]
    assets = {
        asset: {
            "href": f"{root}/{run}/{name}/{asset}/{_file(asset)}",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "proj:shape": [109_800 // gsd] * 2,
            "proj:transform": [gsd, 0, LEFT, 0, -gsd, TOP],
            "raster:bands": [{"nodata": 0, "data_type": "uint8" if asset == "scl" else "uint16"}],
        }
        for asset, gsd in ASSETS.items()
    }
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": "sentinel-2-l2a", "links": [],
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.0.0/schema.json",
                            "https://stac-extensions.github.io/raster/v1.1.0/schema.json"],
        "bbox": [min(p[0] for p in ring), min(p[1] for p in ring), max(p[0] for p in ring), max(p[1] for p in ring)],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": time.isoformat(), "eo:cloud_cover": 10.0, "proj:epsg": 32633,
                       "earthsearch:boa_offset_applied": True},
        "assets": assets,
    }  # fmt: skip


@dataclass(frozen=True)
class Served:
    """A server in a process of its own."""

    root: str
    process: subprocess.Popen[str]

    def counts(self) -> tuple[int, int]:
        """Requests and bytes since the last time."""
        told = self._ask("counts")
        self._ask("reset")
        return int(told[0]), int(told[1])

    def _ask(self, line: str) -> list[str]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()


@contextmanager
def served(folder: Path, latency: float) -> Iterator[Served]:
    """Serve a folder by range requests; each answer takes so many seconds more."""
    script = Path(__file__).parents[1] / "tests" / "range_server.py"
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(latency)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield Served(process.stdout.readline().strip(), process)
    finally:
        process.communicate()
