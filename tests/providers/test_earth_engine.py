"""Earth Engine against a server on loopback that evaluates the posted graphs on painted scenes."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import earth_engine_graphs as graphs
import earth_engine_scenes as painted
import ee
import numpy as np
import pytest
from affine import Affine
from earth_engine_stub import TOKEN, Broken, EarthEngineStub, Stored, error_body, serving
from google.oauth2.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from rs_embed import NoImageryError, PointBuffer, ProviderError, TemporalSpec, get_embedding
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.providers.base import Provider
from rs_embed.providers.earth_engine import EarthEngineProvider
from rs_embed.providers.earth_engine_catalog import DATASETS, choose_dataset
from rs_embed.providers.earth_engine_rest import AT_ONCE, MOST_BYTES, MOST_PIXELS
from rs_embed.providers.earth_engine_tiles import tiles
from rs_embed.providers.products.memory import MEMORY
from rs_embed.testing import check_provider

PIXELS = "image:computePixels"


@pytest.fixture(scope="module")
def rest(test_data: Path) -> Path:
    return test_data / "earth_engine_rest"


@pytest.fixture(scope="module")
def world(rest: Path) -> Iterator[EarthEngineStub]:
    """A server with scenes of every collection."""
    with serving(painted.every_collection(rest)) as made:
        yield made


@pytest.fixture(scope="module")
def two_dates() -> list[Stored]:
    return painted.optical("COPERNICUS/S2_SR_HARMONIZED", dates=2)


@pytest.fixture
def small(rest: Path, two_dates: list[Stored]) -> Iterator[EarthEngineStub]:
    """A server of one's own with Sentinel-2 only, to be broken."""
    made = EarthEngineStub.of(rest)
    made.images = list(two_dates)
    with serving(made):
        yield made


def provider_of(world: EarthEngineStub, **options: Any) -> EarthEngineProvider:
    given = {"credentials": Credentials(TOKEN), "url": world.url, "attempts": 2} | options
    return EarthEngineProvider("my-project", **given)


@pytest.fixture(scope="module")
def provider(world: EarthEngineStub) -> EarthEngineProvider:
    return provider_of(world)


def one(provider: Provider, request: ImageRequest) -> ImageStack:
    assert request.geobox is not None
    (found,) = provider.load(request, [request.geobox])
    return found


@pytest.mark.parametrize("composite", painted.COMPOSITES)
@pytest.mark.parametrize("name", painted.SAME)
def test_the_servers_composite_is_ours(
    world: EarthEngineStub, provider: EarthEngineProvider, name: str, composite: str
) -> None:
    sensor, bands, tolerance, changes = painted.SAME[name]
    request = painted.request(sensor, bands, composite=composite, cloudy_pct=60, **changes)
    theirs, ours = one(provider, request), one(painted.PaintedProvider(world.images), request)
    assert np.array_equal(theirs.valid, ours.valid) and theirs.valid.any()
    seen = np.broadcast_to(ours.valid[:, None], ours.pixels.shape)
    np.testing.assert_allclose(theirs.pixels[seen], ours.pixels[seen], rtol=0, atol=tolerance)
    assert theirs.scenes == ours.scenes and theirs.observations == ours.observations
    np.testing.assert_array_equal(theirs.times, ours.times)  # NaT where there is no date
    assert theirs.missing_bands == ()
    assert not theirs.notes


def test_bands_of_other_pixel_sizes_are_bilinear(rest: Path) -> None:
    world = EarthEngineStub.of(rest)
    world.images = painted.optical("COPERNICUS/S2_SR_HARMONIZED", holes=False)
    request = painted.request("sentinel-2-l2a", ("B5", "B1", "B4"), mask=None, composite="mean")
    with serving(world):
        theirs = one(provider_of(world), request)
    ours = one(painted.PaintedProvider(world.images), request)
    inside = theirs.valid & ours.valid
    assert inside.mean() == 1
    seam = np.abs(theirs.pixels - ours.pixels).max(axis=(0, 1)) > 2e-3  # the edge of a tile: the nearest there
    assert seam.any(axis=0).sum() <= 6


def test_beside_pixels_without_data_the_nearest_is_taken(world: EarthEngineStub, provider: EarthEngineProvider) -> None:
    request = painted.request("sentinel-2-l2a", ("B5",), composite="mosaic", mask=None)
    theirs, ours = one(provider, request), one(painted.PaintedProvider(world.images), request)
    assert np.array_equal(theirs.valid, ours.valid)
    near = (np.abs(theirs.pixels - ours.pixels) > 2e-3)[0, 0]
    assert 0 < near.mean() < 0.4
    values = {float(v) for stored in world.images if "S2_SR" in stored.id for v in stored.bands["B5"].values.ravel()}
    assert {float(v) for v in theirs.pixels[0, 0][near]} <= values


def test_another_zone(rest: Path) -> None:
    world = EarthEngineStub.of(rest)
    world.images = painted.optical("COPERNICUS/S2_SR_HARMONIZED", crs="EPSG:32633", holes=False, dates=1)
    request = painted.request("sentinel-2-l2a", ("B4",), mask=None)
    with serving(world):
        theirs = one(provider_of(world), request)
    ours = one(painted.PaintedProvider(world.images), request)
    both = (theirs.valid & ours.valid)[0]
    assert both.mean() > 0.5
    apart = np.abs(theirs.pixels - ours.pixels)[0, 0][both]
    assert np.quantile(apart, 0.9) < 0.5 and np.median(np.abs(ours.pixels[0, 0][both])) > 1000


def test_what_cannot_be_the_same_is_said(provider: EarthEngineProvider) -> None:
    rtc = one(provider, painted.request("sentinel-1", ("VV",), collection="sentinel-1-rtc"))
    assert [note for note in rtc.notes if "sigma nought" in note]
    plain = one(provider, painted.request("sentinel-1", ("VV",), collection="COPERNICUS/S1_GRD"))
    assert plain.notes == () and np.array_equal(plain.pixels, rtc.pixels)


@pytest.mark.parametrize(
    ("sensor", "bands", "scale"),
    [
        ("sentinel-2-l2a", ("B4", "B8", "B2"), 10.0),
        ("sentinel-1", ("VV", "VH"), 10.0),
    ],
)
def test_the_contract_of_providers(
    provider: EarthEngineProvider, sensor: str, bands: tuple[str, ...], scale: float
) -> None:
    report = check_provider(
        provider,
        spatial=PointBuffer(painted.LON, painted.LAT, 300),
        temporal=TemporalSpec.range("2022-06-01", "2022-07-01"),
        sensor=sensor,
        bands=bands,
        scale_m=scale,
        elsewhere=PointBuffer(-60, -20, 300),
    )
    skipped = {check.name for check in report.checks if check.status == "skipped"}
    assert skipped <= {"order of bands", "missing band", "other sensor"}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30), st.integers(1, 30)))
def test_any_part_is_a_crop(provider: EarthEngineProvider, at: tuple[int, int, int, int]) -> None:
    request = painted.request("sentinel-2-l2a", ("B4", "B5"))
    whole, a = one(provider, request), request.geobox.affine
    row, col = at[0], at[1]
    shape = min(at[2], 61 - row), min(at[3], 61 - col)
    part = GeoBox(shape, Affine(10, 0, a.c + 10 * col, 0, -10, a.f - 10 * row), request.geobox.crs)
    (found,) = provider.load(request, [part])
    cut = slice(row, row + shape[0]), slice(col, col + shape[1])
    assert np.array_equal(found.valid, whole.valid[:, *cut])
    assert np.array_equal(found.pixels, whole.pixels[:, :, *cut])


# What is asked


@pytest.mark.parametrize("name", [name for name, _ in graphs.cases()])
def test_the_graph_is_the_recorded_one(name: str, recording: EarthEngineStub) -> None:
    assert_recorded(name, graphs.recorded(recording, dict(graphs.cases())[name]))


def test_the_graph_of_a_product_is_the_recorded_one(rest: Path) -> None:
    made = EarthEngineStub.of(rest)
    made.images = graphs.product_request()[0]
    MEMORY.clear()
    with serving(made):
        assert_recorded("gse", graphs.recorded_product(made))
    told = {name for name, _ in graphs.cases()} | {"gse"}
    assert {file.stem for file in graphs.FOLDER.glob("*.json")} == told
    assert {name.rpartition("-")[0] for name in told if name.endswith("-median")} >= {*DATASETS}


def assert_recorded(name: str, found: object) -> None:
    """Compare with the golden file, and show what changed."""
    file = graphs.FOLDER / f"{name}.json"
    assert file.is_file(), f"{file.name} is missing: python tests/earth_engine_graphs.py"
    kept = json.loads(file.read_text(encoding="utf-8"))
    made = json.loads(json.dumps(found))
    before, after = (json.dumps(each, indent=1, sort_keys=True).splitlines() for each in (kept, made))
    changed = "\n".join(difflib.unified_diff(before, after, "recorded", "now", lineterm="", n=1))
    assert not changed, f"the graph changed (python tests/earth_engine_graphs.py records it):\n{changed}"


@pytest.fixture(scope="module")
def recording(rest: Path) -> Iterator[EarthEngineStub]:
    made = EarthEngineStub.of(rest)
    made.images, made.collections = graphs.images(), {"LANDSAT/LC09/C02/T1_L2"}
    with serving(made):
        yield made


@given(st.integers(1, 70_000), st.integers(1, 70_000), st.integers(5, 4000))
def test_tiles_cover_once_and_fit(height: int, width: int, pixel_bytes: int) -> None:
    parts = list(tiles(height, width, pixel_bytes))
    assert sum(rows * columns for _, _, rows, columns in parts) == height * width
    for top, left, rows, columns in parts:
        assert 0 < rows <= MOST_PIXELS and 0 < columns <= MOST_PIXELS and rows * columns * pixel_bytes <= MOST_BYTES
        assert top + rows <= height and left + columns <= width
    assert len({(top, left) for top, left, _, _ in parts}) == len(parts)


def test_what_is_too_much_for_the_server_is_asked_in_parts(small: EarthEngineStub) -> None:
    request = painted.request("sentinel-2-l2a", ("B4", "B8"), radius=500)
    whole = one(provider_of(small), request)
    asked = len(small.posted(PIXELS))
    small.most_pixels = 3000
    parts = one(provider_of(small), request)
    assert len(small.posted(PIXELS)) > asked + 4
    assert np.array_equal(whole.pixels, parts.pixels) and whole.scenes == parts.scenes
    assert whole.observations == parts.observations
    small.most_pixels = 10
    with pytest.raises(ProviderError, match=r"too much for one request \(User memory limit exceeded.*smaller region"):
        one(provider_of(small), request)


def test_requests_at_a_time_are_few(small: EarthEngineStub) -> None:
    small.delay = 0.05
    provider, request = provider_of(small), painted.request("sentinel-2-l2a", ("B4",))
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: one(provider, request), range(24)))
    assert 2 <= small.most_running <= AT_ONCE
    assert all(np.array_equal(each.pixels, found[0].pixels) for each in found)


def test_the_library_is_set_up_once_and_one_search_serves_a_town(small: EarthEngineStub) -> None:
    ee.Reset()
    provider = provider_of(small)
    points = [painted.request("sentinel-2-l2a", ("B4",), radius=20, lon=painted.LON + i / 1e4) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda request: one(provider, request), points))
    one(provider_of(small), points[0])
    assert sum("algorithms" in path for path in small.gets) == 1
    listings = [body for body in small.posted("value:compute") if "Collection.limit" in json.dumps(body)]
    assert len(listings) == 2  # one for each provider
    assert all(headers["x-goog-user-project"] == "my-project" for _, _, headers in small.requests)


def test_a_session_of_the_users_own_is_left_as_it_is(small: EarthEngineStub, world: EarthEngineStub) -> None:
    ee.Reset()
    ee.Initialize(Credentials(TOKEN), url=world.url, project="their-project")
    assert one(provider_of(small), painted.request("sentinel-2-l2a", ("B4",))).valid.any()
    assert small.gets == []
    assert ee.data.computeValue(ee.Number(1)) == 1
    assert world.requests[-1][0].split("/projects/")[1].startswith("their-project")


def test_very_many_scenes_are_listed_half_by_half(rest: Path) -> None:
    world = EarthEngineStub.of(rest)
    first = painted.optical("COPERNICUS/S2_SR_HARMONIZED", dates=1)[0]
    start = painted.JUNE[0]
    for number in range(2300):
        moment = start + timedelta(minutes=18 * number)
        properties = {**first.properties, "system:time_start": painted.millis(moment)}
        world.images.append(replace(first, id=f"COPERNICUS/S2_SR_HARMONIZED/S{number}", properties=properties))
    with serving(world):
        found = provider_of(world).search(painted.request("sentinel-2-l2a", ("B4",)), painted.JUNE)
    assert len(found) == len({s.id for s in found}) == 2300
    assert len(world.posted("value:compute")) >= 4


def test_scenes_are_of_the_dataset(rest: Path) -> None:
    """Of Sentinel-1, the wide swath only; of what was processed again, the newest; with a band less, none."""
    world = EarthEngineStub.of(rest)
    radar = painted.optical("COPERNICUS/S1_GRD_FLOAT", dates=2)
    world.images = [
        replace(radar[0], properties={**radar[0].properties, "instrumentMode": "EW"}),
        radar[1],
        replace(radar[2], bands={"VV": radar[2].bands["VV"]}),
    ]
    old, new = (f"S2A_MSIL2A_20220602T100031_N0{n}_R122_T32UPU_2022060{d}T120000" for n, d in (("400", 2), ("510", 3)))
    seen = painted.optical("COPERNICUS/S2_SR_HARMONIZED", dates=1)[0]
    world.images += [
        replace(seen, id=f"COPERNICUS/S2_SR_HARMONIZED/{i}", properties={**seen.properties, "PRODUCT_ID": product})
        for i, product in enumerate((old, new))
    ]
    with serving(world):
        provider = provider_of(world)
        request = painted.request("sentinel-1", ("VV", "VH"), composite="none")
        assert {s.id: s.bands for s in provider.search(request, painted.JUNE)} == {
            "20220602_T1": {"VV", "VH"} | ({"HH", "HV"} & set(radar[1].bands)),
            "20220607_T0": {"VV"},
        }
        found = one(provider, request)
        assert found.valid[0].any() and not found.valid[1].any()
        optical = provider.search(painted.request("sentinel-2-l2a", ("B4",)), painted.JUNE)
        assert [scene.id for scene in optical] == ["1"]


def test_one_image_of_the_whole_earth(rest: Path) -> None:
    world = EarthEngineStub.of(rest)
    heights = painted.relief()[0]
    band = {"elevation": heights.bands["DEM"]}
    world.images = [replace(heights, id="USGS/SRTMGL1_003", bands=band, properties={}), *painted.relief()]
    with serving(world):
        provider = provider_of(world)
        request = painted.request("dem", ("elevation", "slope"), intervals=())
        found = one(provider, replace(request, collection="USGS/SRTMGL1_003"))
        other = one(provider, request)
    assert [scene["id"] for scene in found.scenes[0]] == ["SRTMGL1_003"]
    assert np.array_equal(found.pixels, other.pixels) and found.valid.all()


def test_slope_goes_on_across_tiles(rest: Path) -> None:
    world = EarthEngineStub.of(rest)
    world.images = painted.relief(2)
    with serving(world):
        found = one(provider_of(world), painted.request("dem", ("elevation", "slope"), intervals=()))
    assert found.valid.all() and len(found.scenes[0]) == 2
    ours = one(painted.PaintedProvider(painted.relief(1)), painted.request("dem", ("slope",), intervals=()))
    apart = np.abs(found.pixels[0, 1] - ours.pixels[0, 0])
    assert np.median(apart) < 0.01 and (apart > 1).any(axis=0).sum() <= 4  # columns along the seam


def test_names_of_collections_choose_the_dataset() -> None:
    assert choose_dataset("landsat-c2-l2", "landsat").ids == ("LANDSAT/LC08/C02/T1_L2", "LANDSAT/LC09/C02/T1_L2")
    assert choose_dataset("landsat-c2-l2", "LANDSAT/LC09/C02/T1_L2").ids == ("LANDSAT/LC09/C02/T1_L2",)
    assert choose_dataset("sentinel-2-l2a", "COPERNICUS/S2_SR").ids == ("COPERNICUS/S2_SR_HARMONIZED",)
    assert choose_dataset("modis-09ga", "MODIS/061/MYD09GA").ids == ("MODIS/061/MYD09GA",)
    assert choose_dataset("sentinel-1", None).ids == ("COPERNICUS/S1_GRD_FLOAT",)
    with pytest.raises(ProviderError, match=r"no imagery of 'clouds'.*sentinel-2-l2a"):
        choose_dataset("clouds", None)
    for sensor, known in DATASETS.items():
        for dataset in known.values():
            assert set(dataset.bands) <= {b.name for b in painted.SENSORS[sensor].bands}


# Failures


def refusal(status: int, message: str, **more: Any) -> dict[str, Any]:
    return {"status": status, "body": error_body(status, message, **more)}


HTML = {"status": 200, "body": "<html>Sign in to the network</html>", "mime": "text/html"}
NOT_ENABLED = (
    "Google Earth Engine API has not been used in project my-project before or it is disabled. Enable it by visiting …"
)
FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "unauthorised": (refusal(401, "Request had invalid authentication credentials."), "expired.*earthengine auth"),
    "not enabled": (refusal(403, NOT_ENABLED), r"not enabled in the project 'my-project'.*console\.cloud"),
    "not registered": (refusal(403, "Project 'my-project' is not registered to use Earth Engine."), "not registered"),
    "not permitted": (
        refusal(403, "Caller does not have required permission to use project my-project. Grant the caller …"),
        'may not use it.*backend="gee:my-project"',
    ),
    "quota": (refusal(429, "Quota exceeded for quota metric 'Earth Engine compute'"), "quota of the project.*wait"),
    "no collection": (
        refusal(404, "ImageCollection.load: ImageCollection asset 'X' not found (does not exist or …)."),
        r"no such collection.*SensorSpec\.collection",
    ),
    "no band": (refusal(400, "Image.select: Band pattern 'B99' did not match any bands."), r"SensorSpec\.bands"),
    "server": (refusal(503, "The service is currently unavailable."), "failed on the server .503.*try again later"),
    "page": ({"status": 403, "body": "<html>Forbidden</html>", "mime": "text/html"}, "refused .403"),
    "web page": (HTML, "did not answer with JSON.*browser"),
    "unknown": (refusal(400, "Image.add: something new."), "something new"),
}


@pytest.mark.parametrize("at", ["value:compute", PIXELS])
@pytest.mark.parametrize("name", FAILURES)
def test_failures_say_what_to_do(small: EarthEngineStub, name: str, at: str) -> None:
    answer, words = FAILURES[name]
    small.broken = [Broken(path=at, **answer)]
    with pytest.raises(ProviderError, match=f"(?s){words}") as caught:
        one(provider_of(small), painted.request("sentinel-2-l2a", ("B4",)))
    assert "backend='auto'" in str(caught.value)
    assert "Bearer" not in str(caught.value) and TOKEN not in str(caught.value)


@pytest.mark.parametrize("answer", [refusal(429, "Too Many Requests"), refusal(500, "Internal"), refusal(503, "Busy")])
def test_what_passes_is_tried_again(small: EarthEngineStub, answer: dict[str, Any]) -> None:
    small.broken = [Broken(path=PIXELS, times=2, **answer)]
    found = one(provider_of(small, attempts=4), painted.request("sentinel-2-l2a", ("B4",)))
    assert found.valid.any()


def test_nothing_answers(small: EarthEngineStub) -> None:
    provider = provider_of(small, url="http://127.0.0.1:9")
    with pytest.raises(ProviderError, match=r"Earth Engine \(login\) cannot be reached.*backend='auto'"):
        one(provider, painted.request("sentinel-2-l2a", ("B4",)))


def test_the_library_cannot_be_set_up(small: EarthEngineStub) -> None:
    ee.Reset()
    small.broken = [Broken(path="$discovery", **HTML)]
    with pytest.raises(ProviderError, match=r"could not be set up for the project 'my-project'.*backend='auto'"):
        one(provider_of(small), painted.request("sentinel-2-l2a", ("B4",)))
    small.broken = []
    assert one(provider_of(small), painted.request("sentinel-2-l2a", ("B4",))).valid.any()


def test_a_computation_that_takes_too_long(small: EarthEngineStub) -> None:
    small.broken = [Broken(path=PIXELS, **refusal(400, "Computation timed out."))]
    with pytest.raises(ProviderError, match=r"Computation timed out.*shorter time"):
        one(provider_of(small), painted.request("sentinel-2-l2a", ("B4",)))


def test_no_imagery_names_the_nearest_dates(provider: EarthEngineProvider) -> None:
    empty = painted.JUNE[1], painted.JUNE[1] + timedelta(days=3)
    with pytest.raises(NoImageryError, match=r"no sentinel-2-l2a scene from 2022-07-01.*nearest dates: 2022-06-17"):
        one(provider, painted.request("sentinel-2-l2a", ("B4",), intervals=(empty,)))
    with pytest.raises(NoImageryError, match="left out by cloudy_pct=5"):
        one(provider, painted.request("sentinel-2-l2a", ("B4",), cloudy_pct=5))


def test_the_metadata_of_an_embedding(provider: EarthEngineProvider) -> None:
    found = get_embedding(
        "imagestats",
        spatial=PointBuffer(painted.LON, painted.LAT, 200),
        temporal=TemporalSpec.range("2022-06-01", "2022-07-01"),
        backend=provider,
    )
    meta = json.loads(json.dumps(found.meta, allow_nan=False))
    assert meta["backend"] == "gee" and meta["source"] == "Google Earth Engine"
    assert 0 < meta["clear_fraction"] < 1 and meta["scenes"]


def test_nothing_of_googles_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, rs_embed.providers.earth_engine, rs_embed.providers.backends\n"
        "print([m for m in ('ee', 'google.auth', 'googleapiclient') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_read_is_one_scene_in_linear_units(world: EarthEngineStub, provider: EarthEngineProvider) -> None:
    request = painted.request("sentinel-1", ("VV", "VH"))
    ours = painted.PaintedProvider(world.images)
    (theirs, mine) = (sorted(p.search(request, painted.JUNE), key=lambda s: s.id)[0] for p in (provider, ours))
    a, b = provider.read(theirs, ("VV", "VH"), request.geobox), ours.read(mine, ("VV", "VH"), request.geobox)
    np.testing.assert_array_equal(a, b)
    assert np.isnan(a).any()
