"""Regions in a GeoPackage, read by SQLite (OGC 12-128r19)."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rs_embed.core.errors import SpecError
from rs_embed.core.region_columns import Table, geometry_of_text

__all__ = ["choose_layer", "read_geopackage"]

_ENVELOPE = {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}
"""Bytes of the envelope by its indicator (table 6 of the standard)."""
_UNKNOWN = (-1, 0)
"""srs_id of an undefined cartesian and an undefined geographic system."""
_LOCAL = ("ENGCRS", "LOCAL_CS", "undefined")
"""How a definition begins that names no place on Earth: GDAL writes one where it knows no CRS."""


@dataclass(frozen=True)
class _Layer:
    name: str
    column: str
    srs_id: int


def choose_layer(layers: Sequence[str], layer: str | None, owner: str) -> str:
    """Return the layer that is asked for, or the only one.

    Raises
    ------
    SpecError
        If there is none, no such one, or several to choose from; it lists them.
    """
    if not layers:
        raise SpecError(f"{owner} holds no layer of features")
    listed = ", ".join(map(repr, layers))
    if layer is None and len(layers) > 1:
        raise SpecError(f"{owner} holds {len(layers)} layers: {listed}; choose one with layer=")
    if layer is not None and layer not in layers:
        raise SpecError(f"{owner} has no layer {layer!r}; there are: {listed}")
    return layers[0] if layer is None else layer


def read_geopackage(source: Path | bytes, owner: str, layer: str | None) -> Table:
    """Return the features of one layer.

    Parameters
    ----------
    source
        A file, or its content.
    owner
        What messages call it.
    layer
        Needed where there are several.

    Raises
    ------
    SpecError
        If it is no GeoPackage, or the layer cannot be told.
    """
    try:
        with closing(_connect(source)) as database:
            return _read(database, owner, layer)
    except sqlite3.Error as error:
        raise SpecError(f"{owner} cannot be read as a GeoPackage ({error})") from error


def _connect(source: Path | bytes) -> sqlite3.Connection:
    if isinstance(source, Path):
        return sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)
    database = sqlite3.connect(":memory:")
    database.deserialize(source)
    return database


def _read(database: sqlite3.Connection, owner: str, layer: str | None) -> Table:
    found = database.execute(
        "SELECT c.table_name, g.column_name, g.srs_id FROM gpkg_contents c JOIN gpkg_geometry_columns g "
        "ON c.table_name = g.table_name WHERE c.data_type = 'features' ORDER BY c.table_name"
    )
    layers = {row[0]: _Layer(*row) for row in found}
    chosen = layers[choose_layer(list(layers), layer, owner)]
    described = database.execute(f"PRAGMA table_info({_quoted(chosen.name)})").fetchall()
    kinds = {name: str(kind).upper() for _, name, kind, *_ in described}
    key = next((name for _, name, _, _, _, primary in described if primary), None)
    order = "" if key is None else f" ORDER BY {_quoted(key)}"
    names = ", ".join(map(_quoted, kinds))
    rows = database.execute(f"SELECT {names} FROM {_quoted(chosen.name)}{order}").fetchall()
    columns: dict[str, list[Any]] = {name: [row[i] for row in rows] for i, name in enumerate(kinds)}
    blobs = columns.pop(chosen.column)
    for name, kind in kinds.items():
        if kind == "BOOLEAN":
            columns[name] = [None if value is None else bool(value) for value in columns[name]]
    ids = None if key is None else columns.pop(key)
    shapes = [_shape(blob, chosen.srs_id) for blob in blobs]
    return Table(owner, columns, shapes, _crs(database, chosen), ids, "feature", ids, key)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _crs(database: sqlite3.Connection, layer: _Layer) -> Any:
    """Return the layer's CRS as PROJ reads it, ``None`` where it is undefined."""
    if layer.srs_id in _UNKNOWN:
        return None
    row = database.execute(
        "SELECT organization, organization_coordsys_id, definition FROM gpkg_spatial_ref_sys WHERE srs_id = ?",
        (layer.srs_id,),
    ).fetchone()
    if row is None or str(row[2]).startswith(_LOCAL):
        return None
    organization, code, definition = row
    return f"EPSG:{code}" if str(organization).upper() == "EPSG" else definition


def _shape(blob: Any, srs_id: int) -> Any:
    """Return the geometry of a GeoPackage blob (clause 2.1.3); text that says what is wrong otherwise."""
    if blob is None:
        return None
    if not isinstance(blob, bytes) or len(blob) < 8 or blob[:2] != b"GP":
        return "its geometry is no GeoPackage blob"
    flags = blob[3]
    envelope = _ENVELOPE.get(flags >> 1 & 7)
    if envelope is None or flags >> 5 & 1:
        return "its geometry is of an extended type that GeoPackage's standard leaves open"
    (own,) = struct.unpack("<i" if flags & 1 else ">i", blob[4:8])
    if own != srs_id:
        return f"its geometry has srs_id {own}, its layer {srs_id}: mixed CRS; reproject to one"
    return None if flags >> 4 & 1 else geometry_of_text(blob[8 + envelope :])
