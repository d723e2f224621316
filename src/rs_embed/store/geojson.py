"""Regions in GeoJSON: a FeatureCollection, a Feature, a geometry, a list of them, or one a line; and rows of JSON."""

from __future__ import annotations

import json
from typing import Any

from rs_embed.core.errors import SpecError
from rs_embed.core.region_columns import Table
from rs_embed.core.region_sources import table_of_features

__all__ = ["read_geojson"]

GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")


def read_geojson(text: str, owner: str) -> Table:
    """Return the features of GeoJSON text, as one document or one feature a line (RFC 8142, newline-delimited).

    Objects without a ``type`` are rows of a table, such as ``{"id": "a", "lon": 11.4, "lat": 47.2}``.

    Raises
    ------
    SpecError
        If it is not JSON, or JSON of another kind.
    """
    if not text.strip():
        raise SpecError(f"{owner} is empty: it holds no region")
    try:
        content = json.loads(text)
    except ValueError as error:
        content = _lines(text, owner, error)
    if _are_rows(content):
        return _rows(content if isinstance(content, list) else [content], owner)
    if isinstance(content, dict):
        _check(content, owner, (*GEOMETRIES, "Feature", "FeatureCollection"))
        return table_of_features(content, owner)
    if not isinstance(content, list):
        raise SpecError(f"{owner} is JSON, but not GeoJSON: a {type(content).__name__}")
    for each in content:
        _check(each, owner, (*GEOMETRIES, "Feature"))
    return table_of_features({"type": "FeatureCollection", "features": [_feature(each) for each in content]}, owner)


def _are_rows(content: Any) -> bool:
    """Whether JSON is an object, or a list of objects, of which none says that it is GeoJSON."""
    rows = content if isinstance(content, list) else [content]
    return bool(rows) and all(isinstance(row, dict) and "type" not in row for row in rows)


def _rows(rows: list[dict[str, Any]], owner: str) -> Table:
    """Return rows as columns; geometries in them are GeoJSON."""
    if any(isinstance(row.get("geometry"), dict) for row in rows):
        features = [
            {
                "type": "Feature",
                "id": row.get("id"),
                "geometry": row.get("geometry"),
                "properties": {name: value for name, value in row.items() if name not in ("id", "geometry")},
            }
            for row in rows
        ]
        return table_of_features({"type": "FeatureCollection", "features": features}, owner)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table(owner, {name: [row.get(name) for row in rows] for name in names})


def _feature(content: dict[str, Any]) -> dict[str, Any]:
    return content if content["type"] == "Feature" else {"type": "Feature", "geometry": content}


def _lines(text: str, owner: str, whole: ValueError) -> list[Any]:
    """Return one JSON value a line; the error of the whole document where even the first line is none."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip("\x1e \t\r")
        if not line:
            continue
        try:
            found.append(json.loads(line))
        except ValueError as error:
            said = f"line {number} is not JSON ({error})" if found else f"is not JSON ({whole})"
            raise SpecError(f"{owner}: {said}") from error
    return found


def _check(content: Any, owner: str, accepted: tuple[str, ...]) -> None:
    kind = content.get("type") if isinstance(content, dict) else type(content).__name__
    if kind not in accepted:
        raise SpecError(f"{owner} is JSON, but not GeoJSON: its type is {kind!r}; accepted: {', '.join(accepted)}")
