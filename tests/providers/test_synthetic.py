from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import pairwise

import numpy as np
import pytest
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio import Affine

from rs_embed.core.errors import ProviderError
from rs_embed.core.imagery import ImageRequest, Scene
from rs_embed.providers import landscape, synthetic
from rs_embed.providers.climate import RELIEF, WEATHER, relief, weather
from rs_embed.providers.landscape import CLASSES, CROP, FOREST, TOWN, WATER, classes, ground, surface
from rs_embed.providers.noise import Lattice, cells, sphere
from rs_embed.providers.spectra import BANDS, CROPS
from rs_embed.providers.synthetic import SyntheticProvider

PROVIDER = SyntheticProvider()
LON, LAT = 119.97, 27.16  # a town on a river
S1_BANDS = ("VV", "VH")
PAINTED = {"sentinel-2-l2a": (*BANDS, "SCL"), "sentinel-1": S1_BANDS, "era5": WEATHER, "dem": RELIEF}


def request(sensor: str = "sentinel-2-l2a", lon: float = LON, lat: float = LAT) -> ImageRequest:
    return ImageRequest(sensor, ("B4",), shapely.box(lon, lat, lon + 0.01, lat + 0.01), None, ())


def scenes(year: int = 2022, sensor: str = "sentinel-2-l2a", lon: float = LON, lat: float = LAT) -> list[Scene]:
    interval = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    return PROVIDER.search(request(sensor, lon, lat), interval)


def lattice(crs: str, x: float, y: float, shape: tuple[int, int], gsd: float = 10.0) -> GeoBox:
    return GeoBox(shape, Affine(gsd, 0, x, 0, -gsd, y), crs)


def crop(geobox: GeoBox, row: int, column: int, height: int, width: int) -> GeoBox:
    # Not geobox[...]: odc-geo multiplies transforms with *, of which affine warns.
    return GeoBox((height, width), geobox.affine @ Affine.translation(column, row), geobox.crs)


def degrees(geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    columns, rows = np.arange(geobox.shape[1]) + 0.5, np.arange(geobox.shape[0]) + 0.5
    x, y = np.meshgrid(geobox.affine.c + columns * geobox.affine.a, geobox.affine.f + rows * geobox.affine.e)
    return Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform(x, y)


def utm(lon: float, lat: float, code: int, shape: tuple[int, int], gsd: float = 10.0) -> GeoBox:
    x, y = Transformer.from_crs("EPSG:4326", f"EPSG:{code}", always_xy=True).transform(lon, lat)
    return lattice(f"EPSG:{code}", round(x / gsd) * gsd, round(y / gsd) * gsd, shape, gsd)


SMALL = utm(LON, LAT - 0.005, 32651, (90, 97))
LATTICES = {
    "utm": utm(LON, LAT, 32651, (201, 173)),
    "across a zone border": utm(11.99, 48.1, 32632, (150, 180)),
    "the antimeridian": utm(179.995, -17.0, 32760, (140, 160)),
    "north pole": lattice("EPSG:32661", 1_999_000.0, 2_001_000.0, (190, 200)),
    "south pole": lattice("EPSG:32761", 1_999_300.0, 2_000_700.0, (150, 151), 7.0),
    "degrees": lattice("EPSG:4326", -0.011, 0.009, (190, 210), 0.0001),
    "Mercator, coarse": lattice("EPSG:3857", 1_300_000.0, 6_100_000.0, (170, 160), 731.0),
    "odd metres": utm(-75.54, 45.41, 32618, (160, 177), 1 / 3),
}
CROPS_OF_A_LATTICE = [
    (0, 0, 1, 1),
    (3, 5, 67, 129),
    (17, 31, 101, 33),
    (61, 7, 64, 1),
    (1, 99, 1, 41),
    (70, 77, 63, 65),
]


@pytest.mark.parametrize("geobox", LATTICES.values(), ids=LATTICES)
@pytest.mark.parametrize("sensor", PAINTED)
def test_a_crop_is_equal_to_the_bit(geobox: GeoBox, sensor: str) -> None:
    bands = PAINTED[sensor]
    for scene in scenes(2021, sensor=sensor)[-4:]:
        whole = PROVIDER.read(scene, bands, geobox)
        assert whole.shape == (len(bands), *geobox.shape) and whole.dtype == np.float32
        for row, column, height, width in CROPS_OF_A_LATTICE:
            part = PROVIDER.read(scene, bands, crop(geobox, row, column, height, width))
            np.testing.assert_array_equal(part, whole[:, row : row + height, column : column + width])


def test_a_band_does_not_depend_on_the_others_asked_with_it() -> None:
    scene, geobox = scenes()[31], LATTICES["utm"]
    together = PROVIDER.read(scene, ("SCL", "B8", "B2"), geobox)
    for number, band in enumerate(("SCL", "B8", "B2")):
        np.testing.assert_array_equal(PROVIDER.read(scene, (band,), geobox)[0], together[number])


def test_every_clear_pixel_is_the_surface_at_its_centre() -> None:
    checked = 0
    for scene in scenes()[:20]:
        pixels = PROVIDER.read(scene, ("B2", "B8", "SCL"), LATTICES["utm"])
        clear = np.isin(pixels[2], (4, 5, 6))
        wanted = surface(*degrees(LATTICES["utm"]), scene.time.date(), ("B2", "B8"))
        off = np.abs(pixels[:2] - wanted)[:, clear]
        assert (off <= 1).all() and (off > 0).mean() < 1e-3 if off.size else True
        checked += int(clear.sum())
    assert checked > 150_000


def test_two_zones_see_one_landscape() -> None:
    """Pixels of zone 33 are the landscape at the points where zone 32 would have them."""
    west, east = LATTICES["across a zone border"], utm(11.99, 48.1, 32633, (150, 180))
    scene = next(s for s in scenes(lon=11.5, lat=48.5) if s.cloud_cover == 0)
    for geobox in (west, east):
        pixels = PROVIDER.read(scene, ("B4",), geobox)[0]
        wanted = surface(*degrees(geobox), scene.time.date(), ("B4",))[0]
        free = np.isfinite(pixels)
        assert free.any()
        assert np.nanmax(np.abs(pixels - wanted)[free]) <= 1


def test_longitudes_are_a_circle_and_the_poles_are_points() -> None:
    lat = np.linspace(-89, 89, 500)
    np.testing.assert_array_equal(classes(np.full(500, 180.0), lat), classes(np.full(500, -180.0), lat))
    np.testing.assert_array_equal(classes(np.full(500, 190.0), lat), classes(np.full(500, -170.0), lat))
    assert len(np.unique(surface(np.linspace(-180, 180, 73), np.full(73, 90.0), date(2022, 6, 3), ("B3",)))) <= 2


def test_the_landscape_has_every_class_and_smooth_ground() -> None:
    generator = np.random.default_rng(0)
    lon, lat = generator.uniform(-180, 180, 20_000), generator.uniform(-60, 70, 20_000)
    share = np.bincount(classes(lon, lat), minlength=len(CLASSES)) / 20_000
    assert (share > 0.03).all() and (share < 0.6).all(), share
    close = classes(lon + 0.0001, lat)
    assert (close == classes(lon, lat)).mean() > 0.93


def greenness(lon: float, lat: float, day: date, kind: int) -> float:
    steps = np.arange(0, 0.1, 0.0005)
    x, y = lon + steps, (lat + steps)[:, None]
    red, near = surface(x, y, day, ("B4", "B8"))
    return float(np.median(((near - red) / (near + red))[classes(x, y) == kind]))


@pytest.mark.parametrize("kind", [CROP, FOREST], ids=["crops", "forest"])
def test_seasons_are_half_a_year_apart_between_the_hemispheres(kind: int) -> None:
    north = [greenness(-75.54, 45.41, date(2022, month, 5), kind) for month in (1, 7)]
    south = [greenness(145.87, -36.37, date(2022, month, 5), kind) for month in (1, 7)]
    assert north[1] > north[0] + 0.06 and south[0] > south[1] + 0.06


def test_crops_have_calendars_of_their_own_and_rotate() -> None:
    lon, lat = 11.42 + np.arange(0, 0.08, 0.0004), np.full(200, 48.26)
    place = ground(lon, lat)
    first, second = place.crop(date(2022, 6, 1)), place.crop(date(2023, 6, 1))
    assert len(np.unique(first)) >= 4 and (first != second).mean() > 0.5
    np.testing.assert_array_equal(place.crop(date(2022, 11, 1)), second)
    farmed = (place.classes() == CROP) & (place.hedge == 0) & (place.road == 0)
    ndvi = {}
    for day in (date(2022, 5, 5), date(2022, 8, 5)):
        red, near = surface(lon, lat, day, ("B4", "B8"))
        index = (near - red) / (near + red)
        ndvi[day.month] = [index[farmed & (first == CROPS.index(c))].mean() for c in ("winter wheat", "maize")]
    assert ndvi[5][0] > ndvi[5][1] + 0.3 and ndvi[8][1] > ndvi[8][0] + 0.3


def test_water_is_dark_and_towns_are_bright() -> None:
    steps = np.arange(0, 0.05, 0.0002)
    x, y = LON + steps, (LAT - steps)[:, None]
    kind = classes(x, y)
    blue, near = surface(x, y, date(2022, 7, 3), ("B2", "B8"))
    assert near[kind == WATER].mean() < 400 < 1500 < near[kind == CROP].mean()
    assert blue[kind == TOWN].mean() > 1.5 * blue[kind == FOREST].mean()


def test_clouds_are_bright_shadows_dark_and_gaps_empty() -> None:
    seen: dict[int, int] = {}
    for scene in scenes():
        b2, scl = PROVIDER.read(scene, ("B2", "SCL"), SMALL)
        below = surface(*degrees(SMALL), scene.time.date(), ("B2",))[0]
        assert (np.isnan(b2) == (scl == 0)).all()
        assert (b2[scl == 9] > 2500).all() and (b2[scl == 8] > below[scl == 8]).all()
        assert (b2[scl == 3] < 0.6 * below[scl == 3]).all()
        for value, count in zip(*np.unique(scl, return_counts=True), strict=True):
            seen[int(value)] = seen.get(int(value), 0) + int(count)
    assert set(seen) == {0, 3, 4, 5, 6, 8, 9, 10}


def test_cloud_cover_says_what_the_pixels_show() -> None:
    geobox = lattice("EPSG:4326", 119.0, 28.0, (250, 250), 0.004)  # the cell of one degree
    for scene in scenes()[::4]:
        scl = PROVIDER.read(scene, ("SCL",), geobox)[0]
        seen = scl[scl > 0]
        if seen.size:
            assert abs(100 * np.isin(seen, (8, 9)).mean() - scene.cloud_cover) < 25
        if scene.cloud_cover == 0:
            assert np.isin(seen, (8, 9)).mean() < 0.1


def test_weather_varies() -> None:
    for lon, lat in ((LON, LAT), (11.4, 48.2), (-60.0, -10.0), (0.0, 89.5), (179.99, -17.0)):
        cover = np.array([scene.cloud_cover for scene in scenes(lon=lon, lat=lat)])
        shares = [(cover == 0).mean(), ((cover > 0) & (cover <= 60)).mean(), (cover > 60).mean()]
        assert min(shares) > 0.08, shares


def test_some_scenes_miss_a_corner() -> None:
    wide = utm(LON, LAT, 32651, (90, 97), gsd=60.0)
    shares = [np.isnan(PROVIDER.read(scene, ("B2",), wide)).mean() for scene in scenes()]
    assert any(0 < share < 1 for share in shares) and sum(share == 0 for share in shares) > len(shares) / 2


def test_scenes_of_sentinel_2() -> None:
    found = scenes()
    assert len(found) == 73
    scene = next(s for s in found if s.time.date() == date(2022, 6, 3))
    assert scene.id == "SYN-S2-20220603" and scene.time == datetime(2022, 6, 3, 10, 30, tzinfo=UTC)
    assert scene.bands == {*BANDS, "SCL"} and scene.footprint is None
    assert {(b.time - a.time).days for a, b in pairwise(found)} == {5}


def test_scenes_of_sentinel_1_alternate_between_orbits() -> None:
    found = scenes(sensor="sentinel-1")
    assert {(a.orbit, b.orbit) for a, b in pairwise(found)} == {
        ("ascending", "descending"),
        ("descending", "ascending"),
    }
    assert {(b.time.date() - a.time.date()).days for a, b in pairwise(found)} == {6}


def test_the_end_of_an_interval_is_excluded() -> None:
    start, end = datetime(2022, 6, 3, 10, 30, tzinfo=UTC), datetime(2022, 6, 8, 10, 30, tzinfo=UTC)
    assert [s.id for s in PROVIDER.search(request(), (start, end))] == ["SYN-S2-20220603"]


@pytest.mark.parametrize("year", [1, 1999, 9998])
def test_any_year_has_imagery(year: int) -> None:
    found = scenes(year)
    assert len(found) in (73, 74)
    for lat in (20.0, -20.0):
        assert np.isfinite(surface([5.0], [lat], found[-1].time.date())).all()


def test_radar_is_linear_power_with_speckle_that_changes() -> None:
    geobox = LATTICES["utm"]
    kind = classes(*degrees(geobox))
    first, second, *_ = (PROVIDER.read(s, S1_BANDS, geobox) for s in scenes(sensor="sentinel-1")[:3])
    assert (first > 0).all() and (first[0] > first[1]).mean() > 0.9
    level = {k: 10 * np.log10(first[0][kind == k].mean()) for k in (WATER, FOREST, CROP, TOWN)}
    assert level[WATER] < level[CROP] < level[FOREST] < level[TOWN], level
    open_water = ground(*(a.ravel() for a in degrees(geobox))).water.reshape(geobox.shape) == 1
    before, after = (scene[0][open_water] / scene[0][open_water].mean() for scene in (first, second))
    assert before.size > 1000 and abs(before.std() - 0.5) < 0.1  # four looks; the water's own colours add a little
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.1


def test_another_process_paints_the_same() -> None:
    code = (
        "import hashlib, numpy as np; from datetime import date\n"
        "from rs_embed.providers.landscape import surface\n"
        "s = np.arange(60) * 1e-4; a = surface(119.97 + s, (27.16 - s)[:, None], date(2022, 6, 3))\n"
        "print(hashlib.sha256(a.tobytes()).hexdigest())"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    steps = np.arange(60) * 1e-4
    here = surface(119.97 + steps, (27.16 - steps)[:, None], date(2022, 6, 3))
    assert runs == {hashlib.sha256(here.tobytes()).hexdigest() + "\n"}


def test_a_lattice_without_a_place_is_refused() -> None:
    with pytest.raises(ProviderError, match="needs a place"):
        PROVIDER.read(scenes()[0], ("B4",), GeoBox((4, 4), Affine(1, 0, 0, 0, -1, 0), None))


def test_what_is_not_painted_is_refused() -> None:
    assert PROVIDER.offers("sentinel-1") and not PROVIDER.offers("landsat-c2-l2")
    with pytest.raises(ProviderError, match="landsat-c2-l2"):
        scenes(sensor="landsat-c2-l2")
    with pytest.raises(ProviderError, match="'B10'"):
        PROVIDER.read(scenes()[0], ("B4", "B10"), LATTICES["utm"])


def test_weather_has_a_scene_a_month_and_relief_one() -> None:
    found = scenes(sensor="era5")
    assert [f"{scene.time:%m-%d}" for scene in found] == [f"{month:02}-15" for month in range(1, 13)]
    (only,) = PROVIDER.search(request("dem"), (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)))
    assert only.bands == {"elevation", "slope"}
    (stack,) = PROVIDER.load(replace(request("dem"), bands=("slope", "elevation"), geobox=SMALL), [SMALL])
    assert stack.pixels.shape == (1, 2, *SMALL.shape) and stack.valid.all() and np.isnat(stack.times).all()


def test_the_slope_is_that_of_the_elevation() -> None:
    lon, lat = degrees(SMALL)
    elevation, slope = relief(lon.ravel(), lat.ravel()).reshape(2, *SMALL.shape)
    north, east = np.gradient(elevation, 10.0)
    steep = np.degrees(np.arctan(np.hypot(north, east)))[1:-3, 1:-3]
    assert np.corrcoef(steep.ravel(), slope[1:-3, 1:-3].ravel())[0, 1] > 0.95
    assert np.median(np.abs(steep - slope[1:-3, 1:-3])) < 1
    assert elevation.min() >= 0 and (slope[2:-4, 2:-4][steep[1:-1, 1:-1] == 0] < 1).all()


def test_it_is_colder_in_winter_and_uphill() -> None:
    lon, lat = LON + np.arange(400) * 1e-3, np.full(400, 47.0)
    january, july = (weather(lon, lat, date(2022, month, 15)) for month in (1, 7))
    assert (july[0] - january[0] > 10).all() and 250 < january[0].min() < july[0].max() < 320
    south = [weather(lon, -lat, date(2022, month, 15), ("temperature_2m",)) for month in (1, 7)]
    assert (south[0] > south[1]).all()
    assert 0 < january[1].min() < january[1].max() < 0.2
    elevation = relief(lon, lat, ("elevation",))[0]
    assert july[0][elevation.argmax()] < july[0][elevation.argmin()] - 0.004 * np.ptp(elevation)


def test_pixels_beyond_the_earth_are_empty() -> None:
    geobox = lattice("EPSG:4326", 10.0, 90.02, (40, 10), 0.001)
    pixels = PROVIDER.read(next(s for s in scenes() if s.cloud_cover == 0), ("B4",), geobox)[0]
    assert np.isnan(pixels[:19]).all()


@pytest.mark.parametrize("wavelength", [13.0, 900.0, 40_000.0])
def test_noise_of_few_points_and_of_many_is_the_same(wavelength: float) -> None:
    """One way looks values up in a table, the other hashes each corner."""
    generator = np.random.default_rng(1)
    lon, lat = 10 + generator.random(4000) * 0.02, 50 + generator.random(4000) * 0.02
    points = sphere(lon, lat)[0] * 6.4e6
    whole = Lattice(points, wavelength).noise(5)
    assert -1 <= whole.min() < whole.max() <= 1
    np.testing.assert_array_equal(
        np.concatenate([Lattice(points[:, i : i + 3], wavelength).noise(5) for i in range(0, 4000, 3)]), whole
    )


def test_mosaics_of_few_cells_and_of_many_are_the_same() -> None:
    generator = np.random.default_rng(2)
    points = sphere(10 + generator.random(3000), 50 + generator.random(3000))[0] * 6.4e6
    far = cells(points, points, 3000.0, 7)
    for start in range(0, 300, 10):
        part = slice(start, start + 1)
        near = cells(points[:, part], points[:, part], 3000.0, 7)
        assert near.number == far.number[part] and near.u == far.u[part] and near.v == far.v[part]
        assert near.gap == far.gap[part]


def test_the_scenes_of_a_composite_share_what_stands_still() -> None:
    synthetic._block.cache_clear()
    for scene in scenes()[:3]:
        PROVIDER.read(scene, ("B4",), LATTICES["utm"])
    assert synthetic._block.cache_info().hits == 2 * synthetic._block.cache_info().misses
    assert landscape.surface(LON, LAT, date(2022, 1, 1)).shape == (12,)
