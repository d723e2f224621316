"""Tiles of AlphaEarth as the images of Earth Engine's collection that hold the same numbers."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from affine import Affine
from earth_engine_scenes import millis
from earth_engine_stub import Raster, Stored
from product_stores import AefTile, values
from pyproj import Transformer
from shapely.geometry import Polygon

COLLECTION = "GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL"


def image_of(tile: AefTile, *, bottom_up: bool = True) -> Stored:
    """A tile of the mirror as an image of the collection: numbers from -1 to 1."""
    numbers = np.nan_to_num(values(np.where(tile.code == -128, np.int8(0), tile.code)))
    height = tile.code.shape[1]
    affine = Affine(10, 0, tile.left, 0, -10, tile.top)
    rows = slice(None)
    if bottom_up:
        affine, rows = Affine(10, 0, tile.left, 0, 10, tile.top - 10 * height), slice(None, None, -1)
    bands = {
        f"A{i:02d}": Raster(numbers[i, rows], affine, tile.crs, (tile.code[i] != -128)[rows], is_float=True)
        for i in range(64)
    }
    east, south = tile.left + 10 * tile.code.shape[2], tile.top - 10 * height
    move = Transformer.from_crs(tile.crs, "EPSG:4326", always_xy=True)
    corners = (tile.left, south), (east, south), (east, tile.top), (tile.left, tile.top)
    year, zone, file = tile.path.split("/")
    moment = datetime(int(year), 1, 1, tzinfo=UTC)
    name = f"{COLLECTION}/{file.removesuffix('.tiff')}_{zone}_{year}"
    return Stored(name, bands, {"system:time_start": millis(moment)}, Polygon([move.transform(*c) for c in corners]))
