"""One painted scene in each service's own layout gives the same harmonised pixels from all of them.

The items are recorded ones: only their files, outline and projection are replaced, so that names of assets, offsets,
scales and nodata are the services' own; what else they list stays, unreachable. HLS is painted after the item_assets of
Planetary Computer's collection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely.geometry
from affine import Affine
from odc.geo.geobox import GeoBox
from range_server import RangeServer
from servers import Front, stac_api, token

from rs_embed.core.geometry import footprint_of
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.sensors import SENSORS
from rs_embed.providers.failover import FailoverProvider
from rs_embed.providers.local import open_local
from rs_embed.providers.services import SERVICES, Signing
from rs_embed.providers.stac import STACProvider, open_stac
from rs_embed.providers.stac_items import item_time

SIZE = 96
AT = GeoBox((SIZE, SIZE), Affine(10, 0, 500000, 0, -10, 5200000), "EPSG:32633")
"""The painted scene."""
PART = GeoBox((SIZE - 16, SIZE - 8), Affine(10, 0, 500040, 0, -10, 5199920), "EPSG:32633")
"""What is asked for: inside, on the scene's own pixels."""
S2 = {"B2": 10, "B3": 10, "B4": 10, "B8": 10, "B5": 20, "B11": 20, "SCL": 20}
"""Bands that are painted, and their metres."""
SIGNATURE = "abc"


@dataclass(frozen=True)
class Layout:
    """How a service keeps a scene."""

    name: str
    template: str
    """Part of the path of the recorded item; of a collection for HLS."""
    sensor: str
    assets: Mapping[str, str]
    """``{band: key of the asset}``."""
    offset: int = 0
    """Added to the painted numbers in the files."""
    planetary: bool = False
    gsd: int = 10
    declared: bool = True
    """Whether the files say their nodata."""


def _s2(*keys: str) -> dict[str, str]:
    return dict(zip(S2, keys, strict=True))


_COMMON = _s2("blue", "green", "red", "nir", "rededge1", "swir16", "scl")
_NUMBERS = _s2("B02", "B03", "B04", "B08", "B05", "B11", "SCL")
_LANDSAT = {"SR_B2": "blue", "SR_B4": "red", "SR_B5": "nir08", "SR_B7": "swir22", "QA_PIXEL": "qa_pixel"}
_HLS = {"B02": "B02", "B04": "B04", "B8A": "B8A", "B11": "B11", "Fmask": "Fmask"}
_ES, _PC = "earth-search.aws.element84.com", "planetarycomputer.microsoft.com"

LAYOUTS = (
    Layout("es/sentinel-2-l2a", f"{_ES}/sentinel-2-l2a/S2B_20EPT", "sentinel-2-l2a", _COMMON),
    Layout("es/sentinel-2-c1-l2a", f"{_ES}/sentinel-2-c1-l2a/S2B_T20EPT", "sentinel-2-l2a", _COMMON, 1000),
    Layout("es/sentinel-s2-l2a-cogs", f"{_ES}/sentinel-s2-l2a-cogs/S2B_20EPT", "sentinel-2-l2a", _NUMBERS),
    Layout("pc/sentinel-2-l2a 02.12", "S2A_MSIL2A_20190101T000001_R116_T59VNF", "sentinel-2-l2a", _NUMBERS, 0, True,
           declared=False),
    Layout("pc/sentinel-2-l2a 04.00", "S2B_MSIL2A_20220612T182919_R027_T24XWR", "sentinel-2-l2a", _NUMBERS, 1000, True,
           declared=False),
    Layout("pc/sentinel-2-l2a 05.11", "S2B_MSIL2A_20250312T014549_R074_T53NKG", "sentinel-2-l2a", _NUMBERS, 1000, True),
    Layout("es/landsat-c2-l2", f"{_ES}/landsat-c2-l2/LC08_L2SP_033032", "landsat-c2-l2", _LANDSAT, gsd=30),
    Layout("pc/landsat-c2-l2", "data/landsat-c2-l2-pc.json", "landsat-c2-l2", _LANDSAT, 0, True, 30),
    Layout("pc/hls2-s30", f"{_PC}__hls2-s30.json", "hls-s30", _HLS, 0, True, 30, declared=False),
    Layout("pc/sentinel-1-rtc", "data/sentinel-1-rtc-pc.json", "sentinel-1", {"VV": "vv", "VH": "vh"}, 0, True,
           declared=False),
    Layout("pc/naip", "data/naip-pc.json", "naip", dict.fromkeys("RGBN", "image"), 0, True),
    Layout("pc/modis-09A1-061", f"{_PC}/modis-09A1-061/MYD09A1", "modis-09ga",
           {"sur_refl_b01": "sur_refl_b01", "sur_refl_b04": "sur_refl_b04"}, 0, True, 500, declared=False),
    Layout("es/cop-dem-glo-30", f"{_ES}/cop-dem-glo-30/Copernicus_DSM_COG_10_S90_00_W175", "dem",
           {"elevation": "data"}, gsd=30),
    Layout("pc/cop-dem-glo-30", "data/cop-dem-glo-30-pc.json", "dem", {"elevation": "data"}, 0, True, 30),
)  # fmt: skip


def lattice(gsd: int) -> GeoBox:
    """The scene's lattice at another resolution, on Landsat's half pixel for 30 m."""
    half = 15 if gsd == 30 else 0
    count = max(SIZE * 10 // gsd, 24)
    return GeoBox((count, count), Affine(gsd, 0, 500000 - half, 0, -gsd, 5200000 + half), "EPSG:32633")


def paint(sensor: str, band: str, gsd: int) -> np.ndarray:
    """The scene in the numbers of the product, without a service's offset; a corner has no data."""
    rng = np.random.default_rng(sum(map(ord, sensor + band)))
    shape = lattice(gsd).shape
    if band == "SCL":
        return rng.choice([4, 5, 6, 8, 9, 3], shape).astype(np.uint8)
    if band == "QA_PIXEL":
        return rng.choice([21824, 21952, 22280, 23888], shape).astype(np.uint16)  # clear, clear, cloud, shadow
    if band == "Fmask":
        return rng.choice([0, 64, 2, 8, 32], shape).astype(np.uint8)
    low, high, kind, empty = {
        "sentinel-2-l2a": (1, 9000, np.uint16, 0),
        "landsat-c2-l2": (7273, 43636, np.uint16, 0),
        "hls-s30": (-50, 9000, np.int16, -9999),
        "sentinel-1": (0.001, 0.9, np.float32, -32768),
        "naip": (0, 255, np.uint8, None),
        "modis-09ga": (-100, 16000, np.int16, -28672),
        "dem": (-20, 900, np.float32, None),
    }[sensor]
    found = rng.uniform(low, high, shape).astype(kind)
    if empty is not None:
        found[:12, -12:] = empty
    return found


def write(path: Path, bands: list[np.ndarray], box: GeoBox, nodata: float | None, crs: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=box.shape[0], width=box.shape[1], count=len(bands), dtype=bands[0].dtype,
        crs=crs, transform=box.affine, nodata=nodata, tiled=True, blockxsize=64, blockysize=64, compress="deflate",
    ) as dataset:  # fmt: skip
        dataset.write(np.stack(bands))


def place(layout: Layout, gsd: int) -> tuple[GeoBox, str]:
    """Where a service keeps it: elevations in degrees, MODIS on its sphere."""
    box = lattice(gsd)
    if layout.sensor == "dem":
        return GeoBox(box.shape, Affine(1 / 3600, 0, 14.999, 0, -1 / 3600, 46.956), "EPSG:4326"), "EPSG:4326"
    if layout.sensor == "modis-09ga":
        return (
            GeoBox(box.shape, Affine(463.3127165, 0, 1136000, 0, -463.3127165, 5222000), box.crs),
            "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs",
        )
    return box, "EPSG:32633"


def recorded(folder: Path, layout: Layout) -> dict[str, Any]:
    (path,) = [p for p in sorted((folder / "stac_items").glob("**/*.json")) if layout.template in str(p)]
    content = json.loads(path.read_text())
    if layout.sensor != "hls-s30":
        found: dict[str, Any] = content[0] if isinstance(content, list) else content
        return found
    day = {"datetime": "2023-08-10T10:05:59Z", "eo:cloud_cover": 12}
    return {
        **{"type": "Feature", "stac_version": "1.0.0", "id": "HLS.S30.T33TWM.2023222T100559.v2.0", "links": []},
        **{"collection": content["id"], "properties": day},
        "assets": {k: {"href": f"https://example.org/{k}.tif", **a} for k, a in content["item_assets"].items()},
    }


def item_of(folder: Path, layout: Layout, target: Path) -> dict[str, Any]:
    """The recorded item with painted files, whose names are relative to ``target``."""
    item = recorded(folder, layout)
    files: dict[str, list[str]] = {}
    for band, key in layout.assets.items():
        files.setdefault(key, []).append(band)
    slug = layout.name.replace("/", "_").replace(" ", "_")
    for key, bands in files.items():
        gsd = S2.get(bands[0], 10) if layout.sensor == "sentinel-2-l2a" else layout.gsd
        painted = [paint(layout.sensor, band, gsd) for band in bands]
        box, crs = place(layout, gsd)
        offset = 0 if SENSORS[layout.sensor].band(bands[0]).classes else layout.offset
        stored = [np.where(p == 0, 0, p + offset).astype(p.dtype) if offset else p for p in painted]
        nodata = 0 if layout.declared and layout.sensor in ("sentinel-2-l2a", "landsat-c2-l2") and not (
            SENSORS[layout.sensor].band(bands[0]).classes
        ) else None  # fmt: skip
        write(target / slug / f"{key}.tif", stored, box, nodata, crs)
        item["assets"][key]["href"] = f"{slug}/{key}.tif"
    outline = footprint_of(lattice(layout.gsd)).buffer(0.3)
    item["geometry"], item["bbox"] = shapely.geometry.mapping(outline), list(outline.bounds)
    return item


def request_of(layout: Layout, item: Mapping[str, Any]) -> ImageRequest:
    """A request for what is painted, on the day of the item."""
    sensor = SENSORS[layout.sensor]
    box = PART if layout.gsd == 10 else GeoBox((18, 18), lattice(layout.gsd).affine, "EPSG:32633")
    start = item_time(item).replace(hour=0, minute=0, second=0, microsecond=0)
    bands = tuple(b for b in layout.assets if b != sensor.mask_band)
    bands = (*bands, "slope") if layout.sensor == "dem" else bands
    intervals = () if layout.sensor == "dem" else ((start, start + timedelta(days=1)),)
    return ImageRequest(
        layout.sensor, bands, footprint_of(box), box, intervals, "median", sensor.mask, collection=item["collection"]
    )


@dataclass(frozen=True)
class World:
    """The services, and the same files on this machine."""

    items: Mapping[str, Mapping[str, Any]]
    services: Mapping[bool, STACProvider]
    """By whether it is Planetary Computer."""
    folder: Path

    def load(self, layout: Layout, provider: Any = None) -> ImageStack:
        request = request_of(layout, self.items[layout.name])
        assert request.geobox is not None
        (stack,) = (provider or self.services[layout.planetary]).load(request, [request.geobox])
        found: ImageStack = stack
        return found


@pytest.fixture(scope="module")
def world(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    items = {layout.name: item_of(test_data, layout, folder) for layout in LAYOUTS}
    with ExitStack() as stack:
        free = stack.enter_context(RangeServer(folder))
        closed = stack.enter_context(RangeServer(folder, signature=SIGNATURE))
        tokens = stack.enter_context(Front())
        port = closed.root.rpartition(":")[2]  # stands for the account
        tokens.answers = {f"/token/{port}/{slug.name}": token(SIGNATURE) for slug in folder.iterdir()}
        urls = {}
        for planetary, server in ((False, free), (True, closed)):
            served = [absolute(items[each.name], server) for each in LAYOUTS if each.planetary is planetary]
            urls[planetary] = stack.enter_context(stac_api(served, tmp_path_factory.mktemp("api")))
        where = rf"http://127\.0\.0\.1:(?P<account>{port})/(?P<container>[^/]+)/"
        known = SERVICES["planetary-computer"]
        service = replace(known, url=urls[True], signing=Signing(f"{tokens.url}/token", where))
        yield World(items, {False: open_stac(urls[False]), True: STACProvider(service)}, folder)


def absolute(item: Mapping[str, Any], server: RangeServer) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(item))
    for asset in copy["assets"].values():
        if "://" not in asset["href"]:
            asset["href"] = server.url(asset["href"])
    return copy


def expected(layout: Layout, band: str) -> np.ndarray:
    """The painted numbers as they are harmonised, on the request's own pixels."""
    raw = paint(layout.sensor, band, S2.get(band, 10) if layout.sensor == "sentinel-2-l2a" else layout.gsd)
    values = raw.astype(np.float32)
    if layout.sensor == "landsat-c2-l2":
        return values * np.float32(0.275) + np.float32(-2000)
    return values


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    rows = [
        f"{'layout':28} {'sensor':15} {'bands':>5} {'pixels':>7} {'clear':>6} {'max |difference| to the files':>30}"
    ]
    yield rows
    print("\n" + "\n".join(rows))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda each: each.name)
def test_each_layout_gives_what_its_files_give(world: World, layout: Layout, table: list[str], tmp_path: Path) -> None:
    there = world.load(layout)
    item = world.items[layout.name]
    local = tmp_path / "local"
    local.mkdir()
    (local / "item.json").write_text(json.dumps(item))
    for slug in {asset["href"].partition("/")[0] for asset in item["assets"].values() if "://" not in asset["href"]}:
        (local / slug).symlink_to(world.folder / slug)
    request = request_of(layout, item)
    bands = tuple(band for band in request.bands if band != "slope")
    request = replace(request, bands=bands)
    (here,) = open_local(local).load(request, [request.geobox])
    n = len(bands)
    if layout.sensor != "dem":
        np.testing.assert_array_equal(there.valid, here.valid)
    both = there.valid & here.valid
    assert both.any() and (there.valid.all() or layout.sensor != "naip")
    difference = np.abs(there.pixels[0, :n] - here.pixels[0])[:, both[0]]
    clear, total = there.observations
    counts = f"{n:5} {int(both.sum()):7} {clear / max(total, 1):6.3f} {difference.max():17g}"
    table.append(f"{layout.name:28} {layout.sensor:15} {counts}")
    assert difference.max() == 0


SENTINEL_2 = [each for each in LAYOUTS if each.sensor == "sentinel-2-l2a"]


@pytest.mark.parametrize("layout", SENTINEL_2, ids=lambda each: each.name)
def test_sentinel_2_is_what_was_painted_from_every_service(world: World, layout: Layout) -> None:
    first, found = world.load(SENTINEL_2[0]), world.load(layout)
    np.testing.assert_array_equal(found.valid, first.valid)
    np.testing.assert_array_equal(found.pixels, first.pixels)
    clear = np.isin(np.repeat(np.repeat(paint("sentinel-2-l2a", "SCL", 20), 2, 0), 2, 1), (4, 5, 6, 7))
    rows, cols = slice(8, 8 + PART.shape[0]), slice(4, 4 + PART.shape[1])
    red = expected(layout, "B4")[rows, cols]
    index = list(request_of(layout, world.items[layout.name]).bands).index("B4")
    np.testing.assert_array_equal(found.pixels[0, index][found.valid[0]], red[found.valid[0]])
    assert not found.valid[0][~clear[rows, cols]].any() and not found.valid[0][red == 0].any()
    assert 0.3 < found.valid.mean() < 0.7


@pytest.mark.parametrize("band", ["SR_B4", "SR_B7"])
def test_landsat_is_what_was_painted_from_both(world: World, band: str) -> None:
    for layout in (each for each in LAYOUTS if each.sensor == "landsat-c2-l2"):
        found = world.load(layout)
        index = list(request_of(layout, world.items[layout.name]).bands).index(band)
        values = expected(layout, band)[:18, :18]
        clear = (paint("landsat-c2-l2", "QA_PIXEL", 30)[:18, :18] & 0b11111) == 0
        usable = clear & (paint("landsat-c2-l2", band, 30)[:18, :18] > 0)
        assert found.valid[0].any() and not found.valid[0][~usable].any()
        np.testing.assert_array_equal(found.pixels[0, index][found.valid[0]], values[found.valid[0]])


def test_fmask_and_fill_of_hls(world: World) -> None:
    (layout,) = (each for each in LAYOUTS if each.sensor == "hls-s30")
    found = world.load(layout)
    painted, mask = paint("hls-s30", "B04", 30)[:18, :18], paint("hls-s30", "Fmask", 30)[:18, :18]
    usable = (painted != -9999) & ((mask & 0b11111) == 0)
    np.testing.assert_array_equal(found.valid[0], usable)
    np.testing.assert_array_equal(found.pixels[0, 1][usable], painted[usable].astype(np.float32))


def test_radar_is_decibels_of_linear_power(world: World) -> None:
    (layout,) = (each for each in LAYOUTS if each.sensor == "sentinel-1")
    found = world.load(layout)
    rows, cols = slice(8, 8 + PART.shape[0]), slice(4, 4 + PART.shape[1])
    power = paint("sentinel-1", "VV", 10)[rows, cols]
    assert found.pixels[0, 0][found.valid[0]].min() > -31
    np.testing.assert_array_equal(found.valid[0], power > 0)
    np.testing.assert_allclose(found.pixels[0, 0][found.valid[0]], 10 * np.log10(power[power > 0]), rtol=1e-6)


def test_elevation_is_the_same_from_both_and_has_a_slope(world: World) -> None:
    one, other = (world.load(each) for each in LAYOUTS if each.sensor == "dem")
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.valid, other.valid)
    assert one.missing_bands == () and one.valid.mean() > 0.8
    assert one.pixels[0, 1][one.valid[0]].min() >= 0 and one.pixels[0, 1][one.valid[0]].max() < 90


def test_a_crop_of_the_slope_is_the_slope_of_the_crop(world: World) -> None:
    (layout, *_) = (each for each in LAYOUTS if each.sensor == "dem")
    request = request_of(layout, world.items[layout.name])
    assert request.geobox is not None
    a = request.geobox.affine
    part = GeoBox((5, 7), Affine(a.a, 0, a.c + 3 * a.a, 0, a.e, a.f + 4 * a.e), request.geobox.crs)
    whole, cut = world.services[False].load(request, [request.geobox, part])
    np.testing.assert_array_equal(cut.valid, whole.valid[:, 4:9, 3:10])
    np.testing.assert_array_equal(cut.pixels[:, :, cut.valid[0]], whole.pixels[:, :, 4:9, 3:10][:, :, cut.valid[0]])


def test_auto_gives_the_same_from_whoever_answers(world: World) -> None:
    layout = next(each for each in LAYOUTS if each.name == "pc/sentinel-2-l2a 05.11")
    auto = FailoverProvider([world.services[False], world.services[True]])
    found = world.load(layout, auto)
    assert found.origin is not None and found.origin[0] == "planetary-computer"  # the first has nothing on that day
    np.testing.assert_array_equal(found.pixels, world.load(layout).pixels)


def test_what_is_read_instead_is_said(world: World) -> None:
    (radar,) = (each for each in LAYOUTS if each.sensor == "sentinel-1")
    assert "gamma nought" in world.load(radar).notes[0]
    (modis,) = (each for each in LAYOUTS if each.sensor == "modis-09ga")
    assert "8 days" in world.load(modis).notes[0]
    assert datetime.now(UTC) > item_time(world.items[radar.name])
