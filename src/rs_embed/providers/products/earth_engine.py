"""A product in Earth Engine: its tiles as they are listed there, and windows of them on their own pixels.

The values are those of the files that the product is published as, which Earth Engine holds as numbers from -1 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.geometry import Region
from rs_embed.core.imagery import Scene
from rs_embed.core.product import Product
from rs_embed.providers.earth_engine_catalog import Dataset
from rs_embed.providers.earth_engine_connection import EarthEngineConnection
from rs_embed.providers.earth_engine_graph import KNOWN, BandGrid, stored_image
from rs_embed.providers.products.alphaearth import nothing_there
from rs_embed.providers.products.memory import MEMORY
from rs_embed.providers.products.tiles import Tile, from_blocks, north_up
from rs_embed.providers.resample import Grid

__all__ = ["EarthEngineArchive"]

UNIT = 64
"""Side of the blocks of which regions below it are made, pixels: points that are near share one (1 MB of 64 bands)."""
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


class EarthEngineArchive:
    """The archive: images are listed once for each 1° cell, all years together.

    Parameters
    ----------
    product
        Its ``earth_engine`` names the image collection, whose bands are called as the product's.
    connection
        To Earth Engine.
    """

    source = "Google Earth Engine"

    def __init__(self, product: Product, connection: EarthEngineConnection) -> None:
        assert product.earth_engine is not None
        self._product, self._connection = product, connection
        self._dataset = Dataset((product.earth_engine,), {name: name for name in product.sensor.default_bands})

    def years(self, collection: str, region: Region) -> list[int]:
        """Return the years with an image in the region."""
        return sorted({scene.time.year for scene in self._listed(region) if _may_touch(scene, region)})

    def tiles(self, collection: str, region: Region, year: int | None) -> list[Tile]:
        """Return the images of a year that may touch the region."""
        scenes = [scene for scene in self._listed(region) if scene.time.year == year]
        touching = [scene for scene in scenes if _may_touch(scene, region)]
        if not touching:
            name = self._product.sensor.id
            raise NoImageryError(nothing_there(name, region, year, self.years(collection, region)))
        first = self._product.sensor.default_bands[0]
        grids = self._connection.grids(tuple(scenes), (first,))
        tiles = [self._tile(scene, grids[scene.id][first]) for scene in touching]
        return sorted(tiles, key=lambda tile: (_zone(tile.grid.crs), tile.id))

    def _listed(self, region: Region) -> list[Scene]:
        """Images of all years near a region that have all bands."""
        found = self._connection.scenes(self._dataset, region.footprint, _ALWAYS)
        return sorted((s for s in found if set(self._dataset.bands) <= s.bands), key=lambda s: s.id)

    def _tile(self, scene: Scene, told: BandGrid) -> Tile:
        if told.size is None or not told.crs.startswith("EPSG:"):
            raise ProviderError(
                f"Earth Engine says of {scene.item.id} neither size nor zone; use backend='auto', which reads the files"
            )
        grid = north_up(Grid(*told.size, Affine(*told.transform), CRS(told.crs)))[0]
        return _ImageTile(scene.item.id, grid, tuple(self._dataset.bands), self._connection)


@dataclass(frozen=True, eq=False)
class _ImageTile:
    """An image of the collection."""

    id: str
    grid: Grid
    """North up, whatever the image's own rows do."""
    bands: tuple[str, ...]
    connection: EarthEngineConnection
    checked: str | None = None

    def read(self, rows: slice, cols: slice, whole: tuple[slice, slice]) -> NDArray[np.float32]:
        """Return a window; of a small region from blocks that are kept in memory."""
        if max(side.stop - side.start for side in whole) > UNIT:
            return self._window(rows, cols)
        out = np.empty((len(self.bands), rows.stop - rows.start, cols.stop - cols.start), np.float32)
        from_blocks(out, (rows, cols), self.unit(), self._block)
        return out

    def unit(self) -> tuple[int, int]:
        """Height and width of what is read and kept as one."""
        return UNIT, UNIT

    def _block(self, row: int, col: int) -> NDArray[np.float32]:
        height, width = self.grid.height, self.grid.width
        rows, cols = (
            slice(n * UNIT, min((n + 1) * UNIT, side)) for n, side in ((row, height), (col, width))
        )  # fmt: skip
        found: NDArray[np.float32] = MEMORY.get(
            (self.connection.url, self.id, row, col), partial(self._window, rows, cols)
        )
        return found

    def _window(self, rows: slice, cols: slice) -> NDArray[np.float32]:
        """Have a window computed: the pixels as they are stored, NaN where one of the bands is masked."""
        a = self.grid.affine
        corner = Affine(a.a, 0, a.c + a.a * cols.start, 0, a.e, a.f + a.e * rows.start)
        geobox = GeoBox((rows.stop - rows.start, cols.stop - cols.start), corner, self.grid.crs)
        expression = self.connection.encode(lambda ee: stored_image(ee, self.id, self.bands))
        names = (*self.bands, KNOWN)
        found = self.connection.pixels(expression, geobox, names, 4 * len(self.bands) + 1, self.id)
        values = np.stack([found[band] for band in self.bands]).astype(np.float32)
        values[:, found[KNOWN] == 0] = np.nan
        return values


def _may_touch(scene: Scene, region: Region) -> bool:
    footprint = scene.footprint
    return footprint is None or region.footprint is None or bool(footprint.intersects(region.footprint))


def _zone(crs: CRS | None) -> str:
    """The zone as the files' folders say it: where tiles overlap, both roads take them in one order."""
    code = 0 if crs is None or crs.epsg is None else crs.epsg
    return f"{code % 100}{'N' if code < 32700 else 'S'}"
