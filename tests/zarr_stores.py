"""Zarr stores of embeddings, painted small to the layout and names of the real ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from product_stores import TesseraTile
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

CONVENTION = {
    "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c",
    "name": "geoemb:",
    "spec_url": "https://github.com/geo-embeddings/embeddings-zarr-convention/blob/v1/README.md",
}
TESSERA = {
    "zarr_conventions": [CONVENTION],
    "geoemb:type": "pixel",
    "geoemb:dimensions": 128,
    "geoemb:model": "https://geotessera.org/model/1.0",
    "geoemb:source_data": ["https://sentinel.esa.int/web/sentinel/missions/sentinel-2"],
    "geoemb:data_type": "int8",
    "geoemb:gsd": 10.0,
    "geoemb:spatial_layout": "utm_zones",
    "geoemb:quantization": {
        "method": "per_pixel_scale",
        "original_dtype": "float32",
        "quantized_dtype": "int8",
        "scale": {"type": "array", "array_name": "scales", "nodata": "+inf"},
    },
}
AEF = {
    "zarr_conventions": [CONVENTION],
    "geoemb:type": "pixel",
    "geoemb:dimensions": 64,
    "geoemb:data_type": "int8",
    "geoemb:quantization": {
        "method": "signed_square",
        "original_dtype": "float32",
        "quantized_dtype": "int8",
        "formula": "(x / 127.5) ** 2 * sign(x)",
        "valid_range": [-127, 127],
        "nodata": -128,
    },
}


def place(code: str, left: float, top: float, pixel: float, shape: Sequence[int], *, up: bool = True) -> dict[str, Any]:
    """Attributes that place an array whose last axes are y and x, its top and left edges given."""
    height, width = shape[-2:]
    bottom = top - height * pixel
    return {
        "proj:code": code,
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [pixel, 0.0, left, 0.0, -pixel if up else pixel, top if up else bottom],
        "spatial:shape": [height, width],
        "spatial:bbox": [left, bottom, left + width * pixel, top],
        "spatial:registration": "pixel",
    }


def consolidate(root: Path, path: str = "") -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr, that version 3 does not define it
        zarr.consolidate_metadata(root / path if path else root)


@dataclass(frozen=True)
class Zone:
    """A zone of TESSERA as it is painted, in the CRS of the northern hemisphere."""

    number: int
    left: float
    top: float
    pixel: float
    years: tuple[int, ...]
    code: NDArray[np.int8]
    """``(T, 128, H, W)``."""
    scales: NDArray[np.float32]

    def values(self, year: int) -> NDArray[np.float64]:
        """``(128, H, W)``, NaN where nothing was produced."""
        step = self.years.index(year)
        scale = self.scales[step]
        good = np.isfinite(scale) & (scale > 0) & (scale < 1)
        return np.where(good, self.code[step] * np.where(good, scale, 0).astype(np.float64), np.nan)


def empty_zone(
    number: int,
    left: float,
    top: float,
    shape: tuple[int, int],
    *,
    pixel: float = 10.0,
    years: tuple[int, ...] = (2023, 2024),
) -> Zone:
    """A zone in which nothing was produced."""
    code = np.zeros((len(years), 128, *shape), np.int8)
    return Zone(number, left, top, pixel, years, code, np.full((len(years), *shape), np.inf, np.float32))


def full_zone(number: int, left: float, top: float, shape: tuple[int, int], *, seed: int = 0, **more: Any) -> Zone:
    """A zone with a vector everywhere in all its years."""
    zone = empty_zone(number, left, top, shape, **more)
    rng = np.random.default_rng(seed)
    zone.code[:] = rng.integers(-127, 128, zone.code.shape).astype(np.int8)
    zone.scales[:] = rng.uniform(0.001, 0.05, zone.scales.shape).astype(np.float32)
    return zone


def lay(zone: Zone, tile: TesseraTile, year: int) -> None:
    """Put a tile where it belongs in a zone, as the store's builder does: water is NaN."""
    top = tile.affine.f - (10_000_000 if tile.epsg > 32700 else 0)
    row, col = round((zone.top - top) / zone.pixel), round((tile.affine.c - zone.left) / zone.pixel)
    height, width = tile.land.shape
    step, rows, cols = zone.years.index(year), slice(row, row + height), slice(col, col + width)
    zone.code[step, :, rows, cols] = np.moveaxis(tile.code, -1, 0)
    zone.scales[step, rows, cols] = np.where(tile.land > 0, tile.scales, np.nan)


def paint_zones(
    root: Path,
    zones: Sequence[Zone],
    *,
    chunk: int = 16,
    shard: int = 64,
    model: str = "1.0",
    depths: Sequence[int] = (),
    checked: bool = False,
    consolidated: bool = True,
) -> None:
    """Write ``utm{NN}/embeddings``, ``scales`` and coordinates, as geotessera does."""
    attrs: dict[str, Any] = {**TESSERA, "geoemb:model": f"https://geotessera.org/model/{model}"}
    if depths:
        names = [*((d, f"embeddings_d{d}") for d in depths), (128, "embeddings")]
        attrs["geoemb:depths"] = [{"dimensions": d, "array": name} for d, name in names]
    store = zarr.open_group(root, mode="w", zarr_format=3, attributes=attrs)
    packed: Any = [BloscCodec(cname="zstd", clevel=1), *([Crc32cCodec()] if checked else [])]
    for zone in zones:
        place_of = place(f"EPSG:{32600 + zone.number}", zone.left, zone.top, zone.pixel, zone.code.shape)
        group = store.create_group(f"utm{zone.number:02d}", attributes=place_of)
        for depth in (*depths, 128):
            name, band = ("embeddings", "band") if depth == 128 else (f"embeddings_d{depth}", f"band_d{depth}")
            array = group.create_array(
                name,
                shape=(len(zone.years), depth, *zone.code.shape[2:]),
                chunks=(1, depth, chunk, chunk),
                shards=(1, depth, shard, shard),
                dtype="int8",
                fill_value=0,
                compressors=packed,
                dimension_names=["time", band, "y", "x"],
            )
            array[:] = zone.code[:, :depth]
        scales = group.create_array(
            "scales",
            shape=zone.scales.shape,
            chunks=(1, chunk, chunk),
            shards=(1, shard, shard),
            dtype="float32",
            fill_value=np.inf,
            compressors=packed,
            dimension_names=["time", "y", "x"],
        )
        scales[:] = zone.scales
        height, width = zone.code.shape[2:]
        lines = {
            "x": zone.left + (np.arange(width) + 0.5) * zone.pixel,
            "y": zone.top - (np.arange(height) + 0.5) * zone.pixel,
            "time": np.array(zone.years, np.int32),
            "band": np.arange(128, dtype=np.int32),
        }
        write_lines(group, lines)
    if consolidated:
        consolidate(root)


def write_lines(group: Any, lines: dict[str, NDArray[Any]], **attrs: Any) -> None:
    """Write coordinates."""
    for name, values in lines.items():
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, fill_value=0, dimension_names=[name])
        array[:] = values
        array.attrs.update(attrs.get(name, {}))


def paint_mosaic(
    root: Path,
    code: NDArray[np.int8],
    *,
    years: tuple[int, ...],
    left: float,
    top: float,
    pixel: float,
    crs: str = "EPSG:4326",
    chunk: int = 32,
    shard: int = 64,
    attrs: dict[str, Any] | None = None,
) -> None:
    """Write AlphaEarth's mosaic ``(T, 64, H, W)`` as its builder does."""
    told = {**AEF, **place(crs, left, top, pixel, code.shape), "geoemb:gsd": pixel} | (attrs or {})
    store = zarr.open_group(root, mode="w", zarr_format=3, attributes=told)
    array = store.create_array(
        "embeddings",
        shape=code.shape,
        chunks=(1, code.shape[1], chunk, chunk),
        shards=(1, code.shape[1], shard, shard),
        dtype="int8",
        fill_value=-128,
        compressors=ZstdCodec(level=1),
        dimension_names=["time", "band", "y", "x"],
    )
    array[:] = code
    write_lines(
        store,
        {
            "x": left + (np.arange(code.shape[3]) + 0.5) * pixel,
            "y": top - (np.arange(code.shape[2]) + 0.5) * pixel,
            "time": np.array(years, np.int32),
        },
    )
