"""Regions in Parquet: GeoParquet 1.0 and 1.1 with WKB, or plain columns of longitude and latitude."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rs_embed.core.errors import SpecError
from rs_embed.core.region_columns import Table, geometry_of_text

__all__ = ["read_geoparquet"]

_MAGIC = b"PAR1"


def read_geoparquet(source: Path | bytes, owner: str) -> Table:
    """Return the rows of a Parquet file; the footer's ``geo`` tells geometry and CRS (https://geoparquet.org).

    Raises
    ------
    SpecError
        If it is no Parquet, or its geometries are encoded otherwise than as WKB.
    """
    from arro3.io import read_parquet

    _check_ends(source, owner)
    try:
        table = read_parquet(str(source) if isinstance(source, Path) else io.BytesIO(source)).read_all()
    except (OSError, ValueError, RuntimeError) as error:
        raise SpecError(f"{owner} cannot be read as Parquet ({error})") from error
    columns: dict[str, Any] = {name: table[name].to_pylist() for name in table.column_names}
    footer = (table.schema.metadata or {}).get(b"geo")
    if footer is None:
        return Table(owner, columns)
    name, geo = _primary(footer, owner)
    if geo.get("encoding") != "WKB":
        raise SpecError(f"{owner}: the geometries are encoded as {geo.get('encoding')!r}; write them as WKB")
    if name not in columns:
        raise SpecError(f"{owner}: its footer names a geometry column {name!r}; there are: {', '.join(columns)}")
    covering = (geo.get("covering") or {}).get("bbox") or {}
    for path in covering.values():
        columns.pop(path[0], None)
    shapes = [geometry_of_text(value) for value in columns.pop(name)]
    return Table(owner, columns, shapes, geo.get("crs", "OGC:CRS84"))


def _check_ends(source: Path | bytes, owner: str) -> None:
    """Refuse what does not begin and end as Parquet: the reader would give up on the process."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            head, size = file.read(4), file.seek(0, io.SEEK_END)
            file.seek(max(0, size - 8))
            tail = file.read()
    else:
        head, size, tail = source[:4], len(source), source[-8:]
    footer = int.from_bytes(tail[:4], "little") if len(tail) == 8 else size
    if head != _MAGIC or tail[-4:] != _MAGIC or footer + 12 > size:
        raise SpecError(f"{owner} is not Parquet, or it is cut off")


def _primary(footer: bytes, owner: str) -> tuple[str, Mapping[str, Any]]:
    """Return the name of the main geometry column and what the footer says of it."""
    try:
        geo = json.loads(footer)
        name = geo["primary_column"]
        return name, geo["columns"][name]
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(f"{owner}: its GeoParquet footer is damaged ({error!r})") from error
