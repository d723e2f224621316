"""What STAC APIs and catalogues say besides what they should: odd pages, errors as successes, malformed items."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from range_server import RangeServer
from real_catalogue import CATALOGUE, ask, load, real_items
from servers import Front, free_port
from shapely.geometry import mapping

from rs_embed import PointBuffer, SensorSpec, TemporalSpec, inspect_provider_patch
from rs_embed.core.errors import NoImageryError, ProviderError
from rs_embed.core.geometry import footprint_of
from rs_embed.core.imagery import ImageStack
from rs_embed.core.sensors import SENSORS
from rs_embed.providers import sessions
from rs_embed.providers.acquisitions import is_wanted
from rs_embed.providers.hrefs import open_url
from rs_embed.providers.local import open_local
from rs_embed.providers.sessions import ServiceError
from rs_embed.providers.stac import open_stac
from rs_embed.providers.stac_items import item_bands

Item = dict[str, Any]
Answer = tuple[int, bytes, dict[str, str]]
Search = Callable[["Odd", str, dict[str, Any]], Any]


@dataclass
class Odd(Front):
    """A STAC API whose search is a function of its method and of what it is asked: the body, or the query."""

    search: Search = lambda *_: {}
    collections: Any = field(default_factory=lambda: {"collections": [{"id": "sentinel-2-l2a"}]})
    method: str = "POST"

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        place = urlsplit(path)
        with self.lock:
            self.requests.append((method, path))
        if place.path == "/":
            links = [
                {"rel": "search", "href": "./search", "method": self.method},
                {"rel": "data", "href": "collections"},
            ]
            return 200, json.dumps({"type": "Catalog", "links": links}).encode(), {}
        if place.path == "/collections":
            return 200, json.dumps(self.collections).encode(), {}
        asked = json.loads(body or b"{}") | {key: each[0] for key, each in parse_qs(place.query).items()}
        told = self.search(self, method, asked)
        return told if isinstance(told, tuple) else (200, json.dumps(told).encode(), {})


def page(items: list[Item], *following: Item) -> Item:
    return {"type": "FeatureCollection", "features": items, "links": list(following)}


@pytest.fixture(scope="module")
def items(test_data: Path, files: RangeServer) -> list[Item]:
    return real_items(test_data, files)


@pytest.fixture(scope="module")
def right(test_data: Path) -> ImageStack:
    return load(open_local(test_data / CATALOGUE), ask())


def same(found: ImageStack, right: ImageStack) -> None:
    np.testing.assert_array_equal(found.valid, right.valid)
    np.testing.assert_array_equal(found.pixels, right.pixels)
    assert right.valid.mean() > 0.7


# --- pages -------------------------------------------------------------------------------------------------------


def by_body(items: list[Item]) -> Search:
    def search(api: Odd, _: str, asked: dict[str, Any]) -> Item:
        at = int(asked.get("token", 0))
        rest = {"rel": "next", "href": f"{api.url}/search", "method": "POST", "body": {**asked, "token": at + 3}}
        return page(items[at : at + 3], *([rest] if at + 3 < len(items) else []))

    return search


def merged(items: list[Item]) -> Search:
    def search(api: Odd, _: str, asked: dict[str, Any]) -> Item:
        at = int(asked.get("token", 0))
        assert asked["bbox"] and asked["collections"] == ["sentinel-2-l2a"]
        rest = {"rel": "next", "href": "/search", "method": "POST", "merge": True, "body": {"token": at + 3}}
        return page(items[at : at + 3], *([rest] if at + 3 < len(items) else []))

    return search


def by_query(items: list[Item]) -> Search:
    def search(api: Odd, method: str, asked: dict[str, Any]) -> Item:
        at = int(asked.get("token", 0))
        assert method == "GET" and (at or asked["collections"] == "sentinel-2-l2a")
        return page(items[at : at + 3], *([{"rel": "next", "href": f"?token={at + 3}"}] if at + 3 < len(items) else []))

    return search


def empty_first(items: list[Item]) -> Search:
    def search(api: Odd, _: str, asked: dict[str, Any]) -> Item:
        if "token" in asked:
            return page(items)
        return page([], {"rel": "next", "href": "/search", "method": "POST", "body": {"token": "all"}})

    return search


@pytest.mark.parametrize(
    ("pages", "method"), [(by_body, "POST"), (merged, "POST"), (by_query, "GET"), (empty_first, "POST")]
)
def test_every_page_is_read(pages: Callable[..., Search], method: str, items: list[Item], right: ImageStack) -> None:
    with Odd(search=pages(items), method=method) as api:
        same(load(open_stac(api.url), ask()), right)


def circle(api: Odd, _: str, asked: dict[str, Any]) -> Item:
    return page([], {"rel": "next", "href": "/search", "method": "POST", "body": asked})


def endless(api: Odd, _: str, asked: dict[str, Any]) -> Item:
    return page([], {"rel": "next", "href": "/search", "method": "POST", "body": {"n": asked.get("n", 0) + 1}})


@pytest.mark.parametrize(("pages", "said"), [(circle, "round in a circle"), (endless, "pages in a row are empty")])
def test_pages_without_an_end(pages: Search, said: str) -> None:
    with Odd(search=pages) as api:
        with pytest.raises(ServiceError, match=said):
            load(open_stac(api.url), ask())
        assert len(api.requests) < 30


# --- answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told", [{}, {"code": "InternalServerError", "description": "out of memory"}, {"features": None}, None, "no", 5]
)
def test_an_error_that_comes_as_a_success_is_not_no_imagery(told: Any) -> None:
    with Odd(search=lambda *_: told) as api:
        with pytest.raises(ServiceError, match=r"it answers without features: ") as caught:
            load(open_stac(api.url), ask())
        assert not isinstance(told, dict) or str(told.get("description", "")) in str(caught.value)


def test_a_list_of_collections_that_is_none() -> None:
    said = r"its list of collections .* without collections: .*Forbidden"
    with Odd(collections={"message": "Forbidden"}) as api, pytest.raises(ServiceError, match=said):
        load(open_stac(api.url), ask())


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_search_that_is_sent_elsewhere_stays_a_search(status: int, items: list[Item], right: ImageStack) -> None:
    def there(_: Odd, method: str, asked: dict[str, Any]) -> Item:
        return page(items if method == "POST" and asked.get("bbox") else items[:1])

    with Odd(search=there) as new, Odd(search=lambda *_: (status, b"", {"Location": f"{new.url}/search"})) as old:
        same(load(open_stac(old.url), ask()), right)


def test_answers_that_are_packed(items: list[Item], right: ImageStack) -> None:
    packed = gzip.compress(json.dumps(page(items)).encode())
    with Odd(search=lambda *_: (200, packed, {"Content-Encoding": "gzip"})) as api:
        same(load(open_stac(api.url), ask()), right)
    broken = Odd(search=lambda *_: (200, b"not packed at all", {"Content-Encoding": "gzip"}))
    with broken as api, pytest.raises(ServiceError, match=r"sentinel-2-l2a cannot be reached .*gzip"):
        load(open_stac(api.url), ask())


def test_an_answer_in_drops_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(door: socket.socket) -> None:
        guest, _ = door.accept()
        with guest, contextlib.suppress(OSError):  # until the guest has gone
            guest.recv(2**16)
            guest.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            for _ in range(100):
                time.sleep(0.05)
                guest.sendall(b" ")

    monkeypatch.setattr(sessions, "TIMEOUT", (5.0, 0.3))
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=drip, args=(door,), daemon=True)
        thread.start()
        with pytest.raises(ServiceError, match="did not answer in time"):
            open_stac(f"http://127.0.0.1:{door.getsockname()[1]}").offers("sentinel-2-l2a")
        thread.join(10)


def test_silence_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rs_embed.providers.stac.TIMEOUT", (5.0, 0.3))
    with Front(seconds=1.5) as silent:
        with pytest.raises(ServiceError, match="its first page did not answer in time"):
            open_stac(silent.url).offers("sentinel-2-l2a")
        time.sleep(0.5)  # a second request would have come by now
        assert len(silent.sent) == 1


def test_a_key_in_the_address_is_no_part_of_the_paths(items: list[Item], right: ImageStack) -> None:
    with Odd(search=lambda *_: page(items)) as api:
        same(load(open_stac(f"{api.url}/?key=secret"), ask()), right)


def test_an_address_without_a_host() -> None:
    with pytest.raises(ProviderError, match=r"'http:///v1' names no host; give a STAC API's"):
        open_stac("http:///v1")


# --- items -------------------------------------------------------------------------------------------------------


def test_items_of_other_collections_do_not_count(items: list[Item], right: ImageStack) -> None:
    """An API that ignores ``collections``: level 1C taken for 2A would be pixels of another meaning."""
    other = deepcopy(next(each for each in items if "33TWM_20230815" in each["id"]))
    other |= {"id": "another", "collection": "sentinel-2-l1c"}
    other["properties"] |= {"s2:product_uri": "", "datetime": "2023-08-11T10:00:00Z"}
    with Odd(search=lambda *_: page([*items, other])) as api:
        same(load(open_stac(api.url), ask()), right)
    with Odd(search=lambda *_: page([other])) as api, pytest.raises(NoImageryError):
        load(open_stac(api.url), ask())


def test_a_collection_may_be_written_otherwise_in_its_items(items: list[Item], right: ImageStack) -> None:
    with Odd(search=lambda *_: page(items), collections={"collections": [{"id": "Sentinel-2-L2A"}]}) as api:
        same(load(open_stac(api.url), ask()), right)


def test_items_without_a_collection_are_of_the_one_that_was_searched(items: list[Item], right: ImageStack) -> None:
    bare = [{key: value for key, value in each.items() if key != "collection"} for each in items]
    with Odd(search=lambda *_: page(bare)) as api:
        same(load(open_stac(api.url), ask()), right)


MALFORMED: dict[str, Callable[[Item], Any]] = {
    "outline without points": lambda item: item.update(geometry={"type": "Polygon", "coordinates": []}),
    "outline in words": lambda item: item.update(geometry="POLYGON ((0 0, 1 1, 1 0, 0 0))"),
    "no outline at all": lambda item: item.update(geometry=None, bbox=None),
    "asset of nothing": lambda item: item["assets"].update(red2=None, blue2="http://127.0.0.1/blue.tif"),
    "projection that lies": lambda item: item["properties"].update({"proj:epsg": 32601, "proj:shape": [1, 1]}),
    "blanks around an address": lambda item: item["assets"]["red"].update(href=f" {item['assets']['red']['href']}\n"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_items_that_are_wrong_where_it_does_not_matter(case: str, items: list[Item], right: ImageStack) -> None:
    wrong = deepcopy(items)
    for each in wrong:
        MALFORMED[case](each)
    with Odd(search=lambda *_: page(wrong)) as api:
        same(load(open_stac(api.url), ask()), right)


@pytest.mark.parametrize("bounds", [["a", "b", "c", "d"], [None, 0, 1, 2]])
def test_items_that_make_no_sense(bounds: list[Any], items: list[Item]) -> None:
    wrong = [{**each, "geometry": None, "bbox": bounds} for each in items]
    said = "what it lists of sentinel-2-l2a is not as STAC has it"
    with Odd(search=lambda *_: page(wrong)) as api, pytest.raises(ServiceError, match=said):
        load(open_stac(api.url), ask())


@pytest.mark.parametrize(
    ("href", "said"),
    [
        ("./B04.tif", "'./B04.tif' of its file says not of which server"),
        ("/data/B04.tif", "says not of which server"),
        ("file:///data/B04.tif", r"lie at file://, where nothing can be read from here"),
        ("abfs://box/B04.tif", r"lie at abfs://box, where nothing"),
        ("s3://sentinel-s2-l2a/B04.tif", "whose reader pays"),
    ],
)
def test_addresses_that_nobody_can_ask(href: str, said: str) -> None:
    url, why = open_url({"href": href}, {}, "")
    assert url is None and said in why


@pytest.mark.parametrize("proxy", ["http://me:secret@127.0.0.1:{port}", "http://me:secret@nowhere.invalid:3128"])
def test_a_proxy_that_is_not_there_is_named(proxy: str, items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    with Odd(search=lambda *_: page(items)) as api:
        provider = open_stac(api.url)
        assert provider.search(ask(), ask().intervals[0])
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.format(port=free_port()))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for asked, said in ((provider, "the proxy cannot be reached; "), (open_stac(api.url), "through the proxy .*")):
            with pytest.raises(ProviderError, match=f"{said}correct HTTPS_PROXY") as caught:
                load(asked, ask())
            assert "secret" not in str(caught.value)
            assert "its name is not known" not in str(caught.value)


def test_names_and_alternates_of_copernicus_data_space() -> None:
    """Keys such as ``SCL_20m`` without a list of bands, files in S3 that is not Amazon's, and the same by HTTPS."""

    def asset(name: str) -> Item:
        return {
            "href": f"s3://eodata/{name}.jp2",
            "alternate": {"https": {"href": f"https://zipper.example/{name}.jp2"}},
        }

    keys = ("AOT_10m", "B02_10m", "B02_20m", "B8A_20m", "SCL_20m", "TCI_10m")
    item = {"assets": {key: asset(key) for key in keys}, "properties": {}, "collection": "sentinel-2-l2a"}
    bands = item_bands(item, SENSORS["sentinel-2-l2a"])
    assert {band: [each.key for each in found] for band, found in bands.items()} == {
        "B2": ["B02_10m", "B02_20m"],
        "B8A": ["B8A_20m"],
        "SCL": ["SCL_20m"],
    }
    assert open_url(asset("SCL_20m"), item, "") == ("https://zipper.example/SCL_20m.jp2", "")
    own = {"storage:schemes": {"cdse-s3": {"type": "custom-s3", "platform": "https://eodata.example"}}}
    for properties in (own, {"storage:platform": "CloudFerro"}):
        url, why = open_url({"href": "s3://eodata/a.jp2"}, {"properties": properties}, "")
        assert url is None and "s3://eodata, which is not Amazon's" in why
    amazon = {"storage:schemes": {"aws": {"type": "aws-s3"}}, "storage:region": "eu-central-1"}
    url, _ = open_url({"href": "s3://box/a.tif"}, {"properties": amazon}, "")
    assert url == "https://box.s3.eu-central-1.amazonaws.com/a.tif"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("http://127.0.0.1:{port}/B04.tif?sig=secret", r"the server cannot be reached; check the network"),
        ("http://nowhere.invalid/B04.tif?sig=secret", r"name is not known here \(DNS\); check the network"),
    ],
)
def test_files_that_cannot_be_reached_name_service_collection_scene_and_band(
    place: str, said: str, items: list[Item]
) -> None:
    wrong = deepcopy(items)
    for each in wrong:
        each["assets"]["red"]["href"] = place.format(port=free_port())
    told = rf"127\.0\.0\.1:\d+: scene S2._33TWM_2023\d+_0_L2A of sentinel-2-l2a: band B4 \(http://.*\): .*{said}"
    with Odd(search=lambda *_: page(wrong)) as api, pytest.raises(ProviderError, match=told) as caught:
        load(open_stac(api.url), ask(bands=("B4",)))
    assert "secret" not in str(caught.value)


# --- static catalogues -------------------------------------------------------------------------------------------

TWICE = ("S2A_33TWM_20230815_0_L2A", "S2A_33TWM_20230815_1_L2A")
LINKS = {"type": "Catalog", "id": "a", "stac_version": "1.0.0", "description": "a"}


@pytest.fixture
def twice(test_data: Path, tmp_path: Path) -> Path:
    """A catalogue of one acquisition that was processed twice, the second time with 500 more."""
    real, (old, new) = test_data / CATALOGUE / "sentinel-2-l2a" / TWICE[0], TWICE
    told = json.loads((real / f"{old}.json").read_text())
    told |= {"links": [], "assets": {k: a for k, a in told["assets"].items() if (real / a["href"]).is_file()}}
    again = json.loads(json.dumps(told).replace(old, new).replace("_N0509_", "_N0511_").replace('"05.09"', '"05.11"'))
    for name, item, more in ((old, told, 0), (new, again, 500)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.json").write_text(json.dumps(item))
        for file in real.glob("*.tif"):
            with rasterio.open(file) as dataset:
                pixels, profile = dataset.read(), dataset.profile
            with rasterio.open(tmp_path / name / file.name, "w", **profile) as dataset:
                dataset.write(pixels if file.stem == "SCL" else np.where(pixels > 0, pixels + more, 0).astype("uint16"))
    links = [{"rel": "item", "href": f"./{name}/{name}.json"} for name in TWICE]
    (tmp_path / "catalog.json").write_text(json.dumps({**LINKS, "links": links}))
    return tmp_path


def test_what_was_processed_again_counts_once_wherever_it_lies(twice: Path, test_data: Path) -> None:
    day = (datetime(2023, 8, 15, tzinfo=UTC), datetime(2023, 8, 16, tzinfo=UTC))
    request = ask(intervals=(day,), bands=("B4",))
    first = load(open_local(test_data / CATALOGUE), request)
    with RangeServer(twice) as files:
        found = [load(open_stac(files.url("catalog.json")), request), load(open_local(twice), request)]
    (twice / "catalog.json").unlink()  # items beside their files, which nobody else claims then
    found.append(load(open_local(twice), request))
    for each in found:
        assert [scene["id"] for scene in each.scenes[0]] == [TWICE[1]]
        np.testing.assert_array_equal(each.pixels[each.valid[:, None]], first.pixels[first.valid[:, None]] + 500)


def test_satellites_of_files_are_those_that_are_asked_for(test_data: Path) -> None:
    def wanted(item: Item, asked: str | None) -> tuple[bool, bool]:
        return is_wanted(item, "landsat-c2-l2", asked), is_wanted(item, "landsat-c2-l2", asked, own=True)

    (path,) = (test_data / "landsat_scene").glob("*_stac.json")
    tier_2 = json.loads(path.read_text())
    assert wanted({**tier_2, "properties": {"landsat:collection_category": "T2"}}, None) == (False, True)
    assert wanted(tier_2, "LANDSAT/LC09/C02/T1_L2") == (False, False)
    assert wanted({"id": "LE07_L2SP_044033_20210329"}, "landsat") == (False, False)
    assert wanted({"id": "my field in May"}, "LANDSAT/LC08/C02/T1_L2") == (False, True)


def test_what_does_not_count_is_said_where_nothing_else_is_found(test_data: Path) -> None:
    """The real scene is of tier 2, which is not placed as well."""
    (path,) = (test_data / "landsat_scene").glob("*_stac.json")
    item = json.loads(path.read_text())
    with RangeServer(path.parent) as files:
        for asset in item["assets"].values():
            asset["href"] = files.url(asset["href"].rpartition("/")[2])
        with rasterio.open(next(path.parent.glob("*SR_B4.TIF"))) as dataset:
            a = dataset.transform
        box = GeoBox((9, 9), Affine(a.a, 0, a.c + 200 * a.a, 0, a.e, a.f + 200 * a.e), dataset.crs.to_string())
        month = (datetime(2020, 10, 1, tzinfo=UTC), datetime(2020, 11, 1, tzinfo=UTC))
        request = ask(box, ("SR_B4",), sensor="landsat-c2-l2", intervals=(month,), mask=None)
        served = {"collections": [{"id": item["collection"]}]}
        with Odd(search=lambda *_: page([item]), collections=served) as api:
            with pytest.raises(NoImageryError, match="1 in landsat-c2l2-sr of tier 2, or of a satellite that"):
                load(open_stac(api.url), request)
            item["properties"]["landsat:collection_category"] = "T1"
            there = load(open_stac(api.url), request)
    here = load(open_local(path.parent), request)
    assert here.valid.all()
    np.testing.assert_array_equal(there.pixels, here.pixels)


def test_modes_of_sentinel_1_are_those_of_the_items(test_data: Path, tmp_path: Path) -> None:
    """What `SensorSpec.s1_require_iw` and `s1_relax_iw_on_empty` say reaches the scenes of a service."""
    item = json.loads((test_data / "stac_items").rglob("*_rtc.json").__next__().read_text())
    assert item["properties"]["sar:instrument_mode"] == "IW"
    box = GeoBox((64, 64), Affine(10, 0, 500000, 0, -10, 5200000), "EPSG:32633")
    for name, power in (("wide", 0.1), ("strip", 0.001)):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", height=64, width=64, count=1, dtype="float32",
            crs=str(box.crs), transform=box.affine,
        ) as dataset:  # fmt: skip
            dataset.write(np.full((1, 64, 64), power, np.float32))
    outline = {"geometry": mapping(footprint_of(box)), "links": []}
    with RangeServer(tmp_path) as files:
        assets = [{"vv": {**item["assets"]["vv"], "href": files.url(f"{name}.tif")}} for name in ("wide", "strip")]
        wide, strip = ({**item, **outline, "id": f"{i}", "assets": each} for i, each in enumerate(assets))
        moment = datetime.fromisoformat(item["properties"]["datetime"])
        later, day = (moment + timedelta(hours=12)).isoformat(), moment.date().isoformat()
        strip["properties"] = {**item["properties"], "sar:instrument_mode": "SM", "datetime": later}
        when, where = TemporalSpec.around(day, days=2), PointBuffer(15.003, 46.951, 100)

        def level(found: list[Item], **flags: bool) -> tuple[float, list[str]]:
            served = {"collections": [{"id": "sentinel-1-rtc"}]}
            with Odd(search=lambda *_: page(found), collections=served) as api:
                sensor = SensorSpec("COPERNICUS/S1_GRD", ("VV",), composite="mean", **flags)
                patch = inspect_provider_patch(
                    sensor=sensor, backend=api.url, return_array=True, temporal=when, spatial=where
                )
            return round(float(patch["array_chw"].mean()), 2), [note for note in patch["notes"] if "mode" in note]

        assert level([wide, strip]) == (-10.0, [])
        assert level([wide, strip], s1_require_iw=False) == (-12.97, [])
        power, (note,) = level([strip])
        assert power == -30.0 and "no sentinel-1 scene of mode IW: those of mode SM were taken" in note
        with pytest.raises(NoImageryError, match="by mode, not being IW"):
            level([strip], s1_relax_iw_on_empty=False)


def test_links_that_go_round_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_text(json.dumps({**LINKS, "links": [{"rel": "child", "href": "./b.json"}]}))
    (tmp_path / "b.json").write_text(json.dumps({**LINKS, "links": [{"rel": "child", "href": "./catalog.json"}]}))
    with pytest.raises(ProviderError, match=r"catalog\.json is not .*round in a circle"):
        open_local(tmp_path)
    with RangeServer(tmp_path) as files, pytest.raises(ServiceError, match=r"its first page does not end"):
        open_stac(files.url("catalog.json")).offers("sentinel-2-l2a")


def test_a_catalogue_that_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_text("[1, 2]")
    with pytest.raises(ProviderError, match=r"no imagery in"):
        open_local(tmp_path)


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("status", 403, r"refused \(403\)"),
        ("status", 404, r"not found \(404\)"),
        ("status", 503, r"failed on the server \(503\)"),
        ("html", 200, "did not answer with JSON"),
    ],
)
def test_a_page_of_a_catalogue_that_cannot_be_had(test_data: Path, kind: str, status: int, said: str) -> None:
    with RangeServer(test_data / CATALOGUE) as files:
        files.break_(kind, status=status, path=f"{TWICE[0]}.json", headers={"Retry-After": "0"})
        with pytest.raises(ProviderError, match=rf"{TWICE[0]}\.json.* {said}"):
            load(open_stac(files.url("catalog.json")), ask())


def test_a_catalogue_that_is_too_long_to_walk(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rs_embed.providers.stac.MOST", 9)
    said = "the static catalogue has more than 9 items"
    with RangeServer(test_data / CATALOGUE) as files, pytest.raises(ProviderError, match=said):
        load(open_stac(files.url("catalog.json")), ask())
