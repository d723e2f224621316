"""Parts of a lattice that are small enough for one request, and one array from what they give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rs_embed.providers.earth_engine_rest import MOST_BYTES, MOST_PIXELS, TooMuchError

__all__ = ["SMALLEST", "gather", "tiles"]

SMALLEST = 64
"""Pixels along the longer side of a part that is not cut any further."""

Tile = tuple[int, int, int, int]
"""Top, left, rows, columns."""


def tiles(height: int, width: int, pixel_bytes: int) -> Iterator[Tile]:
    """Yield the tiles of an array that are each below the limits of a request, as square as they come."""
    most = min(MOST_PIXELS, math.isqrt(MOST_BYTES // pixel_bytes))
    across = min(width, most)
    down = min(height, MOST_PIXELS, MOST_BYTES // (pixel_bytes * across))
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield top, left, min(down, height - top), min(across, width - left)


def gather(fetch: Callable[[GeoBox], NDArray[Any]], geobox: GeoBox, pixel_bytes: int) -> NDArray[Any]:
    """Return what ``fetch`` gives for a lattice, fetched tile by tile.

    A tile that is too much for the server is halved.

    Parameters
    ----------
    fetch
        Returns an array ``(rows, columns)`` for a part of the lattice.
    geobox
        The lattice.
    pixel_bytes
        Bytes of a pixel.

    Raises
    ------
    TooMuchError
        If even a small part is too much.
    """
    height, width = (int(side) for side in geobox.shape)
    out: NDArray[Any] | None = None
    todo = list(tiles(height, width, pixel_bytes))[::-1]
    while todo:
        top, left, rows, columns = tile = todo.pop()
        try:
            found = fetch(_crop(geobox, tile))
        except TooMuchError:
            if max(rows, columns) <= SMALLEST:
                raise
            todo += _halves(tile)
            continue
        if out is None:
            out = np.zeros((height, width), found.dtype)
        out[top : top + rows, left : left + columns] = found
    assert out is not None
    return out


def _halves(tile: Tile) -> tuple[Tile, Tile]:
    top, left, rows, columns = tile
    if rows >= columns:
        half = rows // 2
        return (top, left, half, columns), (top + half, left, rows - half, columns)
    half = columns // 2
    return (top, left, rows, half), (top, left + half, rows, columns - half)


def _crop(geobox: GeoBox, tile: Tile) -> GeoBox:
    """Part of a lattice (slicing a geobox warns with affine 3)."""
    top, left, rows, columns = tile
    a = geobox.affine
    return GeoBox((rows, columns), Affine(a.a, 0, a.c + a.a * left, 0, a.e, a.f + a.e * top), geobox.crs)
