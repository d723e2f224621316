"""Cloud-optimised GeoTIFFs of grids, one band a dimension."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rs_embed.core.embedding import Embedding
from rs_embed.core.errors import SpecError, StoreError
from rs_embed.core.georeference import flat_attributes
from rs_embed.core.imagery import geobox_dict
from rs_embed.store.atomic import atomic
from rs_embed.store.convention import GEOEMB, convention_of
from rs_embed.store.records import describe, foreign, restore

__all__ = ["read_geotiff", "write_geotiff"]

_TILE = 512
_DEFLATE = {
    "compress": "deflate",
    "predictor": 3,
    "interleave": "band",
    "bigtiff": "if_safer",
    "num_threads": "all_cpus",
}


@contextmanager
def _unplaced_is_fine() -> Iterator[None]:
    """Let grids of data without a georeference pass without a warning."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Yield a file beside ``path`` for the plain raster that the final one is laid out from."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _profile(embedding: Embedding) -> dict[str, Any]:
    from rasterio.transform import Affine

    geobox = geobox_dict(embedding.geobox)
    count, height, width = embedding.shape
    found: dict[str, Any] = {"driver": "GTiff", "dtype": "float32", "count": count, "height": height, "width": width}
    if geobox is not None:
        found |= {"crs": geobox["crs"], "transform": Affine(*geobox["transform"])}
    return found | {"nodata": float("nan"), "interleave": "band", "bigtiff": "if_safer"}


def _tags(embedding: Embedding, record: dict[str, Any], *, many: bool) -> dict[str, str]:
    """Return the metadata as tags: all as JSON, and what readers look for first as text."""
    meta = embedding.meta
    rest = {"many": many} | {k: v for k, v in record.items() if k != "meta"}
    return flat_attributes(meta) | {
        GEOEMB: convention_of(meta, embedding.dim, grid=True),
        "rs_embed_meta": json.dumps(meta),
        "rs_embed_file": json.dumps(rest),
    }


def _names(embedding: Embedding) -> list[str]:
    coords = getattr(embedding.data, "coords", {})
    return [f"d{value}" for value in (coords["d"].values if "d" in coords else range(embedding.dim))]


def write_geotiff(embedding: Embedding, path: Path, *, many: bool = False) -> None:
    """Write a grid: tiled, with overviews where it is larger than a tile, NaN as nodata, DEFLATE.

    The layout is that of a cloud-optimised GeoTIFF (band-interleaved: GDAL's own COG driver interleaves bands by pixel,
    so that a map of one band of 768 would read all of them).

    Raises
    ------
    SpecError
        If the embedding is a vector.
    """
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.shutil import copy

    if len(embedding.shape) != 3:
        raise SpecError(
            f"{path.name}: a GeoTIFF holds a grid, this is a vector of {embedding.dim} numbers; ask for "
            "OutputSpec.grid(), or write a .parquet, .npz or .npy"
        )
    tags = _tags(embedding, describe(embedding), many=many)
    side = max(embedding.shape[1:])
    block = min(_TILE, -(-side // 16) * 16)
    tiles = {"tiled": True, "blockxsize": block, "blockysize": block}
    with _unplaced_is_fine(), _scratch(path) as plain, atomic(path) as target:
        with rasterio.open(plain, "w", **_profile(embedding), **tiles) as file:
            file.update_tags(**tags)
            for band, name in enumerate(_names(embedding)):
                file.write(np.asarray(embedding.data[band], np.float32), band + 1)
                file.set_band_description(band + 1, name)
        levels = [2**i for i in range(1, 16) if side > _TILE * 2 ** (i - 1)]
        if levels:
            with rasterio.open(plain, "r+") as file:
                file.build_overviews(levels, Resampling.average)
        copy(plain, target, driver="GTiff", copy_src_overviews=True, **_DEFLATE, **tiles)


def read_geotiff(path: Path) -> tuple[list[Embedding], bool]:
    """Return what `write_geotiff` wrote; one that was cropped or warped since lies where the file says."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with _unplaced_is_fine(), rasterio.open(path) as file:
            tags, values = file.tags(), file.read()
            crs = None if file.crs is None else file.crs.to_wkt()
            here = {"crs": crs, "transform": list(file.transform)[:6], "shape": [file.height, file.width]}
    except (RasterioError, OSError) as error:
        raise StoreError(f"{path.name} is damaged or no GeoTIFF: {error}") from error
    if "rs_embed_meta" not in tags or "rs_embed_file" not in tags:
        raise foreign(path, "tag rs_embed_meta", "rasterio.open, or embed it as UserData.from_raster")
    record = json.loads(tags["rs_embed_file"]) | {"meta": json.loads(tags["rs_embed_meta"])}
    grid = record.get("grid")
    if (
        grid
        and grid["geobox"]
        and (grid["geobox"]["transform"], grid["geobox"]["shape"])
        != (
            here["transform"],
            here["shape"],
        )
    ):
        record["grid"] = {"geobox": here, "coords": {k: v for k, v in grid["coords"].items() if k == "d"}}
        record["meta"] |= {"geobox": here, "crs": crs, "grid_hw": here["shape"], "grid_shape": list(values.shape)}
    return [restore(values, record)], bool(record["many"])
