"""What a user asks for: places, times, sensors and outputs, validated when they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from rs_embed.core.errors import SpecError

__all__ = [
    "BBox",
    "FetchSpec",
    "InputPrepSpec",
    "OutputSpec",
    "PointBuffer",
    "Polygon",
    "SensorSpec",
    "SpatialSpec",
    "TemporalSpec",
    "norm_spatial",
]

WGS84 = "EPSG:4326"
COMPOSITES = ("median", "mean", "mosaic")
POOLINGS = ("mean", "cells", "max", "std", "stats", "gem")
ORBITS = ("ascending", "descending")


def _number(owner: str, name: str, value: Any) -> float:
    """Return ``value`` as a finite float, or say that it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) and not hasattr(value, "__float__"):
        raise SpecError(f"{owner}.{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{owner}.{name} must be a number, got {value!r}") from error
    if not math.isfinite(number):
        raise SpecError(f"{owner}.{name} must be finite, got {value!r}")
    return number


def _choice(owner: str, name: str, value: Any, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise SpecError(f"{owner}.{name}={value!r} is not known; accepted: {', '.join(map(repr, accepted))}")


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
            object.__setattr__(self, name, _number("BBox", name, getattr(self, name)))
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
        if self.minlon == self.maxlon:
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
            object.__setattr__(self, name, _number("PointBuffer", name, getattr(self, name)))
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
        if shape.is_empty or shape.area <= 0:
            raise SpecError("Polygon.geometry is empty or has no area")
        if not shape.is_valid:
            raise SpecError(f"Polygon.geometry is invalid ({is_valid_reason(shape)}); mend it with shapely.make_valid")

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


def _moment(name: str, value: Any) -> datetime:
    """Return an ISO text, date or datetime as an aware UTC datetime."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise SpecError(f"TemporalSpec.{name}={value!r} is not an ISO date such as '2022-06-01'") from error
    if not isinstance(value, datetime):
        raise SpecError(f"TemporalSpec.{name}={value!r} is not a date; give text such as '2022-06-01'")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _text(moment: datetime) -> str:
    return moment.date().isoformat() if moment.time() == datetime.min.time() else moment.isoformat()


@dataclass(frozen=True)
class TemporalSpec:
    """A half-open span of time ``[start, end)``: use the factories `year`, `range`, `around`, `years`, `parse`."""

    mode: Literal["year", "range"]
    year: int | None = None
    start: str | None = None
    end: str | None = None

    def __post_init__(self) -> None:
        _choice("TemporalSpec", "mode", self.mode, ("year", "range"))
        if self.mode == "year":
            if isinstance(self.year, bool) or self.year is None or not str(self.year).strip().isdigit():
                raise SpecError(f"TemporalSpec.year={self.year!r} must be a whole number such as 2022")
            object.__setattr__(self, "year", int(self.year))
        else:
            for name in ("start", "end"):
                if getattr(self, name) is None:
                    raise SpecError(f"TemporalSpec.{name} is missing; TemporalSpec.range(start, end) needs both dates")
                object.__setattr__(self, name, _text(_moment(name, getattr(self, name))))
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless the span is one."""
        if self.mode == "year" and not 1 <= int(self.year or 0) <= 9998:
            raise SpecError(f"TemporalSpec.year={self.year} is not between 1 and 9998")
        start, end = self.interval
        if start >= end:
            raise SpecError(f"TemporalSpec start={self.start!r} must lie before end={self.end!r} (the end is excluded)")

    @property
    def interval(self) -> tuple[datetime, datetime]:
        """Start (included) and end (excluded), aware datetimes in UTC."""
        if self.mode == "year":
            year = int(self.year or 0)
            return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        return _moment("start", self.start), _moment("end", self.end)

    @classmethod
    def range(cls, start: Any, end: Any) -> TemporalSpec:
        """The span ``[start, end)``; dates as ISO text, ``date`` or ``datetime`` (UTC where none is given)."""
        return cls(mode="range", start=start, end=end)

    @classmethod
    def around(cls, date: Any, days: float = 15) -> TemporalSpec:
        """``days`` days before ``date`` to ``days`` days after its end (the day itself is included)."""
        half = _number("TemporalSpec", "days", days)
        if half < 0:
            raise SpecError(f"TemporalSpec.around(days={days}) must not be negative")
        moment = _moment("date", date)
        return cls.range(moment - timedelta(days=half), moment + timedelta(days=half + 1))

    @classmethod
    def years(cls, first: int, last: int) -> tuple[TemporalSpec, ...]:
        """One span a year, from ``first`` to ``last``, both included."""
        if int(first) > int(last):
            raise SpecError(f"TemporalSpec.years({first}, {last}) ends before it starts")
        return tuple(cls(mode="year", year=y) for y in range(int(first), int(last) + 1))

    @classmethod
    def parse(cls, text: str) -> TemporalSpec:
        """Read ``2022``, ``2022-06``, ``2022-06-15`` or ``2022-06-01/2022-09-01`` (end excluded)."""
        parts = str(text).strip().split("/")
        if len(parts) == 2:
            return cls.range(parts[0], parts[1])
        value = parts[0]
        if len(parts) == 1 and len(value) == 4 and value.isdigit():
            return cls(mode="year", year=int(value))
        if len(parts) == 1 and len(value) == 7:
            start = _moment("start", f"{value}-01")
            return cls.range(start, (start + timedelta(days=32)).replace(day=1))
        if len(parts) == 1 and len(value) == 10:
            start = _moment("start", value)
            return cls.range(start, start + timedelta(days=1))
        raise SpecError(f"time {text!r} is not understood; write 2022, 2022-06, 2022-06-15 or 2022-06-01/2022-09-01")


class _YearFactory:
    """``TemporalSpec.year(2022)`` makes a spec, while ``spec.year`` is the number: a descriptor without ``__set__``."""

    def __get__(self, instance: TemporalSpec | None, owner: type[TemporalSpec]) -> Any:
        if instance is not None:
            return None

        def year(year: int) -> TemporalSpec:
            """The calendar year ``year``."""
            return owner(mode="year", year=year)

        return year


TemporalSpec.year = _YearFactory()  # type: ignore[assignment]


def _bands(owner: str, bands: Any) -> tuple[str, ...]:
    if isinstance(bands, str) or not hasattr(bands, "__iter__"):
        raise SpecError(f"{owner}.bands={bands!r} must be a sequence of band names such as ('B4', 'B3', 'B2')")
    names = tuple(bands)
    if not names or any(not isinstance(b, str) or not b.strip() for b in names):
        raise SpecError(f"{owner}.bands={bands!r} must name at least one band, and no empty one")
    if len(set(names)) < len(names):
        raise SpecError(f"{owner}.bands={names} names a band twice")
    return names


def _check_fetch(owner: str, spec: Any) -> None:
    """Check the fields that `SensorSpec` and `FetchSpec` share, where they are set."""
    for name, low, high in (("scale_m", 0.0, math.inf), ("cloudy_pct", -1e-9, 100.0)):
        value = getattr(spec, name)
        if value is None:
            continue
        number = _number(owner, name, value)
        if not low < number <= high:
            limits = "above 0 metres" if name == "scale_m" else "from 0 to 100 percent"
            raise SpecError(f"{owner}.{name}={value!r} must be {limits}")
    if spec.fill_value is not None:
        _number(owner, "fill_value", spec.fill_value)
    if spec.composite is not None:
        _choice(owner, "composite", spec.composite, COMPOSITES)


@dataclass(frozen=True)
class SensorSpec:
    """What to feed an on-the-fly model."""

    collection: str
    """A collection id, e.g. ``COPERNICUS/S2_SR_HARMONIZED`` or ``sentinel-2-l2a``."""
    bands: tuple[str, ...]
    """Band names in the order in which the model is to get them."""
    scale_m: float = 10
    """Ground sample distance, metres."""
    cloudy_pct: float | None = 30
    """Scenes with more cloud cover than this percentage are left out; ``None`` or 100 keeps all."""
    fill_value: float = 0.0
    """What invalid pixels are written as by the ``inspect_*`` functions; never fed to a model."""
    composite: str = "median"
    """``median``, ``mean`` or ``mosaic`` (first clear pixel by date)."""
    modality: str | None = None
    """Which input of a model with several this replaces."""
    orbit: str | None = None
    """``ascending`` or ``descending``: radar scenes of one direction only."""
    use_float_linear: bool = True
    """Radar is composited in linear power (always true: dB are averaged wrongly)."""
    s1_require_iw: bool = True
    """Only interferometric-wide scenes of Sentinel-1."""
    s1_relax_iw_on_empty: bool = True
    """Take other modes where no interferometric-wide scene exists."""
    check_input: bool = False
    """Add a quality report of the input to ``meta``."""
    check_raise: bool = True
    """With ``check_input``: raise where the report finds an issue."""
    check_save_dir: str | None = None
    """With ``check_input``: folder for quicklooks."""

    def __post_init__(self) -> None:
        if not isinstance(self.collection, str) or not self.collection.strip():
            raise SpecError(f"SensorSpec.collection={self.collection!r} must name a collection")
        object.__setattr__(self, "bands", _bands("SensorSpec", self.bands))
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless every field can be meant."""
        _check_fetch("SensorSpec", self)
        if self.orbit is not None:
            _choice("SensorSpec", "orbit", self.orbit, ORBITS)


@dataclass(frozen=True)
class FetchSpec:
    """A light override of a model's own sensor; what is ``None`` stays as the model has it."""

    scale_m: float | None = None
    """Ground sample distance, metres."""
    cloudy_pct: float | None = None
    """Highest cloud cover of a scene, percent."""
    fill_value: float | None = None
    """What invalid pixels are written as by the ``inspect_*`` functions."""
    composite: str | None = None
    """``median``, ``mean`` or ``mosaic``."""

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless every field can be meant."""
        _check_fetch("FetchSpec", self)

    def over(self, sensor: SensorSpec) -> SensorSpec:
        """Return ``sensor`` with the fields that are set here."""
        changes = {k: v for k, v in vars(self).items() if v is not None}
        return replace(sensor, **changes)


@dataclass(frozen=True)
class OutputSpec:
    """A pooled vector of the region, or a georeferenced grid: use the factories."""

    mode: Literal["pooled", "grid"]
    pooling: str = "mean"
    grid_orientation: Literal["north_up", "native"] = "north_up"

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless every field can be meant."""
        _choice("OutputSpec", "mode", self.mode, ("pooled", "grid"))
        _choice("OutputSpec", "pooling", self.pooling, POOLINGS)
        _choice("OutputSpec", "grid_orientation", self.grid_orientation, ("north_up", "native"))

    @classmethod
    def pooled(cls, pooling: str = "mean", **unknown: Any) -> OutputSpec:
        """One vector: ``mean`` is the model's own frozen feature; ``cells max std stats gem`` pool its cells."""
        cls._refuse("pooled", unknown)
        return cls(mode="pooled", pooling=pooling)

    @classmethod
    def grid(cls, grid_orientation: Literal["north_up", "native"] = "north_up", **unknown: Any) -> OutputSpec:
        """A (D, H, W) grid with coordinates."""
        cls._refuse("grid", unknown)
        return cls(mode="grid", grid_orientation=grid_orientation)

    @staticmethod
    def _refuse(name: str, unknown: dict[str, Any]) -> None:
        if "scale_m" in unknown:
            raise SpecError("OutputSpec takes no scale_m; the input's resolution is FetchSpec(scale_m=...)")
        if unknown:
            raise SpecError(f"OutputSpec.{name}() takes no {', '.join(unknown)}")


@dataclass(frozen=True)
class InputPrepSpec:
    """How a region becomes windows of a model: use the factories `resize`, `tile`, `auto`."""

    mode: Literal["resize", "tile", "auto"] = "tile"
    """``resize`` one window; ``tile`` windows at the native resolution; ``auto`` whichever fits."""
    tile_size: int | None = None
    """Side of a tile in pixels; ``None``: the model's own window."""
    tile_stride: int | None = None
    """Step between tiles in pixels; ``None``: ``tile_size`` (no overlap)."""
    max_tiles: int = 64
    """``auto`` resizes instead above this number of tiles."""
    max_tiles_hard: int = 1024
    """More tiles than this are an error."""
    pad_edges: bool = field(default=True, repr=False)
    """Kept for code written elsewhere; tiles always grow over real imagery."""
    tile_snap_frac: float = field(default=0.0, repr=False)
    """Kept for code written elsewhere; must stay 0, since tiles are never squeezed."""

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `SpecError` unless every field can be meant."""
        _choice("InputPrepSpec", "mode", self.mode, ("resize", "tile", "auto"))
        for name in ("tile_size", "tile_stride", "max_tiles", "max_tiles_hard"):
            value = getattr(self, name)
            if value is None and name.startswith("tile"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SpecError(f"InputPrepSpec.{name}={value!r} must be a whole number above 0")
        if self.tile_stride is not None and self.tile_size is not None and self.tile_stride > self.tile_size:
            raise SpecError(f"InputPrepSpec.tile_stride={self.tile_stride} leaves gaps: above {self.tile_size=}")
        if self.tile_snap_frac != 0 or self.pad_edges is not True:
            raise SpecError("InputPrepSpec: tiles are never squeezed or padded; leave tile_snap_frac and pad_edges out")

    @classmethod
    def resize(cls) -> InputPrepSpec:
        """One window a region."""
        return cls(mode="resize")

    @classmethod
    def tile(cls, tile_size: int | None = None, tile_stride: int | None = None, **limits: Any) -> InputPrepSpec:
        """Windows of the model's size at the native resolution."""
        return cls(mode="tile", tile_size=tile_size, tile_stride=tile_stride, **limits)

    @classmethod
    def auto(cls, max_tiles: int = 64, **more: Any) -> InputPrepSpec:
        """One window while the region fits, else tiles up to ``max_tiles``, else one resized window."""
        return cls(mode="auto", max_tiles=max_tiles, **more)


def norm_input_prep(value: Any) -> InputPrepSpec:
    """Return a mode's name, a spec or ``None`` (``resize``) as a spec."""
    if value is None:
        return InputPrepSpec.resize()
    if isinstance(value, InputPrepSpec):
        return value
    if isinstance(value, str):
        return InputPrepSpec(mode=value.strip().lower())  # type: ignore[arg-type]
    raise SpecError(f"input_prep={value!r} is not known; give 'resize', 'tile', 'auto' or InputPrepSpec(...)")
