"""The user's own arrays: what they may be, and what they answer on a lattice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from rs_embed.core.errors import ProviderError, SpecError
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.sensors import SENSORS
from rs_embed.core.specs import PointBuffer, TemporalSpec
from rs_embed.providers.arrays import ArrayProvider, ArraysProvider, UserData
from rs_embed.providers.base import Provider

UTM = Affine(10, 0, 500000, 0, -10, 5100000)
RNG = np.random.default_rng(3)
CUBE = RNG.integers(1, 9000, (12, 20, 30)).astype(np.float32)


def request(data: UserData, **more: object) -> ImageRequest:
    made = ImageRequest(data.sensor.id, data.canonical_bands, None, data.geobox, ())
    return replace(made, **more)  # type: ignore[arg-type]


def load(data: UserData, part: GeoBox | None = None, **more: object) -> ImageStack:
    (stack,) = ArrayProvider(data).load(request(data, **more), [part or data.geobox])
    return stack


def crop(box: GeoBox, row: int, col: int, height: int, width: int) -> GeoBox:
    a = box.affine
    return GeoBox((height, width), Affine(a.a, 0, a.c + a.a * col, 0, a.e, a.f + a.e * row), box.crs)


def test_the_array_comes_back() -> None:
    data = UserData(CUBE, "s2")
    stack = load(data)
    np.testing.assert_array_equal(stack.pixels[0], CUBE)
    assert stack.valid.all() and np.isnat(stack.times).all() and stack.observations == (600, 600)
    assert data.geobox.crs is None and data.canonical_bands == SENSORS["sentinel-2-l2a"].default_bands
    assert isinstance(ArrayProvider(data), Provider)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": CUBE[0]}, r"shape \(20, 30\)"),
        ({"data": CUBE.astype(complex)}, "complex"),
        ({"data": np.zeros((12, 0, 4))}, "no pixel"),
        ({"collection": "sentinel-9"}, "sentinel-9"),
        ({"collection": " "}, "collection"),
        ({"data": CUBE[:5]}, "5 channels"),
        ({"bands": ["B4"]}, "names 1 bands"),
        ({"bands": ["B4"] * 12}, "twice"),
        ({"bands": ["B4", " "] * 6}, "blank"),
        ({"bands": "B4"}, "list of names"),
        ({"bands": [*SENSORS["sentinel-2-l2a"].default_bands[:11], "B99"]}, "B99"),
        ({"scale_m": 0}, "scale_m=0"),
        ({"scale_m": float("nan")}, "finite"),
        ({"crs": "EPSG:32633"}, "transform is missing"),
        ({"transform": UTM}, "crs is missing"),
        ({"crs": "EPSG:99999999", "transform": UTM}, "99999999"),
        ({"crs": "EPSG:32633", "transform": (1, 2, 3)}, "six numbers"),
        ({"crs": "EPSG:32633", "transform": (0, 0, 3, 0, 0, 1)}, "no area"),
        ({"units": "furlongs"}, "furlongs"),
        ({"units": "dn"}, "accepted"),
        ({"temporal": "2022"}, "TemporalSpec"),
        ({"temporal": [TemporalSpec.parse("2022")] * 2}, "2 spans"),
        ({"wavelengths": [0.5]}, "12 numbers"),
        ({"wavelengths": [490.0] * 12}, "µm"),
    ],
)
def test_what_cannot_be_meant(change: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        UserData(**({"data": CUBE, "collection": "s2"} | change))  # type: ignore[arg-type]


def test_reflectances_without_a_word_warn() -> None:
    with pytest.warns(UserWarning, match=r"units='reflectance'"):
        UserData(CUBE / 10000, "s2")
    stack = load(UserData(CUBE / 10000, "s2", units="reflectance"))
    np.testing.assert_allclose(stack.pixels[0], CUBE, rtol=1e-5)


def test_frames_and_times() -> None:
    cube = np.stack([CUBE, CUBE + 1, CUBE + 2])
    assert np.isnat(load(UserData(cube, "s2")).times).all()
    year = load(UserData(cube, "s2", temporal=TemporalSpec.parse("2023-06-01/2023-06-04")))
    assert [str(t) for t in year.times] == [f"2023-06-0{d}T12:00:00" for d in (1, 2, 3)]
    days = load(UserData(cube, "s2", temporal=[TemporalSpec.parse(f"2023-0{m}-15") for m in (5, 1, 3)]))
    assert [str(t)[:10] for t in days.times] == ["2023-05-15", "2023-01-15", "2023-03-15"]
    np.testing.assert_array_equal(days.pixels[2], CUBE + 2)


def test_bands_are_found_by_name() -> None:
    data = UserData(CUBE[:3], "s2", bands=["NIR", "red", "B02"])
    stack = load(data, bands=("B2", "B8", "B11"))
    assert stack.missing_bands == ("B11",)
    np.testing.assert_array_equal(stack.pixels[0, :2], CUBE[[2, 0]])
    with pytest.raises(ProviderError, match=r"no band B11; they have B8, B4, B2"):
        load(data, bands=("B11",))
    with pytest.raises(ProviderError, match="are of sentinel-2-l2a"):
        load(data, sensor="sentinel-1", bands=("VV",))


def test_pixels_that_are_not_numbers_are_masked_and_counted() -> None:
    cube = CUBE.copy()
    cube[3, 4, 5], cube[0, 0, 0], cube[1, 1, 1] = np.nan, np.inf, -9999
    data = UserData(cube, "s2", nodata=-9999, crs="EPSG:32633", transform=UTM)
    stack = load(data)
    assert np.argwhere(~stack.valid[0]).tolist() == [[0, 0], [1, 1], [4, 5]] and stack.observations == (597, 600)
    fine = load(data, GeoBox((40, 60), Affine(5, 0, 500000, 0, -5, 5100000), "EPSG:32633"))
    assert (~fine.valid).sum() == 12 and np.isfinite(fine.pixels).all()


def test_masked_array() -> None:
    cube = np.ma.masked_equal(np.full((12, 4, 4), 5, np.uint16), 5)
    cube.mask[:, 1:] = False
    stack = load(UserData(cube, "s2"))
    assert stack.valid[0].sum() == 12


def test_outside_is_not_valid() -> None:
    data = UserData(CUBE, "s2", crs="EPSG:32633", transform=UTM)
    stack = load(data, crop(data.geobox, -5, 10, 15, 40))
    assert stack.valid.sum() == 10 * 20 and stack.observations == (200, 200)
    np.testing.assert_array_equal(stack.pixels[0, :, 5:, :20], CUBE[:, :10, 10:])
    assert not load(data, GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), "EPSG:32633")).valid.any()


LATTICES = [
    UserData(CUBE, "s2", scale_m=10).geobox,
    GeoBox((20, 30), UTM, "EPSG:32633"),
    GeoBox((31, 40), Affine(7, 0, 500003, 0, -7, 5099996), "EPSG:32633"),
    GeoBox((25, 25), Affine(1e-4, 0, 15.0003, 0, -1e-4, 46.0525), "EPSG:4326"),
]


@given(data=st.data(), number=st.integers(0, 3), bad=st.booleans())
def test_part_is_the_crop_of_the_whole(data: st.DataObject, number: int, bad: bool) -> None:
    box = LATTICES[number]
    cube = np.where(CUBE < 1000, np.nan, CUBE) if bad else CUBE
    placed = {} if box.crs is None else {"crs": "EPSG:32633", "transform": UTM}
    given_data = UserData(cube, "s2", scale_m=10, **placed)
    row, col = (data.draw(st.integers(0, n - 1)) for n in box.shape)
    height, width = data.draw(st.integers(1, box.shape[0] - row)), data.draw(st.integers(1, box.shape[1] - col))
    whole, part = ArrayProvider(given_data).load(request(given_data), [box, crop(box, row, col, height, width)])
    np.testing.assert_array_equal(part.pixels, whole.pixels[..., row : row + height, col : col + width])
    np.testing.assert_array_equal(part.valid, whole.valid[..., row : row + height, col : col + width])


def test_coarser_lattice_without_a_place() -> None:
    data = UserData(CUBE, "s2", scale_m=10)
    stack = load(data, GeoBox((10, 15), Affine(20, 0, 0, 0, -20, 0), None))
    np.testing.assert_allclose(stack.pixels[0], CUBE.reshape(12, 10, 2, 15, 2).mean(axis=(2, 4)), rtol=1e-6)


def test_radar() -> None:
    level = np.array([[[-10.0, -20.0]], [[-15.0, np.nan]]], np.float32)
    stack = load(UserData(level, "s1"))
    np.testing.assert_array_equal(stack.pixels[0, :, 0, 0], [-10, -15])
    assert stack.valid[0].tolist() == [[True, False]]
    power = load(UserData(np.array([[[0.1, 0.0]], [[0.1, 0.2]]]), "s1", units="linear"))
    np.testing.assert_allclose(power.pixels[0, :, 0, 0], -10, rtol=1e-6)
    assert power.valid[0].tolist() == [[True, False]]
    coarse = load(
        UserData(level[:1].repeat(2, axis=1), "s1", bands=["VV"]), GeoBox((1, 1), Affine(20, 0, 0, 0, -20, 0), None)
    )
    np.testing.assert_allclose(coarse.pixels, 10 * np.log10(0.055), rtol=1e-5)  # the mean of powers


def test_landsat_numbers() -> None:
    dn = np.full((7, 2, 2), 10000, np.uint16)
    dn[0, 0, 0] = 0
    stack = load(UserData(dn, "landsat", units="dn"))
    assert stack.valid.sum() == 3 and stack.pixels[0, 1, 1, 1] == pytest.approx(750)


def test_mask_band_of_the_user() -> None:
    scl = np.array([[4, 9]], np.float32)
    data = UserData(np.stack([np.full((1, 2), 500, np.float32), scl]), "s2", bands=["B4", "SCL"])
    assert load(data, bands=("B4",), mask="scl").valid.tolist() == [[[True, False]]]
    assert load(data, bands=("B4",)).valid.all()


def test_spatial_is_a_region() -> None:
    assert UserData(CUBE, "s2", PointBuffer(15, 46, 100)).spatial == PointBuffer(15, 46, 100)
    with pytest.raises(SpecError, match="not a region"):
        UserData(CUBE, "s2", "here")


def test_from_raster(tmp_path: Path, test_data: Path) -> None:
    path = test_data / "terramind_scenes" / "S2L2A" / "282D_485L_3_3.tif"
    data = UserData.from_raster(path, collection="s2", temporal=TemporalSpec.parse("2022"))
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(load(data).pixels[0], dataset.read())
        assert data.transform == dataset.transform and data.crs.epsg == dataset.crs.to_epsg()
    assert data.scale_m == 10 and data.geobox.crs is not None
    radar = UserData.from_raster(
        test_data / "terramind_scenes" / "S1RTC" / "282D_485L_3_3.tif", collection="s1", units="dB"
    )
    assert load(radar).valid.all()
    with pytest.raises(ProviderError, match="does not exist"):
        UserData.from_raster(tmp_path / "x.tif", collection="s2")
    (tmp_path / "x.tif").write_bytes(b"II*\0nonsense")
    with pytest.raises(ProviderError, match=r"x\.tif"):
        UserData.from_raster(tmp_path / "x.tif", collection="s2")


def test_eolearn_patch(test_data: Path) -> None:
    cube = np.load(test_data / "eolearn_patch" / "REFERENCE_SCENES.npy")
    cube = np.moveaxis(cube, -1, 1) if cube.shape[-1] == 13 else cube
    names = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
    days = ("2015-08-20", "2015-07-31", "2015-09-09", "2015-08-30", "2015-07-11")
    data = UserData(
        cube, "sentinel-2-l1c", bands=names, temporal=[TemporalSpec.parse(d) for d in days], units="reflectance"
    )
    stack = load(data, bands=("B4", "B8", "B10"))
    assert stack.pixels.shape[:2] == (5, 3) and stack.valid.mean() > 0.99
    clear, cloudy = np.median(stack.pixels[4], axis=(1, 2)), np.median(stack.pixels[0], axis=(1, 2))
    assert clear[1] > clear[0] > 100 and cloudy[0] > 2 * clear[0]
    assert [str(t)[:10] for t in stack.times] == list(days)


def test_from_xarray() -> None:
    times = np.array(["2023-06-01", "2023-06-11"], "datetime64[ns]")
    crs = xr.DataArray(0, attrs={"crs_wkt": "EPSG:32633"})
    cube = np.stack([CUBE, CUBE + 1])
    da = xr.DataArray(
        cube.transpose(2, 0, 3, 1)[::-1],  # y upwards
        dims=("y", "time", "x", "band"),
        coords={
            "y": 5099995 - 10.0 * np.arange(20)[::-1],
            "x": 500005 + 10.0 * np.arange(30),
            "time": times,
            "band": list(SENSORS["sentinel-2-l2a"].default_bands),
            "spatial_ref": crs,
        },
        attrs={"_FillValue": -1},
    )
    data = UserData.from_xarray(da, collection="s2")
    assert data.geobox == GeoBox((20, 30), UTM, "EPSG:32633") and data.nodata == -1
    stack = load(data)
    np.testing.assert_array_equal(stack.pixels, cube)
    assert [str(t)[:10] for t in stack.times] == ["2023-06-01", "2023-06-11"]
    said = da.isel(time=0).transpose("band", "y", "x")[:, ::-1].drop_vars(["x", "y"])
    said.coords["spatial_ref"].attrs["GeoTransform"] = "500000 10 0 5100000 0 -10"
    assert UserData.from_xarray(said, collection="s2").geobox == data.geobox
    bare = xr.DataArray(CUBE, dims=("band", "y", "x"))
    assert UserData.from_xarray(bare, collection="s2").geobox.crs is None
    one = UserData.from_xarray(xr.DataArray(CUBE[0], dims=("y", "x")), collection="s2", bands=["B4"])
    assert one.data.shape == (1, 20, 30)
    for wrong in (bare.rename(x="q"), CUBE, da.assign_coords(x=np.arange(30.0) ** 2)):
        with pytest.raises(SpecError):
            UserData.from_xarray(wrong, collection="s2")


def test_intervals_do_not_matter() -> None:
    span = (datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC))
    assert load(UserData(CUBE, "s2"), intervals=(span, span)).pixels.shape[0] == 1


PLACED = {"crs": "EPSG:32633", "transform": UTM}


def test_several_arrays_answer_each_for_its_sensor() -> None:
    s2, s1 = UserData(CUBE, "s2", **PLACED), UserData(CUBE[:2] - 9000, "s1", **PLACED)
    provider = ArraysProvider([s2, s1])
    assert isinstance(provider, Provider)
    assert [provider.offers(s) for s in ("sentinel-2-l2a", "sentinel-1", "dem")] == [True, True, False]
    for data in (s2, s1):
        (stack,), alone = provider.load(request(data), [s2.geobox]), load(data)
        np.testing.assert_array_equal(stack.pixels, alone.pixels)
    with pytest.raises(ProviderError, match="are of sentinel-2-l2a, sentinel-1, not of dem"):
        provider.load(replace(request(s2), sensor="dem"), [s2.geobox])


def test_another_array_is_resampled_onto_the_firsts_pixels() -> None:
    s2 = UserData(CUBE, "s2", **PLACED)
    coarse = np.stack((np.full((4, 5), 200.0), np.arange(20.0).reshape(4, 5)))
    dem = UserData(coarse, "dem", crs="EPSG:32633", transform=Affine(100, 0, 499900, 0, -100, 5100100))
    (stack,) = ArraysProvider([s2, dem]).load(request(dem), [s2.geobox])
    assert stack.pixels.shape == (1, 2, 20, 30) and stack.valid.all()
    np.testing.assert_allclose(stack.pixels[0, 0], 200, rtol=1e-6)
    rows, columns = (np.mgrid[:20, :30] + 0.5) / 10  # in coarse pixels from the corner of the first array
    np.testing.assert_allclose(stack.pixels[0, 1], 5 * (rows + 0.5) + columns + 0.5, atol=1e-3)


@pytest.mark.parametrize("placed", [{}, PLACED])
def test_an_array_without_a_georeference_lies_on_the_firsts_pixels(placed: dict[str, object]) -> None:
    s2 = UserData(CUBE, "s2", **placed)  # type: ignore[arg-type]
    relief = RNG.uniform(0, 50, (2, 20, 30)).astype(np.float32)
    weather = np.float32([280, 0.1])[:, None, None]
    provider = ArraysProvider([s2, UserData(relief, "dem"), UserData(weather, "era5")])
    np.testing.assert_array_equal(next(provider.load(request(UserData(relief, "dem")), [s2.geobox])).pixels[0], relief)
    (everywhere,) = provider.load(request(UserData(weather, "era5")), [s2.geobox])
    assert (everywhere.pixels[0] == weather).all() and everywhere.valid.all()


def test_arrays_that_cannot_be_laid_together() -> None:
    s2 = UserData(CUBE, "s2", **PLACED)
    with pytest.raises(SpecError, match="two of the arrays of one place are of sentinel-2-l2a"):
        ArraysProvider([s2, s2])
    with pytest.raises(SpecError, match=r"of dem has 4 x 5 pixels and no georeference, .* 20 x 30"):
        ArraysProvider([s2, UserData(np.ones((2, 4, 5)), "dem")])
    with pytest.raises(SpecError, match="of dem has a georeference and the first, of sentinel-2-l2a, has none"):
        ArraysProvider([UserData(CUBE, "s2"), UserData(np.ones((2, 4, 5)), "dem", **PLACED)])
