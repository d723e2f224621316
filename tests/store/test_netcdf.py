"""NetCDF as xarray and GDAL read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray

from rs_embed import Embedding, SpecError, StoreError, load, save, to_xarray


def test_gdal_places_a_grid(grids: list[Embedding], tmp_path: Path) -> None:
    grid, path = grids[1], tmp_path / "g.nc"
    save(grid, path)
    with rasterio.open(f"netcdf:{path}:embedding") as file:
        assert np.array_equal(file.read(), grid.values(), equal_nan=True)
        assert list(file.transform)[:6] == grid.meta["geobox"]["transform"]
        assert file.crs.to_epsg(confidence_threshold=20) == int(grid.meta["crs"].split(":")[1])


def test_xarray_reads_a_grid_by_the_conventions(grids: list[Embedding], tmp_path: Path) -> None:
    grid, path = grids[0], tmp_path / "g.nc"
    save(grid, path)
    with xarray.open_dataset(path, decode_coords="all") as file:
        assert file.attrs["Conventions"] == "CF-1.11"
        assert file["embedding"].dims == ("d", "y", "x") and file["embedding"].dtype == np.float32
        assert file["embedding"].encoding["grid_mapping"] == "spatial_ref"
        assert file["spatial_ref"].attrs["grid_mapping_name"] == "transverse_mercator"
        assert file["x"].attrs["standard_name"] == "projection_x_coordinate"
        assert file["embedding"].encoding["zlib"]
        assert json.loads(file.attrs["rs_embed_meta"]) == grid.meta


def test_xarray_reads_a_table(vectors: list[Embedding], tmp_path: Path) -> None:
    save(vectors, tmp_path / "v.nc")
    with xarray.open_dataset(tmp_path / "v.nc") as file:
        assert file["embedding"].dims == ("region", "d")
        assert np.array_equal(file["embedding"], np.stack([e.values() for e in vectors]), equal_nan=True)
        assert file["id"].values.tolist() == ["7", "Feld ü", "", "lost"]
        assert file["start"].values[0] == np.datetime64("2022-07-01") and np.isnat(file["end"].values[3])
        assert file["lon"].values[0] == pytest.approx(11.457) and np.isnan(file["lat"].values[3])
        memory = to_xarray(vectors)
        assert memory.drop_encoding().equals(file.drop_vars("meta").drop_encoding())


def test_the_dataset_of_one_vector(vectors: list[Embedding]) -> None:
    found = to_xarray(vectors[0])
    assert found.sizes == {"region": 1, "d": vectors[0].dim}
    with pytest.raises(SpecError, match="at least one"):
        to_xarray([])


def test_foreign_files_are_told_what_they_lack(tmp_path: Path) -> None:
    xarray.Dataset({"t": ("x", [1.0])}).to_netcdf(tmp_path / "f.nc", engine="h5netcdf")
    with pytest.raises(StoreError, match="no variable 'embedding'"):
        load(tmp_path / "f.nc")
