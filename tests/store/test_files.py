"""Files: whole or not there, and readable by others' readers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from arro3.io import read_parquet

from rs_embed import Embedding, OutputSpec, PointBuffer, SpecError, TemporalSpec, get_embedding
from rs_embed.core.geometry import locate
from rs_embed.store.files import atomic, check_target, write_geotiff, write_npy, write_parquet

PLACE = PointBuffer(11.457, 47.442, 100)


def embed(output: OutputSpec) -> Embedding:
    time = TemporalSpec.parse("2022-07")
    return get_embedding("imagestats", spatial=PLACE, temporal=time, backend="synthetic", output=output)


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    file.write_text("old")

    def stopped() -> None:
        with atomic(file) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_npy_holds_the_array(tmp_path: Path) -> None:
    found = embed(OutputSpec.pooled())
    write_npy(found, tmp_path / "v.npy")
    assert np.array_equal(np.load(tmp_path / "v.npy"), found.data)


def test_a_geotiff_lies_where_the_grid_says(tmp_path: Path) -> None:
    grid = embed(OutputSpec.grid())
    write_geotiff(grid, tmp_path / "g.tif")
    with rasterio.open(tmp_path / "g.tif") as file:
        assert np.array_equal(file.read(), grid.values(), equal_nan=True)
        assert list(file.transform)[:6] == grid.geobox["transform"]  # type: ignore[index]
        assert file.descriptions[0] == "d0"
        assert json.loads(file.tags()["rs_embed_meta"]) == grid.meta
        x, y = file.xy(0, 0)
    assert x == pytest.approx(float(grid.data.x[0]))  # type: ignore[union-attr]
    assert y == pytest.approx(float(grid.data.y[0]))  # type: ignore[union-attr]
    with pytest.raises(SpecError, match="vector"):
        write_geotiff(embed(OutputSpec.pooled()), tmp_path / "v.tif")


def test_geoparquet_holds_vectors_places_and_metadata(tmp_path: Path) -> None:
    found = embed(OutputSpec.pooled())
    found.meta["id"] = "here"
    shape = locate(PLACE).footprint
    write_parquet([found, found], [shape, shape], tmp_path / "t.parquet")
    reader = read_parquet(tmp_path / "t.parquet")
    geo = json.loads(reader.schema.metadata_str["geo"])
    table = reader.read_all()
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["encoding"] == "WKB"
    assert table["id"][0].as_py() == "here"
    assert np.allclose(table["vector"][1].as_py(), found.data)
    assert shapely.from_wkb(table["geometry"][0].as_py()).equals(shape)
    assert json.loads(table["meta"][0].as_py()) == found.meta
    with pytest.raises(SpecError, match="length"):
        write_parquet([embed(OutputSpec.grid())], [shape], tmp_path / "g.parquet")


def test_a_target_is_judged_before_any_work(tmp_path: Path) -> None:
    check_target(tmp_path / "new.tif", overwrite=False)
    old = tmp_path / "old.npy"
    old.touch()
    check_target(old, overwrite=True)
    for path, part in ((old, "--overwrite"), (tmp_path / "a.csv", "'.csv'"), (tmp_path / "no" / "a.npy", "does not")):
        with pytest.raises(SpecError, match=part):
            check_target(path, overwrite=False)
