"""Products of one raster file: one that somebody publishes, or one of your own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from rs_embed.core.errors import NoImageryError
from rs_embed.core.geometry import Region
from rs_embed.core.product import Product
from rs_embed.providers.products.alphaearth import nothing_there
from rs_embed.providers.products.base import ProductProvider
from rs_embed.providers.products.files import LocalFile, RemoteFile, Store, StoredFile
from rs_embed.providers.products.rasters import Raster
from rs_embed.providers.products.tiles import Decode, RasterTile, Tile, north_up, open_raster, overlap

__all__ = ["OneFile", "describe_file", "open_file", "open_single", "plain_values", "zeros_are_nothing"]


def zeros_are_nothing(code: NDArray[Any]) -> NDArray[np.float32]:
    """Values whose pixels of zeros in all bands (and NaN in any) have no data."""
    values = code.astype(np.float32)
    values[:, ~code.any(0) | np.isnan(values).any(0)] = np.nan
    return values


def plain_values(about: Raster) -> Decode:
    """Return the decoding that a file says itself: nodata, scale and offset of its bands."""
    scale = np.array(about.scales or (1.0,) * about.count, np.float64)[:, None, None]
    offset = np.array(about.offsets or (0.0,) * about.count, np.float64)[:, None, None]
    plain = bool((scale == 1).all() and (offset == 0).all())

    def decode(code: NDArray[Any]) -> NDArray[np.float32]:
        values = code.astype(np.float32) if plain else (code * scale + offset).astype(np.float32)
        lost = ~np.isfinite(values).all(0)
        if about.nodata is not None and not np.isnan(about.nodata):
            lost |= (code == about.nodata).any(0)
        values[:, lost] = np.nan
        return values

    return decode


class OneFile:
    """An archive of one raster."""

    def __init__(self, name: str, source: str, file: Callable[[], RasterTile]) -> None:
        self.name, self.source, self._file = name, source, file

    def years(self, collection: str, region: Region) -> list[int]:
        """Return none: it has no time."""
        return []

    def tiles(self, collection: str, region: Region, year: int | None) -> list[Tile]:
        """Return the file, if the region touches it."""
        tile = self._file()
        grid = tile.grid
        if region.footprint is not None and not _touches(tile, region):
            bounds = grid.geobox.extent.boundingbox.bbox
            back = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True)
            left, bottom, right, top = back.transform_bounds(*bounds)
            raise NoImageryError(
                f"{nothing_there(self.name, region, None, [])}; it lies between {left:.3f} and {right:.3f}° E, "
                f"{bottom:.3f} and {top:.3f}° N"
            )
        return [tile]


def _touches(tile: RasterTile, region: Region) -> bool:
    grid = tile.grid
    move = Transformer.from_crs("EPSG:4326", str(grid.crs), always_xy=True)
    for part in getattr(region.footprint, "geoms", [region.footprint]):
        bounds = move.transform_bounds(*part.bounds)
        shifts = (0, 360, -360) if grid.crs is not None and grid.crs.geographic else (0,)
        if any(overlap(grid, (bounds[0] + s, bounds[1], bounds[2] + s, bounds[3])) for s in shifts):
            return True
    return not shapely.get_parts(region.footprint).size


def open_single(product: Product, address: str, *, file: str, decode: Decode) -> ProductProvider:
    """Return the provider of a product that is one file in a store (or whose address is the file's own)."""
    bands = len(product.sensor.bands)
    if address.lower().endswith((".tif", ".tiff")):
        found = open_file(address)
        archive = OneFile(product.sensor.id, found.name, lambda: open_raster(found.name, found, decode, bands=bands))
        return ProductProvider(product, archive, "store")
    store = Store(address)
    archive = OneFile(product.sensor.id, store.name, lambda: open_raster(file, store.file(file), decode, bands=bands))
    return ProductProvider(product, archive, "store")


def open_file(address: str) -> StoredFile:
    """Open a file by its path or URL."""
    if address.lower().startswith(("http://", "https://")):
        return RemoteFile(address)
    return LocalFile(Path(address).expanduser())


def describe_file(address: str) -> Raster:
    """Return what a raster file says of itself, with rows from north to south checked."""
    found = open_file(address)
    tile = open_raster(found.name, found, lambda code: code)
    north_up(tile.about.grid)
    return tile.about
