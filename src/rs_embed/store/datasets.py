"""Vectors of many regions as one table in memory: xarray's Dataset, geopandas' GeoDataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import MissingExtraError, SpecError
from rs_embed.core.georeference import flat_attributes, json_meta
from rs_embed.store.rows import Columns, check_same_space, label_columns, row_of

if TYPE_CHECKING:
    import geopandas
    import xarray

__all__ = ["shared_attributes", "to_geodataframe", "to_xarray"]


def _vectors(embeddings: Iterable[Embedding] | Embedding, owner: str) -> list[Embedding]:
    """Return the embeddings of a table as a list, once they are known to belong into one."""
    found = [embeddings] if isinstance(embeddings, Embedding) else list(embeddings)
    if not found:
        raise SpecError(f"{owner} needs at least one embedding")
    first = next((e for e in found if e.ok), found[0])
    for each in found:
        check_same_space(first, each, owner)
    return found


def shared_attributes(embeddings: Sequence[Embedding]) -> dict[str, str]:
    """Return the flat attributes of a table: what differs between rows stands together, one a line."""
    found: dict[str, list[str]] = {}
    for each in embeddings:
        for name, text in flat_attributes(each.meta).items():
            if text not in found.setdefault(name, []):
                found[name].append(text)
    return {name: "\n".join(texts) for name, texts in found.items()}


def to_xarray(embeddings: Iterable[Embedding] | Embedding) -> xarray.Dataset:
    """Return vectors as a Dataset ``embedding(region, d)``.

    Parameters
    ----------
    embeddings
        Vectors of one model and one length; failed ones are rows of NaN.

    Returns
    -------
    xarray.Dataset
        With the coordinates ``id`` (text), ``lon`` and ``lat`` (centre, degrees), ``start`` and ``end`` (end excluded)
        along ``region``, NaN, NaT or empty where a region has none; licence, citation and attribution as attributes.

    Raises
    ------
    SpecError
        If there are none, or lengths or models differ, or one is a grid.
    """
    import xarray

    found = _vectors(embeddings, "to_xarray")
    centres = np.array([e.meta.get("center") or (np.nan, np.nan) for e in found], np.float64)
    times = [e.meta.get("temporal") or {} for e in found]
    spans = {name: np.array([t.get(name) or "NaT" for t in times], "datetime64[s]") for name in ("start", "end")}
    ids = np.array(["" if e.id is None else str(e.id) for e in found], object)
    coords: dict[str, Any] = {
        "id": ("region", ids, {"cf_role": "timeseries_id"}),
        "lon": ("region", centres[:, 0], {"units": "degrees_east", "standard_name": "longitude"}),
        "lat": ("region", centres[:, 1], {"units": "degrees_north", "standard_name": "latitude"}),
        "start": ("region", spans["start"], {"long_name": "start of the span of time"}),
        "end": ("region", spans["end"], {"long_name": "end of the span of time, excluded"}),
        "d": ("d", np.arange(found[0].dim), {"long_name": "embedding dimension"}),
    }
    values = np.stack([e.values() for e in found])
    data = {"embedding": (("region", "d"), values, {"long_name": "embedding"})}
    return xarray.Dataset(data, coords, attrs=shared_attributes(found))


def to_geodataframe(embeddings: Iterable[Embedding] | Embedding) -> geopandas.GeoDataFrame:
    """Return vectors as a GeoDataFrame in EPSG:4326, its index the ids.

    Parameters
    ----------
    embeddings
        Vectors of one model and one length; failed ones have NaN as numbers and say why in the column ``error``.

    Returns
    -------
    geopandas.GeoDataFrame
        The label columns, ``start_datetime`` and ``end_datetime``, ``error``, ``embedding`` (a float32 array a row:
        ``np.stack(frame["embedding"])`` is ``(N, D)``), ``meta`` (JSON) and ``geometry`` (the region).

    Raises
    ------
    MissingExtraError
        If geopandas is not installed.
    """
    try:
        import geopandas
        import pandas
    except ImportError as error:
        raise MissingExtraError('to_geodataframe needs geopandas: pip install "rs-embed[geopandas]"') from error
    import shapely

    found = _vectors(embeddings, "to_geodataframe")
    kinds = Columns()
    rows = [row_of(e) for e in found]
    for row in rows:
        kinds.see(row.labels)
    columns: dict[str, Any] = {}
    for name, column in label_columns(kinds, rows).items():
        columns[name] = pandas.array(column.values, dtype=column.pandas)
    columns["start_datetime"] = pandas.to_datetime([row.start for row in rows], utc=True)
    columns["end_datetime"] = pandas.to_datetime([row.end for row in rows], utc=True)
    columns["error"] = [row.error for row in rows]
    columns["embedding"] = [e.values() for e in found]
    columns["meta"] = [json_meta(e.meta) for e in found]
    shapes = [None if row.wkb is None else shapely.from_wkb(row.wkb) for row in rows]
    index = pandas.Index([e.id for e in found], name="id")
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:4326", index=index)
