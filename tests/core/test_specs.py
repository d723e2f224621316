"""What can be said of place, time, sensor and output, and what each wrong value is told."""

from __future__ import annotations

import math
import pickle
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiPolygon, Point, box, mapping
from shapely.geometry import Polygon as ShapelyPolygon

from rs_embed import (
    BBox,
    FetchSpec,
    InputPrepSpec,
    OutputSpec,
    PointBuffer,
    Polygon,
    SensorSpec,
    SpecError,
    TemporalSpec,
)
from rs_embed.core.regions import norm_spatial
from rs_embed.core.specs import norm_input_prep

SQUARE = box(11.0, 48.0, 11.1, 48.1)

# (how it is made, what the message must hold)
BAD: dict[str, tuple[Any, tuple[str, ...]]] = {
    "lat 89 is fine, 91 is not": (lambda: PointBuffer(11.5, 91, 100), ("lat", "91", "-90 to 90")),
    "lat 120": (lambda: PointBuffer(11.5, 120, 100), ("lat", "120")),
    "lon 500": (lambda: PointBuffer(500, 48, 100), ("lon", "500", "-180 to 180")),
    "swapped": (lambda: PointBuffer(48, 120, 100), ("swapped",)),
    "NaN longitude": (lambda: PointBuffer(math.nan, 48, 100), ("lon", "nan", "finite")),
    "infinite latitude": (lambda: PointBuffer(11, math.inf, 100), ("lat", "inf", "finite")),
    "text for a number": (lambda: PointBuffer("11.5", 48, 100), ("lon", "'11.5'", "number")),
    "a truth for a number": (lambda: PointBuffer(True, 48, 100), ("lon", "True", "number")),
    "None for a number": (lambda: PointBuffer(None, 48, 100), ("lon", "None", "number")),
    "zero buffer": (lambda: PointBuffer(11, 48, 0), ("buffer_m", "0", "above 0")),
    "negative buffer": (lambda: PointBuffer(11, 48, -5), ("buffer_m", "-5", "above 0")),
    "infinite buffer": (lambda: PointBuffer(11, 48, math.inf), ("buffer_m", "inf", "finite")),
    "NaN buffer": (lambda: PointBuffer(11, 48, math.nan), ("buffer_m", "nan", "finite")),
    "unknown crs": (lambda: PointBuffer(11, 48, 5, crs="EPSG:999999"), ("crs", "EPSG:999999")),
    "crs of words": (lambda: BBox(0, 0, 1, 1, crs="nonsense"), ("crs", "nonsense")),
    "reversed latitudes": (lambda: BBox(11, 49, 12, 48), ("minlat", "49", "48", "reversed")),
    "no height": (lambda: BBox(11, 48, 12, 48), ("minlat", "48")),
    "no width": (lambda: BBox(11, 48, 11, 49), ("minlon", "11", "width")),
    "no width over 180": (lambda: BBox(180, 48, -180, 49), ("minlon", "180", "width")),
    "reversed longitudes": (lambda: BBox(12, 48, 11, 49), ("minlon", "12", "11", "swap")),
    "half the globe": (lambda: BBox(100, 48, -70, 49), ("minlon", "100", "190", "180")),
    "box off the Earth": (lambda: BBox(-200, 48, 12, 49), ("minlon", "-200")),
    "NaN corner": (lambda: BBox(math.nan, 48, 12, 49), ("minlon", "nan")),
    "projected, reversed": (lambda: BBox(5, 0, 3, 9, crs="EPSG:32632"), ("minlon", "5", "EPSG:32632")),
    "a line": (lambda: Polygon(LineString([(0, 0), (1, 1)])), ("LineString", "Polygon")),
    "a point": (lambda: Polygon(Point(0, 0)), ("Point", "PointBuffer")),
    "a bow tie": (lambda: Polygon(ShapelyPolygon([(0, 0), (1, 1), (1, 0), (0, 1)])), ("invalid", "make_valid")),
    "no area": (lambda: Polygon(ShapelyPolygon()), ("Polygon",)),
    "off the Earth": (lambda: Polygon(box(170, 0, 190, 1)), ("190", "longitude")),
    "no GeoJSON": (lambda: Polygon({"kind": "Polygon"}), ("GeoJSON", "dict")),
    "coordinates of words": (lambda: Polygon({"type": "Polygon", "coordinates": [["a", "b"]]}), ("not numbers",)),
    "empty feature": (lambda: Polygon({"type": "Feature", "geometry": None}), ("Feature",)),
    "many features": (lambda: Polygon({"type": "FeatureCollection", "features": [{}, {}]}), ("one feature", "2")),
    "start after end": (
        lambda: TemporalSpec.range("2022-09-01", "2022-06-01"),
        ("2022-09-01", "2022-06-01", "before"),
    ),
    "start is end": (lambda: TemporalSpec.range("2022-06-01", "2022-06-01"), ("2022-06-01", "excluded")),
    "no date": (lambda: TemporalSpec.range("soon", "2022-06-01"), ("start", "soon", "ISO")),
    "no such day": (lambda: TemporalSpec.range("2022-02-30", "2022-06-01"), ("start", "2022-02-30")),
    "no end": (lambda: TemporalSpec.range("2022-02-01", None), ("end", "both")),
    "year 0": (lambda: TemporalSpec.year(0), ("year", "0")),
    "year of letters": (lambda: TemporalSpec.year("20x2"), ("year", "20x2", "whole")),
    "year with a fraction": (lambda: TemporalSpec.year(2022.5), ("year", "2022.5", "whole")),
    "year of raised digits": (lambda: TemporalSpec.year("²⁰²²"), ("year", "²⁰²²")),
    "unknown mode": (lambda: TemporalSpec("month"), ("mode", "month", "'year'", "'range'")),
    "negative days": (lambda: TemporalSpec.around("2022-06-01", days=-1), ("days", "-1", "negative")),
    "too many days": (lambda: TemporalSpec.around("2022-06-01", days=1e9), ("days",)),
    "years backwards": (lambda: TemporalSpec.years(2024, 2018), ("2024", "2018", "ends before")),
    "years of words": (lambda: TemporalSpec.years("a", 2018), ("a",)),
    "no time": (lambda: TemporalSpec.parse("June"), ("June", "2022-06")),
    "three dates": (lambda: TemporalSpec.parse("2022/2023/2024"), ("2022/2023/2024",)),
    "the last month": (lambda: TemporalSpec.parse("9999-12"), ("9999-12",)),
    "the last day": (lambda: TemporalSpec.parse("9999-12-31"), ("9999-12-31",)),
    "no collection": (lambda: SensorSpec(" ", ("B4",)), ("collection",)),
    "a string of bands": (lambda: SensorSpec("s2", "B4"), ("bands", "B4", "sequence")),
    "no bands": (lambda: SensorSpec("s2", ()), ("bands", "at least one")),
    "a blank band": (lambda: SensorSpec("s2", ("B4", " ")), ("bands", "empty")),
    "a band twice": (lambda: SensorSpec("s2", ("B4", "B4")), ("bands", "twice")),
    "scale 0": (lambda: SensorSpec("s2", ("B4",), scale_m=0), ("scale_m", "0", "above 0")),
    "scale NaN": (lambda: FetchSpec(scale_m=math.nan), ("scale_m", "nan")),
    "cloud 500": (lambda: FetchSpec(cloudy_pct=500), ("cloudy_pct", "500", "0 to 100")),
    "cloud -1": (lambda: SensorSpec("s2", ("B4",), cloudy_pct=-1), ("cloudy_pct", "-1", "0 to 100")),
    "composite": (lambda: FetchSpec(composite="nonsense"), ("composite", "nonsense", "'median'", "'mosaic'", "'mean'")),
    "orbit": (lambda: SensorSpec("s1", ("VV",), orbit="up"), ("orbit", "up", "'ascending'")),
    "fill": (lambda: FetchSpec(fill_value=math.nan), ("fill_value", "nan")),
    "pooling": (lambda: OutputSpec.pooled("median"), ("pooling", "median", "'mean'", "'gem'")),
    "orientation": (lambda: OutputSpec.grid("south_up"), ("grid_orientation", "south_up", "'north_up'")),
    "scale of an output": (lambda: OutputSpec.grid(scale_m=10), ("scale_m", "FetchSpec")),
    "unknown of an output": (lambda: OutputSpec.pooled(poling="max"), ("poling",)),
    "mode of an output": (lambda: OutputSpec("both"), ("mode", "both", "'pooled'", "'grid'")),
    "mode of prep": (lambda: InputPrepSpec("squeeze"), ("mode", "squeeze", "'resize'", "'tile'", "'auto'")),
    "tile 0": (lambda: InputPrepSpec.tile(tile_size=0), ("tile_size", "0", "above 0")),
    "tile 2.5": (lambda: InputPrepSpec.tile(tile_size=2.5), ("tile_size", "2.5", "whole")),
    "stride above tile": (lambda: InputPrepSpec.tile(64, 65), ("tile_stride", "65", "gaps", "64")),
    "max tiles": (lambda: InputPrepSpec.auto(max_tiles=0), ("max_tiles", "0")),
    "squeeze": (lambda: InputPrepSpec(tile_snap_frac=0.1), ("tile_snap_frac",)),
    "prep of a number": (lambda: norm_input_prep(3), ("3", "'resize'", "'tile'", "'auto'")),
    "a string as a place": (lambda: norm_spatial("Munich"), ("Munich", "BBox", "PointBuffer", "GeoJSON")),
    "a tuple as a place": (lambda: norm_spatial((11, 48)), ("(11, 48)", "BBox")),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_value_is_named_with_its_remedy_when_the_spec_is_made(case: str) -> None:
    make, said = BAD[case]
    with pytest.raises(SpecError) as caught:
        make()
    message = str(caught.value)
    assert not [part for part in said if part not in message], message


GOOD = [
    BBox(11, 48, 12, 49),
    BBox(170, -10, -170, 10),
    BBox(5e5, 5e6, 6e5, 5.1e6, crs="EPSG:32632"),
    PointBuffer(11.5, 89.9, 100),
    PointBuffer(0, 90, 1),
    PointBuffer(5e5, 5e6, 1, crs=32632),
    Polygon(SQUARE),
    TemporalSpec.year(2022),
    TemporalSpec.range("2022-06-01", "2022-09-01"),
    SensorSpec("s2", ["B4", "B3"]),
    FetchSpec(scale_m=2.5, cloudy_pct=0, composite="mosaic"),
    OutputSpec.pooled("gem"),
    OutputSpec.grid("native"),
    InputPrepSpec.tile(64, 32),
    InputPrepSpec.auto(max_tiles=9, max_tiles_hard=10),
]


@pytest.mark.parametrize("spec", GOOD, ids=repr)
def test_specs_are_values(spec: Any) -> None:
    again = eval(repr(spec), {k: v for k, v in globals().items() if k[0].isupper()})
    other = pickle.loads(pickle.dumps(spec))
    assert again == other == spec
    assert hash(again) == hash(other) == hash(spec)
    assert len({spec, again, other}) == 1
    spec.validate()
    with pytest.raises((AttributeError, TypeError)):
        spec.crs = "EPSG:3857"


def test_numbers_keep_their_fractions() -> None:
    assert FetchSpec(scale_m=2.5).over(SensorSpec("s2", ("B4",))).scale_m == 2.5
    assert FetchSpec(cloudy_pct=0).over(SensorSpec("s2", ("B4",))).cloudy_pct == 0


def test_a_polygon_comes_from_shapely_geojson_and_features_alike() -> None:
    wanted = Polygon(SQUARE)
    geometry = mapping(SQUARE)
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    collection = {"type": "FeatureCollection", "features": [feature]}
    lists = {"type": "Polygon", "coordinates": [[list(p) for p in SQUARE.exterior.coords]]}
    for given_as in (SQUARE, MultiPolygon([SQUARE]), geometry, feature, collection, lists):
        assert Polygon(given_as) == wanted
        assert norm_spatial(given_as) == wanted
    assert wanted.shape.equals(SQUARE)


def test_a_third_dimension_is_left_out_and_holes_stay() -> None:
    tall = {"type": "Polygon", "coordinates": [[(x, y, 500.0) for x, y in SQUARE.exterior.coords]]}
    assert Polygon(tall) == Polygon(SQUARE)
    ring = SQUARE.difference(box(11.04, 48.04, 11.06, 48.06))
    assert Polygon(ring).shape.area == pytest.approx(ring.area)


def test_years_and_spans() -> None:
    assert TemporalSpec.year(2022).interval == (datetime(2022, 1, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC))
    assert TemporalSpec.year(2022).year == 2022
    assert TemporalSpec.year("2022") == TemporalSpec.year(2022)
    assert [t.year for t in TemporalSpec.years(2018, 2020)] == [2018, 2019, 2020]
    assert TemporalSpec.range(date(2022, 6, 1), datetime(2022, 9, 1)) == TemporalSpec.range("2022-06-01", "2022-09-01")
    around = TemporalSpec.around("2022-06-15", days=2)
    assert around == TemporalSpec.range("2022-06-13", "2022-06-18")
    eastern = TemporalSpec.range("2022-06-01T02:00:00+02:00", "2022-06-02")
    assert eastern.interval[0] == datetime(2022, 6, 1, tzinfo=UTC)


days = st.dates(date(1900, 1, 1), date(2100, 12, 31))


@given(days, st.integers(1, 4000))
def test_parse_reads_what_range_makes(start: date, length: int) -> None:
    end = start + timedelta(days=length)
    found = TemporalSpec.parse(f" {start}/{end} ")
    assert found == TemporalSpec.range(start, end)
    assert (found.interval[1] - found.interval[0]).days == length


@given(days)
def test_parse_reads_days_months_and_years(day: date) -> None:
    one, month, year = (TemporalSpec.parse(t) for t in (f"{day}", f"{day:%Y-%m}", f"{day:%Y}"))
    assert (one.interval[1] - one.interval[0]).days == 1
    assert year.year == day.year
    for inner, outer in ((one, month), (month, year)):
        assert outer.interval[0] <= inner.interval[0] < inner.interval[1] <= outer.interval[1]
    assert month.interval[1].day == month.interval[0].day == 1


@given(st.text(max_size=25) | st.text("0123456789-/T:", max_size=21))
def test_parse_of_anything_is_a_span_or_a_spec_error(text: str) -> None:
    try:
        found = TemporalSpec.parse(text)
    except SpecError as error:
        said = str(error)
    else:
        assert found.interval[0] < found.interval[1]
        return
    assert said.startswith(("time ", "TemporalSpec"))


numbers = st.floats() | st.integers(-400, 400)


@given(numbers, numbers, numbers)
def test_a_point_is_on_earth_or_an_error(lon: float, lat: float, buffer: float) -> None:
    fine = all(map(math.isfinite, (lon, lat, buffer))) and abs(lon) <= 180 and abs(lat) <= 90 and buffer > 0
    if fine:
        assert PointBuffer(lon, lat, buffer).buffer_m == buffer
    else:
        with pytest.raises(SpecError):
            PointBuffer(lon, lat, buffer)


def test_names_of_preparation() -> None:
    assert norm_input_prep(None) == norm_input_prep("resize") == InputPrepSpec.resize()
    assert norm_input_prep(" TILE ") == InputPrepSpec.tile()
    assert norm_input_prep(InputPrepSpec.auto()) == norm_input_prep("auto")
