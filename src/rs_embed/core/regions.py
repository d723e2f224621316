"""Places: boxes, squares around a point and polygons, in any CRS, validated when they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rs_embed.core.checks import check_number
from rs_embed.core.errors import SpecError

__all__ = ["WGS84", "BBox", "PointBuffer", "Polygon", "SpatialSpec", "norm_spatial"]

WGS84 = "EPSG:4326"


def _crs(owner: str, crs: Any) -> str:
    """Return ``crs`` as text; only codes other than EPSG:4326 cost an import of pyproj."""
    text = str(crs).strip() if isinstance(crs, str | int) else getattr(crs, "to_string", lambda: str(crs))()
    text = f"EPSG:{text}" if text.isdigit() else text
    if text.upper() in (WGS84, "OGC:CRS84", "CRS84", "WGS84"):
        return WGS84
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_user_input(text)
    except CRSError as error:
        raise SpecError(f"{owner}.crs={crs!r} is not a coordinate reference system that PROJ knows") from error
    return text


def _lonlat(owner: str, names: tuple[str, str], lon: float, lat: float) -> None:
    if not -180 <= lon <= 180:
        raise SpecError(f"{owner}.{names[0]}={lon} is not a longitude; give degrees from -180 to 180")
    if not -90 <= lat <= 90:
        hint = " (are lon and lat swapped?)" if abs(lon) <= 90 else ""
        raise SpecError(f"{owner}.{names[1]}={lat} is not a latitude; give degrees from -90 to 90{hint}")


@dataclass(frozen=True)
class BBox:
    """A box between two corners.

    With ``crs="EPSG:4326"`` the numbers are degrees, and ``minlon > maxlon`` crosses the antimeridian when the box
    is then at most 180° wide. With a projected CRS they are x and y in its units.
    """

    minlon: float
    minlat: float
    maxlon: float
    maxlat: float
    crs: str = WGS84

    def __post_init__(self) -> None:
        for name in ("minlon", "minlat", "maxlon", "maxlat"):
            object.__setattr__(self, name, check_number("BBox", name, getattr(self, name)))
        object.__setattr__(self, "crs", _crs("BBox", self.crs))
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless the box is one."""
        if self.minlat >= self.maxlat:
            raise SpecError(f"BBox.minlat={self.minlat} must be below maxlat={self.maxlat}; are they reversed?")
        if self.crs != WGS84:
            if self.minlon >= self.maxlon:
                raise SpecError(f"BBox.minlon={self.minlon} must be below maxlon={self.maxlon} in {self.crs}")
            return
        _lonlat("BBox", ("minlon", "minlat"), self.minlon, self.minlat)
        _lonlat("BBox", ("maxlon", "maxlat"), self.maxlon, self.maxlat)
        if self.minlon == self.maxlon or (self.minlon, self.maxlon) == (180, -180):
            raise SpecError(f"BBox.minlon and maxlon are both {self.minlon}; a box needs a width")
        if self.minlon > self.maxlon and self.minlon - self.maxlon < 180:
            width = 360 + self.maxlon - self.minlon
            raise SpecError(
                f"BBox.minlon={self.minlon} > maxlon={self.maxlon} would cross the antimeridian and be {width:g}° wide;"
                " swap them, or ask for at most 180°"
            )

    @property
    def crosses_antimeridian(self) -> bool:
        """Whether the box runs over 180°."""
        return self.crs == WGS84 and self.minlon > self.maxlon


@dataclass(frozen=True)
class PointBuffer:
    """A square of side ``2 * buffer_m`` true ground metres around a point.

    ``lon`` and ``lat`` are degrees, or x and y where ``crs`` is projected.
    """

    lon: float
    lat: float
    buffer_m: float
    crs: str = WGS84

    def __post_init__(self) -> None:
        for name in ("lon", "lat", "buffer_m"):
            object.__setattr__(self, name, check_number("PointBuffer", name, getattr(self, name)))
        object.__setattr__(self, "crs", _crs("PointBuffer", self.crs))
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless the point lies on Earth and the buffer is positive."""
        if self.crs == WGS84:
            _lonlat("PointBuffer", ("lon", "lat"), self.lon, self.lat)
        if self.buffer_m <= 0:
            raise SpecError(f"PointBuffer.buffer_m={self.buffer_m} must be above 0 metres")


def _freeze(value: Any) -> Any:
    return tuple(_freeze(v) for v in value) if isinstance(value, list | tuple) else float(value)


def _interface(geometry: Any) -> Mapping[str, Any]:
    """Return the GeoJSON geometry of a mapping, a Feature or anything with ``__geo_interface__``."""
    found = geometry if isinstance(geometry, Mapping) else getattr(geometry, "__geo_interface__", None)
    if not isinstance(found, Mapping) or "type" not in found:
        raise SpecError(f"Polygon.geometry must be a shapely geometry or GeoJSON, got {type(geometry).__name__}")
    if found["type"] == "FeatureCollection":
        features = found.get("features") or []
        if len(features) != 1:
            raise SpecError(f"a FeatureCollection as one region must hold one feature, got {len(features)}")
        found = features[0]
    if found["type"] == "Feature":
        found = found.get("geometry") or {"type": "an empty Feature"}
    return found


@dataclass(frozen=True)
class Polygon:
    """A polygon or multipolygon: anything shapely or GeoJSON, in degrees unless ``crs`` says otherwise.

    ``geometry`` is kept as nested tuples of MultiPolygon coordinates, so that equal polygons are equal and hashable.
    """

    geometry: Any
    crs: str = WGS84

    def __post_init__(self) -> None:
        object.__setattr__(self, "crs", _crs("Polygon", self.crs))
        if isinstance(self.geometry, tuple):
            found: Mapping[str, Any] = {"type": "MultiPolygon", "coordinates": self.geometry}
        else:
            found = _interface(self.geometry)
        if found["type"] not in ("Polygon", "MultiPolygon"):
            raise SpecError(
                f"Polygon.geometry is {found['type']}; give a Polygon or MultiPolygon (for a point: PointBuffer)"
            )
        try:
            coordinates = _freeze(found["coordinates"])
        except (TypeError, ValueError, KeyError) as error:
            raise SpecError(f"Polygon.geometry has coordinates that are not numbers: {error}") from error
        if found["type"] == "Polygon":
            coordinates = (coordinates,)
        flat = tuple(tuple(tuple(point[:2] for point in ring) for ring in part) for part in coordinates)
        object.__setattr__(self, "geometry", flat)
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless the polygon is valid, has an area and, in degrees, lies on Earth."""
        from shapely import is_valid_reason

        for part in self.geometry:
            for ring in part:
                for point in ring:
                    if len(point) != 2 or not all(math.isfinite(v) for v in point):
                        raise SpecError(f"Polygon.geometry has a vertex {point} that is not two finite numbers")
                    if self.crs == WGS84:
                        _lonlat("Polygon", ("lon", "lat"), *point)
        try:
            shape = self.shape
        except (ValueError, IndexError) as error:
            raise SpecError(f"Polygon.geometry is not a polygon: {error}") from error
        if not shape.is_valid:
            raise SpecError(f"Polygon.geometry is invalid ({is_valid_reason(shape)}); mend it with shapely.make_valid")
        if shape.is_empty or shape.area <= 0:
            raise SpecError("Polygon.geometry is empty or has no area")

    @property
    def shape(self) -> Any:
        """The shapely MultiPolygon."""
        from shapely.geometry import MultiPolygon

        return MultiPolygon([(part[0], part[1:]) for part in self.geometry])


SpatialSpec = BBox | PointBuffer | Polygon


def norm_spatial(spatial: Any) -> SpatialSpec:
    """Return any accepted region (spec, shapely geometry, GeoJSON) as a spec."""
    if isinstance(spatial, BBox | PointBuffer | Polygon):
        return spatial
    if isinstance(spatial, Mapping) or hasattr(spatial, "__geo_interface__"):
        return Polygon(spatial)
    raise SpecError(
        f"spatial={spatial!r} is not a region; give BBox, PointBuffer, Polygon, a shapely geometry or GeoJSON"
    )
