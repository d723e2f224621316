"""From the columns of a file or a frame to `Regions`: which column is what, and every faulty row told at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from rs_embed.core.errors import SpecError
from rs_embed.core.region_columns import Asked, Faults, Table, geometry_of_text, norm_crs
from rs_embed.core.region_table import RegionId, Regions, check_ids, id_of, is_absent
from rs_embed.core.regions import WGS84, PointBuffer, Polygon, SpatialSpec
from rs_embed.core.times import TemporalSpec

__all__ = ["Asked", "make_regions"]

LON_NAMES = ("lon", "lng", "long", "longitude", "decimallongitude", "x")
LAT_NAMES = ("lat", "latitude", "decimallatitude", "y")
GEOMETRY_NAMES = ("geometry", "geom", "the_geom", "wkt", "wkt_geom", "wkb", "wkb_geometry", "shape", ".geo")


def _named(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the first column that has one of the usual names."""
    lower = {column.strip().lower(): column for column in reversed(list(columns))}
    return next((lower[name] for name in names if name in lower), None)


def _shapes(table: Table, asked: Asked, faults: Faults) -> tuple[Sequence[Any], Any, tuple[str, ...]]:
    """Return the geometries, their CRS and the columns that hold them."""
    if table.geometry is not None and asked.lon is None:
        return table.geometry, table.crs, ()
    if asked.lon is None and (name := _named(table.columns, GEOMETRY_NAMES)) is not None:
        found = [geometry_of_text(value) for value in table.columns[name]]
        return found, _srid(table, found, faults), (name,)
    lon = asked.lon or _named(table.columns, LON_NAMES)
    lat = asked.lat or _named(table.columns, LAT_NAMES)
    if lon is None or lat is None:
        raise SpecError(
            f"{table.owner}: no geometry and no columns of longitude and latitude found; name them with lon= and lat=; "
            f"there are: {', '.join(table.columns) or 'none'}"
        )
    return _points(table, lon, lat, faults), table.crs if table.geometry is None else None, (lon, lat)


def _srid(table: Table, shapes: Sequence[Any], faults: Faults) -> Any:
    """Return the CRS that EWKT and EWKB name; a second one is a fault."""
    import shapely

    codes = [0 if shape is None or isinstance(shape, str) else int(shapely.get_srid(shape)) for shape in shapes]
    first = next((code for code in codes if code), 0)
    for row, code in enumerate(codes):
        if first and code not in (first, 0):
            faults.add(row, f"its SRID is {code}, that of others {first}: mixed CRS; reproject to one")
    return first or table.crs


def _points(table: Table, lon: str, lat: str, faults: Faults) -> list[Any]:
    import shapely

    found: list[Any] = []
    pairs = zip(table.column(lon, "lon"), table.column(lat, "lat"), strict=True)
    for row, pair in enumerate(pairs):
        numbers = []
        for name, value in zip((lon, lat), pair, strict=True):
            try:
                number = float("nan") if is_absent(value) or isinstance(value, bool) else float(value)
            except (TypeError, ValueError):
                number = float("nan")
            if not np.isfinite(number):
                hint = " (write a decimal point)" if "," in str(value) else ""
                said = "is empty" if is_absent(value) or value == "" else f"{value!r} is not a number{hint}"
                faults.add(row, f"{name} {said}")
            numbers.append(number)
        found.append(shapely.Point(numbers) if all(np.isfinite(numbers)) else "")
    return found


def _crs(table: Table, asked: Asked, found: Any, from_columns: bool) -> str:
    """Return the CRS of the geometries: the table's own, or what the caller says where it has none."""
    own = None if found is None else norm_crs(found, table.owner)
    said = None if asked.crs is None else norm_crs(asked.crs, table.owner)
    if own is not None and said is not None and own != said:
        raise SpecError(
            f"{table.owner} is in {own[:60]}, not in crs={asked.crs!r}; leave crs= out, or reproject it first"
        )
    if own is None and said is None and not from_columns:
        raise SpecError(f"{table.owner}: unknown CRS; say it with crs='EPSG:4326' or another")
    return own or said or WGS84


def _region(shape: Any, crs: str, buffer_m: float | None) -> SpatialSpec:
    """Return a geometry as a region, heights dropped."""
    if shape is None or shape.is_empty:
        raise SpecError("has no geometry; leave it out or give it one")
    if shape.geom_type == "MultiPoint" and len(shape.geoms) == 1:
        shape = shape.geoms[0]
    if shape.geom_type == "Point":
        if buffer_m is None:
            raise SpecError("is a point; read_regions(..., buffer_m=320) makes squares of 640 m around points")
        return PointBuffer(shape.x, shape.y, buffer_m, crs)
    if shape.geom_type not in ("Polygon", "MultiPolygon"):
        raise SpecError(f"is a {shape.geom_type}, which has no area; buffer it, or give polygons")
    return Polygon(shape, crs)


def _hint(text: str, crs: str) -> str:
    """Say what may be meant where numbers are not degrees."""
    projected = "is not a longitude" in text and "swapped" not in text and crs == WGS84
    return f"{text} (if these are metres, say crs=)" if projected else text


def _ids(table: Table, asked: Asked, faults: Faults, number: bool) -> tuple[list[RegionId] | None, str | None]:
    """Return the names of the rows and the column that holds them."""
    name = asked.id
    if name is None and (table.ids is None or table.key is not None):
        name = _named(table.columns, ("id",))
    own = name is None or (name == table.key and name not in table.columns)
    values = table.ids if own or name is None else table.column(name, "id")
    if values is None:
        count = len(next(iter(table.columns.values()), table.geometry or ()))
        return (list(range(count)) if number else None), None
    found: list[RegionId] = []
    for row, value in enumerate(values):
        try:
            found.append(id_of(value))
        except SpecError:
            faults.add(
                row, "has no id" if is_absent(value) or value == "" else f"its id {value!r} is no text or number"
            )
    return found, name


def _span(value: Any) -> TemporalSpec:
    """Return a cell of a time column as a span: a year, a day, ``start/end``; of a moment its day (UTC)."""
    if is_absent(value) or value == "":
        raise SpecError("has no date")
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, datetime):
        value = value.astimezone(UTC) if value.tzinfo is not None else value
        return TemporalSpec.parse(value.date().isoformat())
    if isinstance(value, date):
        return TemporalSpec.parse(value.isoformat())
    text = str(value).strip()
    if re.fullmatch(r"\d{4}\.0+", text):
        text = text[:4]
    if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:[^/]*", text):
        try:
            return _span(datetime.fromisoformat(text))
        except ValueError as error:
            raise SpecError(f"time {text!r} is not understood") from error
    return TemporalSpec.parse(text)


def _spans(table: Table, asked: Asked, faults: Faults) -> list[TemporalSpec] | None:
    if asked.time is None:
        return None
    found = []
    for row, value in enumerate(table.column(asked.time, "time")):
        try:
            found.append(_span(value))
        except SpecError as error:
            faults.add(row, f"column {asked.time!r}: {error}")
    return found


def make_regions(table: Table, asked: Asked, *, number: bool = True) -> Regions:
    """Return the rows of a table as `Regions`.

    Heights (3-D geometries) are dropped: a region is a place on the ground.

    Parameters
    ----------
    table
        From a reader.
    asked
        Which columns are what.
    number
        Whether rows without ids are called by their number, from 0 on.

    Raises
    ------
    SpecError
        If the table is empty, a column is missing, or rows are faulty: all are told at once.
    """
    count = len(table.geometry) if table.geometry is not None else len(next(iter(table.columns.values()), ()))
    if not count:
        raise SpecError(f"{table.owner} is empty: it holds no region")
    faults = Faults(table)
    shapes, found, used = _shapes(table, asked, faults)
    crs = _crs(table, asked, found, bool(used))
    ids, id_column = _ids(table, asked, faults, number)
    spans = _spans(table, asked, faults)
    spatials: list[SpatialSpec] = []
    for row, shape in enumerate(shapes):
        try:
            if isinstance(shape, str):
                raise SpecError(shape)
            spatials.append(_region(shape, crs, asked.buffer_m))
        except SpecError as error:
            if str(error):  # of numbers, all is told already
                faults.add(row, _hint(str(error), crs))
    faults.tell(count)
    if asked.buffer_m is not None and not any(isinstance(each, PointBuffer) for each in spatials):
        raise SpecError(
            f"{table.owner}: buffer_m={asked.buffer_m:g} is for points, and it holds polygons; leave it out"
        )
    if ids is not None:
        try:
            check_ids(ids, table.owner)
        except SpecError as error:
            raise SpecError(f"{error}; name another column with id=") from error
    labels = {n: v for n, v in table.columns.items() if n not in (*used, id_column, asked.time)}
    return Regions(tuple(spatials), _tuple(ids), _tuple(spans), labels)


def _tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)
