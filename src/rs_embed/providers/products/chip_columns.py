"""Which columns of a table of embeddings mean what, and what their values are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from rs_embed.core.errors import ProviderError
from rs_embed.providers.products.parquet import ParquetTable

__all__ = ["Columns", "Named", "date_of_all", "dates_of", "facts_of", "find_columns", "shapes_of"]

_VECTORS = ("embedding", "embeddings", "vector")
_GEOMETRIES = ("geometry", "geom", "wkb_geometry")
_CENTRES = (
    ("centre_lon", "centre_lat"),
    ("center_lon", "center_lat"),
    ("centroid_lon", "centroid_lat"),
    ("longitude", "latitude"),
    ("lon", "lat"),
)
_DATES = ("timestamp", "datetime", "date", "start_datetime", "start_date", "time", "year")
_IDS = ("unique_id", "id", "chip_id")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FRAGMENT_M = 3000.0
"""Of Major TOM's tables: a fragment of at most 384 pixels of 10 m lies within this of ``centre_lon, centre_lat``, the
centroid of its corners (MajorTOM_Embedder.py of https://github.com/ESA-PhiLab/Major-TOM)."""


@dataclass(frozen=True)
class Named:
    """Columns by the names that the user gives; ``None``: found by what such tables call them."""

    vector: str | None = None
    date: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are read."""

    vector: str
    geometry: str | None
    """WKB or WKT; ``None``: the centres are all that is known."""
    centre: tuple[str, str] | None
    """Longitude and latitude of a chip's middle."""
    date: str | None
    id: str | None
    bbox: tuple[str, str, str, str] | None
    """Stored columns of west, south, east and north of each geometry, by GeoParquet's ``covering``."""
    crs: str | None
    """Of the geometry as WKT where it is not in degrees of WGS84."""
    reach: float | None
    """Metres from the centre within which the geometry lies; ``None``: unknown."""

    def own(self) -> set[str]:
        """Return the columns that are no facts of a chip besides its vector, place, date and name."""
        found = {self.vector, self.geometry, self.date, self.id, *(path.split(".")[0] for path in self.bbox or ())}
        return {name for name in found if name is not None}


def find_columns(table: ParquetTable, named: Named) -> Columns:
    """Return which columns of a table mean what.

    Raises
    ------
    ProviderError
        If there are no vectors or no places; the message lists the columns.
    """
    import pyarrow.types as types

    def lists(name: str) -> bool:
        kind = table.schema.field(name).type
        kind = getattr(kind, "storage_type", kind)
        return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))

    vector = _one_of(table, "vector", named.vector, _VECTORS)
    listed = ", ".join(table.columns)
    if vector is None:
        raise ProviderError(
            f"{table.name} has no column {' or '.join(map(repr, _VECTORS[:2]))}, but {listed}: name the one that holds "
            "the vectors (vector=...)"
        )
    if not lists(vector):
        kind = table.schema.field(vector).type
        raise ProviderError(f"{table.name}: the column {vector!r} is of type {kind}, and vectors are lists of numbers")
    geo = _geo(table)
    geometry = _geometry(table, geo)
    centre = next((pair for pair in _CENTRES if set(pair) <= set(table.columns)), None)
    if geometry is None and centre is None:
        raise ProviderError(
            f"{table.name} does not say where its chips lie: it has neither a column of geometries nor centre_lon and "
            f"centre_lat, but {listed}"
        )
    about = {} if geometry is None else geo.get("columns", {}).get(geometry, {})
    crs = _crs(table.name, about.get("crs"))
    fragments = {"grid_cell", "pixel_bbox"} <= set(table.columns)
    reach = 0.0 if geometry is None else _FRAGMENT_M if fragments else None
    return Columns(
        vector,
        geometry,
        centre if crs is None else None,
        _one_of(table, "date", named.date, _DATES),
        _one_of(table, "id", named.id, _IDS),
        _covering(about) if crs is None else None,
        crs,
        reach,
    )


def _one_of(table: ParquetTable, word: str, named: str | None, usual: Sequence[str]) -> str | None:
    """Return the column that the user names, or the first of the usual names."""
    if named is not None and named not in table.columns:
        raise ProviderError(f"{table.name} has no column {word}={named!r}, but {', '.join(table.columns)}")
    return named or next((name for name in usual if name in table.columns), None)


def _geo(table: ParquetTable) -> dict[str, Any]:
    """Return GeoParquet's footer (https://geoparquet.org/releases/v1.1.0/); nothing where there is none."""
    found = _json(table.texts.get("geo"))
    return found if isinstance(found, dict) and isinstance(found.get("columns"), dict) else {}


def _geometry(table: ParquetTable, geo: Mapping[str, Any]) -> str | None:
    """Return the column of geometries."""
    name = geo.get("primary_column")
    if name is None or name not in table.columns:
        return next((each for each in _GEOMETRIES if each in table.columns), None)
    encoding = geo["columns"].get(name, {}).get("encoding", "WKB")
    if encoding != "WKB":
        raise ProviderError(
            f"{table.name}: its geometries are encoded as {encoding!r}, which is not read; write them as WKB, as "
            "GeoDataFrame.to_parquet does"
        )
    return str(name)


def _covering(about: Mapping[str, Any]) -> tuple[str, str, str, str] | None:
    """Return the stored columns of the bounds of geometries."""
    told = (about.get("covering") or {}).get("bbox") or {}
    paths = [".".join(told[side]) for side in _SIDES if isinstance(told.get(side), list)]
    return None if len(paths) < 4 else (paths[0], paths[1], paths[2], paths[3])


def _crs(name: str, said: Any) -> str | None:
    """Return a CRS that is not that of longitudes and latitudes of WGS84."""
    if said is None:
        return None
    try:
        crs = CRS.from_user_input(said)
    except CRSError as error:
        told = said.get("name", "?") if isinstance(said, dict) else said
        raise ProviderError(f"{name}: PROJ does not know the CRS {told!r} that its footer names") from error
    datum = crs.datum.name if crs.datum is not None else ""
    return None if crs.is_geographic and datum.startswith("World Geodetic System 1984") else crs.to_wkt()


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


def facts_of(table: ParquetTable) -> dict[str, Any]:
    """Return what the footer says of all rows: our own, and the community's ``geoemb`` and ``emb``."""
    own = _json(table.texts.get("rs_embed"))
    found: dict[str, Any] = {}
    if isinstance(own, dict):
        found = {name: own[name] for name in ("model", "variant", "license", "citation", "attribution") if name in own}
        if isinstance(own.get("space"), str):
            found["space"] = own["space"].rpartition("/")[0]
    for key in ("geoemb", "emb"):
        if key in table.texts:
            told = _json(table.texts[key])
            found[key] = table.texts[key] if told is None else told
    emb = found.get("emb")
    if isinstance(emb, dict):
        model = emb.get("model")
        known = {"model": model.get("id") if isinstance(model, dict) else model, "license": emb.get("license")}
        found = {name: value for name, value in known.items() if isinstance(value, str)} | found
    return found


def date_of_all(facts: Mapping[str, Any], name: str) -> np.datetime64:
    """Return the date that a footer tells of all rows (Earth Index: the start of the span); NaT where it does not."""
    emb = facts.get("emb")
    said = None if not isinstance(emb, Mapping) else emb.get("start_datetime") or emb.get("datetime")
    if said is None:
        return np.datetime64("NaT", "s")
    try:
        return _moment(said)
    except ValueError as error:
        raise ProviderError(f"{name}: its footer tells {said!r} for a date, which is none") from error


def shapes_of(column: Any, name: str, crs: str | None) -> NDArray[Any]:
    """Return geometries in degrees; ``None`` where a row has none.

    Raises
    ------
    ProviderError
        If they are neither WKB nor WKT, or their numbers are no degrees.
    """
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    first = next((value for value in values if value is not None), b"")
    try:
        shapes = np.asarray(shapely.from_wkt(values) if isinstance(first, str) else shapely.from_wkb(values), object)
    except (shapely.GEOSException, TypeError) as error:
        raise ProviderError(f"{name}: its geometries are neither WKB nor WKT ({error}); write them as WKB") from error
    if crs is not None:
        move = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform
        shapes = shapely.transform(shapes, lambda p: np.column_stack(move(p[:, 0], p[:, 1])))
    sides = np.asarray(shapely.bounds(shapes)).reshape(-1, 4)
    if (np.abs(sides[:, ::2]) > 360.001).any() or (np.abs(sides[:, 1::2]) > 90.001).any():
        raise ProviderError(
            f"{name}: its geometries are no longitudes and latitudes, and its footer names no CRS; write it as "
            "GeoParquet, as GeoDataFrame.to_parquet does"
        )
    return np.asarray(shapes, object)


def dates_of(column: Any, name: str) -> NDArray[np.datetime64]:
    """Return moments ``datetime64[s]`` in UTC of timestamps, dates, ISO texts or years; NaT where a row has none.

    Raises
    ------
    ProviderError
        If a value is none of these.
    """
    import pyarrow
    import pyarrow.types as types

    if types.is_temporal(column.type) and not types.is_time(column.type):
        zone = getattr(column.type, "tz", None)
        return np.asarray(column.cast(pyarrow.timestamp("s", zone), safe=False).to_numpy(), "datetime64[s]")
    known: dict[Any, np.datetime64] = {None: np.datetime64("NaT", "s")}
    values = column.to_pylist()
    for value in set(values) - set(known):
        try:
            known[value] = _moment(value)
        except ValueError as error:
            raise ProviderError(
                f"{name}: {value!r} is no date; name the column of dates (date=...), which may hold timestamps, dates, "
                "ISO texts or years"
            ) from error
    return np.array([known[value] for value in values], "datetime64[s]")


def _moment(value: Any) -> np.datetime64:
    """Return the moment of a year or an ISO text."""
    if isinstance(value, int) and not isinstance(value, bool) and 1900 <= value <= 2200:
        return np.datetime64(f"{value}-01-01", "s")
    if not isinstance(value, str):
        raise ValueError(value)
    text = value.strip().removesuffix(" UTC")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return np.datetime64(text, "s")  # a year or a month
    return np.datetime64(found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None), "s")
