"""One request on two backends: the same data twice, and the same data with something planted in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from commands import Caller
from fakes import FakeProvider
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from servers import free_port

import rs_embed
from rs_embed import PointBuffer, SensorSpec, TemporalSpec, compare_backends
from rs_embed.core.errors import ProviderError

BANDS = ("B4", "B3", "B8")
SENSOR = SensorSpec("sentinel-2-l2a", BANDS)
JUNE = TemporalSpec.parse("2022-06")
SIDE, LEFT, TOP = 96, 690_000.0, 5_330_000.0
PLACE = PointBuffer(LEFT + 480, TOP - 480, 300, crs="EPSG:32632")
Change = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def landscape(dy: float = 0.0, dx: float = 0.0) -> NDArray[np.float64]:
    """``(3, H, W)``: smooth fields seen from pixel centres that lie (dy, dx) pixels further."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    y, x = y + dy, x + dx
    return np.stack([2500 + 900 * np.sin(x / (5 + i)) * np.cos(y / (7 + i)) + 8 * x for i in range(len(BANDS))])


def catalogue(
    folder: Path, pixels: NDArray[np.float64] | None = None, *, day: str = "20220615", bands: Any = BANDS
) -> str:
    """A folder of one Sentinel-2 scene."""
    folder.mkdir()
    values = landscape() if pixels is None else pixels
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": SIDE, "width": SIDE, "crs": "EPSG:32632"}
    for band, layer in zip(BANDS, values, strict=True):
        if band in bands:
            name = folder / f"S2A_MSIL2A_{day}T101031_{band}.tif"
            with rasterio.open(name, "w", **profile, transform=Affine(10, 0, LEFT, 0, -10, TOP), nodata=0) as file:
                file.write(np.clip(np.round(layer), 0, 65535).astype(np.uint16), 1)
    return str(folder)


def compared(tmp_path: Path, pixels: NDArray[np.float64] | None = None, **more: Any) -> dict[str, Any]:
    options = {key: more.pop(key) for key in ("tolerance", "valid_tolerance") if key in more}
    a, b = catalogue(tmp_path / "a"), catalogue(tmp_path / "b", pixels, **more)
    found = compare_backends(a, b, spatial=PLACE, temporal=JUNE, sensor=SENSOR, **options)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_the_same_data_twice_is_the_same(tmp_path: Path) -> None:
    found = compared(tmp_path)
    assert found["ok"]
    assert found["verdict"].startswith("the same: 99 % of the pixels of every band differ by at most 0 ")
    assert (found["backend_a"], found["backend_b"]) == ("a", "b")
    assert [band["band"] for band in found["bands"]] == list(BANDS)
    for band in found["bands"]:
        assert band["correlation"] == pytest.approx(1)
        assert (band["mean_difference"], band["p99_absolute"], band["hint"]) == (0, 0, None)
        assert band["valid_in_both"] == 1
    assert found["scenes_a"] == found["scenes_b"]
    assert found["only_a"] == found["only_b"] == []


def test_an_offset_of_1000_is_called_by_its_name(tmp_path: Path) -> None:
    found = compared(tmp_path, landscape() - 1000)
    assert not found["ok"]
    assert found["verdict"] == "different: B4, B3, B8: B looks like A - 1000: the baseline-04.00 offset"
    for band in found["bands"]:
        assert band["mean_difference"] == pytest.approx(-1000, abs=0.5)
        assert band["median_absolute"] == pytest.approx(1000, abs=0.5)


def test_an_offset_that_was_cut_off_at_zero_is_still_one(tmp_path: Path) -> None:
    a, b = catalogue(tmp_path / "a"), catalogue(tmp_path / "b")
    (tmp_path / "b" / "rs_embed.json").write_text('{"offset": -2800}')  # more than most pixels have
    found = compare_backends(a, b, spatial=PLACE, temporal=JUNE, sensor=SENSOR)
    assert all(band["mean_b"] < 600 < band["median_absolute"] for band in found["bands"])
    assert found["verdict"] == "different: B4, B3, B8: B looks like A - 2800"


def test_an_address_is_named_without_its_secrets(tmp_path: Path) -> None:
    address = f"http://me:secret@127.0.0.1:{free_port()}/v1"
    with pytest.raises(ProviderError, match=r"backend 'http://127\.0\.0\.1:\d+/v1': ") as caught:
        compare_backends(
            catalogue(tmp_path / "a"), f"{address}?key=secret", spatial=PLACE, temporal=JUNE, sensor=SENSOR
        )
    assert "secret" not in str(caught.value)


PLANTED: dict[str, tuple[Change, str]] = {
    "another offset": (lambda pixels: pixels + 250, "B looks like A + 250"),
    "a factor": (lambda pixels: pixels * 2, "B looks like A x 2"),
    "noise": (
        lambda pixels: pixels + np.random.default_rng(0).normal(0, 40, pixels.shape),
        "1 % of the pixels differ by more than",
    ),
}


@pytest.mark.parametrize("case", PLANTED)
def test_what_is_planted_is_found(case: str, tmp_path: Path) -> None:
    change, hint = PLANTED[case]
    found = compared(tmp_path, change(landscape()))
    assert not found["ok"]
    assert hint in found["verdict"]
    assert found["shift_px"] is None


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.0, -0.5), (0.5, 0.5), (-1.0, 1.5)])
def test_a_shift_is_told_in_pixels_and_metres(shift: tuple[float, float], tmp_path: Path) -> None:
    down, right = shift
    found = compared(tmp_path, landscape(-down, -right))
    assert found["shift_px"] == [down, right]
    assert f"moved by {down:+g} rows and {right:+g} columns ({10 * down:+g} m, {10 * right:+g} m)" in found["verdict"]


def test_other_dates_are_the_first_thing_said(tmp_path: Path) -> None:
    found = compared(tmp_path, landscape() * 1.3 + 200, day="20220620")
    assert found["verdict"].startswith(
        "different: the scenes are others (only A has 2022-06-15 and only B has 2022-06-20)"
    )
    assert found["only_a"] == ["2022-06-15T10:10:31+00:00"]
    assert [scene["datetime"][:10] for scene in found["scenes_b"]] == ["2022-06-20"]


def test_a_difference_within_the_tolerance_is_none(tmp_path: Path) -> None:
    assert compared(tmp_path, landscape() + 3, tolerance=3)["ok"]


def test_masks_that_differ_are_a_difference_of_their_own(tmp_path: Path) -> None:
    pixels = landscape()
    pixels[:, :40] = 0
    found = compared(tmp_path, pixels)
    assert [band["ok"] for band in found["bands"]] == [True] * 3
    assert not found["ok"]
    share = found["valid_differs"]
    assert found["valid_a"] == 1
    assert found["valid_b"] == pytest.approx(1 - share)
    assert found["verdict"] == f"different: {share:.1%} of the pixels are valid in one of the two only"


def test_a_band_that_one_lacks_is_named(tmp_path: Path) -> None:
    found = compared(tmp_path, bands=BANDS[:2])
    assert {band["band"]: band["hint"] for band in found["bands"] if not band["ok"]} == {"B8": "B lacks the band"}
    assert "B8: B lacks the band" in found["verdict"]


def test_no_pixel_in_common_is_a_difference() -> None:
    halves = [FakeProvider(valid=lambda request, stack, i=i: np.indices(stack.valid.shape)[1] % 2 == i) for i in (0, 1)]
    found = compare_backends(*halves, spatial=PLACE, temporal=JUNE, sensor=SENSOR)
    assert not found["ok"]
    assert "no pixel is valid in both" in found["verdict"]
    assert found["valid_differs"] == 1


def test_the_backend_that_fails_is_named(tmp_path: Path) -> None:
    a, b = catalogue(tmp_path / "a"), catalogue(tmp_path / "b", day="20200101")
    with pytest.raises(rs_embed.NoImageryError, match=r"backend 'b': no sentinel-2-l2a scene.*2020-01-01"):
        compare_backends(a, b, spatial=PLACE, temporal=JUNE, sensor=SENSOR)
    with pytest.raises(rs_embed.SpecError, match="must not be negative"):
        compare_backends(a, a, spatial=PLACE, temporal=JUNE, sensor=SENSOR, tolerance=-1)


@given(offset=st.integers(-2000, 2000).filter(bool), noise=st.floats(0, 0.4))
def test_any_offset_that_is_no_rounding_is_named(offset: int, noise: float) -> None:
    rng = np.random.default_rng(abs(offset))

    class Moved(FakeProvider):
        def answer(self, request: Any, part: Any) -> Any:
            stack = super().answer(request, part)
            stack.pixels[:] += offset + rng.uniform(-noise, noise, stack.pixels.shape).astype(np.float32)
            return stack

    found = compare_backends(FakeProvider(), Moved(), spatial=PLACE, temporal=JUNE, sensor=SENSOR)
    if abs(offset) > 2:
        assert all(f"B looks like A {'-' if offset < 0 else '+'} " in band["hint"] for band in found["bands"])
        named = ["baseline-04.00" in band["hint"] for band in found["bands"]]
        assert named == [985 <= abs(offset) <= 1015] * 3 or 975 <= abs(offset) <= 1025


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Caller:
    return Caller(capsys)


def test_the_command_ends_with_1_where_backends_differ(command: Caller, tmp_path: Path) -> None:
    same, other = catalogue(tmp_path / "a"), catalogue(tmp_path / "b", landscape() - 1000)
    lon, lat = 11.55807, 48.09046
    where = ("--point", str(lon), str(lat), "--buffer", "100", "--time", "2022-06", "--bands", "B4,B3")
    shown = command.ok("inspect", "--compare", same, same, "--collection", "s2", *where).out
    assert "the same: 99 %" in shown
    assert "A: a: 1 scene (2022-06-15), 100.0% of the pixels valid" in shown
    said = command("inspect", "--compare", same, other, "--collection", "s2", *where, "--json")
    assert said.code == 1
    found = json.loads(said.out)
    assert "the baseline-04.00 offset" in found["verdict"]
    assert [band["band"] for band in found["bands"]] == ["B4", "B3"]
    command.ok("inspect", "--compare", same, other, "--collection", "s2", *where, "--tolerance", "1001")
    for wrong, word in (
        (("--compare", same, other, "--backend", same), "--backend does not go with it"),
        (("--compare", same, other, "--model", "rcf"), "--model"),
        (("--tolerance", "3"), "needs --compare"),
    ):
        said = command("inspect", *wrong, "--point", str(lon), str(lat), "--time", "2022-06")
        assert said.code == 2
        assert word in said.err
