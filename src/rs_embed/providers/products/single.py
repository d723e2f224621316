"""Products of one raster file: one that somebody publishes, or one of your own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from rs_embed.providers.products.base import ProductProvider, mover
from rs_embed.providers.products.files import LocalFile, RemoteFile, Store, StoredFile
from rs_embed.providers.products.rasters import Raster
from rs_embed.providers.products.tiles import Decode, RasterTile, Tile, north_up, open_raster, overlap
from rs_embed.providers.resample import Grid

__all__ = [
    "Described",
    "OneFile",
    "beyond",
    "describe_file",
    "open_file",
    "open_single",
    "plain_values",
    "reaches",
    "years_said",
    "zeros_are_nothing",
]


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


@dataclass(frozen=True)
class Described:
    """What a file or a store says of the embeddings that it holds."""

    count: int
    """Numbers of a vector."""
    names: tuple[str, ...]
    """Of the numbers; empty where they have none."""
    grid: Grid
    """North up."""
    years: tuple[int, ...]
    """Ascending; empty where it says nothing of time."""
    tags: Mapping[str, Any]
    open: Callable[[Product, str], ProductProvider]
    """From a product and the address to the provider."""


class OneFile:
    """An archive of one raster, of one year if it says so."""

    def __init__(self, name: str, source: str, file: Callable[[], RasterTile], years: tuple[int, ...] = ()) -> None:
        self.name, self.source, self._file, self._years = name, source, file, years

    def years(self, collection: str, region: Region) -> list[int]:
        """Return its year, if it has one."""
        return list(self._years)

    def tiles(self, collection: str, region: Region, year: int | None) -> list[Tile]:
        """Return the file, if the region touches it."""
        tile = self._file()
        if region.footprint is not None and not reaches(tile.grid, region):
            raise NoImageryError(f"{nothing_there(self.name, region, None, [])}; {beyond(tile.grid)}")
        if self._years and year not in self._years:
            raise NoImageryError(nothing_there(self.name, region, year, self._years))
        return [tile]


def beyond(grid: Grid) -> str:
    """Say where a grid lies."""
    back = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True)
    left, bottom, right, top = back.transform_bounds(*grid.geobox.extent.boundingbox.bbox)
    return f"it lies between {left:.3f} and {right:.3f}° E, {bottom:.3f} and {top:.3f}° N"


def reaches(grid: Grid, region: Region) -> list[tuple[slice, slice]]:
    """Return the windows of a north-up grid that the parts of a region touch; one in degrees repeats after a turn."""
    move = mover(str(grid.crs))
    shifts = (0, 360, -360) if grid.crs is not None and grid.crs.geographic else (0,)
    found = []
    for part in shapely.get_parts(region.footprint):
        left, bottom, right, top = move.transform_bounds(*part.bounds)
        windows = (overlap(grid, (left + shift, bottom, right + shift, top)) for shift in shifts)
        found += [window for window in windows if window is not None]
    return found


def years_said(meta: Mapping[str, Any], tags: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the year that metadata of ours, or the date of a STAC item among the tags, tell; none or several: none."""
    time = meta.get("temporal")
    if isinstance(time, Mapping):
        if "year" in time:
            return (int(time["year"]),)
        begin, end = str(time.get("start", "")), str(time.get("end", ""))
    else:
        begin = str(tags.get("start_datetime") or tags.get("datetime") or "")
        end = str(tags.get("end_datetime") or begin)
    years = [int(date[:4]) for date in (begin, end) if date[:4].isdigit()]
    if len(years) == 2 and end[4:10] == "-01-01" and years[1] == years[0] + 1:
        years[1] = years[0]
    return (years[0],) if len(years) == 2 and years[0] == years[1] else ()


def open_single(
    product: Product, address: str, *, file: str, decode: Decode, years: tuple[int, ...] = ()
) -> ProductProvider:
    """Return the provider of a product that is one file in a store (or whose address is the file's own)."""
    bands = len(product.sensor.bands)
    if address.lower().endswith((".tif", ".tiff")):
        found = open_file(address)
        archive = OneFile(
            product.sensor.id, found.name, lambda: open_raster(found.name, found, decode, bands=bands), years
        )
        return ProductProvider(product, archive, "store")
    store = Store(address)
    archive = OneFile(product.sensor.id, store.name, lambda: open_raster(file, store.file(file), decode, bands=bands))
    return ProductProvider(product, archive, "store")


def open_file(address: str) -> StoredFile:
    """Open a file by its path or URL."""
    if address.lower().startswith(("http://", "https://")):
        return RemoteFile(address)
    return LocalFile(Path(address).expanduser())


def describe_file(address: str) -> Described:
    """Return what a raster file says of its embeddings."""
    found = open_file(address)
    about = open_raster(found.name, found, lambda code: code).about
    meta = json.loads(about.tags["rs_embed_meta"]) if "rs_embed_meta" in about.tags else {}
    years, values = years_said(meta, about.tags), plain_values(about)

    def provider(product: Product, address: str) -> ProductProvider:
        return open_single(product, address, file=found.name, decode=values, years=years)

    names = tuple(each or "" for each in about.names)
    return Described(about.count, names, north_up(about.grid)[0], years, about.tags, provider)
