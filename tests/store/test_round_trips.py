"""What is saved comes back as it was: numbers to the bit, coordinates, metadata, ids, failures, one or many."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rs_embed import Embedding, load, save
from rs_embed.core.georeference import geobox_from_dict, grid_array

Same = Callable[[Embedding, Embedding], None]
Saved = Embedding | list[Embedding]

TABLES = (".npz", ".npy", ".parquet", ".nc")
RASTERS = (".npz", ".npy", ".tif", ".tiff", ".nc")


def trip(saved: Saved, path: Path, same: Same) -> None:
    assert save(saved, path, overwrite=True) == path
    found = load(path)
    assert isinstance(found, list) == isinstance(saved, list)
    pairs = zip(*(x if isinstance(x, list) else [x] for x in (saved, found)), strict=True)
    for one, other in pairs:
        same(one, other)
    assert [p for p in path.parent.iterdir() if p != path] == []


@pytest.mark.parametrize("suffix", TABLES)
def test_vectors(suffix: str, vectors: list[Embedding], tmp_path: Path, same: Same) -> None:
    for saved in (vectors, vectors[:1], vectors[0], vectors[3]):
        trip(saved, tmp_path / f"v{suffix}", same)


@pytest.mark.parametrize("suffix", RASTERS)
def test_grids(suffix: str, grids: list[Embedding], tmp_path: Path, same: Same) -> None:
    for grid in grids:
        trip(grid, tmp_path / f"g{suffix}", same)
    if suffix != ".npy":
        trip(grids[:1], tmp_path / f"g{suffix}", same)


def test_npz_holds_grids_and_vectors_of_any_shape(
    vectors: list[Embedding], grids: list[Embedding], tmp_path: Path, same: Same
) -> None:
    trip([*grids, *vectors, Embedding(np.zeros((2, 3, 4), np.float32), {})], tmp_path / "all.npz", same)


@pytest.mark.parametrize("suffix", RASTERS)
def test_a_grid_that_was_cropped(suffix: str, grids: list[Embedding], tmp_path: Path, same: Same) -> None:
    grid = grids[0]
    grid.data = grid.data[2:5, 1:-2, 3:]
    save(grid, tmp_path / f"g{suffix}")
    found = load(tmp_path / f"g{suffix}")
    assert isinstance(found, Embedding) and found.geobox == grid.geobox != geobox_from_dict(grid.meta["geobox"])
    assert np.array_equal(found.values(), grid.values())
    assert found.meta == grid.meta
    for name in ("x", "y", "d"):
        assert np.array_equal(found.data[name], grid.data[name])


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)


@st.composite
def tables(draw: Any) -> list[Embedding]:
    rows, dim = draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    values = draw(hnp.arrays(np.float32, (rows, dim), elements=FLOATS))
    found = []
    for row in values:
        meta = draw(st.dictionaries(st.text(min_size=1).filter(lambda k: k not in RESERVED), JSON, max_size=3))
        meta |= {"model": "m", "id": draw(st.none() | st.integers() | st.text(max_size=8))}
        meta |= {"labels": draw(st.dictionaries(st.sampled_from(["a", "b", "id", "embedding", "ü", ""]), SCALARS))}
        if draw(st.booleans()):
            lon, lat = draw(st.tuples(st.floats(-180, 180), st.floats(-80, 80)))
            region = {"type": "PointBuffer", "lon": lon, "lat": lat, "buffer_m": 100.0, "crs": "EPSG:4326"}
            meta |= {"region": region, "center": [lon, lat], "temporal": {"start": "2022-01-01", "end": "2023-01-01"}}
        if draw(st.booleans()):
            meta["error"] = draw(st.text())
        found.append(Embedding(row, meta))
    return found


RESERVED = {"region", "temporal", "center", "labels", "space", "model", "error", "id", "geobox", "crs"}


def no_infinite_labels(table: list[Embedding]) -> None:
    for each in table:
        each.meta["labels"] = {k: v for k, v in each.meta["labels"].items() if v not in (float("inf"), -float("inf"))}


@pytest.mark.parametrize("suffix", TABLES)
@settings(max_examples=20)
@given(table=tables())
def test_any_table(suffix: str, same: Same, table: list[Embedding]) -> None:
    no_infinite_labels(table)
    with tempfile.TemporaryDirectory() as folder:
        trip(table, Path(folder) / f"t{suffix}", same)


@pytest.mark.parametrize("suffix", TABLES)
def test_a_nul_in_a_name_is_kept(suffix: str, same: Same, tmp_path: Path) -> None:
    meta = {"model": "a\0b", "id": "x\0", "labels": {"a": "\0", "ü": "c\0d"}, "attribution": "\0"}
    table = [Embedding(np.zeros(2, np.float32), dict(meta)), Embedding(np.ones(2, np.float32), {**meta, "id": "y"})]
    trip(table, tmp_path / f"t{suffix}", same)


@st.composite
def rasters(draw: Any) -> Embedding:
    shape = draw(st.tuples(*(st.integers(1, 5) for _ in range(3))))
    values = draw(hnp.arrays(np.float32, shape, elements=FLOATS))
    size = draw(st.floats(1e-3, 1e4))
    transform = [size, 0.0, draw(st.floats(-1e6, 1e6)), 0.0, -size, draw(st.floats(-1e7, 1e7))]
    crs = draw(st.sampled_from(["EPSG:32632", "EPSG:4326", "EPSG:3035", None]))
    meta = {"crs": crs, "geobox": {"crs": crs, "transform": transform, "shape": list(shape[1:])}, "note": draw(JSON)}
    return Embedding(grid_array(values, geobox_from_dict(meta["geobox"]), meta), meta)


@pytest.mark.parametrize("suffix", [".npz", ".tif", ".nc"])
@settings(max_examples=20)
@given(grid=rasters())
def test_any_grid(suffix: str, same: Same, grid: Embedding) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trip(grid, Path(folder) / f"g{suffix}", same)


def test_metadata_that_a_paper_cites_stand_in_every_file_as_flat_text(
    vectors: list[Embedding], grids: list[Embedding], tmp_path: Path
) -> None:
    import rasterio
    import xarray
    from arro3.io import read_parquet

    save(vectors, tmp_path / "v.parquet")
    save(vectors, tmp_path / "v.nc")
    save(grids[0], tmp_path / "g.nc")
    save(grids[0], tmp_path / "g.tif")
    said = [json.loads(read_parquet(tmp_path / "v.parquet").schema.metadata_str["rs_embed"])]
    for name in ("v.nc", "g.nc"):
        with xarray.open_dataset(tmp_path / name) as file:
            said.append(dict(file.attrs))
    with rasterio.open(tmp_path / "g.tif") as file:
        said.append(file.tags())
    meta = vectors[0].meta
    for found in said:
        assert found["attribution"] == "Contains modified Copernicus Sentinel data 2022"
        assert meta["citation"][0] in found["citation"] and "rs_embed" in found["citation"]
        assert found["license"] == "; ".join(f"{k}: {v}" for k, v in meta["license"].items())
        assert found["space"].rpartition("/")[0] == meta["space"].rpartition("/")[0]
