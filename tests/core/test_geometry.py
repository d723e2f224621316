"""Lattices of true ground metres anywhere on Earth, and how much of a cell lies in a region."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from shapely.geometry import box

from rs_embed import BBox, PointBuffer, Polygon, SpecError
from rs_embed.core.geometry import Lattice, Rect, locate, locate_geobox, utm_code

GEOD = Geod(ellps="WGS84")

ZONES = {
    "Munich": (11.5, 48.1, 32632),
    "Bergen, 32V": (5.3, 60.4, 32632),
    "west of 32V": (2.9, 60.4, 32631),
    "south of 32V": (5.3, 55.9, 32631),
    "north of 32V": (5.3, 64.1, 32631),
    "Longyearbyen, 33X": (15.6, 78.2, 32633),
    "Svalbard, 31X": (8.9, 78.2, 32631),
    "Svalbard, 33X begins": (9.0, 78.2, 32633),
    "Svalbard, 35X": (21.0, 78.2, 32635),
    "Svalbard, 37X": (33.0, 78.2, 32637),
    "east of Svalbard": (42.0, 78.2, 32638),
    "south of band X": (15.6, 71.9, 32633),
    "Sydney": (151.2, -33.9, 32756),
    "the equator is northern": (0.5, 0.0, 32631),
    "just south of it": (0.5, -0.001, 32731),
    "180° east": (180.0, 10.0, 32601),
    "180° west": (-180.0, 10.0, 32601),
    "zone 60": (179.99, 10.0, 32660),
    "North Pole": (0.0, 90.0, 32661),
    "84° N": (50.0, 84.0, 32661),
    "below 84° N": (50.0, 83.99, 32639),
    "80° S": (50.0, -80.0, 32739),
    "below 80° S": (50.0, -80.01, 32761),
    "South Pole": (0.0, -90.0, 32761),
}


@pytest.mark.parametrize("place", ZONES)
def test_zones_follow_the_mgrs_rule(place: str) -> None:
    lon, lat, code = ZONES[place]
    assert utm_code(lon, lat) == code
    assert locate(PointBuffer(lon, lat, 100)).crs.epsg == code


def ground_size(geobox: GeoBox) -> tuple[float, float]:
    """Width and height of the middle pixel in metres on the ellipsoid."""
    row, col = geobox.shape[0] // 2, geobox.shape[1] // 2
    a = geobox.affine
    corners = [(a.c + a.a * (col + dx), a.f + a.e * (row + dy)) for dx, dy in ((0, 0), (1, 0), (0, 1))]
    to = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)
    (a, b, c) = [to.transform(x, y) for x, y in corners]
    return GEOD.inv(*a, *b)[2], GEOD.inv(*a, *c)[2]


@pytest.mark.parametrize(
    "lonlat", [(10.7, 60.0), (15.6, 78.2), (3.1, 56.1), (-70, -20.0), (179.9, 0.0), (30, -79.0), (120, 84.5), (0, 90)]
)
def test_a_10_m_pixel_is_10_m_of_ground(lonlat: tuple[float, float]) -> None:
    region = locate(PointBuffer(*lonlat, 1120))
    lattice = region.lattice(10.0, 0.0)
    geobox = lattice.geobox(lattice.cover(region.shape.bounds))
    assert ground_size(geobox) == pytest.approx((10, 10), rel=0.0065)
    assert geobox.shape[0] in (224, 225)
    if abs(lonlat[1]) == 90:
        return  # the ring of all longitudes encloses the pole, not an area
    area = sum(abs(GEOD.geometry_area_perimeter(p)[0]) for p in shapely.get_parts(region.footprint))
    assert area == pytest.approx(2240**2, rel=0.013)


def test_a_point_is_the_same_whatever_its_crs() -> None:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(11.5, 60.1)
    one, other = locate(PointBuffer(11.5, 60.1, 500)), locate(PointBuffer(x, y, 500, crs="EPSG:3857"))
    assert one.crs == other.crs
    assert np.allclose(one.shape.bounds, other.shape.bounds, atol=1e-3)
    assert one.lonlat == pytest.approx(other.lonlat)


def test_a_box_in_the_zones_own_metres_stays_as_it_is() -> None:
    region = locate(BBox(542_220, 5_192_220, 549_900, 5_200_020, crs="EPSG:32633"))
    assert region.shape.bounds == (542_220, 5_192_220, 549_900, 5_200_020)
    assert region.rectangular


def test_a_degree_box_has_curved_edges_in_metres() -> None:
    region = locate(BBox(10.0, 59.8, 10.4, 60.0))
    left, bottom, right, top = region.shape.bounds
    outside = 1 - region.shape.area / ((right - left) * (top - bottom))
    assert 0.01 < outside < 0.16
    assert not region.rectangular
    assert region.footprint.symmetric_difference(box(10.0, 59.8, 10.4, 60.0)).area < 1e-6


@pytest.mark.parametrize("spatial", [BBox(179.99, 64.99, -179.98, 65.01), PointBuffer(179.9999, 65.0, 800)])
def test_the_antimeridian_cuts_the_footprint_not_the_plane(spatial: BBox | PointBuffer) -> None:
    region = locate(spatial)
    left, _, right, _ = region.shape.bounds
    assert right - left < 3000
    assert region.footprint.geom_type == "MultiPolygon"
    bounds = sorted(p.bounds[0] for p in region.footprint.geoms)
    assert bounds[0] == pytest.approx(-180) and bounds[1] > 179.9
    assert all(-180 <= x <= 180 for p in region.footprint.geoms for x, _ in p.exterior.coords)


def test_a_polygon_in_two_parts_over_the_antimeridian_is_one() -> None:
    parts = shapely.MultiPolygon([box(179.99, 0, 180, 0.01), box(-180, 0, -179.99, 0.01)])
    whole = locate(BBox(179.99, 0, -179.99, 0.01))
    region = locate(Polygon(parts))
    assert region.shape.symmetric_difference(whole.shape).area < 1e-3 * whole.shape.area
    assert region.lonlat[0] % 360 == pytest.approx(180)


@pytest.mark.parametrize(
    "spatial",
    [PointBuffer(0, 90, 500), PointBuffer(77, -90, 500), PointBuffer(0, 89.999, 5000), PointBuffer(0, 85, 500)],
)
def test_the_poles_have_footprints(spatial: PointBuffer) -> None:
    region = locate(spatial)
    low = 90 if spatial.lat > 0 else -90
    if abs(abs(spatial.lat) - 90) < 0.01:
        assert region.footprint.bounds[0] == -180 and region.footprint.bounds[2] == 180
        assert low in (region.footprint.bounds[1], region.footprint.bounds[3])
    else:
        assert region.footprint.contains(shapely.Point(spatial.lon, spatial.lat))


def test_a_cap_of_degrees_around_the_pole_is_a_disc() -> None:
    region = locate(BBox(-180, 89.99, 180, 90))
    radius = 0.01 * 111_694
    assert region.shape.is_valid
    assert region.shape.area == pytest.approx(math.pi * radius**2, rel=0.02)


TOO_LARGE = [BBox(0, 40, 20, 60), BBox(-179, -60, 0, 60), PointBuffer(10, 50, 2_000_000), PointBuffer(0, 90, 3_000_000)]


@pytest.mark.parametrize("spatial", TOO_LARGE, ids=repr)
def test_a_region_too_large_for_metres_is_told_to_split(spatial: BBox | PointBuffer) -> None:
    with pytest.raises(SpecError, match=r"km is too large .*limit 1%\); split it"):
        locate(spatial)


@pytest.mark.parametrize(
    "spatial",
    [PointBuffer(1e12, 1e12, 10, crs="EPSG:32632"), BBox(1e12, 1e12, 2e12, 2e12, crs="EPSG:32632")],
    ids=repr,
)
def test_numbers_that_no_projection_knows_are_an_error(spatial: BBox | PointBuffer) -> None:
    with pytest.raises(SpecError):
        locate(spatial)


places = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@given(places, st.floats(1, 5000), st.sampled_from([10.0, 30.0, 3.7]), st.sampled_from([0.0, 0.5]))
def test_the_lattice_contains_the_region(lonlat: tuple[float, float], size: float, gsd: float, offset: float) -> None:
    region = locate(PointBuffer(*lonlat, size))
    lattice = region.lattice(gsd, offset)
    rect = lattice.cover(region.shape.bounds)
    left, bottom, right, top = region.shape.bounds
    x0, y0, x1, y1 = lattice.bounds(rect)
    slack = 1e-5 * gsd
    assert x0 <= left + slack and y0 <= bottom + slack and x1 >= right - slack and y1 >= top - slack
    assert x1 - x0 < right - left + 2 * gsd and y1 - y0 < top - bottom + 2 * gsd
    assert (x0 / gsd - offset) == pytest.approx(round(x0 / gsd - offset), abs=1e-6)
    assert lattice.geobox(rect).extent.boundingbox.bbox == pytest.approx((x0, y0, x1, y1))


sides = st.integers(1, 300)


@given(st.integers(-999, 999), st.integers(-999, 999), sides, sides, sides, sides)
def test_growing_keeps_the_centre(row: int, col: int, height: int, width: int, more: int, wider: int) -> None:
    rect = Rect(row, col, height, width)
    grown = rect.grow(height + more, width + wider)
    assert grown.union(rect) == grown
    assert 0 <= (grown.row + grown.row + grown.height) - (rect.row + rect.row + rect.height) <= 1
    rows, cols = rect.within(grown)
    assert np.empty((grown.height, grown.width), np.int8)[rows, cols].shape == (height, width)
    assert rect.pad(3).within(rect.pad(3)) == (slice(0, height + 6), slice(0, width + 6))


def brute(shape: shapely.Geometry, cells: GeoBox) -> np.ndarray:
    rows, cols = cells.shape
    a = cells.affine
    out = np.empty((rows, cols))
    for r in range(rows):
        for c in range(cols):
            x, y = a.c + a.a * c, a.f + a.e * r
            cell = box(x, y + a.e, x + a.a, y)
            out[r, c] = shape.intersection(cell).area / cell.area
    return out


SHAPES = {
    "triangle": Polygon({"type": "Polygon", "coordinates": [[(11, 48), (11.01, 48), (11.004, 48.008), (11, 48)]]}),
    "ring": Polygon(box(11, 48, 11.01, 48.01).difference(box(11.003, 48.003, 11.006, 48.006))),
    "two": Polygon(shapely.MultiPolygon([box(11, 48, 11.002, 48.002), box(11.006, 48.006, 11.01, 48.01)])),
    "box": BBox(11, 48, 11.01, 48.01),
    "square": PointBuffer(11, 48, 333),
    "sliver": Polygon(shapely.LineString([(11, 48), (11.01, 48.009)]).buffer(1e-5)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_coverage_is_the_area_fraction(name: str) -> None:
    region = locate(SHAPES[name])
    lattice = region.lattice(30.0, 0.0)
    cells = lattice.geobox(lattice.cover(region.shape.bounds).pad(2))
    found = region.coverage(cells)
    assert found.dtype == np.float32
    assert np.allclose(found, brute(region.shape, cells), atol=2e-6)
    assert found.sum(dtype=float) * 900 == pytest.approx(region.shape.area, rel=1e-5)
    assert not found[[0, -1]].any() and not found[:, [0, -1]].any()


vertices = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=8)


@given(vertices)
def test_coverage_of_any_polygon(points: list[tuple[float, float]]) -> None:
    hull = shapely.MultiPoint(points).convex_hull
    if hull.area < 1e-6:
        return
    region = locate(Polygon(shapely.affinity.affine_transform(hull, [0.01, 0, 0, 0.01, -60, -10])))
    lattice = region.lattice(100.0, 0.0)
    cells = lattice.geobox(lattice.cover(region.shape.bounds))
    found = region.coverage(cells)
    assert np.allclose(found, brute(region.shape, cells), atol=3e-6)


def test_pixels_without_a_place_are_their_own_region() -> None:
    lattice = Lattice(None, 10.0)
    region = locate_geobox(lattice.geobox(Rect(0, 0, 5, 7)))
    assert region.crs is None and region.lonlat is None and region.footprint is None
    assert region.coverage(lattice.geobox(Rect(0, 0, 5, 7))).min() == 1
