"""``rs-embed embed``: places, tables and rasters in; lines of JSON and every kind of file out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from commands import FEW, PLACE, POINT, WHEN, Caller
from fakes import FakeProvider
from numpy.typing import NDArray
from rasterio.transform import Affine

import rs_embed
from rs_embed import PointBuffer, TemporalSpec, UserData
from rs_embed.core.errors import ProviderError
from rs_embed.providers import backends
from rs_embed.store.files import load

BOX = ("--bbox", "11.45", "47.43", "11.452", "47.432", *WHEN)
S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(capsys)


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text("name,lon,lat,crop,when\nnorth,11.45,47.45,maize,2022-06\nsouth,11.45,47.43,wheat,2022-07\n")
    return path


def square(lon: float, lat: float, side: float = 0.001) -> dict[str, Any]:
    corners = [[lon, lat], [lon + side, lat], [lon + side, lat + side], [lon, lat + side], [lon, lat]]
    return {"type": "Polygon", "coordinates": [corners]}


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    path = tmp_path / "fields.geojson"
    features = [
        {
            "type": "Feature",
            "id": f"field-{i}",
            "properties": {"crop": crop},
            "geometry": square(11.45 + i / 100, 47.43),
        }
        for i, crop in enumerate(("maize", "wheat"))
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_point_is_the_line_of_json_that_the_library_would_give(command: Caller) -> None:
    (line,) = lines(command.ok("embed", "rcf", *PLACE, *FEW).out)
    same = rs_embed.get_embedding(
        "rcf",
        spatial=PointBuffer(11.457, 47.442, 40),
        temporal=TemporalSpec.parse("2022-07"),
        backend="synthetic",
        features=4,
    )
    assert line["id"] is None
    assert np.allclose(line["embedding"], same.data, rtol=1e-6)
    assert line["meta"]["space"] == same.meta["space"]


def test_every_setting_reaches_the_model(command: Caller) -> None:
    said = command.ok(
        *("embed", "imagestats", *POINT, "--time", "2022-07", "--backend", "synthetic", "--pooling", "max"),
        *("--scale", "20", "--cloudy", "80", "--composite", "mosaic", "--batch-size", "2", "--device", "cpu"),
        *("--input-prep", "auto"),
    )
    (line,) = lines(said.out)
    meta = line["meta"]
    assert len(line["embedding"]) == 12
    assert meta["pooling"] == "max"
    assert [meta["sensor"][key] for key in ("scale_m", "cloudy_pct", "composite")] == [20, 80, "mosaic"]
    assert meta["input_prep"]["requested_mode"] == "auto"
    assert meta["temporal"]["start"] == "2022-07-01"


def test_another_sensor_with_its_own_bands_and_with_others(command: Caller) -> None:
    place = ("embed", "imagestats", *PLACE, "--collection", "s1")
    (own,) = lines(command.ok(*place).out)
    assert own["meta"]["sensor"]["bands"] == ["VV", "VH"]
    assert len(own["embedding"]) == 4 * 2
    (one,) = lines(command.ok(*place, "--bands", " VH", "--scale", "20").out)
    assert one["meta"]["sensor"]["bands"] == ["VH"]
    assert one["meta"]["sensor"]["scale_m"] == 20
    assert len(one["embedding"]) == 4
    (same,) = lines(command.ok("embed", "rcf", *PLACE, *FEW, "--collection", "s2").out)
    (default,) = lines(command.ok("embed", "rcf", *PLACE, *FEW).out)
    assert same["embedding"] == default["embedding"]


def test_a_place_once_a_year(command: Caller) -> None:
    said = command.ok("embed", "imagestats", *POINT, "--years", "2021-2022", "--backend", "synthetic")
    assert [(line["id"], line["meta"]["temporal"]["start"]) for line in lines(said.out)] == [
        ("2021", "2021-01-01"),
        ("2022", "2022-01-01"),
    ]


def test_points_of_a_csv_with_labels_become_a_geoparquet(command: Caller, points: Path, tmp_path: Path) -> None:
    out = tmp_path / "points.parquet"
    named = ("--regions", points, "--id", "name", "--lon", "lon", "--lat", "lat", "--buffer", "30")
    command.ok("embed", "imagestats", *named, "--time-col", "when", "--backend", "synthetic", "-o", out)
    found = load(out)
    assert isinstance(found, list)
    assert [(e.id, e.meta["labels"], e.meta["temporal"]["start"]) for e in found] == [
        ("north", {"crop": "maize"}, "2022-06-01"),
        ("south", {"crop": "wheat"}, "2022-07-01"),
    ]
    same = rs_embed.get_embedding(
        "imagestats",
        spatial=PointBuffer(11.45, 47.43, 30),
        temporal=TemporalSpec.parse("2022-07"),
        backend="synthetic",
    )
    assert np.allclose(found[1].data, same.data, rtol=1e-6)
    again = command("embed", "imagestats", *named, *WHEN, "-o", out)
    assert again.code == 1
    assert "--overwrite" in again.err
    command.ok("embed", "imagestats", *named, *WHEN, "-o", out, "--overwrite")


def test_points_without_a_buffer_get_that_of_a_single_point(command: Caller, points: Path) -> None:
    table = command.ok("embed", "imagestats", "--regions", points, "--id", "name", *WHEN)
    single = command.ok("embed", "imagestats", "--point", "11.45", "47.45", *WHEN)
    assert lines(table.out)[0]["embedding"] == lines(single.out)[0]["embedding"]


def test_polygons_over_years_become_rows_with_both(command: Caller, fields: Path, tmp_path: Path) -> None:
    out = tmp_path / "fields.parquet"
    command.ok(
        *("embed", "imagestats", "--regions", fields, "--years", "2021-2022", "--backend", "synthetic", "-o", out)
    )
    found = load(out)
    assert isinstance(found, list)
    assert [e.id for e in found] == ["field-0/2021", "field-0/2022", "field-1/2021", "field-1/2022"]
    assert [e.meta["labels"]["year"] for e in found] == [2021, 2022, 2021, 2022]
    assert {e.meta["labels"]["crop"] for e in found[:2]} == {"maize"}


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_vectors_in_every_format(suffix: str, command: Caller, fields: Path, tmp_path: Path) -> None:
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    command.ok("embed", "rcf", *PLACE, *FEW, "-o", one)
    command.ok("embed", "rcf", "--regions", fields, *WHEN, *FEW, "-o", two)
    single, several = load(one), load(two)
    assert isinstance(several, list)
    assert [e.id for e in several] == ["field-0", "field-1"]
    assert [e.shape for e in several] == [(4,), (4,)]
    assert (single[0] if isinstance(single, list) else single).shape == (4,)


def test_a_box_becomes_a_geotiff_once(command: Caller, tmp_path: Path) -> None:
    out = tmp_path / "grid.tif"
    command.ok("embed", "rcf", *BOX, *FEW, "--grid", "-o", out)
    with rasterio.open(out) as file:
        assert file.crs.to_epsg() == 32632
        assert file.count == 4
    found = load(out)
    assert not isinstance(found, list)
    assert found.meta["model"] == "rcf"
    again = command("embed", "rcf", *BOX, *FEW, "--grid", "-o", out)
    assert again.code == 1
    assert "--overwrite" in again.err
    command.ok("embed", "rcf", *BOX, *FEW, "--grid", "-o", out, "--overwrite")


def test_grids_of_a_table_become_a_folder_of_geotiffs(command: Caller, fields: Path, tmp_path: Path) -> None:
    out = tmp_path / "grids"
    command.ok("embed", "rcf", "--regions", fields, *WHEN, *FEW, "--grid", "-o", out)
    assert sorted(path.name for path in out.iterdir()) == ["field-0.tif", "field-1.tif"]
    again = command("embed", "rcf", "--regions", fields, *WHEN, *FEW, "--grid", "-o", out)
    assert again.code == 1
    assert "field-0.tif exists" in again.err
    for name in ("grids.tif", "grids.npy", "grids.nc"):
        said = command("embed", "rcf", "--regions", fields, *WHEN, *FEW, "--grid", "-o", tmp_path / name)
        assert said.code == 1
        assert f"-o {out}/" in said.err
    command.ok("embed", "rcf", "--regions", fields, *WHEN, *FEW, "--grid", "-o", tmp_path / "all.npz")
    several = load(tmp_path / "all.npz")
    assert isinstance(several, list)
    with rasterio.open(out / "field-1.tif") as file:
        assert np.array_equal(file.read(), several[1].values(), equal_nan=True)


def test_ids_never_leave_the_folder(command: Caller, tmp_path: Path) -> None:
    table = tmp_path / "evil.csv"
    table.write_text("id,lon,lat\n../evil,11.45,47.45\n/abs/olute,11.45,47.43\n")
    out = tmp_path / "grids"
    named = ("embed", "imagestats", "--regions", table, "--buffer", "20", *WHEN, "--grid", "-o", out)
    command.ok(*named)
    assert sorted(path.name for path in out.iterdir()) == ["_abs_olute.tif", "_evil.tif"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.csv", "grids"]
    table.write_text("id,lon,lat\na/b,11.45,47.45\na?b,11.45,47.43\n")
    said = command(*named)
    assert said.code == 1
    assert "'a/b' and 'a?b'" in said.err


def test_components_of_several_grids_share_their_basis(command: Caller, fields: Path, tmp_path: Path) -> None:
    whole, few = tmp_path / "whole", tmp_path / "few"
    asked = ("embed", "rcf", "--regions", fields, *WHEN, "--option", "features=8", "--grid")
    command.ok(*asked, "-o", whole)
    command.ok(*asked, "--pca", "2", "-o", few)
    grids = [load(whole / f"field-{i}.tif") for i in range(2)]
    found = [load(few / f"field-{i}.tif") for i in range(2)]
    cells = np.concatenate([g.values().reshape(8, -1).T for g in grids])  # type: ignore[union-attr]
    cells = cells[np.isfinite(cells).all(1)].astype(np.float64)
    _, _, axes = np.linalg.svd(cells - cells.mean(0), full_matrices=False)
    for grid, components in zip(grids, found, strict=True):
        assert not isinstance(components, list)
        assert components.shape == (2, *grid.shape[1:])  # type: ignore[union-attr]
        wanted = np.tensordot(axes[:2], grid.values() - cells.mean(0)[:, None, None], 1)  # type: ignore[union-attr]
        signs = np.sign(np.nansum(wanted * components.values(), axis=(1, 2)))[:, None, None]
        assert np.allclose(components.values(), wanted * signs, atol=1e-4, equal_nan=True)
        assert components.meta["pca"]["of"] == 8
        assert components.crs == grid.crs  # type: ignore[union-attr]
    spaces = {e.meta["space"] for e in (*grids, *found)}  # type: ignore[union-attr]
    assert len(spaces) == 2


def test_a_grid_as_json_has_null_where_there_is_no_cell(command: Caller, tmp_path: Path) -> None:
    triangle = tmp_path / "triangle.geojson"
    corners = [[11.45, 47.43], [11.451, 47.43], [11.45, 47.431], [11.45, 47.43]]
    triangle.write_text(json.dumps({"type": "Polygon", "coordinates": [corners]}))
    (line,) = lines(command.ok("embed", "rcf", "--regions", triangle, *WHEN, *FEW, "--grid").out)
    values = np.array(line["embedding"], dtype=np.float64)
    assert list(values.shape) == line["meta"]["grid_shape"]
    assert np.isnan(values).any()
    assert np.isfinite(values).any()


def write_raster(path: Path, data: NDArray[Any], names: tuple[str, ...] | None = None) -> Path:
    profile = {
        "driver": "GTiff",
        "dtype": data.dtype,
        "count": len(data),
        "height": data.shape[1],
        "width": data.shape[2],
    }
    placed = {"crs": "EPSG:32632", "transform": Affine(10, 0, 680_000, 0, -10, 5_260_000)}
    with rasterio.open(path, "w", **profile, **placed) as file:
        file.write(data)
        if names is not None:
            file.descriptions = names
    return path


@pytest.fixture
def scenes(tmp_path: Path) -> list[Path]:
    pixels = np.random.default_rng(3).integers(100, 4000, (2, 12, 16, 16)).astype(np.uint16)
    return [write_raster(tmp_path / f"scene-{i}.tif", p, S2_BANDS) for i, p in enumerate(pixels)]


def test_rasters_of_ones_own_are_called_by_their_stems(command: Caller, scenes: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "own.npz"
    command.ok("embed", "imagestats", *scenes, "--collection", "s2", "--time", "2022-07-12", "-o", out)
    found = load(out)
    assert isinstance(found, list)
    assert [e.id for e in found] == ["scene-0", "scene-1"]
    data = UserData.from_raster(scenes[1], collection="s2")
    assert np.array_equal(found[1].values(), rs_embed.get_embedding_from_data("imagestats", data).values())
    assert found[0].meta["temporal"]["start"] == "2022-07-12"


def test_more_rasters_than_are_read_at_once(command: Caller, scenes: list[Path], tmp_path: Path) -> None:
    many = []
    for i in range(19):
        many.append(tmp_path / f"copy-{i:02}.tif")
        many[-1].write_bytes(scenes[i % 2].read_bytes())
    found = lines(command.ok("embed", "imagestats", *many, "--collection", "s2").out)
    assert [line["id"] for line in found] == [path.stem for path in many]
    assert all(line["embedding"] == found[i % 2]["embedding"] for i, line in enumerate(found))


def test_bands_and_units_of_a_raster_may_be_said(command: Caller, tmp_path: Path) -> None:
    data = np.random.default_rng(5).random((12, 16, 16)).astype(np.float32) * 0.4
    path = write_raster(tmp_path / "backwards.tif", data)
    names = ",".join(reversed(S2_BANDS))
    said = ("embed", "imagestats", path, "--collection", "s2", "--bands", names, "--units", "reflectance")
    (line,) = lines(command.ok(*said).out)
    wanted = data[::-1].mean((1, 2)) * 10_000
    assert np.allclose(line["embedding"][:12], wanted, rtol=1e-5)


def test_a_raster_that_fails_leaves_the_others(command: Caller, scenes: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(scenes[0].read_bytes()[:300])
    out = tmp_path / "own.parquet"
    asked = ("embed", "imagestats", scenes[0], broken, scenes[1], "--collection", "s2", "-o", out)
    said = command(*asked)
    assert said.code == 1
    assert said.lines[0].startswith("error: region broken: ")
    assert "1 of 3 regions failed; the others are written" in said.lines[1]
    found = load(out)
    assert isinstance(found, list)
    assert [e.id for e in found] == ["scene-0", "scene-1"]
    assert command(*asked, "--on-error", "return", "--overwrite").code == 1
    kept = load(out)
    assert isinstance(kept, list)
    assert [(e.id, e.ok) for e in kept] == [("scene-0", True), ("broken", False), ("scene-1", True)]
    assert np.isnan(kept[1].values()).all()


def test_what_is_embedded_is_never_replaced(command: Caller, scenes: list[Path], points: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (*scenes, points)}
    table = tmp_path / "table.parquet"
    command.ok("embed", "imagestats", "--regions", points, *WHEN, "-o", table)
    before[table] = table.read_bytes()
    own = ("embed", "imagestats", "--collection", "s2", "--grid", "--overwrite")
    for asked in (
        (*own, scenes[0], "-o", scenes[0]),
        (*own, *scenes, "-o", tmp_path),
        ("embed", "imagestats", "--regions", table, *WHEN, "-o", table, "--overwrite"),
    ):
        said = command(*asked)
        assert said.code == 1
        assert "would be replaced" in said.err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_two_rasters_of_one_stem_are_an_error(command: Caller, scenes: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    twin = other / "scene-0.tif"
    twin.write_bytes(scenes[0].read_bytes())
    said = command("embed", "imagestats", scenes[0], twin, "--collection", "s2")
    assert said.code == 1
    assert "'scene-0'" in said.err


def test_real_scenes(command: Caller, test_data: Path) -> None:
    files = sorted((test_data / "terramind_scenes" / "S2L2A").glob("*.tif"))[:2]
    bands = ",".join((*S2_BANDS[:8], "B8A", *S2_BANDS[9:]))
    found = lines(command.ok("embed", "imagestats", *files, "--collection", "s2", "--bands", bands).out)
    assert [line["id"] for line in found] == [path.stem for path in files]
    with rasterio.open(files[0]) as file:
        wanted = file.read().reshape(12, -1).astype(np.float64).mean(1)
    assert np.allclose(found[0]["embedding"][:12], wanted, rtol=2e-3)  # pixels cut by the lattice count in part


@pytest.fixture
def patchy() -> Iterator[str]:
    """A backend that cannot be reached in the south."""

    def loading(request: Any, part: Any) -> None:
        if part.affine.f < 5_257_500:  # metres north of the equator, 47.44 degrees
            raise ProviderError("the server of the south is down")

    backends.register_provider("patchy", lambda: FakeProvider(loading))
    yield "patchy"
    del backends._registered["patchy"]
    backends._plugin.cache_clear()


def test_a_region_that_fails_is_told_and_the_others_are_written(
    command: Caller, points: Path, tmp_path: Path, patchy: str
) -> None:
    asked = ("embed", "imagestats", "--regions", points, "--id", "name", "--time", "2022", "--backend", patchy)
    said = command(*asked)
    assert said.code == 1
    assert [line["id"] for line in lines(said.out)] == ["north"]
    assert said.lines == [
        "error: region south: the server of the south is down",
        "error: 1 of 2 regions failed; the others are written",
    ]
    kept = command(*asked, "--on-error", "return")
    assert kept.code == 1
    south = lines(kept.out)[1]
    assert south["id"] == "south"
    assert south["embedding"] is None
    assert "server of the south" in south["meta"]["error"]
    out = tmp_path / "grids"
    grids = command(*asked, "--grid", "-o", out, "--on-error", "return")
    assert grids.code == 1
    assert [path.name for path in out.iterdir()] == ["north.tif"]


def test_where_everything_fails_nothing_is_written(command: Caller, tmp_path: Path, patchy: str) -> None:
    table, out = tmp_path / "south.csv", tmp_path / "south.parquet"
    table.write_text("id,lon,lat\na,11.4,47.40\nb,11.4,47.41\n")
    said = command("embed", "imagestats", "--regions", table, "--time", "2022", "--backend", patchy, "-o", out)
    assert said.code == 1
    assert said.lines[0] == "error: regions a, b: the server of the south is down"
    assert "no embedding was made" in said.lines[1]
    assert not out.exists()
    single = command("embed", "imagestats", "--point", "11.4", "47.4", "--time", "2022", "--backend", patchy, "-o", out)
    assert single.lines == ["error: the server of the south is down"]
    assert single.code == 1
    assert not out.exists()


TABLES = {
    "a missing column": ("a,lon,lat\n1,11.4,47.4\n", ("--id", "name"), "no column 'name'"),
    "no place": ("a,b\n1,2\n", (), "there are: a, b"),
    "an empty table": ("id,lon,lat\n", (), "empty"),
    "duplicate ids": ("id,lon,lat\na,11.4,47.4\na,11.5,47.4\n", (), "duplicate ids: 'a'"),
    "a faulty row": ("id,lon,lat\na,11.4,47.4\nb,11.4,97\n", (), "97"),
    "a missing date": ("id,lon,lat,t\na,11.4,47.4,\n", ("--time-col", "t"), "no date"),
    "a layer of text": ("id,lon,lat\na,11.4,47.4\n", ("--layer", "x"), "layers"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_faulty_table_is_told_before_any_work(case: str, command: Caller, tmp_path: Path) -> None:
    text, options, part = TABLES[case]
    table = tmp_path / "table.csv"
    table.write_text(text)
    when = ("--backend", "synthetic") if "--time-col" in options else WHEN
    said = command("embed", "imagestats", "--regions", table, *options, *when)
    assert said.code == 1
    assert len(said.lines) == 1
    assert part in said.err
