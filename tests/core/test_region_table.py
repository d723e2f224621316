"""Regions: a sequence with names, dates and labels; what is taken for one, and what is told of faulty rows."""

from __future__ import annotations

import json
import pickle
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import geopandas
import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box, mapping

from rs_embed import BBox, ModelError, PointBuffer, Regions, SpecError, TemporalSpec
from rs_embed.core.region_columns import norm_crs
from rs_embed.core.region_table import label_of, list_regions, norm_regions, single_region
from rs_embed.core.regions import Polygon as PolygonSpec

PLACES = tuple(PointBuffer(10 + i / 10, 48, 50) for i in range(5))
NAMES = ("a", "b", "c", "d", "e")
YEARS = TemporalSpec.years(2018, 2020)
SQUARE = box(10, 48, 10.01, 48.01)


def made(**more: Any) -> Regions:
    return Regions(PLACES, **({"ids": NAMES, "table": {"crop": [*"wwmmr"], "size": [1, 2, 3, 4, 5]}} | more))


def feature(geometry: Any, **more: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": mapping(geometry), "properties": {}} | more


def test_it_is_a_sequence_of_regions() -> None:
    regions = made()
    assert len(regions) == 5 and tuple(regions) == PLACES and regions[-1] == PLACES[-1] and PLACES[2] in regions
    assert regions[np.int64(1)] == PLACES[1] and regions.index(PLACES[3]) == 3
    assert regions.labels(2) == {"crop": "m", "size": 3}
    with pytest.raises(IndexError):
        regions[5]


@pytest.mark.parametrize(
    "index",
    [slice(1, 4, 2), [False, True, False, True, False], np.array([0, 1, 0, 1, 0], bool), [1, 3], np.array([1, -2])],
)
def test_a_part_keeps_names_dates_and_labels(index: Any) -> None:
    part = made(temporals=TemporalSpec.years(2018, 2022))[index]
    assert isinstance(part, Regions) and tuple(part) == (PLACES[1], PLACES[3])
    assert part.ids == ("b", "d") and part.table["size"] == (2, 4)
    assert part.temporals == (TemporalSpec.year(2019), TemporalSpec.year(2021))
    assert len(made()[[]]) == 0 and len(made()[7:]) == 0


@given(st.lists(st.booleans(), min_size=5, max_size=5))
def test_a_mask_picks_what_it_says(mask: list[bool]) -> None:
    part = made()[mask]
    assert part.ids == tuple(name for name, keep in zip(NAMES, mask, strict=True) if keep)
    assert part == made()[np.flatnonzero(mask)]


def test_it_does_not_change() -> None:
    regions = made()
    with pytest.raises(AttributeError):
        regions.ids = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        regions.table["crop"] = ()  # type: ignore[index]
    assert pickle.loads(pickle.dumps(regions)) == regions and hash(regions) == hash(made())
    assert regions != made(ids=None) and regions.without("crop").table == {"size": (1, 2, 3, 4, 5)}


def test_its_repr_is_short() -> None:
    assert repr(made()) == "<Regions 5 regions 'a'…'e', labels: crop, size>"
    assert repr(Regions(PLACES * 1000)) == "<Regions 5000 regions>"
    assert repr(Regions(PLACES[:1], temporals=YEARS[:1])) == "<Regions 1 region, 2018-01-01…2019-01-01>"


def test_each_is_the_cross_product() -> None:
    regions = made().each(YEARS)
    assert len(regions) == 15 and regions.ids is not None and regions.temporals is not None
    assert regions.ids[:4] == ("a/2018", "a/2019", "a/2020", "b/2018")
    assert regions.temporals == YEARS * 5 and tuple(regions)[::3] == PLACES
    assert regions.labels(4) == {"crop": "w", "size": 2, "region": "b", "year": 2019}
    summer = made(ids=None).each(TemporalSpec.range("2022-06-01", "2022-09-01"))
    assert summer.ids is not None and summer.ids[1] == "1/2022-06-01/2022-09-01"
    assert summer.labels(1)["region"] == 1 and summer.labels(1)["time"] == "2022-06-01/2022-09-01"


REFUSED = {
    "no region": (lambda: Regions(["Munich"]), ("Munich", "not a region")),
    "a text": (lambda: Regions("Munich"), ("sequence of regions", "str")),
    "one id twice": (lambda: made(ids=("a", "b", "a", "b", "c")), ("duplicate ids", "'a' (2 times)", "'b'")),
    "an empty id": (lambda: made(ids=("a", "", "c", "d", "e")), ("''", "text or a whole number")),
    "too few ids": (lambda: made(ids=("a",)), ("ids", "5 values", "got 1")),
    "ids of one text": (lambda: made(ids="abcde"), ("ids", "one text")),
    "a column too short": (lambda: made(table={"crop": ["w"]}), ("table['crop']", "5 values", "got 1")),
    "dates of text": (lambda: made(temporals=["2022"] * 5), ("temporals", "'2022'", "TemporalSpec")),
    "a mask too short": (lambda: made()[[True, False]], ("mask of 2", "5 regions")),
    "an index of text": (lambda: made()["a"], ("'a'", "slice", "mask")),
    "no such label": (lambda: made().without("soil"), ("'soil'", "crop, size")),
    "each of nothing": (lambda: made().each([]), ("TemporalSpec.years",)),
    "each of one twice": (lambda: made().each([YEARS[0], YEARS[0]]), ("duplicate", "'2018'")),
    "each of dated ones": (lambda: made(temporals=TemporalSpec.years(2018, 2022)).each(YEARS), ("own",)),
    "each over a label": (lambda: made(table={"year": range(5)}).each(YEARS), ("'year'", "without")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(case: str) -> None:
    call, words = REFUSED[case]
    with pytest.raises(SpecError) as caught:
        call()
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


LABELS = {
    "text": ("wheat", "wheat"),
    "NaN": (float("nan"), None),
    "infinity": (float("inf"), None),
    "NA": (pandas.NA, None),
    "NaT": (pandas.NaT, None),
    "numpy int": (np.int64(3), 3),
    "numpy bool": (np.True_, True),
    "numpy float": (np.float32(0.5), 0.5),
    "decimal": (Decimal("1.50"), 1.5),
    "day": (date(2022, 6, 1), "2022-06-01"),
    "moment": (datetime(2022, 6, 1, 10), "2022-06-01T10:00:00"),
    "timestamp": (pandas.Timestamp("2022-06-01"), "2022-06-01T00:00:00"),
    "numpy moment": (np.datetime64("2022-06-01"), "2022-06-01"),
    "bytes": (b"\x01\xff", "01ff"),
    "list": ([1, float("nan")], "[1, null]"),
    "nested": ({"a": date(2022, 1, 1)}, '{"a": "2022-01-01"}'),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_are_what_json_knows(case: str) -> None:
    value, wanted = LABELS[case]
    found = label_of(value)
    assert found == wanted and type(found) is type(wanted)
    json.dumps(found, allow_nan=False)


def test_sequences_of_all_kinds_are_one() -> None:
    wanted = PolygonSpec(SQUARE)
    for given_ in (
        [SQUARE],
        (wanted,),
        np.array([SQUARE], object),
        [mapping(SQUARE)],
        [feature(SQUARE)],
        {"type": "FeatureCollection", "features": [feature(SQUARE)]},
        geopandas.GeoSeries([SQUARE], crs=4326),
        geopandas.GeoDataFrame(geometry=[SQUARE], crs=4326),
        Regions([SQUARE]),
    ):
        assert norm_regions(given_).spatials == (wanted,)
    mixed = [BBox(10, 48, 11, 49), SQUARE]
    assert list_regions(mixed) == mixed and norm_regions(mixed).ids is None


def test_features_bring_names_and_labels() -> None:
    features = [
        feature(SQUARE, id="x", properties={"crop": "wheat", "id": 7}),
        feature(SQUARE, id="y", properties={"soil": None, "more": [1, 2]}),
    ]
    for given_ in (features, {"type": "FeatureCollection", "features": features}):
        regions = norm_regions(given_)
        assert regions.ids == ("x", "y")
        assert regions.labels(1) == {"crop": None, "id": None, "soil": None, "more": "[1, 2]"}
    named = norm_regions([feature(SQUARE, properties={"id": 7})])
    assert named.ids == (7,) and not named.table
    with pytest.raises(SpecError, match=r"duplicate ids: 'x' \(2 times\)"):
        list_regions([features[0], features[0]])


def test_a_geodataframe_brings_crs_index_and_columns() -> None:
    frame = geopandas.GeoDataFrame(
        {"crop": ["w", None], "size": [1.5, 2], "when": pandas.to_datetime(["2022-01-01", None])},
        index=["n1", "n2"],
        geometry=[box(600_000, 5_300_000, 600_100, 5_300_100), box(600_200, 5_300_000, 600_300, 5_300_100)],
        crs=32632,
    )
    regions = norm_regions(frame)
    assert regions.ids == ("n1", "n2") and {place.crs for place in regions} == {"EPSG:32632"}
    assert regions.labels(0) == {"crop": "w", "size": 1.5, "when": "2022-01-01T00:00:00"}
    assert regions.labels(1)["when"] is None
    assert norm_regions(frame.rename_geometry("outline")) == regions
    assert norm_regions(frame.reset_index(drop=True)).ids == (0, 1)
    assert norm_regions(frame.set_index(["crop", "size"], append=True)).ids == ("n1/w/1.5", "n2/nan/2.0")


FAULTY = {
    "no CRS": (geopandas.GeoSeries([SQUARE]), ("unknown CRS", "crs=")),
    "points": (
        geopandas.GeoSeries([Point(10, 48)] * 7, crs=4326),
        ("7 of 7 rows", "1, 2, 3, 4, 5 and 2 more", "buffer_m"),
    ),
    "a line": (
        geopandas.GeoSeries([SQUARE, LineString([(0, 0), (1, 1)])], crs=4326),
        ("row 2", "LineString", "buffer it"),
    ),
    "nothing": (geopandas.GeoSeries([None, Polygon(), SQUARE], crs=4326), ("rows 1, 2", "no geometry")),
    "a bow tie": (
        geopandas.GeoSeries([Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])], crs=4326),
        ("invalid", "make_valid"),
    ),
    "metres as degrees": (geopandas.GeoSeries([box(6e5, 53e5, 7e5, 54e5)], crs=4326), ("not a longitude", "crs=")),
    "swapped": (geopandas.GeoSeries([box(48, 100, 49, 101)], crs=4326), ("not a latitude", "swapped")),
    "one name twice": (geopandas.GeoSeries([SQUARE] * 2, index=["a", "a"], crs=4326), ("duplicate ids", "'a'")),
    "no row": (geopandas.GeoSeries([], crs=4326), ("empty",)),
    "two columns of a name": (
        geopandas.GeoDataFrame([[1, 2]], columns=["a", "a"], geometry=[SQUARE], crs=4326),
        ("columns", "'a'"),
    ),
    "a bare frame": (pandas.DataFrame({"crop": ["w"]}), ("lon=", "lat=", "there are: crop")),
    "a series": (pandas.Series([1]), ("Series", "GeoDataFrame")),
    "bad features": ({"type": "FeatureCollection", "features": "x"}, ("features", "list")),
    "bad coordinates": (
        {
            "type": "FeatureCollection",
            "features": [feature(SQUARE), feature(SQUARE) | {"geometry": {"type": "Polygon"}}],
        },
        ("feature 2", "not GeoJSON"),
    ),
}


@pytest.mark.parametrize("case", FAULTY)
def test_faulty_tables_say_which_rows(case: str) -> None:
    table, words = FAULTY[case]
    with pytest.raises(SpecError) as caught:
        norm_regions(table)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


def test_many_kinds_of_faults_are_told_together() -> None:
    shapes = [
        SQUARE,
        None,
        Point(1, 1),
        LineString([(0, 0), (1, 1)]),
        box(200, 1, 201, 2),
        box(1, 91, 2, 92),
        Polygon(),
    ]
    with pytest.raises(SpecError, match=r"6 of 7 rows.*rows 2, 7: has no.*row 3: is a point.*row 4.*row 5.*row 6"):
        norm_regions(geopandas.GeoSeries(shapes, crs=4326))


def test_heights_are_dropped_and_single_multis_are_their_member() -> None:
    high = Polygon([(10, 48, 500), (10.01, 48, 501), (10.01, 48.01, 502)])
    flat = Polygon([(10, 48), (10.01, 48), (10.01, 48.01)])
    frame = geopandas.GeoSeries([high, MultiPolygon([flat])], crs=4326)
    assert len(set(norm_regions(frame))) == 1
    from rs_embed import read_regions

    one = geopandas.GeoDataFrame(geometry=[MultiPoint([(10, 48, 3)])], crs=4326)
    assert read_regions(one, buffer_m=50)[0] == PointBuffer(10, 48, 50)


@pytest.mark.parametrize("wrong", [PLACES[0], "Munich", {"type": "Polygon"}, 3, None, iter(PLACES)])
def test_what_is_no_list_is_refused(wrong: Any) -> None:
    with pytest.raises(ModelError, match=f"non-empty list of regions, got {type(wrong).__name__}"):
        list_regions(wrong)


@pytest.mark.parametrize("empty", [[], (), Regions([])])
def test_an_empty_list_is_refused(empty: Any) -> None:
    with pytest.raises(ModelError, match="non-empty list"):
        list_regions(empty)


def test_one_region_of_a_table_is_one() -> None:
    assert single_region(PLACES[0]) == [PLACES[0]]
    assert single_region(made()[2:3]).ids == ("c",)  # type: ignore[attr-defined]
    for several, what in (
        (made(), "Regions"),
        ({"type": "FeatureCollection", "features": [1, 2]}, "FeatureCollection"),
    ):
        with pytest.raises(SpecError, match=f"{what} as one region must hold one, got .*get_embeddings_batch"):
            single_region(several)


def test_crs_are_told_in_many_ways() -> None:
    import pyproj

    utm, wgs = pyproj.CRS(32632), pyproj.CRS(4326)
    for said in (32632, "EPSG:32632", "urn:ogc:def:crs:EPSG::32632", utm, utm.to_wkt(), utm.to_wkt("WKT1_GDAL"),
                 utm.to_wkt("WKT1_ESRI"), utm.to_json_dict()):  # fmt: skip
        assert norm_crs(said, "x") == "EPSG:32632"
    for said in ("OGC:CRS84", "urn:ogc:def:crs:OGC:1.3:CRS84", wgs, wgs.to_wkt("WKT1_ESRI"), "EPSG:4979"):
        assert norm_crs(said, "x") == "EPSG:4326"
    assert norm_crs("EPSG:9518", "x") == "EPSG:4326"  # WGS 84 + EGM2008 height
    for wrong in ("EPSG:999999", "nowhere", 3.5):
        with pytest.raises(SpecError, match="PROJ knows"):
            norm_crs(wrong, "x")
    with pytest.raises(SpecError, match="no place on Earth"):
        norm_crs("EPSG:4978", "x")  # geocentric
