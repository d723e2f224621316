"""GeoTIFFs as GDAL sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from rs_embed import Embedding, StoreError, load, save
from rs_embed.core.georeference import geobox_from_dict, grid_array
from rs_embed.store.convention import convention_of

pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")  # of rasterio's own code


def large(side: int = 1300) -> Embedding:
    values = np.random.default_rng(0).normal(size=(3, side, side)).astype(np.float32)
    values[:, :400, :700] = np.nan
    geobox = {"crs": "EPSG:32632", "transform": [10.0, 0, 600_000.0, 0, -10.0, 5_300_000.0], "shape": [side, side]}
    meta: dict[str, Any] = {"model": "m", "geobox": geobox}
    return Embedding(grid_array(values, geobox_from_dict(geobox), meta), meta)


def test_it_lies_where_the_grid_says(grids: list[Embedding], tmp_path: Path) -> None:
    grid = grids[1]
    save(grid, tmp_path / "g.tif")
    with rasterio.open(tmp_path / "g.tif") as file:
        assert np.array_equal(file.read(), grid.values(), equal_nan=True)
        assert np.isnan(file.nodata) and file.dtypes[0] == "float32"
        assert list(file.transform)[:6] == grid.meta["geobox"]["transform"]
        assert file.crs.to_epsg() == int(grid.meta["crs"].split(":")[1])
        assert file.descriptions == tuple(f"d{i}" for i in range(grid.dim))
        assert json.loads(file.tags()["rs_embed_meta"]) == grid.meta
        assert json.loads(file.tags()["geoemb"])["geoemb:type"] == "pixel"
        x, y = file.xy(0, 0)
        assert (x, y) == (float(grid.data.x[0]), float(grid.data.y[0]))  # type: ignore[union-attr]


def test_the_convention_tells_pixels_from_patches() -> None:
    meta = {"geobox": {"transform": [160.0, 0, 0, 0, -160.0, 0]}, "effective_gsd": 10.0, "model": "m"}
    patches = json.loads(convention_of(meta, 4, grid=True))
    assert patches["geoemb:type"] == "chip" and patches["geoemb:gsd"] == 10.0
    assert patches["geoemb:chip_layout"] == {"layout_type": "regular_grid", "chip_size": [16, 16]}
    pixels = json.loads(convention_of(meta | {"input_prep": {"resolved_mode": "pixel"}}, 4, grid=True))
    assert pixels["geoemb:type"] == "pixel" and pixels["geoemb:gsd"] == 160.0 and "geoemb:chip_layout" not in pixels


def directories(path: Path) -> list[tuple[int, int]]:
    """Offset and width of each image directory of a little-endian classic TIFF, in their order."""
    raw = path.read_bytes()
    assert raw[:4] == b"II*\0"
    found, at = [], int.from_bytes(raw[4:8], "little")
    while at:
        count = int.from_bytes(raw[at : at + 2], "little")
        entries = [raw[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
        width = next(e[8:12] for e in entries if int.from_bytes(e[:2], "little") == 256)
        found.append((at, int.from_bytes(width, "little") & 0xFFFF))
        at = int.from_bytes(raw[at + 2 + 12 * count : at + 6 + 12 * count], "little")
    return found


def test_large_grids_are_cloud_optimised(tmp_path: Path) -> None:
    grid, path = large(), tmp_path / "g.tif"
    save(grid, path)
    with rasterio.open(path) as file:
        assert set(file.block_shapes) == {(512, 512)}
        assert file.overviews(1) == file.overviews(3) == [2, 4]
        assert file.interleaving.value == "BAND" and file.compression.value == "DEFLATE"
        halved = file.read(1, out_shape=(650, 650))
    four = grid.values()[0, 500:502, 600:602].mean()
    assert halved[250, 300] == pytest.approx(four, rel=1e-5) and np.isnan(halved[100, 100])
    offsets, widths = zip(*directories(path), strict=True)
    assert widths == (1300, 650, 325) and list(offsets) == sorted(offsets)
    assert offsets[-1] < 100_000  # all directories stand before the pixels


def test_one_that_was_cropped_by_others_lies_where_it_says_now(tmp_path: Path) -> None:
    grid, path, part = large(64), tmp_path / "g.tif", tmp_path / "part.tif"
    save(grid, path)
    window = Window(10, 20, 30, 15)
    with rasterio.open(path) as file:
        profile = file.profile | {"width": 30, "height": 15, "transform": file.window_transform(window)}
        profile |= {"tiled": False}
        profile.pop("blockxsize"), profile.pop("blockysize")
        with rasterio.open(part, "w", **profile) as out:
            out.write(file.read(window=window))
            out.update_tags(**file.tags())
    found = load(part)
    assert isinstance(found, Embedding)
    assert np.array_equal(found.values(), grid.values()[:, 20:35, 10:40], equal_nan=True)
    assert found.geobox == grid.geobox[20:35, 10:40]  # type: ignore[index]
    assert np.array_equal(found.data.x, grid.data.x[10:40])  # type: ignore[union-attr]
    assert found.meta["geobox"]["shape"] == [15, 30]


def test_foreign_rasters_are_told_what_they_lack(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "width": 4, "height": 4, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
    transform = rasterio.transform.from_origin(5, 9, 2, 2)
    with rasterio.open(tmp_path / "f.tif", "w", **profile, transform=transform) as file:
        file.write(np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(StoreError, match="no tag rs_embed_meta"):
        load(tmp_path / "f.tif")
