"""From a region to a lattice of true ground metres, and how much of a cell lies in a region."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Proj, Transformer
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from rs_embed.core.errors import SpecError
from rs_embed.core.regions import WGS84, BBox, PointBuffer, SpatialSpec
from rs_embed.core.regions import Polygon as PolygonSpec

__all__ = ["Lattice", "Rect", "Region", "locate", "locate_in", "utm_code"]

_TOLERANCE_PX = 1e-6
_MAX_SCALE_ERROR = 0.01
_SEGMENTS = 64
_DEGREE = 111_194.927  # metres, of a sphere of 6371.0088 km


@dataclass(frozen=True)
class Rect:
    """Whole pixels of a lattice: rows count downwards, columns to the right."""

    row: int
    col: int
    height: int
    width: int

    def grow(self, height: int, width: int, unit: int = 1) -> Rect:
        """Return the rectangle of that size around the same centre, moved by whole units (the rest goes below)."""
        up, left = ((new - old) // 2 // unit * unit for new, old in ((height, self.height), (width, self.width)))
        return Rect(self.row - up, self.col - left, height, width)

    def pad(self, pixels: int) -> Rect:
        """Return the rectangle with a margin on each side."""
        return Rect(self.row - pixels, self.col - pixels, self.height + 2 * pixels, self.width + 2 * pixels)

    def within(self, outer: Rect) -> tuple[slice, slice]:
        """Return the slices of this rectangle in an array that holds ``outer``."""
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.height), slice(col, col + self.width)

    def union(self, other: Rect) -> Rect:
        """Return the smallest rectangle that holds both."""
        row, col = min(self.row, other.row), min(self.col, other.col)
        bottom = max(self.row + self.height, other.row + other.height)
        right = max(self.col + self.width, other.col + other.width)
        return Rect(row, col, bottom - row, right - col)


@dataclass(frozen=True)
class Lattice:
    """Where pixels lie: edges at ``x0 + n * gsd`` and ``y0 - n * gsd`` metres."""

    crs: CRS | None
    gsd: float
    x0: float = 0.0
    y0: float = 0.0

    @property
    def metres(self) -> float:
        """Side of a pixel on the ground, metres: of degrees, along a meridian."""
        return self.gsd * _DEGREE if self.crs is not None and self.crs.geographic else self.gsd

    def geobox(self, rect: Rect, step: int = 1) -> GeoBox:
        """Return the geobox of ``rect``, of pixels ``step`` times as large."""
        from affine import Affine

        size = self.gsd * step
        left, top = self.x0 + rect.col * self.gsd, self.y0 - rect.row * self.gsd
        return GeoBox((rect.height // step, rect.width // step), Affine(size, 0, left, 0, -size, top), self.crs)

    def centre_lonlat(self, rect: Rect) -> tuple[float, float] | None:
        """Return the centre of ``rect`` in degrees; ``None`` without a place."""
        if self.crs is None:
            return None
        left, bottom, right, top = self.bounds(rect)
        lon, lat = _transformer(_code(self.crs), WGS84).transform((left + right) / 2, (bottom + top) / 2)
        return float(lon), float(lat)

    def pixel_lonlat(self, rect: Rect, step: int = 1) -> NDArray[np.float64] | None:
        """Return the centres ``(H, W, 2)`` of the pixels of ``rect`` in degrees; ``None`` without a place."""
        if self.crs is None:
            return None
        size = self.gsd * step
        left, _, _, top = self.bounds(rect)
        x = left + size * (np.arange(rect.width // step) + 0.5)
        y = top - size * (np.arange(rect.height // step) + 0.5)
        found = _transformer(_code(self.crs), WGS84).transform(*np.meshgrid(x, y))
        return np.stack(found, axis=-1)

    def bounds(self, rect: Rect) -> tuple[float, float, float, float]:
        """Return (left, bottom, right, top) of ``rect``."""
        left, top = self.x0 + rect.col * self.gsd, self.y0 - rect.row * self.gsd
        return left, top - rect.height * self.gsd, left + rect.width * self.gsd, top

    def cover(self, bounds: tuple[float, float, float, float], unit: int = 1) -> Rect:
        """Return the smallest rectangle of whole pixels (of whole units of pixels) that holds ``bounds``."""
        left, bottom, right, top = bounds
        size = self.gsd * unit
        col = math.floor((left - self.x0) / size + _TOLERANCE_PX)
        row = math.floor((self.y0 - top) / size + _TOLERANCE_PX)
        last_col = math.ceil((right - self.x0) / size - _TOLERANCE_PX)
        last_row = math.ceil((self.y0 - bottom) / size - _TOLERANCE_PX)
        return Rect(row * unit, col * unit, max(1, last_row - row) * unit, max(1, last_col - col) * unit)


@dataclass(frozen=True)
class Region:
    """A place on the plane of its lattice."""

    crs: CRS | None
    shape: BaseGeometry
    """In the units of ``crs``."""
    lonlat: tuple[float, float] | None
    """Centre, degrees; ``None`` without a place."""
    footprint: BaseGeometry | None
    """In degrees, cut at the antimeridian; ``None`` without a place."""
    drawn: bool = False
    """Whether the user gave a polygon, and no box or point."""
    spec: SpatialSpec | None = None
    """The region as it was asked for; ``None`` without a place."""

    @property
    def rectangular(self) -> bool:
        """Whether the region is a rectangle along the axes."""
        left, bottom, right, top = self.shape.bounds
        return bool(abs(self.shape.area - (right - left) * (top - bottom)) <= 1e-9 * self.shape.area)

    def lattice(self, gsd: float, offset: float) -> Lattice:
        """Return the lattice at ``gsd`` metres whose edges lie ``offset`` pixels from its multiples."""
        return Lattice(self.crs, gsd, offset * gsd, offset * gsd)

    def coverage(self, cells: GeoBox) -> NDArray[np.float32]:
        """Return ``(h, w)``: the area fraction of each cell that lies inside the region."""
        if self.rectangular:
            return self._rectangle_coverage(cells)
        return _polygon_coverage(self.shape, cells)

    def _rectangle_coverage(self, cells: GeoBox) -> NDArray[np.float32]:
        left, bottom, right, top = self.shape.bounds
        rows, cols = cells.shape
        x = cells.affine.c + cells.affine.a * np.arange(cols + 1)
        y = cells.affine.f + cells.affine.e * np.arange(rows + 1)
        across = (np.minimum(x[1:], right) - np.maximum(x[:-1], left)) / cells.affine.a
        down = (np.minimum(y[:-1], top) - np.maximum(y[1:], bottom)) / -cells.affine.e
        across, down = _clean(across), _clean(down)
        return np.multiply.outer(down, across).astype(np.float32)


def _clean(fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip to [0, 1] and forgive the rounding of coordinates."""
    fraction = np.clip(fraction, 0.0, 1.0)
    fraction[fraction < _TOLERANCE_PX] = 0.0
    fraction[fraction > 1 - _TOLERANCE_PX] = 1.0
    return fraction


def _polygon_coverage(shape: BaseGeometry, cells: GeoBox) -> NDArray[np.float32]:
    """Exact area fractions: whole blocks of cells inside or outside at once, the border cell by cell."""
    rows, cols = cells.shape
    out = np.zeros((rows, cols), np.float64)
    shapely.prepare(shape)
    _fill(shape, cells, out, 0, 0, rows, cols)
    return _clean(out).astype(np.float32)


def _fill(shape: BaseGeometry, cells: GeoBox, out: NDArray[np.float64], r0: int, c0: int, r1: int, c1: int) -> None:
    """Set the coverage of rows r0..r1 and columns c0..c1 by halving until a block is decided or small."""
    a, e, left, top = cells.affine.a, cells.affine.e, cells.affine.c, cells.affine.f
    block = box(left + a * c0, top + e * r1, left + a * c1, top + e * r0)
    if not shape.intersects(block):
        return
    if shape.contains(block):
        out[r0:r1, c0:c1] = 1.0
        return
    if (r1 - r0) * (c1 - c0) <= 16:
        cut = shapely.intersection(shape, block)
        rr, cc = np.mgrid[r0:r1, c0:c1]
        boxes = shapely.box(left + a * cc, top + e * (rr + 1), left + a * (cc + 1), top + e * rr)
        out[r0:r1, c0:c1] = shapely.area(shapely.intersection(boxes, cut)) / (a * -e)
        return
    if r1 - r0 >= c1 - c0:
        middle = (r0 + r1) // 2
        _fill(shape, cells, out, r0, c0, middle, c1)
        _fill(shape, cells, out, middle, c0, r1, c1)
    else:
        middle = (c0 + c1) // 2
        _fill(shape, cells, out, r0, c0, r1, middle)
        _fill(shape, cells, out, r0, middle, r1, c1)


def utm_code(lon: float, lat: float) -> int:
    """Return the EPSG code of the UTM zone by the MGRS rule, or of UPS beyond 84° N and 80° S.

    Southern Norway widens zone 32 (band V), Svalbard has only 31, 33, 35 and 37 (band X): NGA.STND.0037.
    """
    if lat >= 84:
        return 32661
    if lat < -80:
        return 32761
    lon = (lon + 180) % 360 - 180
    zone = min(60, int((lon + 180) // 6) + 1)
    if 56 <= lat < 64 and 3 <= lon < 12:
        zone = 32
    if 72 <= lat < 84 and 0 <= lon < 42:
        zone = 31 if lon < 9 else 33 if lon < 21 else 35 if lon < 33 else 37
    return (32600 if lat >= 0 else 32700) + zone


@lru_cache(maxsize=256)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


@lru_cache(maxsize=64)
def _proj(code: int) -> Proj:
    return Proj(code)


@lru_cache(maxsize=128)
def _crs(code: str) -> CRS:
    return CRS(code)


def _project(shape: BaseGeometry, source: str, target: str) -> BaseGeometry:
    """Transform vertex by vertex."""
    if source == target:
        return shape
    transformer = _transformer(source, target)

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(points[:, 0], points[:, 1]))

    return shapely.transform(shape, move)


def _outline(spatial: BBox | PolygonSpec) -> BaseGeometry:
    """The region in its own CRS; degrees are unwrapped beyond 180 where it crosses the antimeridian."""
    if isinstance(spatial, BBox):
        right = spatial.maxlon + (360 if spatial.crosses_antimeridian else 0)
        return box(spatial.minlon, spatial.minlat, right, spatial.maxlat)
    shape = spatial.shape
    left, _, right, _ = shape.bounds
    if spatial.crs == WGS84 and right - left > 180:  # parts on both sides of the antimeridian, as RFC 7946 asks

        def unwrap(points: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack((np.where(points[:, 0] < 0, points[:, 0] + 360, points[:, 0]), points[:, 1]))

        shape = shapely.union_all(shapely.get_parts(shapely.transform(shape, unwrap)))
    return shape


def _densify(shape: BaseGeometry) -> BaseGeometry:
    """Add vertices, so that straight edges become the curves that they are in another CRS."""
    left, bottom, right, top = shape.bounds
    return shapely.segmentize(shape, max(right - left, top - bottom) / _SEGMENTS)


def wrap_lonlat(shape: BaseGeometry) -> BaseGeometry:
    """Cut a geometry in unwrapped degrees at the antimeridian and move every part into -180…180."""
    left, _, right, _ = shape.bounds
    if left >= -180 and right <= 180:
        return shape
    parts = []
    for shift in (-360, 0, 360):
        part = shape.intersection(box(-180 + shift, -90, 180 + shift, 90))
        if not part.is_empty and part.area > 0:
            parts.append(shapely.transform(part, lambda p, s=shift: p - [s, 0]))
    merged = shapely.union_all(parts) if parts else shape
    polygons = [p for p in shapely.get_parts(merged) if isinstance(p, Polygon)]
    return MultiPolygon(polygons) if len(polygons) != 1 else polygons[0]


def footprint_of(geobox: GeoBox) -> BaseGeometry:
    """Return the outline of a geobox in degrees, cut at the antimeridian."""
    shape = box(*geobox.extent.boundingbox.bbox)
    return _to_lonlat(_densify(shape), _code(geobox.crs))


def _code(crs: Any) -> str:
    return f"EPSG:{crs.epsg}" if crs.epsg is not None else str(crs.to_wkt())


def _to_lonlat(shape: BaseGeometry, code: str) -> BaseGeometry:
    """Project to degrees, unwrapped around the shape's centre, then cut at the antimeridian."""
    if code in ("EPSG:32661", "EPSG:32761") and shape.intersects(shapely.Point(2_000_000, 2_000_000)):
        degrees = _project(shape, code, WGS84)  # holds the pole: all longitudes down to its lowest latitude
        _, low, _, high = degrees.bounds
        return box(-180, low, 180, 90) if code == "EPSG:32661" else box(-180, -90, 180, high)
    transformer = _transformer(code, WGS84)
    centre = transformer.transform(shape.centroid.x, shape.centroid.y)[0]

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = transformer.transform(points[:, 0], points[:, 1])
        return np.column_stack(((lon - centre + 180) % 360 - 180 + centre, lat))

    return wrap_lonlat(shapely.make_valid(shapely.transform(shape, move)))


def locate(spatial: SpatialSpec) -> Region:
    """Return the region on the plane of true ground metres at its place.

    A `PointBuffer` is a square along the axes of that plane; boxes and polygons keep their own (densified) edges.

    Raises
    ------
    SpecError
        If the region is so large that metres differ by more than 1 % within it.
    """
    if isinstance(spatial, PointBuffer):
        lon, lat = _transformer(spatial.crs, WGS84).transform(spatial.lon, spatial.lat)
        code = utm_code(lon, lat)
        x, y = _transformer(WGS84, f"EPSG:{code}").transform(lon, lat)
        buffer = spatial.buffer_m
        shape: BaseGeometry = box(x - buffer, y - buffer, x + buffer, y + buffer)
    else:
        outline = _outline(spatial)
        left, bottom, right, top = outline.bounds
        lon, lat = _transformer(spatial.crs, WGS84).transform((left + right) / 2, (bottom + top) / 2)
        lon = (lon + 180) % 360 - 180
        code = utm_code(lon, lat)
        own = _crs(spatial.crs) if spatial.crs != WGS84 else None
        same = own is not None and own.epsg == code
        shape = outline if same else _project(_densify(outline), spatial.crs, f"EPSG:{code}")
    if not all(math.isfinite(v) for v in shape.bounds):
        raise SpecError(
            f"{spatial}: its extent in km is too large for one plane of metres, or its numbers are not {spatial.crs} "
            f"(scale error limit {_MAX_SCALE_ERROR:.0%}); split it, or check them"
        )
    if not shape.is_valid:  # around a pole, meridians meet: the outline touches itself
        shape = _largest(shapely.make_valid(shape))
    _check_scale(spatial, shape, code)
    crs = f"EPSG:{code}"
    drawn = isinstance(spatial, PolygonSpec)
    return Region(_crs(crs), shape, (lon, lat), _to_lonlat(_densify(shape), crs), drawn, spatial)


def locate_in(spatial: SpatialSpec, crs: CRS) -> Region:
    """Return the region on the plane of a product's CRS: edges are densified, longitudes do not jump."""
    code = _code(crs)
    if isinstance(spatial, PointBuffer):
        near = locate(spatial)
        outline, source, lonlat = near.shape, _code(near.crs), near.lonlat or (0.0, 0.0)
    else:
        outline, source = _outline(spatial), spatial.crs
        left, bottom, right, top = outline.bounds
        lon, lat = _transformer(source, WGS84).transform((left + right) / 2, (bottom + top) / 2)
        lonlat = ((lon + 180) % 360 - 180, lat)
    shape = outline if source == code else _project(_densify(outline), source, code)
    if crs.geographic and source != code:
        shape = shapely.transform(shape, lambda p: p - [360, 0] * np.round((p[:, :1] - lonlat[0]) / 360))
    if not all(math.isfinite(v) for v in shape.bounds):
        raise SpecError(f"{spatial}: it has no place in {code}, the CRS of the product there; split it, or check it")
    footprint = wrap_lonlat(shape) if code == WGS84 else _to_lonlat(_densify(shape), code)
    return Region(crs, shape, lonlat, footprint, isinstance(spatial, PolygonSpec), spatial)


def _largest(shape: BaseGeometry) -> BaseGeometry:
    """Return the polygons of a mended geometry."""
    parts = [p for p in shapely.get_parts(shape) if p.area > 0]
    return shapely.union_all(parts) if parts else shape


def _check_scale(spatial: SpatialSpec, shape: BaseGeometry, code: int) -> None:
    """Refuse a region over which a metre of the plane is not a metre of ground."""
    left, bottom, right, top = shape.bounds
    if max(right - left, top - bottom) < 50_000:
        return  # within a zone and so small a region, the error is far below the limit
    x, y = np.meshgrid([left, (left + right) / 2, right], [bottom, (bottom + top) / 2, top])
    lon, lat = _transformer(f"EPSG:{code}", WGS84).transform(x.ravel(), y.ravel())
    scale = np.asarray(_proj(code).get_factors(lon, lat, errcheck=False).meridional_scale)
    worst = float(np.nanmax(np.abs(scale - 1))) if np.isfinite(scale).any() else math.inf
    if not np.isfinite(scale).all() or worst > _MAX_SCALE_ERROR:
        raise SpecError(
            f"{type(spatial).__name__} of {(right - left) / 1000:.0f} x {(top - bottom) / 1000:.0f} km is too large "
            f"for one plane of metres (scale error {worst:.1%}, limit {_MAX_SCALE_ERROR:.0%}); split it"
        )


def locate_geobox(geobox: GeoBox) -> Region:
    """Return the region that a geobox covers, on the plane of true ground metres at its place."""
    if geobox.crs is None:
        a, (rows, cols) = geobox.affine, geobox.shape
        return Region(None, box(a.c, a.f + a.e * rows, a.c + a.a * cols, a.f), None, None)
    left, bottom, right, top = geobox.extent.boundingbox.bbox
    return locate(BBox(left, bottom, right, top, crs=_code(geobox.crs)))
