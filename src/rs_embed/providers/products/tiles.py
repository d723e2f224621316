"""Tiles of a product: where their pixels lie, and windows of them as values, NaN where there is no data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from rs_embed.core.errors import ProviderError
from rs_embed.providers.memo import Memo
from rs_embed.providers.products.files import LocalFile, RemoteFile, StoredFile, told
from rs_embed.providers.products.memory import MEMORY
from rs_embed.providers.products.rasters import Raster, broken, describe_raster, read_stored
from rs_embed.providers.resample import Grid

__all__ = ["Decode", "RasterTile", "Tile", "from_blocks", "north_up", "open_raster"]

Block = NDArray[np.float32]
Decode = Callable[[NDArray[Any]], Block]
"""From stored numbers ``(C, H, W)`` to values, NaN where a pixel has no data."""

_UNIT_BYTES = 96 * 2**20
"""Decoded bytes of a block that is still kept as one; larger ones are read in parts."""
_UNIT_SIDE = 64


class Tile(Protocol):
    """A rectangle of a product."""

    @property
    def id(self) -> str:
        """Name within the product."""
        ...

    @property
    def grid(self) -> Grid:
        """Where its pixels lie, north up."""
        ...

    @property
    def checked(self) -> str | None:
        """What is known of the file's integrity: ``sha256``, ``size``, or nothing."""
        ...

    def read(self, rows: slice, cols: slice, whole: tuple[slice, slice]) -> Block:
        """Return a window ``(C, H, W)``; ``whole`` is what the region will read of the tile in all."""
        ...


def north_up(grid: Grid) -> tuple[Grid, bool]:
    """Return the grid with rows from north to south, and whether the file's rows run the other way."""
    a = grid.affine
    if a.b or a.d or a.a < 0:
        raise ProviderError(f"a product's pixels must run along the axes of its CRS; these do not: {tuple(a)[:6]}")
    if a.e < 0:
        return grid, False
    return replace(grid, affine=Affine(a.a, 0, a.c, 0, -a.e, a.f + a.e * grid.height)), True


@dataclass(frozen=True, eq=False)
class RasterTile:
    """A raster file whose bands are the dimensions, read block by block; blocks are kept in memory."""

    id: str
    file: StoredFile
    about: Raster
    decode: Decode
    checked: str | None = None

    @property
    def grid(self) -> Grid:
        """Where its pixels lie, north up."""
        return north_up(self.about.grid)[0]

    def read(self, rows: slice, cols: slice, whole: tuple[slice, slice]) -> Block:
        """Return a window, put together from blocks; of a bottom-up file the rows are turned."""
        height = self.about.grid.height
        flipped = self.about.grid.affine.e > 0
        stored = slice(height - rows.stop, height - rows.start) if flipped else rows
        found = self._stored(stored, cols)
        return self.decode(found[:, ::-1] if flipped else found)

    def unit(self) -> tuple[int, int]:
        """Height and width of what is read and kept as one."""
        high, wide = self.about.block
        pixel = self.about.count * np.dtype(self.about.dtype).itemsize
        if high * wide * pixel <= _UNIT_BYTES:
            return high, wide
        return min(high, _UNIT_SIDE), min(wide, max(_UNIT_SIDE, _UNIT_BYTES // (pixel * min(high, _UNIT_SIDE))))

    def _stored(self, rows: slice, cols: slice) -> NDArray[Any]:
        shape = (self.about.count, rows.stop - rows.start, cols.stop - cols.start)
        out = np.empty(shape, self.about.dtype)
        kept = partial(_kept, self.file.key, self._block)
        from_blocks(out, (rows, cols), self.unit(), kept)
        return out

    def _block(self, row: int, col: int) -> NDArray[Any]:
        """Read one block from the file."""
        high, wide = self.unit()
        grid = self.about.grid
        rows = slice(row * high, min(grid.height, (row + 1) * high))
        cols = slice(col * wide, min(grid.width, (col + 1) * wide))
        found: NDArray[Any] = _guarded(self.file, lambda file: read_stored(file, rows, cols))
        return found


def _kept(key: str, load: Callable[[int, int], NDArray[Any]], row: int, col: int) -> NDArray[Any]:
    """A block that is kept in memory, loaded where it is not."""
    return MEMORY.get((key, row, col), partial(load, row, col))


def from_blocks(
    out: NDArray[Any],
    window: tuple[slice, slice],
    unit: tuple[int, int],
    block: Callable[[int, int], NDArray[Any]],
) -> None:
    """Fill an array with a window, put together from blocks.

    Parameters
    ----------
    out
        ``(C, H, W)``, filled.
    window
        Rows and columns of it.
    unit
        Height and width of a block.
    block
        From the number of a block, down and across, to its pixels.
    """
    (rows, cols), (high, wide) = window, unit
    down, across = (range(s.start // n, -(-s.stop // n)) for s, n in ((rows, high), (cols, wide)))
    for row, col in product(down, across):
        _place(out, block(row, col), (rows.start, cols.start), (row * high, col * wide))


def _place(out: NDArray[Any], block: NDArray[Any], corner: tuple[int, int], at: tuple[int, int]) -> None:
    """Put the part of a block that a window holds where it belongs."""
    top, left = max(corner[0], at[0]), max(corner[1], at[1])
    bottom = min(corner[0] + out.shape[1], at[0] + block.shape[1])
    right = min(corner[1] + out.shape[2], at[1] + block.shape[2])
    out[:, top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]] = block[
        :, top - at[0] : bottom - at[0], left - at[1] : right - at[1]
    ]


def _guarded(file: StoredFile, act: Callable[[Any], Any]) -> Any:
    """Run GDAL on a file; what went wrong with its bytes comes before what GDAL made of them."""
    if isinstance(file, RemoteFile):
        file.fault = None
    try:
        return act(file.path if isinstance(file, LocalFile) else file)
    except OSError as error:
        if isinstance(file, RemoteFile) and file.fault is not None:
            raise told(file.url, file.fault) from error
        raise broken(file.name, error) from error


_DESCRIBED: Memo[Raster] = Memo(1024)
"""What rasters say of themselves, by their files' keys: asked once as long as a file is the same."""


def open_raster(id: str, file: StoredFile, decode: Decode, *, bands: int | None = None) -> RasterTile:
    """Open a raster file of a product.

    Raises
    ------
    ProviderError
        If it has no georeference, or not as many bands as the product has dimensions.
    """
    about = _DESCRIBED.get(file.key, partial(_guarded, file, describe_raster))
    if about.grid.crs is None:
        raise ProviderError(f"{file.name} has no georeference: it is no tile of this product, or half-copied")
    if bands is not None and about.count != bands:
        raise ProviderError(
            f"{file.name} has {about.count} bands, the product has {bands} dimensions: it is of another product or "
            "version"
        )
    return RasterTile(id, file, about, decode)


def overlap(grid: Grid, bounds: tuple[float, float, float, float]) -> tuple[slice, slice] | None:
    """Return the rows and columns of a north-up grid that bounds in its CRS touch; ``None``: none."""
    left, bottom, right, top = bounds
    a = grid.affine
    cols = max(0, math.floor((left - a.c) / a.a)), min(grid.width, math.ceil((right - a.c) / a.a))
    rows = max(0, math.floor((top - a.f) / a.e)), min(grid.height, math.ceil((bottom - a.f) / a.e))
    return (slice(*rows), slice(*cols)) if rows[0] < rows[1] and cols[0] < cols[1] else None
