"""NetCDF of a grid, or of a table of vectors, by the CF conventions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import MissingExtraError, SpecError, StoreError
from rs_embed.store.atomic import atomic
from rs_embed.store.convention import GEOEMB, convention_of
from rs_embed.store.datasets import shared_attributes, to_xarray
from rs_embed.store.records import describe, foreign, restore

if TYPE_CHECKING:
    import xarray

__all__ = ["check_netcdf", "read_netcdf", "write_netcdf"]

_CF = "CF-1.11"
_ENGINE: Any = "h5netcdf"


def check_netcdf(path: Path) -> None:
    """Raise `MissingExtraError` where nothing is installed that writes netCDF-4."""
    if not all(find_spec(name) for name in ("h5netcdf", "h5py")):
        raise MissingExtraError(f'{path.name}: netCDF needs h5netcdf and h5py: pip install "rs-embed[netcdf]"')


def write_netcdf(embeddings: Sequence[Embedding], path: Path, *, many: bool) -> None:
    """Write one grid ``embedding(d, y, x)``, or vectors as ``embedding(region, d)``, as netCDF-4, compressed.

    The attribute ``rs_embed_meta`` of a grid, the variable ``meta`` of a table hold the JSON of all metadata.

    Raises
    ------
    SpecError
        If there are several grids, or vectors of different models or lengths.
    MissingExtraError
        If h5netcdf is not installed.
    """
    check_netcdf(path)
    if len(embeddings[0].shape) == 3:
        if len(embeddings) != 1:
            raise SpecError(
                f"{path.name} holds one grid, and there are {len(embeddings)}; write a .npz, or one file each"
            )
        found = _grid_dataset(embeddings[0])
        chunks = (1, *(min(n, 512) for n in embeddings[0].shape[1:]))
    else:
        found = to_xarray(embeddings)
        found = found.assign(meta=("region", np.array([json.dumps(e.meta) for e in embeddings], object)))
        chunks = (min(len(embeddings), 4096), embeddings[0].dim)
    found.attrs |= {"Conventions": _CF, "rs_embed_many": int(many)}
    packing = {"embedding": {"zlib": True, "complevel": 4, "shuffle": True, "chunksizes": chunks}}
    found = _without_nul(found)
    # By way of memory: HDF5 brings the whole process down where a disk is full.
    content = found.to_netcdf(engine=_ENGINE, encoding=packing)
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def _without_nul(dataset: xarray.Dataset) -> xarray.Dataset:
    """Return it with a visible sign for NUL, which HDF5 has not in strings; the JSON of metadata escapes it."""

    def signed(value: Any) -> Any:
        return value.replace("\0", "\N{SYMBOL FOR NULL}") if isinstance(value, str) else value

    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "OU" and any(
            "\0" in value for value in variable.values.flat if isinstance(value, str)
        ):
            told = np.array([signed(value) for value in variable.values.flat], object).reshape(variable.shape)
            dataset = (dataset.assign_coords if name in dataset.coords else dataset.assign)(
                {name: (variable.dims, told, variable.attrs)}
            )
    return dataset.assign_attrs({name: signed(value) for name, value in dataset.attrs.items()})


def _grid_dataset(embedding: Embedding) -> xarray.Dataset:
    record = describe(embedding)
    array = embedding.to_xarray()
    rest = json.dumps({k: v for k, v in record.items() if k != "meta"})
    attrs = shared_attributes([embedding]) | {
        GEOEMB: convention_of(embedding.meta, embedding.dim, grid=True),
        "rs_embed_meta": json.dumps(embedding.meta),
        "rs_embed_file": rest,
    }
    own = {k: v for k, v in array.attrs.items() if k == "grid_mapping"} | {"long_name": "embedding"}
    found = array.assign_attrs().rename("embedding")
    found.attrs = own
    dataset = found.to_dataset()
    dataset.attrs = attrs
    # CF lists a grid mapping as a variable, not among the coordinates.
    return dataset.reset_coords("spatial_ref") if "spatial_ref" in dataset.coords else dataset


def read_netcdf(path: Path) -> tuple[list[Embedding], bool]:
    """Return what `write_netcdf` wrote."""
    import xarray

    check_netcdf(path)
    try:
        with xarray.open_dataset(path, engine=_ENGINE, decode_times=False) as file:
            found = file.load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise StoreError(f"{path.name} is damaged or no netCDF-4: {error}") from error
    if "embedding" not in found or "rs_embed_many" not in found.attrs:
        raise foreign(path, "variable 'embedding' and attribute rs_embed_many", "xarray.open_dataset")
    values, many = found["embedding"].values, bool(found.attrs["rs_embed_many"])
    if values.ndim == 3:
        record = json.loads(found.attrs["rs_embed_file"]) | {"meta": json.loads(found.attrs["rs_embed_meta"])}
        return [restore(values, record)], many
    metas = [json.loads(text) for text in found["meta"].values]
    return [restore(row, {"meta": meta}) for row, meta in zip(values, metas, strict=True)], many
