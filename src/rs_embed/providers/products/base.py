"""A product as a provider: the lattice at a place, and its pixels there, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from rs_embed.core.errors import ProviderError
from rs_embed.core.geometry import Lattice, Region, utm_code
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.product import Product
from rs_embed.providers.products.tiles import Tile, overlap
from rs_embed.providers.resample import Grid, alignment, resample

__all__ = ["Archive", "ProductProvider", "mover"]


class Archive(Protocol):
    """Where the tiles of a product lie."""

    source: str
    """What ``meta["source"]`` says."""

    def years(self, collection: str, region: Region) -> list[int]:
        """Return the years that have an embedding somewhere in the region, ascending; empty for one without time."""
        ...

    def tiles(self, collection: str, region: Region, year: int | None) -> list[Tile]:
        """Return the tiles that may touch the region, those that hold its centre first.

        Raises
        ------
        NoImageryError
            If there are none; the message says what exists there.
        """
        ...


@dataclass(frozen=True)
class ProductProvider:
    """Reads a product from its archive."""

    product: Product
    archive: Archive
    name: str = "product"

    @property
    def source(self) -> str:
        """Where the product lies."""
        return self.archive.source

    @property
    def attribution(self) -> str | None:
        """Whom to name."""
        return self.product.sensor.attribution or None

    def offers(self, sensor: str) -> bool:
        """Whether it is the product's own sensor."""
        return sensor == self.product.sensor.id

    def newest(self, collection: str, region: Region) -> int | None:
        """Return the newest year at a place; ``None`` where there is none, or no time."""
        found = self.archive.years(collection, region) if self.product.annual else []
        return found[-1] if found else None

    def native(self, collection: str, region: Region, year: int | None) -> Lattice:
        """Return the product's own lattice at the centre of a region.

        Raises
        ------
        ProviderError
            If pixels of the product are no squares there.
        """
        tiles = self.archive.tiles(collection, region, year)
        grid = _holding(tiles, region).grid
        a = grid.affine
        if abs(a.a + a.e) > 1e-9 * a.a:
            raise ProviderError(
                f"{self.product.sensor.id}: its pixels of {a.a:g} x {-a.e:g} are no squares; say FetchSpec(scale_m=...)"
            )
        return Lattice(grid.crs, a.a, a.c, a.f)

    def neighbourhood(self, collection: str, region: Region, year: int | None) -> tuple[str, int, int]:
        """Return the tile and the block of a region's centre: regions that share them are read one after the other."""
        tile = _holding(self.archive.tiles(collection, region, year), region)
        x, y = _position(tile, region)
        high, wide = getattr(tile, "unit", lambda: (256, 256))()
        return tile.id, int(y // high), int(x // wide)

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Iterator[ImageStack]:
        """Yield the pixels of each part: as they are stored where they lie on the lattice, else resampled."""
        year = request.intervals[0][0].year if request.intervals else None
        whole = request.geobox if request.geobox is not None else parts[0]
        region = _region_of(request, whole)
        tiles = self.archive.tiles(request.collection or "", region, year)
        for part in parts:
            yield self._part(tiles, whole, part, year)

    def _part(self, tiles: Sequence[Tile], whole: GeoBox, part: GeoBox, year: int | None) -> ImageStack:
        out: NDArray[np.float32] | None = None
        lacking = np.ones(part.shape, bool)
        scenes, notes = [], dict[str, None]()
        for tile in _own_first(tiles, part.crs):
            used = np.zeros(part.shape, bool)
            for grid in _copies(tile.grid):
                if not lacking.any():
                    break
                found = self._of_tile(tile, grid, whole, part)
                if found is None:
                    continue
                taken = lacking & ~np.isnan(found).any(0)
                if out is None:
                    out = found
                    out[:, ~taken] = np.nan
                else:
                    np.copyto(out, found, where=taken)
                lacking &= ~taken
                used |= taken
            if used.any():
                scenes.append({"id": tile.id, "datetime": _stamp(year), "cloud_cover": None, "checked": tile.checked})
                notes |= dict.fromkeys(_notes(tile, part))
        if out is None:
            out = np.full((len(self.product.sensor.bands), *part.shape), np.nan, np.float32)
        valid = ~lacking
        times = np.array(["NaT" if year is None else f"{year}-07-02"], "datetime64[s]")
        seen = int(valid.sum()), valid.size
        return ImageStack(
            out[None], valid[None], times, part, scenes=(tuple(scenes),), observations=seen, notes=tuple(notes)
        )

    def _of_tile(self, tile: Tile, grid: Grid, whole: GeoBox, part: GeoBox) -> NDArray[np.float32] | None:
        """Return what a tile has of a part, or None where they do not touch."""
        reach = overlap(grid, _bounds(part, grid))
        if reach is None:
            return None
        all_of_it = overlap(grid, _bounds(whole, grid)) or reach

        def read(rows: slice, cols: slice) -> NDArray[np.float32]:
            outer = tuple(
                slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(all_of_it, (rows, cols), strict=True)
            )
            return tile.read(rows, cols, (outer[0], outer[1]))

        as_stored = _as_stored(grid, part)
        found = resample(read, len(self.product.sensor.bands), grid, part, classes=as_stored)
        return found if as_stored or not self.product.unit else _unit(found)


def _as_stored(grid: Grid, part: GeoBox) -> bool:
    """Whether pixels are as large as the lattice's: then each is taken from its nearest, never mixed."""
    return abs(part.affine.a - grid.affine.a) <= 1e-6 * grid.affine.a


def _notes(tile: Tile, part: GeoBox) -> Iterator[str]:
    """What happened to the pixels of a tile, where they are not as they are stored."""
    grid = tile.grid
    found = alignment(grid, part)
    a, b = grid.affine, part.affine
    if grid.crs != part.crs:
        how = "nearest" if _as_stored(grid, part) else "bilinear, or means where coarser"
        yield f"pixels stored in {_code(grid.crs)} were resampled to {_code(part.crs)} ({how})"
    elif found is None or found[0] > 1:
        yield f"pixels of {a.a:g} were resampled to {b.a:g} (bilinear, or means where coarser)"
    elif max(abs((b.c - a.c) / a.a % 1 - 0.5), abs((b.f - a.f) / a.e % 1 - 0.5)) < 0.5 - 1e-4:
        yield f"pixels of {tile.id} were moved by less than half a pixel onto the lattice of the region's centre"


def _code(crs: CRS | None) -> str:
    return "no CRS" if crs is None else f"EPSG:{crs.epsg}" if crs.epsg is not None else str(crs.to_wkt())


def _unit(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring resampled vectors ``(C, H, W)`` back to length one."""
    length = np.sqrt(np.square(pixels, dtype=np.float64).sum(0))
    return (pixels / np.where(length > 0, length, np.nan)).astype(np.float32)


def _stamp(year: int | None) -> str | None:
    return None if year is None else datetime(year, 1, 1, tzinfo=UTC).isoformat()


def _copies(grid: Grid) -> Iterator[Grid]:
    """A grid in degrees also lies a turn further: regions across the antimeridian reach there."""
    a = grid.affine
    yield grid
    if grid.crs is not None and grid.crs.geographic:
        for shift in (360.0, -360.0):
            yield Grid(grid.height, grid.width, Affine(a.a, 0, a.c + shift, 0, a.e, a.f), grid.crs)


def _own_first(tiles: Sequence[Tile], crs: CRS | None) -> list[Tile]:
    """Return tiles of the lattice's CRS before those of others; else as they come."""
    return sorted(tiles, key=lambda tile: tile.grid.crs != crs)


def _bounds(part: GeoBox, grid: Grid) -> tuple[float, float, float, float]:
    """Return the bounds of a part in the CRS of a grid, with a margin of two pixels where it is another."""
    left, bottom, right, top = part.extent.boundingbox.bbox
    if part.crs == grid.crs:
        return left, bottom, right, top
    move = Transformer.from_crs(str(part.crs), str(grid.crs), always_xy=True)
    found = move.transform_bounds(left, bottom, right, top, densify_pts=21)
    if grid.crs is not None and grid.crs.geographic:
        middle = grid.affine.c + grid.affine.a * grid.width / 2
        west, east = found[0], found[2] if found[2] >= found[0] else found[2] + 360
        turn = 360 * round((west - middle) / 360)
        found = west - turn, found[1], east - turn, found[3]
    margin = 2 * grid.affine.a
    return found[0] - margin, found[1] - margin, found[2] + margin, found[3] + margin


def _region_of(request: ImageRequest, whole: GeoBox) -> Region:
    """Return what an archive has to know of a request."""
    centre = request.footprint.centroid if request.footprint is not None else shapely.Point(0, 0)
    return Region(whole.crs, shapely.box(*whole.extent.boundingbox.bbox), (centre.x, centre.y), request.footprint)


def _position(tile: Tile, region: Region) -> tuple[float, float]:
    """Return column and row of the region's centre in a tile."""
    grid, (lon, lat) = tile.grid, region.lonlat or (0.0, 0.0)
    x, y = mover(str(grid.crs)).transform(lon, lat)
    if grid.crs is not None and grid.crs.geographic and grid.width * grid.affine.a > 359:
        x = grid.affine.c + (x - grid.affine.c) % 360
    return (x - grid.affine.c) / grid.affine.a, (y - grid.affine.f) / grid.affine.e


@lru_cache(maxsize=64)
def mover(crs: str) -> Transformer:
    """Return the way from degrees to a CRS."""
    return Transformer.from_crs("EPSG:4326", crs, always_xy=True)


def _holding(tiles: Sequence[Tile], region: Region) -> Tile:
    """Return the tile whose lattice counts: one that holds the region's centre, of its own UTM zone where it can be."""
    holding = []
    for tile in tiles:
        col, row = _position(tile, region)
        if 0 <= col < tile.grid.width and 0 <= row < tile.grid.height:
            holding.append(tile)
    zone = None if region.lonlat is None else utm_code(*region.lonlat)
    own = [tile for tile in holding if tile.grid.crs is not None and tile.grid.crs.epsg == zone]
    return (own or holding or list(tiles))[0]
