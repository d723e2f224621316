"""How much ground shapes share, and how far they lie from a place: areas and distances of WGS84 in metres.

Shapes are shapely geometries in degrees. Areas are taken on Lambert's azimuthal equal-area plane, distances on the
azimuthal equidistant plane of a point, both by PROJ (https://proj.org/operations/projections/).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Overlap", "bounds_of", "cell_keys", "distances", "farther_than", "overlap", "touching"]

_STEP = 0.002
"""Edges are cut into pieces of so many degrees: straight in degrees is curved on the ground (by 1 mm of a piece)."""
_PIECES = 500
"""Pieces of the longer side of a shape at most."""
_SAME = 1e-5
"""Degrees: footprints whose sides are this near are of one cell."""
_SLIVER = 1e-9
"""Share of a shape that is none: neighbours whose edges were rounded otherwise."""
_METRES = 110_574.0
"""Metres of a degree of latitude at least (at the equator)."""
_RADIUS = 6_335_439.0
"""Smallest radius of curvature of WGS84, metres."""

Doubles = NDArray[np.float64]


class Overlap(NamedTuple):
    """What shapes and a region share, square metres on the ground."""

    areas: Doubles
    """``(N,)``: of each shape within the region."""
    sizes: Doubles
    """``(N,)``: of each shape."""
    covered: float
    """Of all shapes within the region together, shared ground once."""
    region: float


@lru_cache(maxsize=64)
def _plane(kind: str, lon: float, lat: float) -> Any:
    """The way from degrees to a plane of metres around a point."""
    from pyproj import Transformer

    plane = f"+proj={kind} +lon_0={lon!r} +lat_0={lat!r} +datum=WGS84 +units=m"
    return Transformer.from_crs("EPSG:4326", plane, always_xy=True).transform


def bounds_of(shapes: NDArray[Any]) -> Doubles:
    """Return west, south, east and north ``(N, 4)``; east is above 180 where a shape crosses the antimeridian."""
    import shapely

    found = np.asarray(shapely.bounds(shapes), np.float64).reshape(-1, 4)
    for i in np.flatnonzero(found[:, 2] - found[:, 0] > 180):
        found[i] = shapely.bounds(_unwrapped(shapes[i]))
    return found


def _unwrapped(shape: Any) -> Any:
    """Return a shape that crosses the antimeridian without the jump: longitudes up to 360."""
    import shapely

    return shapely.transform(shape, lambda p: np.column_stack((np.where(p[:, 0] < 0, p[:, 0] + 360, p[:, 0]), p[:, 1])))


def _on_plane(shapes: NDArray[Any], kind: str, lon: float, lat: float) -> NDArray[Any]:
    """Return shapes on a plane of metres around a point, their edges as curved as they are there."""
    import shapely

    shapes, bounds = np.array(shapes, object), bounds_of(shapes)
    for i in np.flatnonzero(bounds[:, 2] > 180):
        shapes[i] = _unwrapped(shapes[i])
    sides = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1])
    pieces = shapely.segmentize(shapes, np.maximum(_STEP, np.nan_to_num(sides) / _PIECES))
    move = _plane(kind, lon, lat)
    return np.asarray(shapely.transform(pieces, lambda p: np.column_stack(move(p[:, 0], p[:, 1]))))


def touching(bounds: Doubles, outline: Any) -> NDArray[np.int64]:
    """Return which boxes ``(N, 4)``, as of `bounds_of`, touch the box of a part of an outline."""
    import shapely

    found = np.zeros(len(bounds), bool)
    for west, south, east, north in bounds_of(shapely.get_parts(outline)):
        level = (bounds[:, 1] <= north) & (bounds[:, 3] >= south)
        for turn in (-360, 0, 360):
            found |= level & (bounds[:, 0] <= east + turn) & (bounds[:, 2] >= west + turn)
    return np.flatnonzero(found)


def overlap(shapes: NDArray[Any], outline: Any) -> Overlap:
    """Return what shapes ``(N,)`` share with the outline of a region."""
    import shapely

    ((west, south, east, north),) = bounds_of(np.array([outline], object))
    # Whole degrees, so that neighbours share a plane: its areas are true everywhere.
    centre = float((round((west + east) / 2) + 180) % 360 - 180), float(round((south + north) / 2))
    region = shapely.make_valid(_on_plane(np.array([outline], object), "laea", *centre)[0])
    flat = shapely.make_valid(_on_plane(shapes, "laea", *centre)) if len(shapes) else np.empty(0, object)
    cut = shapely.intersection(flat, region)
    areas = np.asarray(shapely.area(cut), np.float64).reshape(len(shapes))
    sizes = np.asarray(shapely.area(flat), np.float64).reshape(len(shapes))
    whole = float(shapely.area(region))
    areas[areas <= _SLIVER * np.minimum(sizes, whole)] = 0.0
    together = float(shapely.area(shapely.union_all(cut[areas > 0]))) if (areas > 0).any() else 0.0
    return Overlap(areas, sizes, together, whole)


def distances(shapes: NDArray[Any], lon: float, lat: float) -> Doubles:
    """Return the metres from a point to each shape ``(N,)``; 0 within it."""
    import shapely

    flat = _on_plane(shapes, "aeqd", float(lon), float(lat))
    return np.asarray(shapely.distance(flat, shapely.Point(0, 0)), np.float64).reshape(len(shapes))


def farther_than(bounds: Doubles, lon: float, lat: float) -> Doubles:
    """Return metres ``(N,)`` that no point of a box ``(N, 4)`` of degrees is nearer than to a point.

    A box is farther than its parallels, and than the great circles through its meridians (Napier's rule).
    """
    down = np.maximum(np.maximum(bounds[:, 1] - lat, lat - bounds[:, 3]), 0.0)
    middle, half = (bounds[:, 0] + bounds[:, 2]) / 2, (bounds[:, 2] - bounds[:, 0]) / 2
    away = np.abs((lon - middle + 180) % 360 - 180) - half
    across = np.arcsin(np.cos(np.radians(lat)) * np.sin(np.radians(np.clip(away, 0.0, 90.0))))
    return np.asarray(np.maximum(down * _METRES, across * _RADIUS) * (1 - 1e-9), np.float64)


def cell_keys(shapes: NDArray[Any]) -> list[tuple[int, ...]]:
    """Return what chips of one cell, with the same footprint, have in common."""
    return [tuple(each) for each in np.round(bounds_of(shapes) / _SAME).astype(np.int64).tolist()]
