"""Open services: which collections, which scenes, signed files, and what is said when something is wrong."""

from __future__ import annotations

import json
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from range_server import RangeServer
from real_catalogue import AUGUST, CATALOGUE, ask, load, real_items
from servers import PAGE, Front, free_port, stac_api, token

from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.geometry import wrap_lonlat
from rs_embed.core.sensors import SENSORS, find_sensor
from rs_embed.providers.acquisitions import acquisition, is_wanted, newest
from rs_embed.providers.harmonise import decoding_of_item, sentinel2_offset
from rs_embed.providers.hrefs import open_url
from rs_embed.providers.local import open_local
from rs_embed.providers.memo import Memo
from rs_embed.providers.places import exact_boxes, search_boxes
from rs_embed.providers.relief import slope
from rs_embed.providers.services import (
    SERVICES,
    Service,
    Signing,
    choose_collections,
    service_at,
    without_secrets,
)
from rs_embed.providers.sessions import ServiceError
from rs_embed.providers.stac import STACProvider, open_stac
from rs_embed.providers.stac_items import item_bands, item_sensor
from rs_embed.providers.stac_scenes import scene_of
from rs_embed.providers.tokens import KEY, Signer
from rs_embed.testing.providers import PROVIDER_CHECKS, ProviderTrial

EARTH_SEARCH, PLANETARY = SERVICES["earth-search"], SERVICES["planetary-computer"]


def recorded(folder: Path, name: str) -> dict[str, Any]:
    """A recorded item by a part of its path."""
    (path,) = [p for p in sorted((folder / "stac_items").glob("**/*.json")) if name in str(p)]
    content = json.loads(path.read_text())
    found: dict[str, Any] = content[0] if isinstance(content, list) else content
    return found


def known(url: str, **more: Any) -> Service:
    """A service like Earth Search, elsewhere."""
    return replace(EARTH_SEARCH, url=url, **more)


# --- pixels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("composite", ["median", "mosaic", "none"])
def test_an_api_gives_what_the_files_give(test_data: Path, api: str, composite: str) -> None:
    request = ask(composite=composite)
    there, here = load(open_stac(api), request), load(open_local(test_data / CATALOGUE), request)
    assert there.valid.mean() > 0.7
    np.testing.assert_array_equal(there.pixels, here.pixels)
    np.testing.assert_array_equal(there.valid, here.valid)
    assert there.scenes == here.scenes and there.observations == here.observations


def test_a_static_catalogue_behind_a_url(test_data: Path, files: RangeServer) -> None:
    provider = open_stac(files.url("catalog.json"))
    assert provider.offers("sentinel-2-l2a") and not provider.offers("sentinel-1")
    there, here = load(provider, ask()), load(open_local(test_data / CATALOGUE), ask())
    np.testing.assert_array_equal(there.pixels, here.pixels)
    with pytest.raises(NoImageryError, match="nearest dates: 2023-08-20"):
        load(provider, ask(intervals=((AUGUST[1], datetime(2023, 10, 1, tzinfo=UTC)),)))


def test_a_provider_travels_by_its_address(api: str) -> None:
    again = pickle.loads(pickle.dumps(open_stac(api)))
    np.testing.assert_array_equal(load(again, ask()).pixels, load(open_stac(api), ask()).pixels)


def test_more_pages_than_one(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(open_stac(api), ask())
    monkeypatch.setattr("rs_embed.providers.stac.PAGE", 2)
    assert load(open_stac(api), ask()).scenes == whole.scenes
    monkeypatch.setattr("rs_embed.providers.stac.MOST", 4)
    with pytest.raises(ProviderError, match=r"4 items or more of sentinel-2-l2a in 2023-08-01.*shorter time"):
        load(open_stac(api), ask())


def test_clouds_are_counted_here_as_well(api: str) -> None:
    stack = load(open_stac(api), ask(cloudy_pct=10.0, composite="none"))
    assert stack.scenes and all(s["cloud_cover"] <= 10 for frame in stack.scenes for s in frame)


# --- one search for many -----------------------------------------------------------------------------------------


def test_a_thousand_points_in_one_town_cost_one_search(api: str) -> None:
    with Front(behind=api) as front:
        provider = STACProvider(known(front.url))
        points = [(15.3 + 0.4 * (i % 40) / 40, 46.2 + 0.5 * (i // 40) / 25) for i in range(1000)]
        requests = [ask(footprint=shapely.Point(*p).buffer(0.01)) for p in points]
        with ThreadPoolExecutor(32) as pool:
            found = list(pool.map(lambda r: len(provider.search(r, AUGUST)), requests))
        assert front.count("/search") == 1 and set(found) == {10}
        provider.search(requests[0], (AUGUST[0], datetime(2023, 8, 2, tzinfo=UTC)))
        assert front.count("/search") == 2


def test_a_memo_fetches_once_and_forgets_failures() -> None:
    memo: Memo[int] = Memo(2)
    calls, gate = [], threading.Barrier(8)

    def fetch() -> int:
        calls.append(1)
        time.sleep(0.05)
        return len(calls)

    def get(_: int) -> int:
        gate.wait()
        return memo.get("a", fetch)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(get, range(8))) == {1} and len(calls) == 1
    with pytest.raises(ZeroDivisionError):
        memo.get("b", lambda: 1 // 0)
    assert memo.get("b", lambda: 7) == 7
    assert memo.get("c", lambda: 8, lifetime=lambda _: -1.0) == 8 and memo.get("c", lambda: 9) == 9
    assert memo.get("a", fetch) == 2  # pushed out by b and c


@given(lon=st.floats(-180, 180), lat=st.floats(-89.9, 89.9), size=st.floats(0.001, 3))
def test_the_boxes_that_are_searched_hold_the_region(lon: float, lat: float, size: float) -> None:
    region = shapely.box(lon, max(lat - size, -90), lon + size, min(lat + size, 90))
    footprint = wrap_lonlat(region)
    for boxes in (search_boxes(footprint), exact_boxes(footprint)):
        held = shapely.union_all([shapely.box(*box) for box in boxes])
        assert held.buffer(1e-6).contains(footprint)
        assert all(-180 <= w < e <= 180 and -90 <= s < n <= 90 and e - w < 6 for w, s, e, n in boxes)


def test_boxes_of_whole_cells() -> None:
    assert search_boxes(shapely.box(15.95, 46.95, 16.05, 47.05)) == ((15.9, 46.9, 17.1, 48.1),)
    assert search_boxes(shapely.box(10.2, 46.5, 12.4, 47.5)) == ((10.0, 46.0, 13.0, 48.0),)
    across = wrap_lonlat(shapely.box(179.9, 10.2, 180.1, 10.3))
    assert sorted(search_boxes(across)) == [(-180.0, 9.9, -178.9, 11.1), (178.9, 9.9, 180.0, 11.1)]


def test_across_the_antimeridian_both_sides_are_searched(tmp_path: Path) -> None:
    def item(name: str, west: float, east: float) -> dict[str, Any]:
        ring = [[west, 10], [east, 10], [east, 11], [west, 11], [west, 10]]
        return {
            **{"type": "Feature", "stac_version": "1.0.0", "id": name, "collection": "sentinel-2-l2a", "links": []},
            **{"bbox": [west, 10, east, 11], "geometry": {"type": "Polygon", "coordinates": [ring]}},
            "properties": {"datetime": "2023-08-10T00:00:00Z", "eo:cloud_cover": 1},
            "assets": {"red": {"href": "https://example.org/a.tif"}},
        }

    items = [item("west", 178.5, 180), item("east", -180, -178.5), item("far", 0, 1)]
    with stac_api(items, tmp_path) as url:
        found = open_stac(url).search(ask(footprint=wrap_lonlat(shapely.box(179.9, 10.2, 180.1, 10.3))), AUGUST)
        assert sorted(scene.id for scene in found) == ["east", "west"]


# --- collections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_the_table_knows_only_what_is_known_here(service: Service) -> None:
    assert service.offers is not None
    for sensor, collections in service.offers.items():
        assert {find_sensor(each.id).id for each in collections} == {sensor}
        asked = {name for name in SENSORS[sensor].collections if name.lower() not in {*service.refused}}
        for name in asked:  # whatever users call it, on every service that has it
            assert choose_collections(service, service.offers, sensor, name)[0]
    assert all(find_sensor(name) for name in service.refused)


def test_the_collection_that_is_asked_for() -> None:
    def chosen(service: Service, sensor: str, asked: str | None) -> tuple[str, tuple[str, ...]]:
        assert service.offers is not None
        (only,), notes = choose_collections(service, service.offers, sensor, asked)
        return only.id, notes

    assert chosen(EARTH_SEARCH, "sentinel-2-l2a", "COPERNICUS/S2_SR_HARMONIZED") == ("sentinel-2-l2a", ())
    assert chosen(EARTH_SEARCH, "sentinel-2-l2a", "sentinel-2-c1-l2a") == ("sentinel-2-c1-l2a", ())
    name, (note,) = chosen(PLANETARY, "sentinel-2-l2a", "sentinel-2-c1-l2a")
    assert name == "sentinel-2-l2a" and note == "planetary-computer has no sentinel-2-c1-l2a: read from sentinel-2-l2a"
    name, (note,) = chosen(PLANETARY, "sentinel-1", "COPERNICUS/S1_GRD")
    assert name == "sentinel-1-rtc" and "gamma nought" in note
    assert chosen(PLANETARY, "landsat-c2-l2", "LANDSAT/LC08/C02/T1_L2")[0] == "landsat-c2-l2"
    assert chosen(PLANETARY, "hls-s30", "NASA/HLS/HLSS30/v002")[0] == "hls2-s30"
    assert "8 days" in chosen(PLANETARY, "modis-09ga", "MODIS/061/MOD09GA")[1][0]
    assert chosen(PLANETARY, "modis-09ga", "MODIS/061/MOD09A1")[1] == ()
    assert [chosen(EARTH_SEARCH, "dem", name)[1] for name in (None, "dem", "COPERNICUS/DEM/GLO30")] == [()] * 3
    assert all("EGM96" in chosen(EARTH_SEARCH, "dem", name)[1][0] for name in ("USGS/SRTMGL1_003", "srtm"))


@pytest.mark.parametrize(
    ("service", "sensor", "asked", "said"),
    [
        (EARTH_SEARCH, "sentinel-1", "COPERNICUS/S1_GRD", r"'sentinel-1-grd' .*ground range.*sentinel-1-rtc"),
        (EARTH_SEARCH, "sentinel-2-l1c", None, r"'sentinel-2-l1c' is JPEG 2000.*s3://sentinel-s2-l1c.*sentinel-2-l2a"),
        (EARTH_SEARCH, "landsat-c2-l2", None, r"s3://usgs-landsat.*AWS account; take backend='planetary-computer'"),
        (EARTH_SEARCH, "naip", None, r"s3://naip-analytic.*planetary-computer"),
        (PLANETARY, "sentinel-1", "sentinel-1-grd", r"'sentinel-1-grd' .*control points.*'sentinel-1-rtc'"),
        (PLANETARY, "era5", None, r"planetary-computer has no imagery of era5; it has sentinel-2-l2a, "),
    ],
)
def test_what_cannot_be_read_is_refused_before_any_request(
    service: Service, sensor: str, asked: str | None, said: str
) -> None:
    request = ask(sensor=sensor, bands=(SENSORS[sensor].bands[0].name,), collection=asked, mask=None)
    with pytest.raises(ProviderError, match=said):
        load(STACProvider(service), request)  # the network is blocked: it does not get there


def test_a_service_without_a_table_is_asked_what_it_has(api: str) -> None:
    provider = open_stac(api)
    assert provider.offers("sentinel-2-l2a") and not provider.offers("naip")
    with pytest.raises(ProviderError, match=r"has no imagery of naip; it has sentinel-2-l2a"):
        load(provider, ask(sensor="naip", bands=("R",), mask=None))


def test_what_is_known_of_a_collection_is_said_wherever_it_is() -> None:
    with Front() as front:
        front.answers["/"] = {"type": "Catalog", "links": [{"rel": "search", "href": "/search", "method": "POST"}]}
        front.answers["/collections"] = {"collections": [{"id": "cop-dem-glo-30"}]}
        provider = open_stac(front.url)
        request = ask(sensor="dem", bands=("elevation",), intervals=(), mask=None)
        assert provider.notes(request) == ()
        (note,) = provider.notes(replace(request, collection="USGS/SRTMGL1_003"))
        assert "EGM96" in note


def test_addresses() -> None:
    assert service_at("https://earth-search.aws.element84.com/v1/") is EARTH_SEARCH
    other = service_at("https://me:secret@stac.example.org/v1?key=secret")
    assert other.name == other.title == "stac.example.org" and "secret" in other.url
    assert without_secrets(other.url) == "https://stac.example.org/v1"


# --- items ---------------------------------------------------------------------------------------------------------


def test_two_collections_of_one_acquisition(test_data: Path) -> None:
    new, old = (recorded(test_data, f"{c}/S2B_{t}_L2A.json") for c, t in (
        ("earth-search.aws.element84.com/sentinel-2-c1-l2a", "T20EPT_20250731T131905"),
        ("earth-search.aws.element84.com/sentinel-2-l2a", "20EPT_20250731_0"),
    ))  # fmt: skip
    assert acquisition(new) == acquisition(old) is not None
    for order in (["sentinel-2-c1-l2a", "sentinel-2-l2a"], ["sentinel-2-l2a", "sentinel-2-c1-l2a"]):
        (kept,) = newest([old, new], order)
        assert kept["collection"] == order[0]


def test_the_newest_baseline_is_kept_once(test_data: Path) -> None:
    item = recorded(test_data, "earth-search.aws.element84.com/sentinel-2-l2a/S2B_20EPT_20250731_0_L2A.json")
    again = json.loads(json.dumps(item).replace("_N0511_", "_N0512_").replace('"05.11"', '"05.12"'))
    again["id"] = item["id"].replace("_0_", "_1_")
    half = json.loads(json.dumps(item).replace("_S20250731T131905_", "_S20250731T131955_"))
    half["id"] = item["id"].replace("_0_", "_2_")
    kept = newest([again, item, half], ["sentinel-2-l2a"])
    assert [i["id"] for i in kept] == [again["id"], half["id"]]  # the other half of the tile is no duplicate


def test_acquisitions_of_recorded_items(test_data: Path) -> None:
    planetary = recorded(test_data, "S2B_MSIL2A_20250312T014549_R074_T53NKG_20250312T041213.json")
    assert acquisition(planetary) == (
        ("S2B", "L2A", "20250312T014549", "53NKG", "20250312T014547"),
        ("05.11", "20250312T041213"),
    )
    first = recorded(test_data, "sentinel-s2-l2a-cogs/S2B_20EPT_20250731_0_L2A.json")
    assert acquisition(first) == (("S2B", "L2A", "20250731T131909", "20EPT", ""), ("05.11", "20250731T143919"))
    modis = recorded(test_data, "MYD09A1.A2025057.h35v10.061.2025066034638.json")
    assert acquisition(modis) == (("MYD09A1.A2025057.h35v10.061",), ("2025066034638",))
    assert acquisition(recorded(test_data, "sentinel-1-rtc-pc.json")) is None


def test_version_0_of_earth_search_has_applied_the_offset(test_data: Path) -> None:
    item = recorded(test_data, "sentinel-s2-l2a-cogs/S2B_20EPT_20250731_0_L2A.json")
    assert item["properties"]["sentinel:processing_baseline"] == "05.11"
    assert sentinel2_offset(item["properties"], {}) == 0
    assert sentinel2_offset({**item["properties"], "sentinel:boa_offset_applied": False}, {}) == -1000


def test_landsat_of_8_and_9_and_tier_1_only(test_data: Path) -> None:
    eight = recorded(test_data, "earth-search.aws.element84.com/landsat-c2-l2/LC08_L2SP_033032_20231008_02_T1.json")
    nine = recorded(test_data, "landsat-c2-l2-pc.json")
    second = recorded(test_data, "planetarycomputer.microsoft.com/landsat-c2-l2/LC09_L2SP_084068_20250722_02_T2.json")
    seven = recorded(test_data, "LE07_L2SP_044033_20210329_20210424_02_T1_SR.json")
    wanted = [is_wanted(i, "landsat-c2-l2", "landsat-c2-l2") for i in (eight, nine, second, seven)]
    assert wanted == [True, True, False, False]
    assert [is_wanted(i, "landsat-c2-l2", "LANDSAT/LC09/C02/T1_L2") for i in (eight, nine)] == [False, True]
    assert not is_wanted(recorded(test_data, "MYD09A1.A2025057"), "modis-09ga", "MODIS/061/MOD09GA")


def test_bands_of_a_photograph(test_data: Path) -> None:
    for name in ("naip-pc.json", "naip/mt_m_4811608_se_11_060_20231117_20240103.json"):
        item = recorded(test_data, name)
        bands = item_bands(item, SENSORS["naip"])
        assert {band: found[0].index for band, found in bands.items()} == {"R": 1, "G": 2, "B": 3, "N": 4}
        scene, _ = scene_of(item, "naip")
        assert scene is not None and scene.bands == {"R", "G", "B", "N"} and set(scene.item["assets"]) == {"image"}
    true_colour = recorded(test_data, "S2B_MSIL2A_20250312T014549_R074_T53NKG_20250312T041213.json")
    assert item_bands(true_colour, SENSORS["sentinel-2-l2a"])["B4"][0].key == "B04"  # not of the picture


def test_fill_and_scale_of_modis_and_hls(test_data: Path) -> None:
    item = recorded(test_data, "MYD09A1.A2025057.h35v10.061.2025066034638.json")
    sensor = item_sensor(item)
    assert sensor is not None and sensor.id == "modis-09ga"
    red = item_bands(item, sensor)["sur_refl_b01"][0]
    decode = decoding_of_item(sensor, "sur_refl_b01", item["collection"], item["properties"], red.raster_band)
    np.testing.assert_array_equal(decode(np.array([-28672, -100, 5000], np.int16)), [np.nan, -100, 5000])
    hls = decoding_of_item(SENSORS["hls-s30"], "B04", "hls2-s30", {}, {})
    np.testing.assert_array_equal(hls(np.array([-9999, -5, 1234], np.int16)), [np.nan, -5, 1234])


def test_stac_1_1_tells_the_same(test_data: Path) -> None:
    item = recorded(test_data, "earth-search.aws.element84.com/sentinel-2-c1-l2a/S2B_T20EPT")
    newer = json.loads(json.dumps(item))
    newer["stac_version"] = "1.1.0"
    for asset in newer["assets"].values():
        raster, eo = asset.pop("raster:bands", [{}]), asset.pop("eo:bands", [{}])
        if len(eo) == 1:
            told = {f"raster:{k}": v for k, v in raster[0].items() if k in ("scale", "offset")}
            names = {"name": eo[0].get("name"), "eo:common_name": eo[0].get("common_name")}
            asset["bands"] = [{"nodata": 0, **told, **{k: v for k, v in names.items() if v}}]
    for band, (before, *_) in item_bands(item, SENSORS["sentinel-2-l2a"]).items():
        after = item_bands(newer, SENSORS["sentinel-2-l2a"])[band][0]
        assert after.key == before.key
        rules = [
            decoding_of_item(SENSORS["sentinel-2-l2a"], band, item["collection"], item["properties"], each.raster_band)
            for each in (before, after)
        ]
        assert rules[0].offset == rules[1].offset


def test_where_files_lie(test_data: Path) -> None:
    dem = recorded(
        test_data, "earth-search.aws.element84.com/cop-dem-glo-30/Copernicus_DSM_COG_10_S90_00_W175_00_DEM.json"
    )
    url, _ = open_url(dem["assets"]["data"], dem, "")
    assert url is not None and url.startswith("https://copernicus-dem-30m.s3.eu-central-1.amazonaws.com/Copernicus_DSM")
    radar = recorded(test_data, "S1A_IW_GRDH_1SSH_20250731T135608_20250731T135637_060328_077F7E.json")
    assert open_url(radar["assets"]["hh"], radar, "")[1] == (
        "its files lie in s3://sentinel-s1-l1c, whose reader pays: they cannot be read without an account there"
    )
    both = {"href": "s3://usgs-landsat/a.tif", "alternate": {"open": {"href": "https://example.org/a.tif"}}}
    assert open_url(both, {}, "")[0] == "https://example.org/a.tif"
    newer = {"properties": {"storage:schemes": {"aws": {"requester_pays": True}}}}
    assert open_url({"href": "s3://private/a.tif"}, newer, "")[0] is None
    assert open_url({"href": "../b.tif"}, {}, "https://example.org/x/y/item.json")[0] == "https://example.org/x/b.tif"


def test_files_whose_reader_pays_are_said(test_data: Path, tmp_path: Path) -> None:
    item = recorded(test_data, "earth-search.aws.element84.com/landsat-c2-l2/LC08_L2SP_033032_20231008_02_T1.json")
    box = GeoBox((4, 4), Affine(30, 0, 566985, 0, -30, 4463985), "EPSG:32613")
    october = (datetime(2023, 10, 1, tzinfo=UTC), datetime(2023, 11, 1, tzinfo=UTC))
    request = ask(box, ("SR_B4",), sensor="landsat-c2-l2", mask="qa_pixel", intervals=(october,))
    with stac_api([item], tmp_path) as url, pytest.raises(
        ProviderError, match=r"landsat-c2-l2 cannot be read: of LC08_.* s3://usgs-landsat, whose reader pays"
    ):  # fmt: skip
        load(open_stac(url), request)


def test_slope_of_a_plane() -> None:
    y, x = np.mgrid[:7, :9].astype(np.float32)
    plane = 3 * x + 4 * y
    np.testing.assert_allclose(slope(plane, 10), np.degrees(np.arctan(0.5)), rtol=1e-6)
    plane[0] = np.nan
    assert np.isfinite(slope(plane, 10)).all()  # the border of a tile leaves no seam
    plane[3, 3] = np.nan
    assert np.isnan(slope(plane, 10)).sum() == 1


# --- signatures ----------------------------------------------------------------------------------------------------


def signed(front: Front, files: RangeServer, api_url: str) -> Service:
    """A service whose files need a token; the first folder stands for account and container."""
    where = rf"{files.root}/(?P<account>sentinel)-(?P<container>2-l2a)/"
    return known(api_url, signing=Signing(f"{front.url}/token", where))


def test_files_that_need_a_token(test_data: Path, tmp_path: Path) -> None:
    with RangeServer(test_data / CATALOGUE, signature="abc") as files, Front() as front:
        front.answers["/token/sentinel/2-l2a"] = lambda: token("abc")
        with stac_api(real_items(test_data, files), tmp_path) as url:
            with pytest.raises(ProviderError, match="403"):
                load(STACProvider(known(url)), ask())
            provider = STACProvider(signed(front, files, url))
            there, here = load(provider, ask()), load(open_local(test_data / CATALOGUE), ask())
            np.testing.assert_array_equal(there.pixels, here.pixels)
            assert front.count("/token/sentinel/2-l2a") == 1
            # the key of all files changes: what was signed is refused, and signed anew
            files.signature = "xyz"
            front.answers["/token/sentinel/2-l2a"] = lambda: token("xyz")
            np.testing.assert_array_equal(load(provider, ask()).pixels, here.pixels)
            # a token that stays wrong: an error that shows no signature
            files.signature = "other"
            with pytest.raises(ProviderError) as caught:
                load(provider, ask())
            assert "sig=" not in str(caught.value) and "scene S2" in str(caught.value)


def test_tokens_are_renewed_before_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with Front() as front:
        front.answers["/token/acc/box"] = lambda: token("a", seconds=100)  # within the margin
        signer = Signer("here", Signing(f"{front.url}/token", r"https://(?P<account>acc)\.example/(?P<container>\w+)/"))
        url = "https://acc.example/box/file.tif"
        assert signer.sign(url).startswith(f"{url}?se=") and signer.sign(url).endswith("&sig=a")
        assert front.count("/token/acc/box") == 2
        front.answers["/token/acc/box"] = lambda: token("b", seconds=3600)
        assert {signer.sign(url)[-1] for _ in range(5)} == {"b"} and front.count("/token/acc/box") == 3
        assert signer.sign("https://other.example/box/file.tif") == "https://other.example/box/file.tif"
        assert signer.sign(f"{url}?sig=own") == f"{url}?sig=own"
        assert "Ocp-Apim-Subscription-Key" not in front.sent[-1]
        monkeypatch.setenv(KEY, "mine")
        signer.renew(url)
        assert front.sent[-1]["Ocp-Apim-Subscription-Key"] == "mine"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, b"{}", rf"acc/box was refused \(403\).*set {KEY}"),
        (200, PAGE, "did not answer with JSON"),
        (200, b'{"ticket": 1}', "is not one: the endpoint has changed"),
        (500, b"{}", r"failed on the server \(500\)"),
    ],
)
def test_an_endpoint_that_gives_no_token(status: int, body: bytes, said: str) -> None:
    with Front() as front:
        front.fail(status, body=body)
        signer = Signer("here", Signing(f"{front.url}/token", r"https://(?P<account>acc)\.example/(?P<container>\w+)/"))
        with pytest.raises(ProviderError, match=f"here: the token for its files in .*{said}"):
            signer.sign("https://acc.example/box/file.tif")


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"{}", r"refused \(401\): it needs an account"),
        (403, b"{}", r"refused \(403\): it needs an account"),
        (404, b"{}", r"not found \(404\)"),
        (400, b"{}", r"refused \(400\)"),
        (429, b"{}", r"429, too many requests\); try again later"),
        (503, b"{}", r"failed on the server \(503\); try again later"),
        (200, PAGE, "did not answer with JSON but with something else, such as the login page"),
        (200, b'{"features": [', "did not answer with JSON"),
        (200, b"[1, 2]", "is not as STAC has it"),
        (200, b'{"features": [{"type": "Feature"}, 5]}', "is not as STAC has it"),
    ],
)
def test_answers_that_are_none(status: int, body: bytes, said: str) -> None:
    with Front() as front:
        front.fail(status, body=body)
        provider = STACProvider(known(front.url))
        with pytest.raises(ProviderError, match=rf"earth-search: the search in sentinel-2-l2a .*{said}") as caught:
            load(provider, ask())
        assert "another backend" in str(caught.value) or "check the address" in str(caught.value)
        before = len(front.requests)
        assert before <= 3
        with pytest.raises(ProviderError, match=said):
            load(provider, ask())
        if isinstance(caught.value, ServiceError):  # what does not work is left in peace for a while
            with pytest.raises(ServiceError, match=r"the search in cop-dem-glo-30 was not tried, since earth-search: "):
                load(provider, ask(sensor="dem", bands=("elevation",), intervals=(), mask=None))
            assert len(front.requests) == before


def test_a_short_trouble_passes(api: str) -> None:
    with Front(behind=api) as front:
        front.fail(503, times=1, Retry_After="0")
        assert load(STACProvider(known(front.url)), ask()).valid.any()
        front.fail(429, times=2, Retry_After="0")
        assert load(STACProvider(known(front.url)), ask()).valid.any()


def test_nobody_there_and_unknown_names() -> None:
    began = time.monotonic()
    with pytest.raises(ServiceError, match=r"cannot be reached.*HTTPS_PROXY"):
        load(STACProvider(known(f"http://127.0.0.1:{free_port()}")), ask())
    with pytest.raises(ServiceError, match="cannot be reached"):
        load(STACProvider(known("http://nowhere.invalid")), ask())
    assert time.monotonic() - began < 20


def test_the_proxy_of_the_environment_is_used(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Front() as front:
        monkeypatch.setenv("HTTP_PROXY", front.url)
        monkeypatch.setenv("http_proxy", front.url)
        front.fail(407)
        with pytest.raises(ProviderError, match="407"):
            load(STACProvider(known("http://stac.example.org")), ask())
        assert front.requests[0][1].startswith("http://stac.example.org")


def test_certificates_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    with pytest.raises(ProviderError, match=r"own\.pem"):
        load(STACProvider(known("https://127.0.0.1:1")), ask())


def test_a_page_that_is_no_catalogue() -> None:
    with Front() as front:
        front.answers["/"] = {"type": "FeatureCollection", "features": []}
        with pytest.raises(ProviderError, match="its first page is not as STAC has it"):
            open_stac(f"{front.url}/").offers("sentinel-2-l2a")


def test_an_empty_window_names_the_nearest_dates(api: str) -> None:
    september = (AUGUST[1], datetime(2023, 10, 1, tzinfo=UTC))
    with pytest.raises(NoImageryError, match=r"2023-09-01 to 2023-10-01 over the region; nearest dates: 2023-08-20"):
        load(open_stac(api), ask(intervals=(september,)))


def test_collections_are_data() -> None:
    assert EARTH_SEARCH.offers is not None and [c.id for c in EARTH_SEARCH.offers["dem"]] == ["cop-dem-glo-30"]


@pytest.mark.parametrize("check", PROVIDER_CHECKS)
def test_the_contract_of_providers(api: str, check: str) -> None:
    far = ask(GeoBox((8, 8), Affine(120, 0, 300000, 0, -120, 5200020), "EPSG:32621"))
    PROVIDER_CHECKS[check](ProviderTrial(open_stac(api), ask(), dated=True, elsewhere=far))
