"""`read_regions`: many regions with names, dates and labels from files, streams and frames."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rs_embed.core.errors import SpecError
from rs_embed.core.region_columns import Asked, Table
from rs_embed.core.region_rows import make_regions
from rs_embed.core.region_sources import table_of_features, table_of_frame
from rs_embed.core.region_table import Regions, is_frame
from rs_embed.store.delimited import decode, read_delimited
from rs_embed.store.geojson import read_geojson
from rs_embed.store.geopackage import read_geopackage
from rs_embed.store.geoparquet import read_geoparquet
from rs_embed.store.vector import read_vector

__all__ = ["SUFFIXES", "read_regions"]

_CSV, _GEOJSON, _GEOPACKAGE, _PARQUET, _VECTOR = "delimited text", "GeoJSON", "GeoPackage", "Parquet", "vector data"
SUFFIXES = {
    _CSV: (".csv", ".tsv", ".txt"),
    _GEOJSON: (".geojson", ".json", ".geojsonl", ".geojsons", ".jsonl", ".ndjson"),
    _GEOPACKAGE: (".gpkg",),
    _PARQUET: (".parquet", ".geoparquet", ".pq"),
    _VECTOR: (".zip", ".shp", ".fgb", ".gdb", ".gml", ".gpx", ".kml", ".kmz", ".tab"),
}
"""Suffixes by format; the last needs the extra ``[vector]``."""
_LAYERED = (_GEOPACKAGE, _VECTOR)


def read_regions(
    path_or_frame: Any,
    *,
    layer: str | None = None,
    id: str | None = None,
    lon: str | None = None,
    lat: str | None = None,
    buffer_m: float | None = None,
    time: str | None = None,
    crs: Any = None,
) -> Regions:
    """Read regions with their names, dates and labels.

    Every column that is not id, place or time becomes a label: it travels in ``meta["labels"]`` and into tables.

    Parameters
    ----------
    path_or_frame
        A file of delimited text (CSV; ``,`` ``;`` tab or ``|``), GeoJSON (also one feature a line), GeoPackage,
        GeoParquet, or, with the extra ``[vector]``, a zipped shapefile, FlatGeobuf, KML, …; ``"-"`` or an open file
        (read to its end, its format told by its content); a pandas DataFrame, a GeoDataFrame, or GeoJSON as a dict.
    layer
        Which layer of a file with several.
    id
        Column of the names; without it a column called ``id``, else the format's own (the feature's ``id``, the primary
        key, the frame's index), else numbers from 0 on.
    lon, lat
        Columns of x and y. Without them the geometry is taken, or a column of WKT, WKB or GeoJSON with one of the usual
        names (``geometry``, ``geom``, ``wkt``, …), or columns called ``lon``, ``longitude``, ``lat``, ``y``, ….
    buffer_m
        Half the side of the square around each point, true ground metres; needed for points, and for them only.
    time
        Column of years, ISO dates or spans ``2022-06-01/2022-09-01`` (end excluded), read by `TemporalSpec.parse`; of a
        moment, its day (UTC) is taken. It becomes ``.temporals``.
    crs
        Coordinate reference system where the source does not say it: WKT columns, x and y; default degrees for columns.

    Returns
    -------
    Regions
        In the order of the source. Heights of 3-D geometries are dropped: a region is a place on the ground.

    Raises
    ------
    SpecError
        If the source cannot be read, is empty, lacks a column, or has faulty rows: all are told at once, before any
        embedding.
    MissingExtraError
        If the format needs the extra ``[vector]``.
    """
    asked = Asked(id, lon, lat, buffer_m, time, crs)
    if is_frame(path_or_frame) or isinstance(path_or_frame, Mapping):
        _refuse_layer(layer, "a frame" if is_frame(path_or_frame) else "GeoJSON")
        frame = is_frame(path_or_frame)
        table = table_of_frame(path_or_frame) if frame else table_of_features(path_or_frame, "the GeoJSON")
        return make_regions(table, asked)
    return make_regions(_read(path_or_frame, layer), asked)


def _refuse_layer(layer: str | None, what: str) -> None:
    if layer is not None:
        raise SpecError(f"layer={layer!r}: {what} has no layers; leave it out")


def _read(source: Any, layer: str | None) -> Table:
    """Read a file or a stream by its format."""
    owner, content = _open(source)
    kind = _kind(owner, content)
    if kind not in _LAYERED:
        _refuse_layer(layer, f"{owner} ({kind})")
    if kind in (_CSV, _GEOJSON):
        data = content.read_bytes() if isinstance(content, Path) else content
        reader: Callable[[str, str], Table] = read_delimited if kind == _CSV else read_geojson
        return reader(decode(data, owner), owner)
    if kind == _PARQUET:
        return read_geoparquet(content, owner)
    return (read_geopackage if kind == _GEOPACKAGE else read_vector)(content, owner, layer)


def _open(source: Any) -> tuple[str, Path | bytes]:
    """Return what messages call a source, and its path or, of a stream, its content."""
    if isinstance(source, str) and source == "-":
        return "standard input", sys.stdin.buffer.read()
    if hasattr(source, "read"):
        content = source.read()
        name = getattr(source, "name", None)
        owner = Path(name).name if isinstance(name, str) else "the stream"
        return owner, content.encode() if isinstance(content, str) else bytes(content)
    if not isinstance(source, str | Path):
        raise SpecError(f"read_regions({type(source).__name__}): give a path, '-', an open file or a frame")
    path = Path(source).expanduser()
    if not path.exists():
        raise SpecError(f"{path}: there is no such file")
    if path.is_dir() and path.suffix.lower() != ".gdb":
        raise SpecError(f"{path} is a folder; give a file")
    return path.name, path


def _kind(owner: str, content: Path | bytes) -> str:
    """Return the format of a file by its suffix, of a stream by its content; they must agree."""
    head = content[:512] if isinstance(content, bytes) else _head(content)
    told = _sniffed(head)
    if isinstance(content, bytes):
        return told
    suffix = content.suffix.lower()
    kind = next((kind for kind, suffixes in SUFFIXES.items() if suffix in suffixes), None)
    if kind is None:
        known = ", ".join(name for suffixes in SUFFIXES.values() for name in suffixes)
        raise SpecError(f"{owner}: suffix {suffix!r} is not known; accepted: {known}")
    if content.is_dir() or kind == _VECTOR or told == kind:
        return kind
    if not head.strip():
        raise SpecError(f"{owner} is empty: it holds no region")
    if told != kind:
        raise SpecError(f"{owner} is not {kind}, as {suffix!r} says: it looks like {told}; rename it")
    return kind


def _head(path: Path) -> bytes:
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise SpecError(f"{path.name} cannot be read ({error.strerror})") from error


def _sniffed(head: bytes) -> str:
    """Return the format that the first bytes tell."""
    if head.startswith(b"PAR1"):
        return _PARQUET
    if head.startswith(b"SQLite format 3\0"):
        return _GEOPACKAGE
    if head.startswith((b"PK\x03\x04", b"fgb\x03", b"\x00\x00\x27\x0a", b"<?xml")):
        return _VECTOR
    if head.lstrip(b"\xef\xbb\xbf\x1e \t\r\n")[:1] in (b"{", b"["):
        return _GEOJSON
    return _CSV
