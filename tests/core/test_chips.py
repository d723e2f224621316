"""Sets of chips: what covers a region, what is nearest, and how they are pooled."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import Geod

from rs_embed import BBox, ChipSet, NoImageryError, PointBuffer, Polygon, SpecError
from rs_embed.core.chips import ChipPool
from rs_embed.core.overlap import bounds_of, distances, farther_than

GEOD = Geod(ellps="WGS84")
SIDE = 0.02


def chip_set(shapes: Any, dims: int = 6, dates: Any = None, **more: Any) -> ChipSet:
    count = len(shapes)
    vectors = np.random.default_rng(3).standard_normal((count, dims)).astype(np.float32)
    moments = np.array(dates or ["2021-05-01"] * count, "datetime64[s]")
    footprints = np.empty(count, object)
    footprints[:] = list(shapes)
    return ChipSet(vectors, footprints, moments, [f"c{i}" for i in range(count)], **more)


def lattice(rows: int = 4, cols: int = 4, lon: float = 11.0, lat: float = 48.0) -> list[Any]:
    """Squares of degrees that share their sides, row by row from the south."""
    at = [(lon + SIDE * c, lat + SIDE * r) for r in range(rows) for c in range(cols)]
    return [shapely.box(x, y, x + SIDE, y + SIDE) for x, y in at]


def ground(shape: Any) -> float:
    """Square metres of a geometry of degrees by geodesics, apart from the library's planes."""
    return abs(GEOD.geometry_area_perimeter(shapely.segmentize(shape, 0.001))[0])


def test_a_set_is_checked_and_taken_apart() -> None:
    chips = chip_set(lattice(2, 2), table={"cell": list("abcd")}, facts={"model": "m"})
    assert len(chips) == 4 and chips.dim == 6 and repr(chips) == "<ChipSet m 4 x 6 2021-05-01..2021-05-01>"
    some = chips.take(np.array([False, True, False, True]))
    assert some.ids == ["c1", "c3"] and some.table["cell"] == ["b", "d"] and some.facts == chips.facts
    assert np.array_equal(some.vectors, chips.vectors[[1, 3]])
    with pytest.raises(SpecError, match=r"has 4 vectors, but \{\"table\['cell'\]\": 3\}"):
        ChipSet(chips.vectors, chips.footprints, chips.dates, chips.ids, {"cell": [1, 2, 3]})
    with pytest.raises(SpecError, match=r"must be \(N, D\)"):
        ChipSet(chips.vectors[0], chips.footprints, chips.dates, chips.ids)


def test_a_set_is_made_of_lists_too() -> None:
    chips = ChipSet([[1, 2], [3, 4]], lattice(1, 2), ["2021-05-01", "NaT"])  # type: ignore[arg-type]
    assert chips.vectors.dtype == np.float32 and chips.footprints.dtype == object and list(chips.ids) == [0, 1]
    assert chips.newest().nearest(11.03, 48.01).ids == [1] and str(chips.dates.dtype) == "datetime64[s]"


def test_the_chips_that_cover_a_region_and_how_much_of_it() -> None:
    chips = chip_set(lattice())
    region = BBox(11.015, 48.0, 11.025, 48.01)
    found = chips.covering(region)
    assert found.ids == ["c0", "c1"]
    wanted = [ground(shapely.box(11.015, 48, 11.02, 48.01)), ground(shapely.box(11.02, 48, 11.025, 48.01))]
    assert np.allclose(found.table["overlap_m2"], wanted, rtol=1e-5)
    assert np.allclose(chips.overlaps(region)[:2], wanted, rtol=1e-5) and not chips.overlaps(region)[2:].any()
    assert len(chips.covering(BBox(20, 48, 20.1, 48.1))) == 0


def test_regions_may_be_large_but_not_of_more_than_half_the_earth() -> None:
    chips = chip_set([*lattice(1, 2), *lattice(1, 1, lon=-150, lat=-48)])
    wanted = chips.vectors[:2].mean(0)
    assert np.allclose(chips.pool(BBox(-80, -60, 100, 70)).data, wanted, atol=1e-6)
    with pytest.raises(SpecError, match=r"is 181° wide, and chips are found in at most 180°; split it"):
        chips.covering(BBox(-80, -60, 101, 70))


def test_the_nearest_chips_and_their_distances() -> None:
    chips = chip_set(lattice())
    found = chips.nearest(10.99, 48.01, 2)
    assert found.ids[0] == "c0"
    assert found.table["distance_m"][0] == pytest.approx(GEOD.inv(10.99, 48.01, 11.0, 48.01)[2], rel=1e-4)
    inside = chips.nearest(11.03, 48.03)
    assert inside.ids == ["c5"] and inside.table["distance_m"] == [0.0]
    with pytest.raises(SpecError, match=r"k=0 must be a whole number above 0"):
        chips.nearest(11, 48, 0)
    with pytest.raises(SpecError, match="lon must be a number"):
        chips.nearest("east", 48)  # type: ignore[arg-type]


def test_the_antimeridian_is_no_edge() -> None:
    east, west = shapely.box(179.98, 10, 180, 10.02), shapely.box(-180, 10, -179.98, 10.02)
    torn = shapely.Polygon([(179.99, 10.02), (-179.99, 10.02), (-179.99, 10.04), (179.99, 10.04)])
    chips = chip_set([east, west, torn])
    assert np.allclose(bounds_of(chips.footprints)[2], [179.99, 10.02, 180.01, 10.04])
    region = BBox(179.985, 10.005, -179.995, 10.015)
    pooled = chips.pool(region)
    weight = np.array([3, 1]) / 4
    assert np.allclose(pooled.data, weight @ chips.vectors[:2], atol=1e-6)
    assert chips.covering(BBox(-179.995, 10.025, -179.992, 10.03)).ids == ["c2"]
    assert chips.nearest(-179.9999, 10.03).ids == ["c2"]
    assert chips.nearest(-179.97, 10.01).ids == ["c1"]


def test_chips_weigh_by_their_ground_in_a_polygon() -> None:
    chips = chip_set(lattice())
    shape = shapely.Polygon([(11.005, 48.003), (11.05, 48.01), (11.02, 48.05)])
    areas = np.array([ground(shape.intersection(chip)) for chip in chips.footprints])
    found = chips.pool(Polygon(shape))
    assert np.allclose(found.data, areas @ chips.vectors / areas.sum(), atol=1e-6)
    told = {chip["id"]: chip["share"] for chip in found.meta["chips"]}
    assert told == {f"c{i}": pytest.approx(a / areas.sum(), abs=2e-6) for i, a in enumerate(areas) if a > 0}
    assert [chip["share"] for chip in found.meta["chips"]] == sorted(told.values(), reverse=True)
    assert found.meta["chip_count"] == len(told) and not found.meta["region_exact"]
    assert found.meta["valid_fraction"] == 1.0 and json.loads(json.dumps(found.meta)) == found.meta


def test_a_region_of_whole_chips_is_exact() -> None:
    chips = chip_set(lattice(), facts={"model": "m", "space": "m/v"})
    found = chips.pool(BBox(11.0, 48.0, 11.04, 48.02))
    assert found.meta["region_exact"] and found.meta["space"] == "m/v/mean" and found.meta["weights"] == "area"
    assert found.meta["footprint"] == [11.0, 48.0, 11.04, 48.02]
    beyond = chips.pool(BBox(10.9, 48.0, 11.04, 48.02))
    assert not beyond.meta["region_exact"] and beyond.meta["valid_fraction"] == pytest.approx(4 / 14, abs=1e-4)
    assert "less than half of the region is covered" in beyond.meta["warnings"][0]


def test_numbers_that_are_none_never_enter_a_mean() -> None:
    chips = chip_set(lattice(1, 3))
    chips.vectors[1, 2] = np.nan
    region = BBox(11.0, 48.0, 11.06, 48.02)
    found = chips.pool(region)
    assert np.allclose(found.data, chips.vectors[[0, 2]].mean(0), atol=1e-6)
    assert [chip["id"] for chip in found.meta["chips"]] == ["c0", "c2"]
    assert found.meta["valid_fraction"] == pytest.approx(2 / 3, abs=1e-5)
    assert found.meta["warnings"] == ["1 chips without numbers (NaN) were left out"]
    chips.vectors[:] = np.nan
    with pytest.raises(NoImageryError, match=r"the 3 chips of .* hold no numbers"):
        chips.pool(region)
    with pytest.raises(NoImageryError, match="none of the 3 chips shares ground"):
        chips.pool(PointBuffer(0, 0, 10))


def test_points_have_no_area_and_weigh_alike() -> None:
    chips = chip_set([shapely.Point(11.001, 48.001), shapely.Point(11.009, 48.009), shapely.Point(11.02, 48.001)])
    found = chips.pool(BBox(11, 48, 11.01, 48.01))
    assert np.allclose(found.data, chips.vectors[:2].mean(0), atol=1e-6)
    assert found.meta["weights"] == "equal" and found.meta["valid_fraction"] is None
    assert not found.meta["region_exact"]
    assert chips.covering(BBox(11, 48, 11.01, 48.01)).table["overlap_m2"] == [0.0, 0.0]


def test_the_newest_of_each_cell() -> None:
    shapes = lattice(1, 2)
    chips = chip_set([*shapes, *shapes, shapes[1]], dates=["2020-01-01", "NaT", "2021-06-01", "2019-01-01", "NaT"])
    assert chips.newest().ids == ["c2", "c3"]
    assert chips.newest().newest() is not chips and len(chips.take([0, 1]).newest()) == 2


def test_other_poolings_are_those_of_cells() -> None:
    chips = chip_set(lattice())
    region = BBox(11.0, 48.0, 11.05, 48.03)
    areas = chips.overlaps(region)
    used, weight = chips.vectors[areas > 0].astype(np.float64), areas[areas > 0] / areas.sum()
    mean = weight @ used
    std = np.sqrt(weight @ np.square(used - mean))
    gem = (weight @ np.maximum(used, 1e-6) ** 3) ** (1 / 3)
    wanted = {"cells": mean, "max": used.max(0), "std": std, "gem": gem}
    wanted["stats"] = np.concatenate((mean, std, used.min(0), used.max(0)))
    for pooling, vector in wanted.items():
        found = chips.pool(region, pooling)
        assert found.data.dtype == np.float32 and np.allclose(found.data, vector, atol=2e-6), pooling
    with pytest.raises(SpecError, match="'median' is not known"):
        chips.pool(region, "median")


def test_a_small_spread_around_a_large_mean_is_kept() -> None:
    chips = chip_set(lattice(1, 2), dims=1)
    chips.vectors[:, 0] = [1e6, 1e6 + 0.125]
    found = chips.pool(BBox(11.0, 48.0, 11.04, 48.02), "std")
    assert found.data[0] == pytest.approx(0.0625)


corner = st.floats(0.001, 0.05)


@given(corner, corner, st.floats(0.01, 0.045), st.floats(0.01, 0.045), st.floats(0.1, 0.9))
def test_a_region_is_the_mix_of_its_halves(x: float, y: float, width: float, height: float, cut: float) -> None:
    overlapping = [shapely.buffer(chip, 0.001, join_style="mitre") for chip in lattice(6, 6)]
    chips = chip_set(overlapping)
    west, south, east, north = 11 + x, 48 + y, 11 + x + width, 48 + y + height
    middle = west + cut * width
    parts = [BBox(west, south, middle, north), BBox(middle, south, east, north)]
    whole = chips.pool(BBox(west, south, east, north))
    weight = np.array([chips.overlaps(part).sum() for part in parts])
    mixed = weight @ np.stack([chips.pool(part).data.astype(np.float64) for part in parts]) / weight.sum()
    assert np.allclose(whole.data, mixed, atol=2e-6)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=5), st.sampled_from(["mean", "stats", "gem"]))
def test_chips_that_come_piece_by_piece_give_the_same(cuts: list[int], pooling: str) -> None:
    chips = chip_set(lattice())
    region = shapely.box(11.01, 48.01, 11.07, 48.07)
    areas = chips.overlaps(Polygon(region))
    pool = ChipPool(pooling)
    for rows in np.split(np.arange(16), sorted(cuts)):
        rows = rows[areas[rows] > 0]
        if len(rows):
            pool.add(chips.take(rows), areas[rows])
    vector, _ = pool.result(region, "it")
    assert np.allclose(vector, chips.pool(Polygon(region), pooling).data, atol=1e-6)


@given(
    st.floats(-180, 180),
    st.floats(-89, 89),
    st.floats(0, 20),
    st.floats(0, 20),
    st.floats(-180, 180),
    st.floats(-90, 90),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_no_point_of_a_box_is_nearer_than_told(
    west: float, south: float, width: float, height: float, lon: float, lat: float, across: float, up: float
) -> None:
    north = min(90.0, south + height)
    least = farther_than(np.array([[west, south, west + width, north]]), lon, lat)[0]
    for point in ((west + across * width, south + up * (north - south)), (west, up * (north - south) + south)):
        x = (point[0] + 180) % 360 - 180
        assert GEOD.inv(lon, lat, x, point[1])[2] >= least - 1e-3


@given(st.floats(-179, 179), st.floats(-85, 85), st.floats(-179, 179), st.floats(-85, 85))
def test_distances_are_those_of_geodesics(lon: float, lat: float, x: float, y: float) -> None:
    wanted = GEOD.inv(lon, lat, x, y)[2]
    assume(wanted < 1.9e7)  # the other side of the Earth lies everywhere at once
    assert distances(np.array([shapely.Point(x, y)], object), lon, lat)[0] == pytest.approx(wanted, rel=1e-6, abs=1e-3)


def test_a_geodataframe_holds_everything() -> None:
    geopandas = pytest.importorskip("geopandas", reason="the extra geopandas is not installed")
    chips = chip_set(lattice(1, 2), dates=["2021-05-01", "NaT"], table={"cell": ["a", "b"], "geometry": [1, 2]})
    frame = chips.to_geodataframe()
    assert isinstance(frame, geopandas.GeoDataFrame) and frame.crs.to_epsg() == 4326
    assert list(frame.index) == ["c0", "c1"] and list(frame.columns) == ["cell", "date", "embedding", "geometry"]
    assert frame.date.isna().tolist() == [False, True] and frame.geometry.iloc[1].equals(chips.footprints[1])
    assert np.array_equal(np.stack(frame.embedding), chips.vectors)
