"""Overviews of raster files: read instead of the pixels where they are shown to be means of them.

A file does not say how its overviews were made (GDAL notes it from 3.12 on), and producers differ: nearest, cubic and
means all occur. So one tile of a file, always the same, is compared: docs/decisions/0009-overviews.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.providers.resample import Grid, alignment

__all__ = ["block_ranges", "candidate", "largest_block", "shows_means"]

Ranges = Iterator[tuple[int, int]]


def candidate(dataset: Any, index: int, grid: Grid, geobox: GeoBox) -> int | None:
    """Return the level of the coarsest overview whose pixels make up those of a lattice, else None.

    Only overviews that divide the file exactly count, and lattices whose pixels are 2 × 2 or more of the overview's:
    their means are then means of the same pixels, while samples between the pixels of an overview would blur.

    Parameters
    ----------
    dataset
        An open file.
    index
        Band, counted from 1.
    grid
        Where the file's pixels lie.
    geobox
        The lattice; a crop of it gives the same answer.
    """
    own = alignment(grid, geobox)
    if dataset.driver != "GTiff" or own is None or own[0] < 4:  # GDAL reads the overviews' headers to tell of them
        return None
    good, a = {}, grid.affine
    for level, factor in enumerate(dataset.overviews(index)):
        if grid.height % factor == 0 and grid.width % factor == 0:
            shape = grid.height // factor, grid.width // factor
            coarse = Grid(*shape, Affine(a.a * factor, a.b * factor, a.c, a.d * factor, a.e * factor, a.f), grid.crs)
            found = alignment(coarse, geobox)
            if found is not None and found[0] >= 2:
                good[factor] = level
    return good[max(good)] if good else None


def block_ranges(dataset: Any, index: int, rows: slice, cols: slice, level: int | None = None) -> Ranges:
    """Yield where a TIFF keeps the blocks that a window touches; nothing of other formats and of blocks left out.

    Parameters
    ----------
    dataset
        An open file.
    index
        Band, counted from 1.
    rows, cols
        The window, in pixels of the level.
    level
        Overview; ``None``: the file's own pixels.
    """
    height, width = dataset.block_shapes[index - 1]
    down, across = (range(s.start // n, -(-s.stop // n)) for s, n in ((rows, height), (cols, width)))
    for row, col in product(down, across):
        found = _block(dataset, index, row, col, level)
        if found is not None:
            yield found


def _block(dataset: Any, index: int, row: int, col: int, level: int | None) -> tuple[int, int] | None:
    start, size = (
        dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=index, ovr=level) for what in ("OFFSET", "SIZE")
    )
    return None if start is None or size is None else (int(start), int(start) + int(size))


def largest_block(dataset: Any, index: int, factor: int) -> tuple[slice, slice] | None:
    """Return the block that takes most bytes, as rows and columns that the factor divides: it has most texture."""
    height, width = dataset.block_shapes[index - 1]
    best, place = 0, None
    for row, col in product(range(math.ceil(dataset.height / height)), range(math.ceil(dataset.width / width))):
        found = _block(dataset, index, row, col, None)
        if found is not None and found[1] - found[0] > best:
            best, place = found[1] - found[0], (row, col)
    if place is None or height % factor or width % factor:
        return None
    top, left = place[0] * height, place[1] * width
    return slice(top, min(top + height, dataset.height)), slice(left, min(left + width, dataset.width))


def shows_means(pixels: NDArray[Any], overview: NDArray[Any], nodata: float | None, factor: int) -> bool:
    """Return whether an overview's pixels are the means of the file's, as far as whole numbers allow.

    Parameters
    ----------
    pixels
        ``(factor * h, factor * w)``, with enough texture to tell a mean from a sample; else the answer is no.
    overview
        ``(h, w)``.
    nodata
        Squares that hold it are left out.
    factor
        Pixels along a pixel of the overview.
    """
    height, width = overview.shape
    squares = pixels.reshape(height, factor, width, factor).astype(np.float64)
    known = np.isfinite(squares).all(axis=(1, 3))
    if nodata is not None:
        known &= (squares != nodata).all(axis=(1, 3))
    if not known.any():
        return False
    low, high, mean = squares.min(axis=(1, 3))[known], squares.max(axis=(1, 3))[known], squares.mean(axis=(1, 3))[known]
    exact = 1e-5 * np.abs(mean).max()
    # each halving may round once
    allowed = 0.5 * math.log2(factor) + 0.01 if np.issubdtype(pixels.dtype, np.integer) else exact
    textured = float(np.median(high - low)) > 8 * max(allowed, exact)
    return textured and bool((np.abs(mean - overview[known]) <= allowed + exact).all())
