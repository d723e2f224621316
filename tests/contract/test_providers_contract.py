"""What every source of pixels keeps to: parts are crops, scenes are chosen once, what is missing is said."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import box

from rs_embed import NoImageryError, PointBuffer, ProviderError, TemporalSpec, UserData
from rs_embed.core.geometry import Rect, Region, footprint_of, locate
from rs_embed.core.imagery import ImageRequest, ImageStack, Interval
from rs_embed.core.sensors import SENSORS
from rs_embed.providers.arrays import ArrayProvider
from rs_embed.providers.backends import open_provider
from rs_embed.providers.base import Provider
from rs_embed.providers.synthetic import SyntheticProvider
from rs_embed.testing.providers import PROVIDER_CHECKS, ProviderTrial, crop
from rs_embed.testing.report import Skip

MAY_SKIP = ("order of bands", "missing band", "no scene", "empty frame", "elsewhere")
"""One band only, all bands there, no dates; the tests below say where which of these must run."""


def span(start: str, end: str) -> Interval:
    return datetime.fromisoformat(start).replace(tzinfo=UTC), datetime.fromisoformat(end).replace(tzinfo=UTC)


@dataclass(frozen=True)
class Source:
    """A provider with a place and a time where it has something."""

    open: Callable[[], Provider]
    region: Region
    interval: Interval
    bands: tuple[str, ...] = ("B4", "B8", "B2")
    gsd: float = 10.0
    offset: float = 0.0
    sensor: str = "sentinel-2-l2a"
    undated: bool = False
    masked: bool = True

    def request(self, **changes: Any) -> ImageRequest:
        lattice = self.region.lattice(self.gsd, self.offset)
        rect = lattice.cover(self.region.shape.bounds)
        mask = SENSORS[self.sensor].mask if self.masked else None
        made = ImageRequest(
            self.sensor, self.bands, self.region.footprint, lattice.geobox(rect), (self.interval,), mask=mask
        )
        return replace(made, **changes)


MUNICH = locate(PointBuffer(11.5, 48.1, 300))
JUNE = span("2022-06-01", "2022-06-20")


def paint_folder(folder: Path) -> Path:
    """Scenes of the painted landscape as GeoTIFFs of a grid larger than the region, with a sidecar."""
    painted = SyntheticProvider()
    box = MUNICH.lattice(10.0, 0.0)
    geobox = box.geobox(box.cover(MUNICH.shape.bounds).pad(9))
    request = ImageRequest("sentinel-2-l2a", ("B4", "B8", "B2"), MUNICH.footprint, geobox, (JUNE,))
    for scene in painted.search(request, JUNE):
        for band in ("B4", "B8", "B2", "SCL"):
            values = painted.read(scene, [band], geobox)
            profile = {
                "driver": "GTiff", "dtype": "uint16", "count": 1, "height": geobox.shape[0], "width": geobox.shape[1],
                "crs": str(geobox.crs), "transform": geobox.affine, "nodata": 0, "tiled": True,
                "blockxsize": 16, "blockysize": 16, "compress": "deflate",
            }  # fmt: skip
            with rasterio.open(folder / f"{scene.id}_{band}.tif", "w", **profile) as file:
                file.write(np.nan_to_num(values, nan=0).astype(np.uint16))
    (folder / "rs_embed.json").write_text(json.dumps({"collection": "sentinel-2-l2a"}))
    return folder


def array_provider(geobox: GeoBox, clouds: bool) -> ArrayProvider:
    (stack,) = SyntheticProvider().load(
        ImageRequest(
            "sentinel-2-l2a", ("B4", "B8", "B2"), MUNICH.footprint, geobox, (JUNE,), mask="scl" if clouds else None
        ),
        [geobox],
    )
    pixels = np.where(stack.valid[:, None], stack.pixels, np.nan)[0]
    pixels[:, 3, 5] = np.nan
    data = UserData(
        pixels,
        "s2",
        bands=["B4", "B8", "B2"],
        temporal=TemporalSpec.range(*JUNE),
        crs=geobox.crs,
        transform=geobox.affine,
    )
    return ArrayProvider(data)


def lattice_box(pad: int, shift: float = 0.0, gsd: float = 10.0) -> GeoBox:
    lattice = MUNICH.lattice(gsd, shift)
    return lattice.geobox(lattice.cover(MUNICH.shape.bounds).pad(pad))


REAL = "s2_stac_catalog/catalog.json"
ANTI = "s2_stac_antimeridian/catalog.json"
ONLY_PAINTED = ("synthetic", "synthetic radar", "folder", "array", "array, another lattice")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_folder(tmp_path_factory.mktemp("painted"))


@pytest.fixture(
    scope="module",
    params=[*ONLY_PAINTED, "stac", "stac, coarser", "stac, another zone", "stac, antimeridian", "scene", "landsat"],
)
def source(request: pytest.FixtureRequest) -> Source:
    name = request.param
    if name == "synthetic":
        return Source(SyntheticProvider, MUNICH, JUNE)
    if name == "synthetic radar":
        return Source(SyntheticProvider, MUNICH, JUNE, bands=("VV", "VH"), sensor="sentinel-1")
    if name == "folder":
        place = request.getfixturevalue("folder")
        return Source(lambda: open_provider(str(place)), MUNICH, JUNE)
    if name == "array":
        return Source(lambda: array_provider(lattice_box(4), clouds=True), MUNICH, JUNE, undated=True)
    if name == "array, another lattice":
        return Source(lambda: array_provider(lattice_box(4, 0.3, 8.0), clouds=False), MUNICH, JUNE, undated=True)
    data = request.getfixturevalue("test_data")
    real = locate(PointBuffer(15.6, 46.92, 4000))
    august = span("2023-08-01", "2023-09-01")
    if name == "stac":
        return Source(lambda: open_provider(str(data / REAL)), real, august, gsd=120.0)
    if name == "stac, coarser":
        return Source(lambda: open_provider(str(data / REAL)), real, august, gsd=250.0)
    if name == "stac, another zone":
        return Source(lambda: open_provider(str(data / REAL)), locate_west(), august, gsd=100.0)
    if name == "stac, antimeridian":
        region = locate(PointBuffer(180.0, 67.53, 3000))
        year = span("2000-01-01", "2030-01-01")
        return Source(lambda: open_provider(str(data / ANTI)), region, year, bands=("B4",), gsd=120.0)
    if name == "scene":
        region = locate(PointBuffer(-11.4, 24.8, 5000))
        return Source(
            lambda: open_provider(str(data / "s2_cog_scene")), region, span("2020-02-01", "2020-03-01"), gsd=200.0
        )
    region = locate(PointBuffer(-65.19, -2.9, 9000))
    bands = ("SR_B4", "SR_B5")
    year = span("2020-01-01", "2021-01-01")
    scene = data / "landsat_scene"  # all cloud: masked, no pixel of it would be left to compare
    return Source(lambda: open_provider(str(scene)), region, year, bands, 300.0, 0.5, "landsat-c2-l2", masked=False)


def locate_west() -> Region:
    """The same ground on the plane of the zone beside its own."""
    near = replace(locate(PointBuffer(15.6, 46.92, 3000)), crs=locate(PointBuffer(11, 47, 10)).crs)
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True).transform(15.6, 46.92)
    return replace(near, shape=box(x - 3000, y - 3000, x + 3000, y + 3000))


@pytest.fixture(scope="module")
def provider(source: Source) -> Provider:
    return source.open()


def one(provider: Provider, request: ImageRequest, part: GeoBox | None = None) -> ImageStack:
    assert request.geobox is not None
    (found,) = provider.load(request, [part or request.geobox])
    return found


@pytest.mark.parametrize("check", PROVIDER_CHECKS)
def test_the_contract_that_plugins_run(provider: Provider, source: Source, check: str) -> None:
    """Offers, shapes, units, parts, threads, bands, empty intervals: the implementation is what users get."""
    with contextlib.suppress(*([Skip] if check in MAY_SKIP else [])):
        PROVIDER_CHECKS[check](ProviderTrial(provider, source.request(), dated=not source.undated))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(at=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20), st.integers(1, 20)))
def test_any_part_is_a_crop(provider: Provider, source: Source, at: tuple[int, int, int, int]) -> None:
    request = source.request()
    whole = one(provider, request)
    height, width = request.geobox.shape
    row, col = at[0] % height, at[1] % width
    rect = Rect(row, col, min(at[2], height - row), min(at[3], width - col))
    part = one(provider, request, crop(request.geobox, rect))
    rows, cols = rect.within(Rect(0, 0, height, width))
    assert np.array_equal(part.valid, whole.valid[:, rows, cols])
    assert np.array_equal(part.pixels[:, :, part.valid[0]], whole.pixels[:, :, rows, cols][:, :, part.valid[0]])


def test_loading_twice_and_from_a_new_provider_is_the_same(provider: Provider, source: Source) -> None:
    request = source.request()
    for other in (provider, source.open()):
        again = one(other, request)
        first = one(provider, request)
        assert np.array_equal(again.pixels, first.pixels) and np.array_equal(again.valid, first.valid)
        assert again.scenes == first.scenes and again.observations == first.observations
    assert source.request().key() == request.key()


def test_a_band_that_no_scene_has_is_said(provider: Provider, source: Source) -> None:
    absent = {"sentinel-2-l2a": "B9", "sentinel-1": "HH", "landsat-c2-l2": "SR_B1"}[source.sensor]
    found = one(provider, source.request(bands=(source.bands[0], absent)))
    if found.missing_bands:
        assert found.missing_bands == (absent,)
        assert np.array_equal(found.valid, one(provider, source.request(bands=source.bands[:1])).valid)
        with pytest.raises(ProviderError, match=absent) as caught:
            one(provider, source.request(bands=(absent,)))
        assert source.bands[0] in str(caught.value)  # what there is


def test_a_window_without_scenes_names_the_nearest_dates(provider: Provider, source: Source) -> None:
    if source.undated:
        return
    empty = (
        span("1999-03-04", "1999-03-05")
        if source.sensor.startswith("landsat")
        else span("2022-06-04", "2022-06-04T06:00")
    )
    with pytest.raises(NoImageryError) as caught:
        one(provider, source.request(intervals=(empty,)))
    said = str(caught.value)
    assert source.sensor in said and f"{empty[0]:%Y-%m-%d}" in said
    assert "nearest dates: 20" in said


def test_an_interval_without_imagery_is_an_invalid_frame(provider: Provider, source: Source) -> None:
    if source.undated:
        return
    empty = span("2022-06-04", "2022-06-04T06:00")
    found = one(provider, source.request(intervals=(source.interval, empty)))
    assert found.pixels.shape[0] == 2 and not found.valid[1].any() and found.scenes[1] == ()
    assert np.isfinite(found.pixels[1]).all()


def test_another_place_has_no_imagery_or_no_valid_pixel(provider: Provider, source: Source) -> None:
    if source.open is SyntheticProvider:
        return
    far = locate(PointBuffer(-60, -20, 300))
    lattice = far.lattice(source.gsd, source.offset)
    geobox = lattice.geobox(lattice.cover(far.shape.bounds))
    request = source.request(footprint=far.footprint, geobox=geobox)
    if source.undated:
        assert not one(provider, request).valid.any()
    else:
        with pytest.raises(NoImageryError, match="over the region"):
            one(provider, request)


def test_an_unknown_sensor_is_refused(provider: Provider, source: Source) -> None:
    other = "sentinel-1" if source.sensor != "sentinel-1" else "landsat-c2-l2"
    if provider.offers(other):
        return
    with pytest.raises(ProviderError, match=other):
        one(provider, source.request(sensor=other, bands=("VV",) if other == "sentinel-1" else ("SR_B4",), mask=None))


def test_the_files_give_what_was_painted(folder: Path) -> None:
    """The same scenes from memory and from GeoTIFFs: the same median to the bit."""
    source = Source(SyntheticProvider, MUNICH, JUNE)
    for composite in ("median", "mean", "mosaic"):
        request = source.request(composite=composite)
        drawn, read = one(SyntheticProvider(), request), one(open_provider(str(folder)), request)
        assert np.array_equal(drawn.valid, read.valid)
        assert np.array_equal(drawn.pixels[:, :, drawn.valid[0]], read.pixels[:, :, read.valid[0]])
        assert [s["id"] for s in drawn.scenes[0]] == [s["id"] for s in read.scenes[0]]
        if composite != "mosaic":  # files tell no cloud cover, so that more scenes are looked at
            assert drawn.observations == read.observations


def test_the_median_of_the_real_catalogue_is_the_known_one(test_data: Path) -> None:
    """The figures of the data's own README: tile 33TWM, SCL 4 to 7, nothing resampled."""
    geobox = GeoBox((65, 64), Affine(120, 0, 542_220, 0, -120, 5_200_020), "EPSG:32633")
    request = ImageRequest(
        "sentinel-2-l2a",
        ("B2", "B3", "B4", "B8"),
        footprint_of(geobox),
        geobox,
        (span("2023-08-01", "2023-09-01"),),
        mask="scl",
    )
    found = one(open_provider(str(test_data / REAL)), request)
    assert found.valid.all()
    assert np.median(found.pixels[0].reshape(4, -1), axis=1).tolist() == pytest.approx([311, 520, 286.25, 3504], abs=2)


def test_a_corrupt_raster_is_named_not_its_folder(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    victim = sorted(broken.glob("*_B4.tif"))[0]
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    source = Source(SyntheticProvider, MUNICH, JUNE)
    with pytest.raises(ProviderError) as caught:
        one(open_provider(str(broken)), source.request())
    assert victim.name in str(caught.value) and str(broken) not in str(caught.value)


def test_an_empty_folder_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"no imagery.*catalog\.json.*\.tif"):
        open_provider(str(tmp_path))
