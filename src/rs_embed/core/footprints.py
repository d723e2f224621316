"""A region written down in metadata, and what it covers: its outline in degrees, its share of the cells of a grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.errors import SpecError
from rs_embed.core.regions import WGS84, BBox, PointBuffer, Polygon, SpatialSpec

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["coverage_of", "outline_of", "read_region", "region_dict"]

_KINDS: dict[str, type[SpatialSpec]] = {"BBox": BBox, "PointBuffer": PointBuffer, "Polygon": Polygon}
_TOLERANCE_DEG = 1e-7
"""About a centimetre: vertices that follow a curve less than this closely are left out."""


def _lists(value: Any) -> Any:
    return [_lists(v) for v in value] if isinstance(value, tuple) else value


def region_dict(spatial: SpatialSpec | None) -> dict[str, Any] | None:
    """Return a region as JSON types: its kind and its own numbers, so that `read_region` gives an equal one."""
    if spatial is None:
        return None
    found: dict[str, Any] = {"type": type(spatial).__name__}
    if isinstance(spatial, Polygon):
        shape = {"type": "MultiPolygon", "coordinates": _lists(spatial.geometry)}
        return found | {"geometry": shape, "crs": spatial.crs}
    return found | vars(spatial)


def read_region(found: Mapping[str, Any]) -> SpatialSpec:
    """Return the region of `region_dict`.

    Raises
    ------
    SpecError
        If the mapping is none, or its numbers are no region.
    """
    kind = _KINDS.get(str(found.get("type")))
    if kind is None:
        raise SpecError(f"meta['region'] has type {found.get('type')!r}; known: {', '.join(_KINDS)}")
    try:
        return kind(**{k: v for k, v in found.items() if k != "type"})
    except TypeError as error:
        raise SpecError(f"meta['region'] is no {kind.__name__}: {error}") from error


def outline_of(spatial: SpatialSpec) -> Any:
    """Return the region as a shapely geometry in degrees, cut at the antimeridian.

    Boxes and polygons in degrees keep the corners that they were given; the edges of others become as many straight
    pieces as follow them within a centimetre.
    """
    import shapely

    from rs_embed.core.geometry import locate

    if spatial.crs == WGS84 and isinstance(spatial, BBox) and not spatial.crosses_antimeridian:
        return shapely.box(spatial.minlon, spatial.minlat, spatial.maxlon, spatial.maxlat)
    if spatial.crs == WGS84 and isinstance(spatial, Polygon):
        left, _, right, _ = spatial.shape.bounds
        if right - left <= 180:
            return spatial.shape.geoms[0] if len(spatial.geometry) == 1 else spatial.shape
    if spatial.crs == WGS84 and isinstance(spatial, PointBuffer) and abs(spatial.lat) < 75 and abs(spatial.lon) < 179:
        return _square(spatial)
    return shapely.simplify(locate(spatial).footprint, _TOLERANCE_DEG)


@lru_cache(maxsize=256)
def _plane(code: int) -> tuple[Any, Any]:
    """Return the ways from degrees to a plane and back."""
    from pyproj import Transformer

    there, back = (Transformer.from_crs(*pair, always_xy=True) for pair in ((4326, code), (code, 4326)))
    return there.transform, back.transform


def _square(spatial: PointBuffer) -> Any:
    """Return the square of `locate` far from poles and the antimeridian, twenty times as fast: tables have many."""
    import shapely

    from rs_embed.core.geometry import utm_code

    there, back = _plane(utm_code(spatial.lon, spatial.lat))
    x, y = there(spatial.lon, spatial.lat)
    half = spatial.buffer_m
    # A side of length p bends by p² tan(lat) / 8R on its way to degrees: a centimetre at most.
    piece = math.sqrt(8 * 6.4e6 * 0.01 / max(math.tan(math.radians(abs(spatial.lat))), 0.05))
    shape = shapely.segmentize(shapely.box(x - half, y - half, x + half, y + half), piece)
    return shapely.transform(shape, lambda p: np.column_stack(back(p[:, 0], p[:, 1])))


def coverage_of(spatial: SpatialSpec, cells: GeoBox) -> NDArray[np.float32]:
    """Return ``(h, w)``: the area fraction inside the region of each cell of a grid in any CRS."""
    import shapely
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from pyproj import Transformer

    from rs_embed.core.geometry import locate

    region = locate(spatial)
    if region.crs != cells.crs:
        move = Transformer.from_crs(WGS84, cells.crs, always_xy=True).transform
        shape = shapely.transform(region.footprint, lambda p: np.column_stack(move(p[:, 0], p[:, 1])))
        region = replace(region, crs=cells.crs, shape=shape)
    a, (rows, _) = cells.affine, cells.shape
    if a.e < 0:
        return region.coverage(cells)
    turned = GeoBox(cells.shape, Affine(a.a, 0, a.c, 0, -a.e, a.f + a.e * rows), cells.crs)
    return np.ascontiguousarray(region.coverage(turned)[::-1])
