"""What stands beside an array in a file, so that the embedding comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import SpecError, StoreError
from rs_embed.core.georeference import geobox_from_dict, grid_array, json_meta
from rs_embed.core.imagery import geobox_dict

__all__ = ["SCHEMA", "describe", "foreign", "pack", "restore", "unpack"]

SCHEMA = "rs-embed/1"
_NAMES = ("d", "y", "x")

Singles = NDArray[np.float32]


def describe(embedding: Embedding) -> dict[str, Any]:
    """Return metadata and coordinates of one embedding as JSON types."""
    if len(embedding.shape) not in (1, 3):
        raise SpecError(f"an embedding is a vector (D,) or a grid (D, H, W), got shape {embedding.shape}")
    json_meta(embedding.meta)
    found: dict[str, Any] = {"meta": embedding.meta}
    if isinstance(embedding.data, np.ndarray) or len(embedding.shape) == 1:
        return found
    if tuple(embedding.data.dims) != _NAMES:
        raise SpecError(f"a grid has dimensions ('d', 'y', 'x'), this one has {tuple(map(str, embedding.data.dims))}")
    geobox = embedding.geobox
    plain = _grid(embedding.values()[:, :, :], geobox_dict(geobox), embedding.meta)
    mine = {name: embedding.data.coords[name].values for name in _NAMES if name in embedding.data.coords}
    odd = {
        name: values.tolist()
        for name, values in mine.items()
        if name not in plain.coords or not np.array_equal(plain.coords[name].values, values)
    }
    return found | {"grid": {"geobox": geobox_dict(geobox), "coords": odd}}


def _grid(values: Singles, geobox: Mapping[str, Any] | None, meta: Mapping[str, Any]) -> Any:
    import xarray

    if geobox is not None:
        return grid_array(values, geobox_from_dict(geobox), meta)
    return xarray.DataArray(values, dims=_NAMES, name="embedding", attrs={"rs_embed_meta": json_meta(meta)})


def restore(values: Singles, record: Mapping[str, Any]) -> Embedding:
    """Return the embedding of an array and what `describe` said of it."""
    meta, grid = dict(record["meta"]), record.get("grid")
    values = np.ascontiguousarray(values, np.float32)
    if grid is None:
        return Embedding(values, meta)
    data = _grid(values, grid["geobox"], meta)
    for name, numbers in grid["coords"].items():
        attrs = data.coords[name].attrs if name in data.coords else {}
        data = data.assign_coords({name: (name, numbers, attrs)})
    return Embedding(data, meta)


def pack(embeddings: Sequence[Embedding], *, many: bool) -> str:
    """Return the records of a file as JSON; ``many``: whether `load` gives a list."""
    return json.dumps({"schema": SCHEMA, "many": many, "records": [describe(e) for e in embeddings]}, allow_nan=False)


def unpack(text: str | bytes, path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Return the records of a file, and whether it holds a list.

    Raises
    ------
    StoreError
        If the text is none that `pack` wrote.
    """
    try:
        found = json.loads(text)
        return list(found["records"]), bool(found["many"])
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path.name}: its metadata are none that rs-embed wrote ({error})") from error


def foreign(path: Path, missing: str, reader: str) -> StoreError:
    """Return the error of a file that is sound but not ours."""
    return StoreError(f"{path.name} was not written by rs-embed: it has no {missing}; open it with {reader}")
