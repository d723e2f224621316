"""The slope of an elevation model."""

from __future__ import annotations

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

__all__ = ["slope", "with_margin"]

Heights = NDArray[np.float32]


def with_margin(geobox: GeoBox) -> GeoBox:
    """Return a lattice with one more pixel on each side."""
    a, (height, width) = geobox.affine, geobox.shape
    corner = Affine(a.a, a.b, a.c - a.a - a.b, a.d, a.e, a.f - a.d - a.e)
    return GeoBox((height + 2, width + 2), corner, geobox.crs)


def slope(heights: Heights, gsd: float) -> Heights:
    """Return the slope in degrees, from the neighbours above, below, left and right.

    The gradient is the central difference, as Earth Engine's ``Terrain.slope`` takes it from the four neighbours; where
    one of a pair has no data, the difference to the pixel itself.

    Parameters
    ----------
    heights
        ``(H + 2, W + 2)`` metres, NaN where there is no data.
    gsd
        Metres between pixels.

    Returns
    -------
    ``(H, W)``, NaN where the pixel, or both neighbours of a direction, have no data.
    """
    middle = heights[1:-1, 1:-1]
    across = _difference(heights[1:-1, :-2], middle, heights[1:-1, 2:])
    down = _difference(heights[:-2, 1:-1], middle, heights[2:, 1:-1])
    return np.degrees(np.arctan(np.hypot(across, down) / np.float32(gsd))).astype(np.float32)


def _difference(before: Heights, at: Heights, after: Heights) -> Heights:
    """Height gained over one pixel."""
    both = (after - before) * np.float32(0.5)
    one = np.where(np.isnan(before), after - at, at - before)
    found: Heights = np.where(np.isnan(at), np.float32(np.nan), np.where(np.isnan(both), one, both))
    return found
