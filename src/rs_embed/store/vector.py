"""Regions in everything else that GDAL reads: shapefiles, FlatGeobuf, KML and others, with the extra ``[vector]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rs_embed.core.errors import MissingExtraError, SpecError
from rs_embed.core.region_columns import Table, geometry_of_text
from rs_embed.store.geopackage import choose_layer

__all__ = ["read_vector"]


def read_vector(source: Path | bytes, owner: str, layer: str | None) -> Table:
    """Return the features of one layer.

    Raises
    ------
    MissingExtraError
        If pyogrio is not installed.
    SpecError
        If GDAL cannot read it, or the layer cannot be told.
    """
    try:
        import pyogrio
        from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
    except ImportError as error:
        raise MissingExtraError(f'{owner} needs pyogrio: pip install "rs-embed[vector]"') from error
    broken = (DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError)
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(source)]
        chosen = choose_layer(layers, layer, owner)
        meta, _, blobs, fields = pyogrio.raw.read(source, layer=chosen, force_2d=True)
    except broken as error:
        raise SpecError(f"{owner} cannot be read ({' '.join(str(error).split())[:120]})") from error
    if blobs is None:
        raise SpecError(f"{owner}: layer {chosen!r} has no geometries; is it a table?")
    names: list[Any] = list(meta["fields"])
    columns = {str(name): list(values) for name, values in zip(names, fields, strict=True)}
    return Table(owner, columns, [geometry_of_text(blob) for blob in blobs], meta["crs"], noun="feature")
