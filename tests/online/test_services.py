"""One small request to each real service (``-m online``)."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from rs_embed import PointBuffer
from rs_embed.core.geometry import locate
from rs_embed.core.imagery import ImageRequest
from rs_embed.core.sensors import SENSORS
from rs_embed.providers.backends import open_provider
from rs_embed.providers.services import SERVICES

pytestmark = pytest.mark.online

JULY = (datetime(2023, 7, 1, tzinfo=UTC), datetime(2023, 8, 1, tzinfo=UTC))
HERE = PointBuffer(15.6, 46.92, 300)
AMERICA = PointBuffer(-93.6, 42.02, 100)
YEARS = (datetime(2019, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC))
BANDS = {
    "sentinel-2-l2a": ("B4", "B8"),
    "sentinel-1": ("VV", "VH"),
    "landsat-c2-l2": ("SR_B4", "SR_B5"),
    "hls-s30": ("B04", "B8A"),
    "hls-l30": ("B04", "B05"),
    "modis-09ga": ("sur_refl_b01",),
    "naip": ("R", "N"),
    "dem": ("elevation", "slope"),
}


def small(sensor: str, collection: str | None = None) -> ImageRequest:
    known = SENSORS[sensor]
    region = locate(AMERICA if sensor == "naip" else HERE)
    lattice = region.lattice(known.gsd, known.offset)
    interval = YEARS if sensor == "naip" else JULY
    return ImageRequest(
        sensor,
        BANDS[sensor],
        region.footprint,
        lattice.geobox(lattice.cover(region.shape.bounds)),
        () if sensor == "dem" else (interval,),
        mask=known.mask,
        cloudy_pct=30,
        collection=collection,
    )


@pytest.mark.parametrize(
    ("service", "sensor", "collection"),
    [
        (service.name, sensor, collection.id)
        for service in SERVICES.values()
        for sensor, collections in (service.offers or {}).items()
        for collection in collections
    ],
)
def test_a_small_request(service: str, sensor: str, collection: str) -> None:
    request = small(sensor, collection)
    if collection == "sentinel-2-pre-c1-l2a":  # what was processed before Collection 1
        request = small(sensor, None)
    (stack,) = open_provider(service).load(request, [request.geobox])  # type: ignore[list-item]
    assert stack.missing_bands == () and stack.valid.mean() > 0.5
    values = stack.pixels[:, :, stack.valid[0]] if stack.valid.shape[0] == 1 else stack.pixels
    low, high = {"reflectance * 10000": (-500, 12000), "dB": (-45, 15), "grey level": (0, 255)}.get(
        SENSORS[sensor].units, (-500, 9000)
    )
    assert low <= np.median(values) <= high


def test_both_have_the_same_sentinel_2() -> None:
    request = small("sentinel-2-l2a")
    one, other = (
        next(iter(open_provider(name).load(request, [request.geobox])))  # type: ignore[list-item]
        for name in SERVICES
    )
    both = one.valid & other.valid
    assert both.mean() > 0.5
    assert np.median(np.abs(one.pixels - other.pixels)[:, :, both[0]]) < 20  # other baselines, other masks
