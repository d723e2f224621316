"""Tables of regions from GeoJSON and from frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rs_embed.core.errors import SpecError
from rs_embed.core.region_columns import Table
from rs_embed.core.region_table import check_ids, properties_of
from rs_embed.core.regions import WGS84

__all__ = ["table_of_features", "table_of_frame"]


def table_of_features(content: Mapping[str, Any], owner: str) -> Table:
    """Return the features of a GeoJSON FeatureCollection, Feature or geometry.

    Coordinates are degrees (RFC 7946), unless the ``crs`` member of older files says otherwise.
    """
    kind = content.get("type")
    if kind == "FeatureCollection":
        features = content.get("features")
    else:
        features = [content if kind == "Feature" else {"type": "Feature", "geometry": content}]
    if not isinstance(features, list | tuple) or not all(isinstance(f, Mapping) for f in features):
        raise SpecError(f"{owner}: its member 'features' must be a list of Features")
    properties = [properties_of(f) for f in features]
    names = list(dict.fromkeys(str(name) for each in properties for name in each))
    named = any(f.get("id") is not None for f in features)
    declared = content.get("crs") or {}
    crs = (declared.get("properties") or {}).get("name") if isinstance(declared, Mapping) else declared
    return Table(
        owner,
        {name: [each.get(name) for each in properties] for name in names},
        [_geometry(f.get("geometry")) for f in features],
        crs or WGS84,
        [f.get("id") for f in features] if named else None,
        "feature",
    )


def _geometry(geometry: Any) -> Any:
    """Return a GeoJSON geometry as shapely's; text that says what is wrong otherwise."""
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    if geometry is None:
        return None
    try:
        return shape(geometry)
    except (ShapelyError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        return f"its geometry is not GeoJSON ({type(error).__name__}: {str(error)[:80]})"


def table_of_frame(frame: Any) -> Table:
    """Return a GeoDataFrame, a GeoSeries or a DataFrame: its index are the ids.

    Raises
    ------
    SpecError
        If two columns have one name.
    """
    names = [str(name) for name in getattr(frame, "columns", ())]
    check_ids(names, "the columns of the frame")
    geometry = getattr(frame, "geometry", None) if hasattr(frame, "crs") else None
    hidden = None if geometry is None else str(geometry.name)
    if geometry is None and not names:
        raise SpecError(f"spatials={type(frame).__name__} has no geometry; give a GeoDataFrame, or read_regions(frame)")
    columns = {n: frame.iloc[:, i].tolist() for i, n in enumerate(names) if n != hidden or geometry is None}
    ids = ["/".join(map(str, n)) if isinstance(n, tuple) else n for n in frame.index.tolist()]
    shapes = None if geometry is None else geometry.tolist()
    return Table("the frame", columns, shapes, None if geometry is None else frame.crs, ids)
