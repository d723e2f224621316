"""Files of embeddings: ``.npy``, ``.tif`` and ``.parquet``, each written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import SpecError

__all__ = ["SUFFIXES", "atomic", "check_target", "write_geotiff", "write_npy", "write_parquet"]

SUFFIXES = (".npy", ".tif", ".tiff", ".parquet")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Say before any work that a file cannot be written.

    Raises
    ------
    SpecError
        If the suffix is unknown, the folder is missing or read-only, or the file exists.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SpecError(f"{path.name}: suffix {path.suffix!r} is not known; accepted: {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise SpecError(f"{path}: the folder {str(path.parent)!r} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise SpecError(f"{path}: the folder {str(path.parent)!r} cannot be written to")
    if path.exists() and not overwrite:
        raise SpecError(f"{path} exists; pass --overwrite (overwrite=True) to replace it")


def write_npy(embedding: Embedding, path: Path) -> None:
    """Write the bare array ``(D,)`` or ``(D, H, W)``, float32."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, embedding.values())


def write_geotiff(embedding: Embedding, path: Path) -> None:
    """Write a grid as a tiled GeoTIFF, one band a dimension, NaN as nodata, the metadata as the tag ``rs_embed_meta``.

    Raises
    ------
    SpecError
        If the embedding is a vector.
    """
    import rasterio
    from rasterio.transform import Affine

    grid = embedding.values()
    geobox = embedding.geobox
    if grid.ndim != 3 or geobox is None:
        raise SpecError(f"{path.name}: a GeoTIFF holds a grid, this is a vector of {embedding.shape}; ask for a grid")
    count, height, width = grid.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": count,
        "height": height,
        "width": width,
        "crs": geobox["crs"],
        "transform": Affine(*geobox["transform"]),
        "nodata": float("nan"),
        "compress": "deflate",
        "predictor": 3,
        "interleave": "band",
        "bigtiff": "if_safer",
    }
    if min(height, width) >= 256:
        profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with atomic(path) as temporary, rasterio.open(temporary, "w", **profile) as file:
        for band in range(count):
            file.write(grid[band], band + 1)
            file.set_band_description(band + 1, f"d{band}")
        file.update_tags(rs_embed_meta=json.dumps(embedding.meta))


def write_parquet(embeddings: Sequence[Embedding], geometries: Sequence[Any], path: Path) -> None:
    """Write vectors as GeoParquet 1.1: id, geometry (WKB, degrees), dates, the vector as a fixed-size list.

    Parameters
    ----------
    embeddings
        Pooled vectors of one model and one length.
    geometries
        shapely geometries in degrees, one an embedding.
    path
        Where to write.

    Raises
    ------
    SpecError
        If the vectors differ in length or are grids.
    """
    import shapely
    from arro3.core import Array, DataType, Field, Table, fixed_size_list_array
    from arro3.io import write_parquet as write

    shapes = {e.shape for e in embeddings}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise SpecError(f"{path.name}: a table holds vectors of one length, got shapes {sorted(shapes)}")
    vectors = np.stack([e.values() for e in embeddings])
    size = vectors.shape[1]
    kind = DataType.list(Field("item", DataType.float32(), nullable=True), size)
    metas = [e.meta for e in embeddings]
    text = DataType.utf8()
    table = Table.from_pydict(
        {
            "id": Array([None if m.get("id") is None else str(m["id"]) for m in metas], text),
            "start": Array([(m.get("temporal") or {}).get("start") for m in metas], text),
            "end": Array([(m.get("temporal") or {}).get("end") for m in metas], text),
            "geometry": Array([shapely.to_wkb(g) for g in geometries], DataType.binary()),
            "vector": fixed_size_list_array(Array.from_numpy(vectors.ravel()), size, type=kind),
            "meta": Array([json.dumps(m) for m in metas], text),
        }
    )
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": sorted({g.geom_type for g in geometries}),
                "bbox": shapely.total_bounds(np.array(geometries, dtype=object)).tolist(),
            }
        },
    }
    shared = {k: metas[0].get(k) for k in ("schema", "model", "variant", "space", "license", "citation", "attribution")}
    with atomic(path) as temporary:
        write(
            table,
            temporary,
            compression="zstd(3)",
            key_value_metadata={"geo": json.dumps(geo), "rs_embed": json.dumps(shared)},
        )
