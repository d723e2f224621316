"""Requests have one key in every process; stacks are checked when they are made."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from rs_embed.core.imagery import ImageRequest, ImageStack, geobox_dict

GEOBOX = GeoBox((3, 4), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632")
INTERVAL = (datetime(2022, 6, 1, tzinfo=UTC), datetime(2022, 7, 1, tzinfo=UTC))
REQUEST = ImageRequest("sentinel-2-l2a", ("B4", "B3"), box(11, 48, 11.1, 48.1), GEOBOX, (INTERVAL,), mask="scl")

CODE = """
from datetime import UTC, datetime
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box
from rs_embed.core.imagery import ImageRequest
geobox = GeoBox((3, 4), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632")
interval = (datetime(2022, 6, 1, tzinfo=UTC), datetime(2022, 7, 1, tzinfo=UTC))
print(ImageRequest("sentinel-2-l2a", ("B4", "B3"), box(11, 48, 11.1, 48.1), geobox, (interval,), mask="scl").key())
"""


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_key_is_the_same_in_every_process(seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.strip() == REQUEST.key()


def test_the_key_tells_every_difference() -> None:
    later = (INTERVAL[1], datetime(2022, 8, 1, tzinfo=UTC))
    others = [
        replace(REQUEST, sensor="sentinel-2-l1c"),
        replace(REQUEST, bands=("B3", "B4")),
        replace(REQUEST, footprint=box(11, 48, 11.1, 48.2)),
        replace(REQUEST, footprint=None),
        replace(REQUEST, geobox=GeoBox((3, 5), GEOBOX.affine, "EPSG:32632")),
        replace(REQUEST, geobox=GeoBox((3, 4), GEOBOX.affine, "EPSG:32633")),
        replace(REQUEST, geobox=None),
        replace(REQUEST, intervals=(later,)),
        replace(REQUEST, intervals=(INTERVAL, later)),
        replace(REQUEST, composite="mean"),
        replace(REQUEST, mask=None),
        replace(REQUEST, cloudy_pct=30.0),
        replace(REQUEST, orbit="ascending"),
    ]
    assert len({r.key() for r in [REQUEST, *others]}) == len(others) + 1


def test_a_geobox_as_json() -> None:
    assert geobox_dict(GEOBOX) == {
        "crs": "EPSG:32632",
        "transform": [10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0],
        "shape": [3, 4],
    }
    assert geobox_dict(None) is None
    assert geobox_dict(GeoBox((3, 4), GEOBOX.affine, None))["crs"] is None


PIXELS = np.zeros((2, 3, 3, 4), np.float32)
VALID = np.ones((2, 3, 4), bool)
TIMES = np.array(["2022-06-01", "NaT"], "datetime64[s]")

WRONG = {
    "three axes": ({"pixels": PIXELS[0]}, "float32"),
    "doubles": ({"pixels": PIXELS.astype(float)}, "float64"),
    "mask of numbers": ({"valid": VALID.astype(np.uint8)}, "bool"),
    "mask of another shape": ({"valid": VALID[:, :2]}, "valid"),
    "another lattice": ({"geobox": GeoBox((4, 3), GEOBOX.affine, "EPSG:32632")}, "geobox"),
    "a time short": ({"times": TIMES[:1]}, "times"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_stack_that_does_not_fit_is_refused(case: str) -> None:
    fields = {"pixels": PIXELS, "valid": VALID, "times": TIMES, "geobox": GEOBOX}
    assert ImageStack(**fields).pixels is PIXELS
    wrong, said = WRONG[case]
    with pytest.raises(ValueError, match=said):
        ImageStack(**(fields | wrong))
