"""Files on disk: real catalogues with their traps, and folders that only names and sidecars explain."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.geometry import footprint_of
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.sensors import SENSORS
from rs_embed.providers.harmonise import decoding_of_item, sentinel2_offset
from rs_embed.providers.local import LocalProvider, open_local
from rs_embed.providers.stac_items import item_bands, item_footprint, item_scene, item_sensor

S2 = SENSORS["sentinel-2-l2a"]
SMALL = GeoBox((20, 24), Affine(10, 0, 500000, 0, -10, 5100000), "EPSG:32633")


def span(start: str, end: str) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(start).replace(tzinfo=UTC), datetime.fromisoformat(end).replace(tzinfo=UTC)


def ask(box: GeoBox, bands: tuple[str, ...], start: str, end: str, **more: object) -> ImageRequest:
    request = ImageRequest("sentinel-2-l2a", bands, footprint_of(box), box, (span(start, end),))
    return replace(request, **more)  # type: ignore[arg-type]


def load(provider: LocalProvider, request: ImageRequest) -> ImageStack:
    assert request.geobox is not None
    (stack,) = provider.load(request, [request.geobox])
    return stack


def write(path: Path, data: np.ndarray, box: GeoBox = SMALL, names: tuple[str, ...] = (), **more: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=data.shape[1], width=data.shape[2], count=data.shape[0], dtype=data.dtype,
        crs=str(box.crs), transform=box.affine, **more,
    ) as dataset:  # fmt: skip
        dataset.write(data)
        if names:
            dataset.descriptions = names
    return path


def full(value: float, count: int = 1, dtype: str = "uint16") -> np.ndarray:
    return np.full((count, *SMALL.shape), value, dtype)


# --- real catalogues ---------------------------------------------------------------------------------------------


def test_offset_that_was_applied_is_not_applied_again(test_data: Path) -> None:
    box = GeoBox((65, 64), Affine(120, 0, 542220, 0, -120, 5200020), "EPSG:32633")
    stack = load(open_local(test_data / "s2_stac_catalog"), ask(box, ("B4",), "2023-08-15", "2023-08-16"))
    with rasterio.open(next(test_data.glob("s2_stac_catalog/*/*33TWM_20230815*/B04.tif"))) as dataset:
        np.testing.assert_array_equal(stack.pixels[0, 0], dataset.read(1)[:65, 352:416])


def test_two_tiles_of_a_day_have_no_seam(test_data: Path) -> None:
    box = GeoBox((120, 50), Affine(120, 0, 542220, 0, -120, 5098020), "EPSG:32633")
    provider = open_local(test_data / "s2_stac_catalog")
    stack = load(provider, ask(box, ("B4",), "2023-08-15", "2023-08-16", composite="none"))
    assert len(stack.times) == 1 and stack.valid.all() and len(stack.scenes[0]) == 2


@settings(max_examples=15)
@given(row=st.integers(0, 60), col=st.integers(0, 60), height=st.integers(1, 40), width=st.integers(1, 40))
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32632"])
def test_part_is_the_crop_of_the_whole(test_data: Path, crs: str, row: int, col: int, height: int, width: int) -> None:
    x, y, size = (542160, 5110070, 100) if crs == "EPSG:32633" else (1005000, 5130000, 120)
    box = GeoBox((100, 100), Affine(size, 0, x, 0, -size, y), crs)
    part = GeoBox((height, width), Affine(size, 0, x + size * col, 0, -size, y - size * row), crs)
    request = ask(box, ("B4", "B8"), "2023-08-01", "2023-09-01", mask="scl")
    whole, cut = open_local(test_data / "s2_stac_catalog").load(request, [box, part])
    assert whole.valid.mean() > 0.5
    np.testing.assert_array_equal(cut.pixels, whole.pixels[..., row : row + height, col : col + width])
    np.testing.assert_array_equal(cut.valid, whole.valid[..., row : row + height, col : col + width])


def test_antimeridian(test_data: Path) -> None:
    provider = open_local(test_data / "s2_stac_antimeridian")
    # across 180°, across both tiles
    box = GeoBox((200, 600), Affine(120, 0, 336000, 0, -120, 7505040), "EPSG:32601")
    outline = footprint_of(box)
    assert outline.geom_type == "MultiPolygon"
    request = ask(box, ("B4",), "2023-06-01", "2023-06-05", composite="none")
    stack = load(provider, request)
    assert [str(t) for t in stack.times] == ["2023-06-02T00:07:24", "2023-06-02T23:37:44", "2023-06-03T23:57:27"]
    assert [len(s) for s in stack.scenes] == [2, 1, 2]
    # the offset applies, zero is nodata though nothing says so; below row 130 there is but one tile
    one = next(test_data.glob("s2_stac_antimeridian/*/*20230604*T01WCQ"))
    with rasterio.open(one / "B04.jp2") as dataset:
        left, top = round((336000 - dataset.transform.c) / 120), round((dataset.transform.f - 7505040) / 120)
        raw = dataset.read(1)[top + 130 : top + 200, left : left + 579].astype(np.float32)
    np.testing.assert_array_equal(stack.valid[2, 130:, :579], raw > 0)
    np.testing.assert_array_equal(stack.pixels[2, 0, 130:, :579][raw > 0], np.maximum(raw[raw > 0] - 1000, 0))
    east, west = shapely.box(179.2, 67.1, 179.3, 67.2), shapely.box(-179.9, 67.1, -179.8, 67.2)
    for region in (east, west):
        assert load(provider, replace(request, footprint=region)).valid.any()
    with pytest.raises(NoImageryError, match="2023-06"):
        load(provider, replace(request, footprint=shapely.box(-170, 67, -169, 68)))


def test_twelve_bands_of_three_resolutions(test_data: Path) -> None:
    box = GeoBox((60, 60), Affine(100, 0, 219980, 0, -100, 2780020), "EPSG:32629")
    provider = open_local(test_data / "s2_cog_scene")
    stack = load(provider, ask(box, S2.default_bands, "2020-02-01", "2020-03-01", mask="scl"))
    assert stack.missing_bands == () and stack.valid.mean() > 0.8
    with rasterio.open(test_data / "s2_cog_scene" / "B04.tif") as dataset:
        raw = dataset.read(1)[200:260, 200:260]
    index = S2.default_bands.index("B4")
    np.testing.assert_array_equal(stack.pixels[0, index][stack.valid[0]], raw[stack.valid[0]])


def test_landsat(test_data: Path) -> None:
    provider = open_local(test_data / "landsat_scene")
    with rasterio.open(next(test_data.glob("landsat_scene/*SR_B4.TIF"))) as dataset:
        a, raw = dataset.transform, dataset.read(1)[100:150, 100:150].astype(np.float64)
    box = GeoBox((50, 50), Affine(a.a, 0, a.c + 100 * a.a, 0, a.e, a.f + 100 * a.e), "EPSG:32620")
    request = ask(box, ("SR_B4", "SR_B7"), "2020-10-01", "2020-11-01", sensor="landsat-c2-l2")
    stack = load(provider, request)
    np.testing.assert_allclose(stack.pixels[0, 0], (raw * 0.0000275 - 0.2) * 10000, atol=0.01)
    masked = load(provider, replace(request, mask="qa_pixel"))
    assert not masked.valid.any() and masked.observations == (0, 2500)
    with pytest.raises(NoImageryError, match=r"1 was left out by cloudy_pct=30.*99\.9 %.*2020-10-31"):
        load(provider, replace(request, cloudy_pct=30))


def test_netcdf_cubes(test_data: Path) -> None:
    provider = open_local(test_data / "gfmap_cubes")
    assert provider.collections == ("sentinel-1", "sentinel-2-l2a")
    box = GeoBox((66, 64), Affine(10, 0, 643260, 0, -10, 5676480), "EPSG:32631")
    request = ask(box, ("B1", "B4", "B8", "B11"), "2023-04-01", "2023-05-01", mask="scl")
    stack = load(provider, replace(request, composite="none"))
    assert len(stack.times) == 12 and str(stack.times[0])[:10] == "2023-04-02"
    assert (stack.valid.mean(axis=(1, 2)) > 0.9).sum() == 2
    assert load(provider, request).valid.mean() > 0.99
    with pytest.raises(
        ProviderError, match=r"cdse_sentinel1_grd\.nc:S1-SIGMA0-VV.*units.*'dB', 'linear', 'worldcereal'"
    ):
        load(provider, replace(request, sensor="sentinel-1", bands=("VV",), mask=None))


def test_netcdf_with_a_sidecar(test_data: Path, tmp_path: Path) -> None:
    shutil.copy(test_data / "gfmap_cubes" / "cdse_sentinel1_grd.nc", tmp_path / "s1.nc")
    (tmp_path / "s1.json").write_text(json.dumps({"collection": "sentinel-1", "units": "worldcereal"}))
    box = GeoBox((66, 64), Affine(10, 0, 643260, 0, -10, 5676480), "EPSG:32631")
    request = ask(box, ("VV", "VH"), "2023-04-01", "2023-05-01", sensor="sentinel-1")
    stack = load(open_local(tmp_path), request)
    vv, vh = np.median(stack.pixels[0][:, stack.valid[0]], axis=1)
    assert -15 < vv < -9 and vh < vv - 3


def test_terramind_scenes_with_sidecars(test_data: Path, tmp_path: Path) -> None:
    name = "433D_629L_3_1"
    for folder, said in {
        "S2L2A": {"collection": "sentinel-2-l2a", "offset": -1000},
        "S2L1C": {"collection": "sentinel-2-l1c", "offset": -1000},
        "S1RTC": {"collection": "sentinel-1-rtc", "units": "dB", "bands": ["VV", "VH"]},
    }.items():
        (tmp_path / folder).mkdir()
        shutil.copy(test_data / "terramind_scenes" / folder / f"{name}.tif", tmp_path / folder)
        (tmp_path / folder / "rs_embed.json").write_text(json.dumps(said))
    (tmp_path / "rs_embed.json").write_text(json.dumps({"date": "2022-03-01"}))
    provider = open_local(tmp_path)
    assert provider.collections == ("sentinel-1", "sentinel-2-l1c", "sentinel-2-l2a")
    with rasterio.open(tmp_path / "S2L2A" / f"{name}.tif") as dataset:
        raw = dataset.read()
        box = GeoBox(dataset.shape, dataset.transform, str(dataset.crs))
    stack = load(provider, ask(box, S2.default_bands, "2022-01-01", "2023-01-01"))
    np.testing.assert_array_equal(stack.pixels[0], np.maximum(raw.astype(np.float32) - 1000, 0))
    assert raw.min() < 1000 and stack.valid.all()
    radar = ask(box, ("VV", "VH"), "2022-01-01", "2023-01-01", sensor="sentinel-1")
    with rasterio.open(tmp_path / "S1RTC" / f"{name}.tif") as dataset:
        np.testing.assert_allclose(load(provider, radar).pixels[0], dataset.read(), atol=1e-4)


# --- items --------------------------------------------------------------------------------------------------------


def items(folder: Path, pattern: str) -> list[dict]:
    found = []
    for path in sorted(folder.glob(pattern)):
        content = json.loads(path.read_text())
        listed = content if isinstance(content, list) else content.get("features", [content])
        found += [i for i in listed if i.get("type") == "Feature"]
    return found


def test_offsets_of_recorded_items(test_data: Path) -> None:
    seen = {}
    for item in items(test_data, "stac_items/**/*.json"):
        sensor = item_sensor(item)
        if sensor is None or not sensor.id.startswith("sentinel-2"):
            continue
        red = item_bands(item, sensor)["B4"][0]
        offset = sentinel2_offset(item["properties"], red.raster_band)
        key = item["collection"], item["properties"].get("s2:processing_baseline")
        seen.setdefault(key, set()).add(offset)
    assert seen[("sentinel-2-l2a", "02.12")] == {0}
    assert seen[("sentinel-2-l2a", "04.00")] == seen[("sentinel-2-l2a", "05.10")] == {-1000}
    assert seen[("sentinel-2-c1-l2a", "05.11")] == seen[("sentinel-2-l1c", "05.11")] == {-1000}
    assert seen[("sentinel-2-l2a", "05.11")] == {0, -1000}  # Earth Search applied it, Planetary Computer did not


def test_bands_of_recorded_items(test_data: Path) -> None:
    seen = set()
    for item in items(test_data, "stac_items/**/*.json"):
        sensor = item_sensor(item)
        if sensor is None:
            continue
        bands = item_bands(item, sensor)
        scene = item_scene(item, frozenset(bands), None, item_footprint(item))
        assert scene.time.tzinfo is UTC and scene.footprint.is_valid
        assert scene.footprint.bounds[0] >= -180 and scene.footprint.bounds[2] <= 180
        if sensor.kind == "optical" and sensor.id != "naip":  # whose four bands are one asset
            assert set(sensor.default_bands) - set(bands) <= {"SR_B6", "SR_B1", "B10"}, item["id"]
        if "QA_PIXEL" in bands:
            assert "qa_pixel" in bands["QA_PIXEL"][0].href.lower()
        seen.add(item["collection"])
    assert {"sentinel-2-l2a", "landsat-c2-l2", "sentinel-1-rtc", "sentinel-2-c1-l2a"} <= seen


def test_landsat_7_blue_is_blue(test_data: Path) -> None:
    (item,) = items(test_data, "stac_items/odc_stac/tests/data/LE07*.json")
    bands = item_bands(item, SENSORS["landsat-c2-l2"])
    assert bands["SR_B2"][0].href.endswith("SR_B1.TIF")


def test_radar_that_does_not_say_its_units() -> None:
    sensor = SENSORS["sentinel-1"]
    assert decoding_of_item(sensor, "VV", "sentinel-1-rtc", {}, {"nodata": -32768}).nodata == -32768
    with pytest.raises(ProviderError, match=r"sentinel-1-grd: VV .*units"):
        decoding_of_item(sensor, "VV", "sentinel-1-grd", {}, {})


def test_footprints_that_jump_over_the_antimeridian() -> None:
    ring = [[179, 10], [-179, 10], [-179, 12], [179, 12], [179, 10]]
    outline = item_footprint({"geometry": {"type": "Polygon", "coordinates": [ring]}})
    assert outline.area == pytest.approx(4)
    assert not outline.intersects(shapely.Point(0, 11)) and outline.intersects(shapely.Point(-179.5, 11))
    boxed = item_footprint(
        {"geometry": {"type": "MultiPolygon", "coordinates": [[], ring]}, "bbox": [179, 10, -179, 12]}
    )
    assert boxed.equals(outline)
    pole = [[0, -80], [120, -78], [-120, -79], [0, -80]]
    cap = item_footprint({"geometry": {"type": "Polygon", "coordinates": [pole]}})
    assert cap.bounds == (-180, -90, 180, -78)


# --- folders -------------------------------------------------------------------------------------------------------


def test_names_tell_dates_and_bands(tmp_path: Path) -> None:
    for day, value in (("20230815", 100), ("20230820", 300)):
        for band in ("B04", "B08"):
            write(tmp_path / f"field_{day}_{band}.tif", full(value))
    stack = load(open_local(tmp_path), ask(SMALL, ("B4", "B8"), "2023-08-01", "2023-09-01"))
    assert (stack.pixels == 200).all() and [s["id"] for s in stack.scenes[0]] == ["field_20230815", "field_20230820"]


@pytest.mark.parametrize(
    "name", ["2023-08-15/B4.tif", "S2A_MSIL2A_20230815T100031_N0209_R122/T33_B04_10m.tif", "B04_2023-08-15.tif"]
)
def test_ways_to_name_a_file(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, full(100))
    stack = load(open_local(tmp_path), ask(SMALL, ("B4",), "2023-08-15", "2023-08-16"))
    assert (stack.pixels == 100).all() and stack.valid.all()


def test_safe_name_with_a_new_baseline(tmp_path: Path) -> None:
    write(
        tmp_path / "S2A_MSIL2A_20230815T100031_N0509_R122_T33TWM.SAFE" / "T33TWM_20230815T100031_B04_10m.tif",
        full(1300),
    )
    provider = open_local(tmp_path)
    assert provider.collections == ("sentinel-2-l2a",)
    assert (load(provider, ask(SMALL, ("B4",), "2023-08-15", "2023-08-16")).pixels == 300).all()


def test_descriptions_and_default_bands(tmp_path: Path) -> None:
    data = np.stack([full(100 * (i + 1))[0] for i in range(12)])
    write(tmp_path / "a" / "20230815.tif", data)
    write(tmp_path / "b" / "20230901.tif", data[:3], names=("red", "nir", "green"))
    provider = open_local(tmp_path)
    first = load(provider, ask(SMALL, S2.default_bands, "2023-08-15", "2023-08-16"))
    assert first.pixels[0, :, 0, 0].tolist() == [100 * (i + 1) for i in range(12)]
    second = load(provider, ask(SMALL, ("B3", "B4", "B8"), "2023-09-01", "2023-09-02"))
    assert second.pixels[0, :, 0, 0].tolist() == [300, 100, 200]


def test_sidecars(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", full(0.25, dtype="float32"))
    write(tmp_path / "b.tif", full(0.5, dtype="float32"))
    shared = {"collection": "s2", "units": "reflectance", "bands": ["red"], "files": {"b.tif": {"cloud_cover": 80}}}
    (tmp_path / "rs_embed.json").write_text(json.dumps(shared))
    (tmp_path / "a.json").write_text(json.dumps({"date": "2023-08-15T10:00:00Z", "id": "mine"}))
    (tmp_path / "b.json").write_text(json.dumps({"date": "2023-08-16"}))
    provider = open_local(tmp_path)
    stack = load(provider, ask(SMALL, ("B4",), "2023-08-01", "2023-09-01", cloudy_pct=50))
    assert (stack.pixels == 2500).all()
    assert stack.scenes[0][0]["id"] == "mine" and stack.scenes[0][0]["datetime"].startswith("2023-08-15T10")
    assert (load(provider, ask(SMALL, ("B4",), "2023-08-16", "2023-08-17")).pixels == 5000).all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"collection": "sentinel-9"}', "sentinel-9"),
        ('{"colection": "s2"}', "unknown key 'colection'"),
        ('{"date": "yesterday"}', "'yesterday'"),
        ('{"bands": ["B4", "B8"]}', "names 2 bands, but the file has 1"),
        ("{broken", r"x_20230815_B04\.json is not readable JSON"),
        ("[1]", "must hold an object"),
    ],
)
def test_wrong_sidecars(tmp_path: Path, content: str, said: str) -> None:
    write(tmp_path / "x_20230815_B04.tif", full(1))
    (tmp_path / "x_20230815_B04.json").write_text(content)
    with pytest.raises(ProviderError, match=said):
        open_local(tmp_path)


def test_units_that_nobody_has(tmp_path: Path) -> None:
    write(tmp_path / "x_20230815_B04.tif", full(1))
    (tmp_path / "rs_embed.json").write_text('{"collection": "s2", "units": "furlongs"}')
    with pytest.raises(ProviderError, match=r"'furlongs'; declare one of"):
        load(open_local(tmp_path), ask(SMALL, ("B4",), "2023-08-01", "2023-09-01"))


def test_decibel_files_are_composited_as_power(tmp_path: Path) -> None:
    for day, value in (("20230815", -10.0), ("20230816", -20.0)):
        write(tmp_path / f"S1_{day}_VV.tif", full(value, dtype="float32"))
    (tmp_path / "rs_embed.json").write_text('{"collection": "s1", "units": "dB"}')
    request = ask(SMALL, ("VV",), "2023-08-01", "2023-09-01", sensor="sentinel-1", composite="mean")
    np.testing.assert_allclose(load(open_local(tmp_path), request).pixels, 10 * np.log10(0.055), rtol=1e-5)


def test_footprint_is_the_files(tmp_path: Path, test_data: Path) -> None:
    """An item may describe more than the crop that lies beside it."""
    folder = next(test_data.glob("s2_stac_catalog/*/*33TWM_20230815*"))
    shutil.copy(next(folder.glob("*.json")), tmp_path)
    box = GeoBox((50, 50), Affine(120, 0, 542220, 0, -120, 5200020), "EPSG:32633")
    write(tmp_path / "B04.tif", np.full((1, 50, 50), 7, np.uint16), box)
    provider = open_local(tmp_path)
    assert (load(provider, ask(box, ("B4",), "2023-08-01", "2023-09-01")).pixels == 7).all()
    beside = GeoBox((50, 50), Affine(120, 0, 562220, 0, -120, 5160020), "EPSG:32633")
    with pytest.raises(NoImageryError):
        load(provider, ask(beside, ("B4",), "2023-08-01", "2023-09-01"))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"nowhere does not exist"):
        open_local(tmp_path / "nowhere")
    with pytest.raises(ProviderError, match=r"looked for STAC.*\*\.tif.*rs_embed\.json"):
        open_local(tmp_path)
    write(tmp_path / "dem.tif", full(1))
    with pytest.raises(ProviderError, match=r"dem\.tif tells no date"):
        open_local(tmp_path)
    item = {"type": "Feature", "id": "x", "collection": "moon", "assets": {}, "properties": {}, "geometry": None}
    (tmp_path / "item.json").write_text(json.dumps(item))
    with pytest.raises(ProviderError, match=r"collection 'moon' is not known"):
        open_local(tmp_path)


def test_item_without_files(test_data: Path, tmp_path: Path) -> None:
    shutil.copy(next(test_data.glob("s2_stac_catalog/*/*33TWM_20230815*/*.json")), tmp_path)
    with pytest.raises(ProviderError, match=r"none of the files of item S2A_33TWM_20230815_0_L2A is here"):
        open_local(tmp_path)


def test_another_sensor(tmp_path: Path) -> None:
    write(tmp_path / "S2_L2A_20230815_B04.tif", full(1))
    provider = open_local(tmp_path)
    assert provider.offers("sentinel-2-l2a") and not provider.offers("sentinel-1")
    with pytest.raises(ProviderError, match="no scene of sentinel-1; it holds sentinel-2-l2a"):
        load(provider, ask(SMALL, ("VV",), "2023-08-01", "2023-09-01", sensor="sentinel-1"))


def test_corrupt_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x_20230815_B04.tif", np.arange(480, dtype=np.uint16).reshape(1, 20, 24))
    provider = open_local(tmp_path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ProviderError, match=r"x_20230815_B04\.tif") as caught:
        load(provider, ask(SMALL, ("B4",), "2023-08-01", "2023-09-01"))
    assert str(tmp_path) not in str(caught.value)


def test_broken_catalogue(tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_text('{"type": "Catalog"}')
    with pytest.raises(ProviderError, match=r"catalog\.json is not a readable STAC catalogue"):
        open_local(tmp_path)


def test_provider_travels_by_pickle(tmp_path: Path) -> None:
    write(tmp_path / "x_20230815_B04.tif", full(9))
    provider = pickle.loads(pickle.dumps(open_local(tmp_path)))
    assert (load(provider, ask(SMALL, ("B4",), "2023-08-01", "2023-09-01")).pixels == 9).all()
