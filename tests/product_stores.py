"""Stores of products, painted small to the exact layout and names of the real ones."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from arro3.core import Array, DataType, Table
from arro3.io import write_parquet
from numpy.typing import NDArray
from pyproj import Transformer

INDEX = ("path", "year", "utm_zone", "crs", "wgs84_west", "wgs84_south", "wgs84_east", "wgs84_north")


def codes(seed: int, bands: int, height: int, width: int) -> NDArray[np.int8]:
    """Numbers of a tile ``(bands, height, width)`` that no other tile has; never nodata."""
    return np.random.default_rng(seed).integers(-127, 128, (bands, height, width)).astype(np.int8)


@dataclass(frozen=True)
class AefTile:
    """A tile of AlphaEarth as it is painted: its numbers north up."""

    path: str
    crs: str
    left: float
    top: float
    code: NDArray[np.int8]

    def window(self, left: float, top: float, height: int, width: int) -> NDArray[np.int8]:
        row, col = round((self.top - top) / 10), round((left - self.left) / 10)
        return self.code[:, row : row + height, col : col + width]


def values(code: NDArray[np.int8]) -> NDArray[np.float64]:
    """What codes of AlphaEarth mean, NaN for nodata: written apart from the library."""
    found = np.sign(code) * (code.astype(np.float64) / 127.5) ** 2
    return np.where((code == -128).any(0), np.nan, found)


def paint_aef(
    root: Path,
    code: NDArray[np.int8],
    *,
    year: int,
    epsg: int,
    left: float,
    top: float,
    name: str = "xjejfvrbm1fbu1ecw",
    block: int = 256,
    interleave: str = "band",
    bottom_up: bool = True,
    compress: str = "zstd",
) -> AefTile:
    """Write ``{year}/{zone}{N|S}/{name}-{y}-{x}.tiff``."""
    zone = f"{epsg % 100}{'N' if epsg < 32700 else 'S'}"
    path = f"{year}/{zone}/{name}-0000000000-{round(left) % 8192:010d}.tiff"
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = code.shape
    transform = Affine(10, 0, left, 0, 10, top - 10 * height) if bottom_up else Affine(10, 0, left, 0, -10, top)
    profile = {
        **{"driver": "GTiff", "dtype": "int8", "count": bands, "height": height, "width": width},
        **{"crs": f"EPSG:{epsg}", "transform": transform, "nodata": -128, "tiled": True, "interleave": interleave},
        **{"blockxsize": block, "blockysize": block, "compress": compress},
    }
    with rasterio.open(file, "w", **profile) as target:
        target.write(code[:, ::-1] if bottom_up else code)
    return AefTile(path, f"EPSG:{epsg}", left, top, code)


def index_aef(root: Path, tiles: Sequence[AefTile], *, kind: str = "parquet", prefix: str = "s3://b/tge/") -> None:
    """Write the index of all tiles."""
    rows: list[dict[str, Any]] = []
    for tile in tiles:
        _, height, width = tile.code.shape
        move = Transformer.from_crs(tile.crs, "EPSG:4326", always_xy=True)
        west, south, east, north = move.transform_bounds(
            tile.left, tile.top - 10 * height, tile.left + 10 * width, tile.top
        )
        year, zone, _ = tile.path.split("/")
        rows.append(
            dict(zip(INDEX, (prefix + tile.path, int(year), zone, tile.crs, west, south, east, north), strict=True))
        )
    if kind == "csv":
        with (root / "aef_index.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, INDEX)
            writer.writeheader()
            writer.writerows(rows)
        return
    columns = {
        name: Array([row[name] for row in rows], type=_type(rows[0][name]) if rows else DataType.string())
        for name in INDEX
    }
    write_parquet(Table(columns), str(root / "aef_index.parquet"))


def _type(value: Any) -> DataType:
    if isinstance(value, str):
        return DataType.string()
    return DataType.int64() if isinstance(value, int) else DataType.float64()


@dataclass(frozen=True)
class TesseraTile:
    """A tile of TESSERA as it is painted."""

    name: str
    folder: Path
    epsg: int
    affine: Affine
    code: NDArray[np.int8]
    scales: NDArray[np.float32]
    land: NDArray[np.uint8]

    def values(self) -> NDArray[np.float64]:
        """``(128, H, W)``, NaN where nothing was produced."""
        scales = self.scales if self.scales.ndim == 3 else self.scales[..., None]
        good = (np.isfinite(scales) & (scales > 0) & (scales < 1)).all(-1) & (self.land > 0)
        found = np.where(good[..., None], self.code * np.where(good[..., None], scales, 0).astype(np.float64), np.nan)
        return np.moveaxis(found, -1, 0)


def paint_tessera(
    root: Path,
    lon: float,
    lat: float,
    *,
    year: int = 2024,
    version: str = "v1",
    seed: int = 0,
    epsg: int | None = None,
    pixel: float = 10.0,
    side: tuple[int, int] | None = None,
    wide_scales: bool = False,
    shift: tuple[float, float] = (0.0, 0.0),
) -> TesseraTile:
    """Write embeddings, scales and landmask of the tile with that centre; by default of a coarser pixel's size."""
    name = f"grid_{lon:.2f}_{lat:.2f}"
    epsg = epsg or (32600 if lat >= 0 else 32700) + int((lon + 180) // 6) + 1
    move = Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True)
    left, bottom, right, top = move.transform_bounds(lon - 0.05, lat - 0.05, lon + 0.05, lat + 0.05, densify_pts=21)
    left, top = np.floor(left / pixel) * pixel + shift[0], np.ceil(top / pixel) * pixel + shift[1]
    height, width = side or (int(np.ceil((top - bottom) / pixel)), int(np.ceil((right - left) / pixel)))
    rng = np.random.default_rng(seed)
    code = rng.integers(-127, 128, (height, width, 128)).astype(np.int8)
    shape = (height, width, 128) if wide_scales else (height, width)
    scales = rng.uniform(0.001, 0.05, shape).astype(np.float32)
    tile = TesseraTile(
        name,
        root / "npy" / version / str(year) / name,
        epsg,
        Affine(pixel, 0, left, 0, -pixel, top),
        code,
        scales,
        np.ones((height, width), np.uint8),
    )
    write_tessera(root, tile, version)
    return tile


def write_tessera(root: Path, tile: TesseraTile, version: str = "v1") -> None:
    tile.folder.mkdir(parents=True, exist_ok=True)
    np.save(tile.folder / f"{tile.name}.npy", tile.code)
    np.save(tile.folder / f"{tile.name}_scales.npy", tile.scales)
    masks = root / "landmasks" / version.partition("-")[0]
    masks.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "crs": f"EPSG:{tile.epsg}", "transform": tile.affine}
    height, width = tile.land.shape
    with rasterio.open(masks / f"{tile.name}.tiff", "w", height=height, width=width, **profile) as target:
        target.write(tile.land, 1)


def register_tessera(root: Path, tiles: Sequence[TesseraTile], *, year: int = 2024) -> None:
    """Write ``registry_{year}.txt`` as the real one is."""
    lines = []
    for tile in tiles:
        for end in (".npy", "_scales.npy"):
            file = tile.folder / f"{tile.name}{end}"
            lines.append(f"{year}/{tile.name}/{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n")
    (root / f"registry_{year}.txt").write_text("".join(lines))


def paint_copernicus(
    file: Path, cells: NDArray[np.float32], *, first: int = 0, block: int = 16, interleave: str = "band"
) -> None:
    """Write cells ``(768, 721, 1440)``, or some rows from the ``first`` on, as the GeoTIFF is."""
    bands, height, width = cells.shape
    profile: dict[str, Any] = {
        **{"driver": "GTiff", "dtype": "float32", "count": bands, "height": height, "width": width},
        **{
            "crs": "EPSG:4326",
            "transform": Affine(0.25, 0, -180.0, 0, -0.25, 90.125 - 0.25 * first),
            "interleave": interleave,
        },
        **{"compress": "deflate", "zlevel": 1, "tiled": True, "blockxsize": block, "blockysize": block},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(file, "w", **profile) as target:
        target.write(cells)
