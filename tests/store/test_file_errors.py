"""What cannot be written or read is told before anything is lost."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rs_embed import Embedding, SpecError, StoreError, load, save, to_geodataframe, to_xarray
from rs_embed.store.files import SUFFIXES, check_target


def vector(size: int = 3, **meta: Any) -> Embedding:
    return Embedding(np.ones(size, np.float32), {"model": "m", "space": "m/a/mean", **meta})


def grid() -> Embedding:
    return Embedding(np.ones((2, 3, 4), np.float32), {"model": "m"})


REFUSED = {
    "suffix": ("a.csv", [vector()], r"suffix '\.csv' is not known; accepted: \.npy, \.npz, \.parquet, \.tif"),
    "no suffix": ("a", [vector()], "suffix '' is not known"),
    "no folder": ("no/a.npy", [vector()], "does not exist; create it first"),
    "nothing": ("a.npz", [], "no embedding to write"),
    "nothing in a table": ("a.parquet", [], "no embedding to write"),
    "vector as raster": ("a.tif", [vector()], r"a GeoTIFF holds a grid, this is a vector of 3 numbers; .*\.parquet"),
    "grid as table": ("a.parquet", [vector(), grid()], r"grid of 2 x 3 x 4; write a \.tif, \.nc or \.npz"),
    "several grids as raster": ("a.tif", [grid(), grid()], r"holds one grid, and there are 2; write a \.npz"),
    "several grids as netCDF": ("a.nc", [grid(), grid()], r"holds one grid, and there are 2; write a \.npz"),
    "several grids as one array": ("a.npy", [grid(), grid()], r"one array.*2 x 3 x 4; write a \.npz"),
    "lengths in one array": ("a.npy", [vector(3), vector(4)], "shape 3, 4"),
    "lengths in one table": ("a.parquet", [vector(3), vector(4, id="b")], r"one length, got 3 and 4 \('b'\)"),
    "lengths in netCDF": ("a.nc", [vector(3), vector(4)], "one length, got 3 and 4"),
    "models in one table": ("a.parquet", [vector(), vector(model="n")], "one model, got 'm' and 'n'"),
    "models in netCDF": ("a.nc", [vector(), vector(model="n")], "one model, got 'm' and 'n'"),
    "spaces in one table": ("a.parquet", [vector(), vector(space="m/b/mean")], "'m/a/mean' and 'm/b/mean'"),
    "metadata": ("a.npz", [vector(note=float("nan"))], r"meta\['note'\] = nan cannot be written as JSON"),
    "metadata in a table": ("a.parquet", [vector(), vector(note={1, 2})], r"meta\['note'\] = \{1, 2\} cannot"),
    "metadata in a raster": ("a.tif", [Embedding(grid().data, {"x": np.float32(1)})], r"meta\['x'\]"),
    "shape": ("a.npz", [Embedding(np.ones((2, 2), np.float32), {})], r"got shape \(2, 2\)"),
    "region": ("a.parquet", [vector(region={"type": "Circle"})], "type 'Circle'; known: BBox"),
    "date": ("a.parquet", [vector(temporal={"start": "May"})], "'May', which is no date"),
    "labels": ("a.parquet", [vector(labels=[1])], r"meta\['labels'\] must be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_written_is_told_and_nothing_is_left(case: str, tmp_path: Path) -> None:
    name, embeddings, said = REFUSED[case]
    with pytest.raises(SpecError, match=said):
        save(embeddings, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_exists_stays_unless_asked(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("precious")
    item = grid() if suffix in (".tif", ".tiff") else vector()
    with pytest.raises(SpecError, match=r"exists; pass --overwrite \(overwrite=True\)"):
        save(item, path)
    assert path.read_text() == "precious"
    save(item, path, overwrite=True)
    assert isinstance(load(path), Embedding)


def test_folders_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.npy").mkdir()
    with pytest.raises(SpecError, match="is a folder"):
        check_target(tmp_path / "a.npy", overwrite=True)
    with pytest.raises(SpecError, match="no such file"):
        load(tmp_path / "a.npy")
    with pytest.raises(SpecError, match="no such file"):
        load(tmp_path / "b.npz")


def test_a_read_only_folder_is_told(open_folder: Path, as_nobody: Callable[[], AbstractContextManager[None]]) -> None:
    open_folder.chmod(0o555)
    with as_nobody(), pytest.raises(SpecError, match="cannot be written to"):
        check_target(open_folder / "a.npy")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_a_file_that_was_cut_off_is_told(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).normal(size=(4, 60, 60)).astype(np.float32)
    raster = suffix in (".tif", ".tiff")
    save(Embedding(noise if raster else noise.ravel(), {"model": "m", "space": "s"}), path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(StoreError, match=path.name):
        load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_something_else_is_told(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"<html>404</html>" * 40)
    with pytest.raises(StoreError, match=path.name):
        load(path)


def test_a_damaged_page_of_a_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    save([vector(id=i, note="y" * i) for i in range(200)], path)
    raw = bytearray(path.read_bytes())
    raw[200:400] = bytes(200)
    path.write_bytes(raw)
    with pytest.raises(StoreError, match=r"a\.parquet is damaged"):
        load(path)


def test_foreign_arrays_are_told_what_they_lack(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(StoreError, match=r"no metadata behind its array; open it with numpy\.load"):
        load(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    with pytest.raises(StoreError, match="no array 'meta'"):
        load(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", meta=np.array(b"{}"))
    with pytest.raises(StoreError, match="none that rs-embed wrote"):
        load(tmp_path / "a.npz")


def test_numpy_reads_what_we_write(tmp_path: Path) -> None:
    save([vector(), vector(note="é")], tmp_path / "a.npy")
    save([vector(), vector(note="é")], tmp_path / "a.npz")
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.ones((2, 3), np.float32))
    assert np.array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), np.ones((2, 3), np.float32))
    with np.load(tmp_path / "a.npz") as file:
        assert file["data"].shape == (2, 3) and file["data"].dtype == np.float32


def test_tables_in_memory_refuse_the_same() -> None:
    for make in (to_xarray, to_geodataframe):
        with pytest.raises(SpecError, match="one model"):
            make([vector(), vector(model="n")])
        with pytest.raises(SpecError, match="grid of 2 x 3 x 4"):
            make(grid())


WITHOUT = """
    import sys
    for name in ("geopandas", "h5netcdf"):
        sys.modules[name] = None
    import numpy as np
    from rs_embed import Embedding, MissingExtraError, save, to_geodataframe
    one = Embedding(np.ones(2, np.float32), {})
    for call in (lambda: to_geodataframe(one), lambda: save(one, sys.argv[1])):
        try:
            call()
        except MissingExtraError as error:
            print(error)
"""


def test_missing_extras_are_told_with_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(WITHOUT), str(tmp_path / "a.nc")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 'pip install "rs-embed[geopandas]"' in ran.stdout and 'pip install "rs-embed[netcdf]"' in ran.stdout
