"""Small requests to the real Earth Engine (``-m online``), where this machine has a login."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from rs_embed import NoImageryError, OutputSpec, PointBuffer, ProviderError, TemporalSpec, get_embedding
from rs_embed.core.geometry import locate
from rs_embed.core.imagery import ImageRequest
from rs_embed.core.sensors import SENSORS
from rs_embed.providers.backends import open_provider
from rs_embed.providers.earth_engine import EarthEngineProvider
from rs_embed.providers.earth_engine_login import find_login

pytestmark = pytest.mark.online

JULY = (datetime(2023, 7, 1, tzinfo=UTC), datetime(2023, 8, 1, tzinfo=UTC))
YEARS = (datetime(2019, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC))
HERE = PointBuffer(15.6, 46.92, 300)
AMERICA = PointBuffer(-93.6, 42.02, 100)
BANDS = {
    "sentinel-2-l2a": ("B4", "B8", "B11"),
    "sentinel-2-l1c": ("B4", "B10"),
    "sentinel-1": ("VV", "VH"),
    "landsat-c2-l2": ("SR_B4", "SR_B5"),
    "hls-s30": ("B04", "B8A"),
    "hls-l30": ("B04", "B05"),
    "modis-09ga": ("sur_refl_b01", "sur_refl_b02"),
    "naip": ("R", "N"),
    "era5": ("temperature_2m", "total_precipitation"),
    "dem": ("elevation", "slope"),
}


@pytest.fixture(scope="module")
def provider() -> EarthEngineProvider:
    if find_login() is None:
        pytest.skip("no login to Earth Engine")
    opened = open_provider("gee")
    assert isinstance(opened, EarthEngineProvider)
    return opened


def small(sensor: str) -> ImageRequest:
    known = SENSORS[sensor]
    region = locate(AMERICA if sensor == "naip" else HERE)
    lattice = region.lattice(known.gsd, known.offset)
    intervals = {"naip": (YEARS,), "dem": ()}.get(sensor, (JULY,))
    geobox = lattice.geobox(lattice.cover(region.shape.bounds))
    return ImageRequest(sensor, BANDS[sensor], region.footprint, geobox, intervals, mask=known.mask)


@pytest.mark.parametrize("sensor", BANDS)
def test_every_sensor_in_its_units(provider: EarthEngineProvider, sensor: str) -> None:
    request = small(sensor)
    (found,) = provider.load(request, [request.geobox])
    assert found.valid.mean() > 0.5 and found.scenes[0]
    seen = found.pixels[0][:, found.valid[0]]
    low, high = {
        "sentinel-1": (-40, 10),
        "naip": (1, 255),
        "era5": (0, 320),
        "dem": (0, 4000),
    }.get(sensor, (50, 10_000))
    assert low <= np.median(seen) <= high, np.median(seen)


@pytest.mark.parametrize("composite", ["median", "mosaic"])
def test_a_part_is_a_crop(provider: EarthEngineProvider, composite: str) -> None:
    request = replace(small("sentinel-2-l2a"), composite=composite)
    a = request.geobox.affine
    part = GeoBox((9, 7), Affine(10, 0, a.c + 210, 0, -10, a.f - 130), request.geobox.crs)
    whole, cut = provider.load(request, [request.geobox, part])
    assert np.array_equal(cut.pixels, whole.pixels[:, :, 13:22, 21:28])


def test_composites_are_ours(provider: EarthEngineProvider) -> None:
    """The same scenes one by one through `read`, composited here."""
    from rs_embed.providers.composite import compose
    from rs_embed.providers.selection import select_scenes

    for composite in ("median", "mean", "mosaic"):
        request = replace(small("sentinel-2-l2a"), bands=("B4", "B8"), composite=composite)
        (theirs,) = provider.load(request, [request.geobox])
        ours = compose(provider, request, select_scenes(provider, request), request.geobox)
        assert np.array_equal(theirs.valid, ours.valid) and theirs.observations == ours.observations
        assert theirs.scenes == ours.scenes
        np.testing.assert_allclose(theirs.pixels, ours.pixels, atol=1e-2)


def test_the_median_of_four_is_the_mean_of_the_middle_two(provider: EarthEngineProvider) -> None:
    import ee

    provider.search(small("sentinel-2-l2a"), JULY)
    images = ee.ImageCollection([ee.Image.constant(v) for v in (1, 2, 3, 10)])
    point = images.reduce(ee.Reducer.median(None, None, 4)).reduceRegion(
        ee.Reducer.first(), ee.Geometry.Point([15.6, 46.92]), 10
    )
    assert list(point.getInfo().values()) == [2.5]


@pytest.mark.parametrize("output", [OutputSpec.grid(), OutputSpec.pooled()])
def test_alphaearth_is_the_mirrors(provider: EarthEngineProvider, output: OutputSpec) -> None:
    call: dict[str, Any] = {"spatial": HERE, "temporal": TemporalSpec.year(2023), "output": output}
    theirs = get_embedding("gse", backend=provider, **call)
    ours = get_embedding("gse", backend="auto", **call)
    assert theirs.meta["geobox"] == ours.meta["geobox"] and theirs.meta["backend"] == "gee"
    np.testing.assert_allclose(np.asarray(theirs.data), np.asarray(ours.data), rtol=0, atol=1e-6)


def test_failures(provider: EarthEngineProvider) -> None:
    request = small("sentinel-2-l2a")
    empty = datetime(1990, 1, 1, tzinfo=UTC), datetime(1990, 2, 1, tzinfo=UTC)
    with pytest.raises(NoImageryError, match="nearest dates"):
        list(provider.load(replace(request, intervals=(empty,)), [request.geobox]))
    stranger = EarthEngineProvider("no-such-project-of-anybody")
    with pytest.raises(ProviderError, match="no-such-project-of-anybody"):
        stranger.search(request, JULY)
