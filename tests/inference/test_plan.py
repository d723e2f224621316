"""Windows, cells, blocks and intervals: every decision about geometry and time."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from fakes import fake_model
from hypothesis import given
from hypothesis import strategies as st
from plans import PIXEL, SUMMER, planned, region_px

from rs_embed import BBox, InputPrepSpec, ModelError, OutputSpec, PointBuffer, Polygon, TemporalSpec
from rs_embed.core.geometry import Rect, locate
from rs_embed.core.model_spec import Frames, Window
from rs_embed.core.specs import FetchSpec
from rs_embed.inference.plan import BLOCK_BYTES, Plan, split_time

FIXED = Window(size=64, patch=8, min=64, max=64, multiple=8, square=True)
ANY = Window(size=None, patch=8, min=16, max=128, multiple=8, square=False)
SQUARE = replace(ANY, square=True)


def windows(plan: Plan) -> list[Any]:
    return [window for block in plan.blocks for window in block.windows]


def inside(plan: Plan) -> Rect:
    return plan.lattice.cover(plan.region.shape.bounds)


# window, region (height, width) -> (side of what is read, side of the net, step, effective gsd)
ONE_FIXED = {
    "equal": ((64, 64), (64, 64, 1, 10.0)),
    "smaller grows over real imagery": ((32, 20), (32, 64, 1, 5.0)),
    "no smaller than an eighth": ((1, 1), (8, 64, 1, 1.25)),
    "an eighth": ((8, 8), (8, 64, 1, 1.25)),
    "the longer side counts": ((20, 50), (50, 64, 1, 50 / 64 * 10)),
    "larger": ((100, 128), (128, 64, 1, 20.0)),
    "twice is not averaged": ((128, 128), (128, 64, 1, 20.0)),
    "thrice is read as it is": ((192, 30), (192, 64, 1, 30.0)),
    "four times is read averaged": ((256, 30), (256, 64, 2, 40.0)),
    "and stays a whole number of averages": ((257, 30), (258, 64, 2, 258 / 64 * 10)),
    "far larger": ((1000, 900), (1001, 64, 7, 1001 / 64 * 10)),
}


@pytest.mark.parametrize("case", ONE_FIXED)
def test_a_net_of_one_size_sees_one_square(case: str) -> None:
    (height, width), (length, side, step, gsd) = ONE_FIXED[case]
    plan = planned(region_px(height, width), FIXED)
    (window,) = windows(plan)
    assert (window.rect.height, window.rect.width) == (length, length)
    assert plan.side == (side, side) and plan.step == step and plan.mode == "resize"
    assert plan.effective_gsd == pytest.approx(gsd)
    assert window.rect.union(inside(plan)) == window.rect
    (box,) = [plan.parts(item, block) for item in plan.setup.inputs.values() for block in plan.blocks]
    assert box.shape == (length // step, length // step)
    assert box.affine.a == 10.0 * step


# region -> what a net of any size from 16 to 128, multiples of 8, sees: (height, width), resampled to
ONE_ANY = {
    "tiny grows to the least": ((1, 3), (16, 16), None),
    "grows to multiples": ((33, 41), (40, 48), None),
    "fits": ((40, 48), (40, 48), None),
    "the largest": ((128, 120), (128, 120), None),
    "beyond it, a square resampled": ((129, 20), (129, 129), 128),
    "far beyond it": ((600, 20), (600, 600), 128),
}


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("case", ONE_ANY)
def test_a_net_of_any_size_grows_over_real_imagery(case: str, square: bool) -> None:
    (height, width), (high, wide), resampled = ONE_ANY[case]
    high, wide = (max(high, wide),) * 2 if square else (high, wide)
    plan = planned(region_px(height, width), SQUARE if square else ANY)
    (window,) = windows(plan)
    assert (window.rect.height, window.rect.width) == (high, wide)
    assert plan.side == ((resampled, resampled) if resampled else (high, wide))
    if not resampled:
        assert plan.effective_gsd == 10.0 and plan.step == 1
        assert (window.cells.height, window.cells.width) == (high // 8, wide // 8)


def test_growing_is_centred() -> None:
    plan = planned(region_px(40, 40), replace(ANY, min=64))
    (window,), rect = windows(plan), inside(plan)
    assert (rect.row - window.rect.row, rect.col - window.rect.col) == (12, 12)


# mode, region -> tiles (down, across) of 64 pixels, or None for one resized window
TILES = {
    "smaller": ("tile", (20, 30), (1, 1)),
    "equal": ("tile", (64, 64), (1, 1)),
    "one more pixel": ("tile", (65, 64), (2, 1)),
    "not square": ("tile", (64, 300), (1, 5)),
    "far larger": ("tile", (640, 600), (10, 10)),
    "auto, smaller": ("auto", (20, 30), None),
    "auto, equal": ("auto", (64, 64), None),
    "auto, larger": ("auto", (65, 300), (2, 5)),
    "auto, the most": ("auto", (512, 512), (8, 8)),
    "auto, too many": ("auto", (512, 513), None),
}


@pytest.mark.parametrize("case", TILES)
def test_tiles_are_whole_and_at_the_native_resolution(case: str) -> None:
    mode, (height, width), tiles = TILES[case]
    for output in (OutputSpec.grid(), OutputSpec.pooled()):  # the same choice for both
        plan = planned(region_px(height, width), FIXED, mode, output)
        if tiles is None:
            assert plan.mode == "resize" and plan.windows == 1
            continue
        assert plan.mode == "tile" and plan.windows == tiles[0] * tiles[1]
        assert plan.effective_gsd == 10.0 and plan.step == 1 and plan.side == (64, 64)
        assert {(w.rect.height, w.rect.width) for w in windows(plan)} == {(64, 64)}
        assert (plan.footprint.height, plan.footprint.width) == (tiles[0] * 64, tiles[1] * 64)
        rect = inside(plan)
        before, after = rect.row - plan.footprint.row, plan.footprint.height - rect.height
        assert before == after // 2  # grown on both sides alike


def test_tiles_with_overlap_meet_in_the_middle() -> None:
    plan = planned(region_px(64, 150), FIXED, InputPrepSpec.tile(64, 48))
    first, second, third = sorted(windows(plan), key=lambda w: w.rect.col)
    assert plan.windows == 3
    assert [w.rect.col - first.rect.col for w in (first, second, third)] == [0, 48, 96]
    # cells of 8 pixels: an overlap of two, one each
    assert [(w.owned.col, w.owned.width) for w in (first, second, third)] == [(0, 7), (7, 6), (13, 7)]


WRONG_TILES = {
    "another size": (FIXED, InputPrepSpec.tile(128), ("64", "128")),
    "no multiple": (ANY, InputPrepSpec.tile(60), ("60", "multiple of 8", "16", "128")),
    "too large": (ANY, InputPrepSpec.tile(256), ("256", "128")),
    "too small": (ANY, InputPrepSpec.tile(8), ("8", "16")),
    "half a patch of overlap": (FIXED, InputPrepSpec.tile(64, 56), ("56", "16 pixels")),
    "more tiles than allowed": (FIXED, InputPrepSpec.tile(max_tiles_hard=99), ("100 tiles", "max_tiles_hard=99")),
}


@pytest.mark.parametrize("case", WRONG_TILES)
def test_tiles_that_cannot_be_are_told_why(case: str) -> None:
    window, prep, said = WRONG_TILES[case]
    with pytest.raises(ModelError) as caught:
        planned(region_px(640, 640), window, prep)
    assert not [part for part in said if part not in str(caught.value)], str(caught.value)


def test_the_default_limit_is_an_error_with_both_numbers() -> None:
    with pytest.raises(ModelError, match=r"1089 tiles \(> max_tiles_hard=1024\).*'resize'.*split"):
        planned(region_px(64 * 33, 64 * 33), FIXED, "tile")
    assert planned(region_px(64 * 33, 64 * 33), FIXED, "auto").mode == "resize"


def test_a_pixel_model_ignores_the_mode() -> None:
    spec = fake_model(PIXEL, locality="pixel")
    plans = [planned(region_px(300, 20), spec, mode) for mode in ("resize", "tile", "auto")]
    assert len({(p.footprint, p.blocks, p.cell_rect, p.mode) for p in plans}) == 1
    assert plans[0].mode == "pixel" and plans[0].effective_gsd == 10.0
    assert plans[0].footprint == inside(plans[0])
    for window in windows(plans[0]):
        assert window.rect.pad(-2).height == window.cells.height == window.owned.height


def test_a_large_grid_of_a_pixel_model_gets_larger_cells() -> None:
    spec = fake_model(PIXEL, locality="pixel")
    wide = replace(spec, variants={"default": replace(spec.variants["default"], dims={"pooled": 512, "grid": 512})})
    assert planned(region_px(500, 500), wide).cell == 1
    plan = planned(region_px(2000, 2000), wide)
    assert plan.cell == 4
    assert plan.grid_geobox.shape == (500, 500) and plan.grid_geobox.affine.a == 40
    assert planned(region_px(2000, 2000), wide, output=OutputSpec.pooled()).cell == 1
    assert planned(region_px(10, 10), wide, cell=5).grid_geobox.shape == (2, 2)
    uneven = planned(region_px(11, 7), wide, cell=5)
    assert uneven.grid_geobox.shape == (3, 2)
    assert uneven.footprint.union(inside(uneven)) == uneven.footprint


sizes = st.integers(1, 700)
preps = st.sampled_from(
    [
        InputPrepSpec.resize(),
        InputPrepSpec.tile(),
        InputPrepSpec.tile(64, 48),
        InputPrepSpec.tile(64, 32),
        InputPrepSpec.auto(),
    ]
)
nets = st.sampled_from([FIXED, ANY, SQUARE, PIXEL])
offsets = st.tuples(st.floats(-50, 50), st.floats(-50, 50))


@given(sizes, sizes, offsets, preps, nets)
def test_owned_cells_partition_the_grid(
    height: int, width: int, offset: tuple[float, float], prep: InputPrepSpec, net: Window
) -> None:
    x, y = 500_000 + offset[0], 5_000_000 + offset[1]
    spatial = BBox(x, y - 10 * height, x + 10 * width, y, crs="EPSG:32632")
    model = fake_model(net, locality="pixel" if net is PIXEL else "window")
    plan = planned(spatial, model, prep)
    again = planned(spatial, model, prep)
    assert (plan.blocks, plan.cell_rect, plan.side) == (again.blocks, again.cell_rect, again.side)
    assert {n: r.key() for n, r in plan.requests.items()} == {n: r.key() for n, r in again.requests.items()}

    owned = np.zeros((800, 800), np.int8)
    reach_row = reach_col = 0
    for window in windows(plan):
        o, c = window.owned, window.cells
        assert c.union(o) == c
        owned[o.row : o.row + o.height, o.col : o.col + o.width] += 1
        reach_row, reach_col = max(reach_row, o.row + o.height), max(reach_col, o.col + o.width)
    assert owned.sum() == reach_row * reach_col and owned.max() == 1
    grid = plan.cell_rect
    assert grid.row >= 0 and grid.col >= 0 and grid.height > 0 and grid.width > 0
    assert grid.row + grid.height <= reach_row and grid.col + grid.width <= reach_col

    # the windows hold the region, the grid's cells hold it too, and none of its edge rows is without it
    rect = inside(plan)
    assert plan.footprint.union(rect) == plan.footprint
    left, bottom, right, top = plan.region.shape.bounds
    x0, y0, x1, y1 = plan.grid_geobox.extent.boundingbox.bbox
    slack = 1e-3
    assert x0 <= left + slack and y0 <= bottom + slack and x1 >= right - slack and y1 >= top - slack
    cell = plan.grid_geobox.affine.a
    assert x1 - x0 < right - left + 2 * cell + slack and y1 - y0 < top - bottom + 2 * cell + slack


@given(sizes, sizes, preps, st.sampled_from([FIXED, SQUARE]))
def test_stitching_undoes_cutting(height: int, width: int, prep: InputPrepSpec, net: Window) -> None:
    plan = planned(region_px(height, width), net, prep)
    total_rows = max(w.cells.row + w.cells.height for w in windows(plan))
    total_cols = max(w.cells.col + w.cells.width for w in windows(plan))
    whole = np.arange(total_rows * total_cols).reshape(total_rows, total_cols)
    stitched = np.full_like(whole, -1)
    for window in windows(plan):
        c, o = window.cells, window.owned
        cut = whole[c.row : c.row + c.height, c.col : c.col + c.width]
        stitched[o.row : o.row + o.height, o.col : o.col + o.width] = cut[o.within(c)]
    assert (stitched == whole).all()


def test_blocks_stay_below_their_limit_and_hold_whole_windows() -> None:
    plan = planned(region_px(64 * 30, 64 * 30), fake_model(FIXED, bands=("B4", "B3", "B2", "B8")), "tile")
    for block in plan.blocks:
        assert block.nbytes <= BLOCK_BYTES
        for window in block.windows:
            assert block.rect.union(window.rect) == block.rect
    huge = planned(region_px(3000, 3000), fake_model(PIXEL, locality="pixel", bands=_TEN))
    assert len(huge.blocks) > 1 and max(b.nbytes for b in huge.blocks) <= BLOCK_BYTES
    assert sum(len(b.windows) for b in huge.blocks) == huge.windows
    whole = huge.requests["s2"].geobox
    assert whole.shape == (3004, 3004)


_TEN = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")


def test_a_coarser_sensor_and_the_landsat_offset() -> None:
    plan = planned(region_px(64, 64), FIXED, fetch=FetchSpec(scale_m=20))
    assert plan.lattice.gsd == 20 and windows(plan)[0].rect.height == 32
    assert plan.effective_gsd == 10.0
    region = locate(PointBuffer(11.5, 48.1, 500))
    lattice = region.lattice(30.0, 0.5)
    assert (lattice.geobox(lattice.cover(region.shape.bounds)).affine.c / 30) % 1 == 0.5


def test_two_inputs_share_one_footprint_of_whole_pixels_of_each() -> None:
    spec = fake_model(ANY)
    inputs = {"fine": spec.inputs["s2"], "coarse": replace(spec.inputs["s2"], gsd=30.0)}
    plan = planned(region_px(33, 39), replace(spec, inputs=inputs))
    fine, coarse = (plan.parts(item, plan.blocks[0]) for item in plan.setup.inputs.values())
    assert fine.extent.boundingbox.bbox == coarse.extent.boundingbox.bbox
    assert coarse.affine.c % 30 == 0 and coarse.affine.f % 30 == 0
    with pytest.raises(ModelError, match="25"):
        planned(region_px(41, 47), replace(spec, inputs=inputs | {"coarse": replace(spec.inputs["s2"], gsd=25.0)}))


def test_a_polygon_is_cropped_to_the_cells_that_touch_it() -> None:
    corner = {"type": "Polygon", "coordinates": [[(11, 48), (11.02, 48), (11, 48.02), (11, 48)]]}
    plan = planned(Polygon(corner), FIXED, "tile")
    coverage = plan.coverage(plan.cell_rect)
    assert coverage.shape == plan.grid_geobox.shape
    assert coverage.any(0).all() and coverage.any(1).all()
    assert (coverage == 0).any() and (coverage == 1).any()


def spans(frames: Frames, start: str, end: str) -> list[str]:
    found = split_time(frames, TemporalSpec.range(start, end), "m")
    for (_, before), (after, _) in itertools.pairwise(found):
        assert before == after
    return [f"{a:%Y-%m-%d}" for a, _ in found] + [f"{found[-1][1]:%Y-%m-%d}"]


MONTHS = Frames(step="month", max=12)


@pytest.mark.parametrize(
    ("start", "end", "edges"),
    [
        ("2022-06-01", "2022-09-01", ["2022-06-01", "2022-07-01", "2022-08-01", "2022-09-01"]),
        ("2022-11-01", "2023-02-01", ["2022-11-01", "2022-12-01", "2023-01-01", "2023-02-01"]),
        ("2022-06-10", "2022-08-01", ["2022-06-10", "2022-07-01", "2022-08-01"]),
        ("2022-06-25", "2022-08-01", ["2022-06-25", "2022-08-01"]),
        ("2022-06-01", "2022-08-05", ["2022-06-01", "2022-07-01", "2022-08-05"]),
        ("2022-06-20", "2022-06-25", ["2022-06-20", "2022-06-25"]),
        ("2022-06-28", "2022-07-03", ["2022-06-28", "2022-07-03"]),
    ],
)
def test_months(start: str, end: str, edges: list[str]) -> None:
    assert spans(MONTHS, start, end) == edges


def test_other_frames() -> None:
    assert spans(Frames(), "2022-06-01", "2022-09-01") == ["2022-06-01", "2022-09-01"]
    assert spans(Frames(step=2, max=2), "2022-06-01", "2022-06-11") == ["2022-06-01", "2022-06-06", "2022-06-11"]
    assert split_time(Frames(kind="static"), SUMMER, "m") == ()
    assert len(split_time(Frames(kind="acquisitions", max=9), SUMMER, "m")) == 1
    assert split_time(Frames(), None, "m") == ()
    with pytest.raises(ModelError, match=r"m takes at most 12 frames, and 2020-01-01/2022-01-01 makes 24"):
        spans(MONTHS, "2020-01-01", "2022-01-01")


dates = st.dates(date(1900, 1, 1), date(2100, 1, 1))


@given(dates, st.integers(1, 600))
def test_months_partition_any_span(start: Any, days: int) -> None:
    end = start + timedelta(days=days)
    found = split_time(Frames(step="month", max=99), TemporalSpec.range(start, end), "m")
    assert found[0][0].date() == start and found[-1][1].date() == end
    for (_, before), (after, _) in itertools.pairwise(found):
        assert before == after and after.day == 1
    lengths = [(b - a).days for a, b in found]
    assert len(lengths) == 1 or min(lengths) >= 14
    assert max(lengths) <= 31 + 2 * 14
