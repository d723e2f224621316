"""`read_regions`: files that others wrote (GDAL by pyogrio, DuckDB, csv), streams and frames; faults by row."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import numpy as np
import pandas
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import LineString, Point, Polygon, box

from rs_embed import PointBuffer, Regions, SpecError, TemporalSpec, read_regions
from rs_embed.core.regions import Polygon as PolygonSpec
from rs_embed.store.geopackage import read_geopackage

FIELDS = geopandas.GeoDataFrame(
    {
        "name": ["north", "süd", "west"],
        "crop": ["wheat", None, "maize"],
        "size": [1, 2, 3],
        "part": [0.5, float("nan"), 2.0],
        "when": ["2020", "2021-06", "2022-06-01/2022-09-01"],
    },
    geometry=[
        box(10, 48, 10.01, 48.01),
        box(11, 48, 11.01, 48.01),
        box(12, 48, 12.01, 48.01).difference(Point(12, 48)),
    ],
    crs=4326,
)
WANTED = {
    "crop": ("wheat", None, "maize"),
    "size": (1, 2, 3),
    "part": (0.5, None, 2.0),
}
SPANS = tuple(TemporalSpec.parse(text) for text in FIELDS["when"])
SHAPES = [PolygonSpec(shape) for shape in FIELDS.geometry]

WRITERS: dict[str, dict[str, Any]] = {
    "fields.geojson": {},
    "fields.json": {"driver": "GeoJSON"},
    "fields.geojsonl": {"driver": "GeoJSONSeq"},
    "fields.ndjson": {"driver": "GeoJSONSeq", "RS": "YES"},
    "fields.gpkg": {},
    "fields.shp.zip": {"driver": "ESRI Shapefile"},
    "fields.shp": {},
    "fields.fgb": {"SPATIAL_INDEX": "NO"},
}


def told(call: Callable[[], Any], *words: str) -> str:
    """The message of the SpecError that `call` raises; it holds all the words."""
    with pytest.raises(SpecError) as caught:
        call()
    text = str(caught.value)
    assert not [word for word in words if word not in text], text
    return text


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def parquet(path: Path, query: str, geo: dict[str, Any] | None = None) -> Path:
    """A file that DuckDB writes, with a footer of GeoParquet."""
    extra = "" if geo is None else f", KV_METADATA {{geo: '{json.dumps(geo)}'}}"
    with duckdb.connect() as database:
        database.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet{extra})")
    return path


def geoparquet(path: Path, frame: geopandas.GeoDataFrame, **column: Any) -> Path:
    table = pandas.DataFrame(frame.drop(columns="geometry")).assign(geometry=frame.geometry.to_wkb())
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"} | column}}
    with duckdb.connect() as database:
        database.register("fields", table)
        database.execute(f"COPY fields TO '{path}' (FORMAT parquet, KV_METADATA {{geo: '{json.dumps(geo)}'}})")
    return path


@pytest.mark.parametrize("name", WRITERS)
def test_files_that_gdal_wrote(name: str, tmp_path: Path) -> None:
    FIELDS.to_file(tmp_path / name, **WRITERS[name])
    regions = read_regions(tmp_path / name, id="name", time="when")
    assert regions.ids == ("north", "süd", "west") and regions.temporals == SPANS and dict(regions.table) == WANTED
    for found, wanted in zip(regions, SHAPES, strict=True):
        assert isinstance(found, PolygonSpec) and found.crs == "EPSG:4326"
        assert found.shape.normalize().equals_exact(wanted.shape.normalize(), 1e-9)
    assert read_regions(str(tmp_path / name)).ids == ((1, 2, 3) if name.endswith("gpkg") else (0, 1, 2))


@pytest.mark.parametrize("name", ["fields.gpkg", "fields.shp.zip", "fields.fgb"])
def test_files_in_metres_keep_their_crs(name: str, tmp_path: Path) -> None:
    FIELDS.to_crs(32632).to_file(tmp_path / name, **{k: v for k, v in WRITERS[name].items() if k == "driver"})
    assert {place.crs for place in read_regions(tmp_path / name)} == {"EPSG:32632"}
    told(lambda: read_regions(tmp_path / name, crs=25832), name, "EPSG:32632", "25832", "reproject")
    assert len(read_regions(tmp_path / name, crs=32632)) == 3


def test_geoparquet_with_and_without_a_crs(tmp_path: Path) -> None:
    assert read_regions(geoparquet(tmp_path / "a.parquet", FIELDS), id="name", time="when").ids == tuple(FIELDS["name"])
    metres = FIELDS.to_crs(32632)
    utm = geoparquet(tmp_path / "b.parquet", metres, crs=pyproj.CRS(32632).to_json_dict())
    assert {place.crs for place in read_regions(utm)} == {"EPSG:32632"}
    covered = geoparquet(
        tmp_path / "c.geoparquet",
        FIELDS.assign(bbox=[{"xmin": 1.0}] * 3),
        covering={"bbox": {"xmin": ["bbox", "xmin"]}},
    )
    assert "bbox" not in read_regions(covered).table
    unknown = geoparquet(tmp_path / "d.parquet", FIELDS, crs=None)
    told(lambda: read_regions(unknown), "d.parquet", "unknown CRS", "crs=")
    assert tuple(read_regions(unknown, crs=4326)) == tuple(SHAPES)
    native = geoparquet(tmp_path / "e.parquet", FIELDS, encoding="polygon")
    told(lambda: read_regions(native), "e.parquet", "'polygon'", "WKB")


def test_a_parquet_of_points(tmp_path: Path) -> None:
    day = "(DATE '2022-06-01' + i::INTEGER) AS day"
    query = f"SELECT 'p' || i AS id, 10 + i / 10.0 AS lon, 48.0 AS lat, {day} FROM range(3) t(i)"
    regions = read_regions(parquet(tmp_path / "points.parquet", query), buffer_m=60, time="day")
    assert regions.ids == ("p0", "p1", "p2") and regions[1] == PointBuffer(10.1, 48, 60) and not regions.table
    assert regions.temporals is not None and regions.temporals[2] == TemporalSpec.range("2022-06-03", "2022-06-04")
    told(lambda: read_regions(tmp_path / "points.parquet"), "rows 1, 2, 3", "is a point", "buffer_m")


@pytest.mark.parametrize("damage", [slice(0, -9), slice(4, None), slice(0, 40)])
def test_a_damaged_parquet_is_told(damage: slice, tmp_path: Path) -> None:
    whole = parquet(tmp_path / "whole.parquet", "SELECT 1 AS lon, 2 AS lat").read_bytes()
    told(lambda: read_regions(written(tmp_path / "cut.parquet", whole[damage])), "cut.parquet")


SEPARATED = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
ENCODED = {"plain": "utf-8", "with a mark": "utf-8-sig", "Excel's": "utf-16"}


@pytest.mark.parametrize("delimiter", SEPARATED.values(), ids=SEPARATED)
@pytest.mark.parametrize("encoding", ENCODED.values(), ids=ENCODED)
def test_delimited_text(delimiter: str, encoding: str, tmp_path: Path) -> None:
    with (tmp_path / "points.csv").open("w", encoding=encoding, newline="") as file:
        rows = csv.writer(file, delimiter=delimiter)
        rows.writerow(["plot", "Longitude", "Latitude", "note, long", "size", "day"])
        rows.writerow(["007", 10.5, 48, 'said "hm"; so,\nhe left', 3, "2022-06-01"])
        rows.writerow(["008", -11.5, -48, "süß", "", "2022"])
    regions = read_regions(tmp_path / "points.csv", id="plot", buffer_m=50, time="day")
    assert tuple(regions) == (PointBuffer(10.5, 48, 50), PointBuffer(-11.5, -48, 50)) and regions.ids == ("007", "008")
    assert dict(regions.table) == {"note, long": ('said "hm"; so,\nhe left', "süß"), "size": (3, None)}
    assert regions.temporals == (TemporalSpec.range("2022-06-01", "2022-06-02"), TemporalSpec.year(2022))


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8)


@given(st.lists(st.tuples(CELLS, st.integers(-(10**17), 10**17), st.floats(-180, 180), st.floats(-90, 90)), min_size=1))
def test_what_csv_wrote_comes_back(rows: list[tuple[str, int, float, float]]) -> None:
    file = io.StringIO(newline="")
    out = csv.writer(file)
    out.writerow(["word", "number", "lon", "lat"])
    out.writerows([(f"_{word}", *rest) for word, *rest in rows])
    regions = read_regions(io.BytesIO(file.getvalue().encode()), buffer_m=1)
    assert regions.table["number"] == tuple(row[1] for row in rows)
    assert regions.table["word"] == tuple(f"_{row[0]}".strip() for row in rows)
    assert [(place.lon, place.lat) for place in regions] == [(row[2], row[3]) for row in rows]  # type: ignore[union-attr]


def test_numbers_stay_what_they_are(tmp_path: Path) -> None:
    text = "lon,lat,whole,part,code,mixed,day\n1,2,3,0.5,0123,1,2022-06-01\n1.5,-2e0,-4,,12,x,\n"
    table = read_regions(written(tmp_path / "a.csv", text), buffer_m=1).table
    assert {name: values[0] for name, values in table.items()} == {
        "whole": 3, "part": 0.5, "code": "0123", "mixed": "1", "day": "2022-06-01"}  # fmt: skip
    assert type(table["whole"][1]) is int and table["part"][1] is None and table["day"][1] is None


GEOMETRIES = {
    "WKT": ("geometry", [shape.wkt for shape in FIELDS.geometry]),
    "WKT elsewhere": ("the_geom", [shape.wkt for shape in FIELDS.geometry]),
    "EWKT": ("geom", [f"SRID=4326;{shape.wkt}" for shape in FIELDS.geometry]),
    "hexadecimal": ("wkb_geometry", [shape.wkb_hex for shape in FIELDS.geometry]),
    "EWKB": ("geom", [shapely.to_wkb(shapely.set_srid(s, 4326), hex=True, include_srid=True) for s in FIELDS.geometry]),
    "Earth Engine's": (".geo", [shapely.to_geojson(shape) for shape in FIELDS.geometry]),
}


@pytest.mark.parametrize("case", GEOMETRIES)
def test_geometries_in_text(case: str, tmp_path: Path) -> None:
    name, cells = GEOMETRIES[case]
    pandas.DataFrame({"id": ["a", "b", "c"], name: cells}).to_csv(tmp_path / "a.csv", index=False)
    regions = read_regions(tmp_path / "a.csv")
    assert tuple(regions) == tuple(SHAPES) and regions.ids == ("a", "b", "c") and not regions.table


def test_points_in_metres_need_their_crs(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", "x,y\n600000,5300000\n")
    told(lambda: read_regions(file, buffer_m=50), "line 2", "600000", "not a longitude", "say crs=")
    assert read_regions(file, buffer_m=50, crs=32632)[0] == PointBuffer(600000, 5300000, 50, crs="EPSG:32632")
    srid = written(tmp_path / "b.csv", "geom\nSRID=32632;POINT(600000 5300000)\n")
    assert read_regions(srid, buffer_m=50)[0] == PointBuffer(600000, 5300000, 50, crs="EPSG:32632")


def test_columns_that_are_named_go_before_those_that_are_guessed(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", "id,key,lon,lat,a,b\n1,x,10,48,20,58\n")
    regions = read_regions(file, id="key", lon="a", lat="b", buffer_m=5)
    assert regions.ids == ("x",) and regions[0] == PointBuffer(20, 58, 5)
    assert dict(regions.table) == {"id": (1,), "lon": (10,), "lat": (48,)}


def test_frames_and_streams_and_dicts(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"lon": [10.0, 11], "lat": [48, 48], "when": [2020, 2021.0]}, index=["a", "b"])
    regions = read_regions(frame, buffer_m=50, time="when")
    assert regions.ids == ("a", "b") and regions.temporals == TemporalSpec.years(2020, 2021) and not regions.table
    shapes = pandas.DataFrame({"geometry": FIELDS.geometry.tolist()})
    assert tuple(read_regions(shapes)) == tuple(SHAPES)
    assert read_regions(FIELDS, id="name").ids == tuple(FIELDS["name"])
    dates = pandas.DataFrame({"lon": [1], "lat": [1], "t": pandas.to_datetime(["2022-06-01T23:00-03:00"])})
    assert read_regions(dates, buffer_m=5, time="t").temporals == (TemporalSpec.range("2022-06-02", "2022-06-03"),)
    for name, options in WRITERS.items():
        if name.endswith(".shp"):
            continue
        FIELDS.to_file(tmp_path / name, **options)
        with (tmp_path / name).open("rb") as stream:
            assert read_regions(stream, id="name") == read_regions(tmp_path / name, id="name")
    assert read_regions(io.StringIO(FIELDS.to_json()), id="name").ids == tuple(FIELDS["name"])
    assert read_regions(json.loads(FIELDS.to_json()), id="name").ids == tuple(FIELDS["name"])
    data = io.BytesIO(geoparquet(tmp_path / "a.parquet", FIELDS).read_bytes())
    assert tuple(read_regions(data)) == tuple(SHAPES)


@pytest.mark.parametrize("text", ["lon;lat\n10;48\n", '{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}'])
def test_standard_input(text: str) -> None:
    buffer = "50" if text.startswith("lon") else "None"
    code = f"from rs_embed import read_regions; print(len(read_regions('-', buffer_m={buffer})))"
    ran = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n"


def test_geojson_of_all_kinds(tmp_path: Path) -> None:
    shape = FIELDS.geometry[0].__geo_interface__
    feature = {"type": "Feature", "id": "n", "geometry": shape, "properties": None}
    for content in (shape, feature, [feature], [shape], {"type": "FeatureCollection", "features": [feature]}):
        assert tuple(read_regions(written(tmp_path / "a.json", json.dumps(content)))) == (SHAPES[0],)
    old = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
    metres = FIELDS.to_crs(32632).geometry[0].__geo_interface__
    collection = {"type": "FeatureCollection", "crs": old, "features": [feature | {"geometry": metres}]}
    regions = read_regions(written(tmp_path / "b.json", json.dumps(collection)))
    assert regions[0].crs == "EPSG:32632" and regions.ids == ("n",)


def layered(path: Path) -> Path:
    FIELDS.to_file(path, layer="fields")
    FIELDS[:1].to_file(path, layer='odd "name"', mode="a")
    return path


def test_long_cells_are_read_and_the_process_stays_as_it_was(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    detailed = Point(10, 48).buffer(0.01, quad_segs=3000)
    found = read_regions(written(tmp_path / "a.csv", f'wkt\n"{detailed.wkt}"\n'))[0]
    assert isinstance(found, PolygonSpec) and found.shape.equals(detailed) and len(detailed.wkt) > limit
    assert csv.field_size_limit() == limit


def test_layers_are_chosen(tmp_path: Path) -> None:
    file = layered(tmp_path / "a.gpkg")
    assert len(read_regions(file, layer='odd "name"')) == 1 and len(read_regions(file, layer="fields")) == 3
    told(lambda: read_regions(file), "2 layers", "'fields'", "layer=")
    told(lambda: read_regions(file, layer="field"), "no layer 'field'", "'fields'")
    told(lambda: read_regions(written(tmp_path / "a.csv", "lon,lat\n1,2\n"), layer="x"), "a.csv", "no layers")
    told(lambda: read_regions(FIELDS, layer="x"), "frame has no layers")


@pytest.mark.parametrize("shape", [Point(1, 2), Point(1, 2, 3), box(0, 0, 1, 1), LineString([(0, 0), (1, 1)])])
@pytest.mark.parametrize("order", ["little", "big"])
def test_every_header_of_a_geopackage_blob(shape: Any, order: str, tmp_path: Path) -> None:
    FIELDS[:1].to_file(tmp_path / "a.gpkg")
    sign = "<" if order == "little" else ">"
    for envelope, count in {0: 0, 1: 4, 2: 6, 3: 6, 4: 8}.items():
        header = b"GP" + struct.pack("BB", 0, envelope << 1 | (order == "little")) + struct.pack(f"{sign}i", 4326)
        box_ = struct.pack(f"{sign}{count}d", *range(count))
        wkb = shapely.to_wkb(shape, byte_order=order == "little")
        rewrite(tmp_path / "a.gpkg", "UPDATE a SET geom = ?", header + box_ + wkb)
        found = read_geopackage(tmp_path / "a.gpkg", "a.gpkg", None).geometry
        assert found is not None and shapely.force_2d(found[0]).equals_exact(shapely.force_2d(shape))


def rewrite(path: Path, statement: str, *values: Any) -> None:
    """Change a GeoPackage behind its triggers' back."""
    with sqlite3.connect(path) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        database.execute(statement, values)
    database.close()


BROKEN_BLOBS = {
    "no blob": (b"XX\0\0\0\0\0\0\0", "no GeoPackage blob"),
    "empty": (b"GP\0\x11\xe6\x10\0\0", "no geometry"),
    "extended": (b"GP\0\x21\xe6\x10\0\0", "extended type"),
    "mixed CRS": (b"GP\0\x01\x78\x7f\0\0" + shapely.to_wkb(box(0, 0, 1, 1)), "mixed CRS"),
    "cut off": (b"GP\0\x01\xe6\x10\0\0\x01\x03", "neither WKT, WKB"),
    "NULL": (None, "no geometry"),
}


@pytest.mark.parametrize("case", BROKEN_BLOBS)
def test_a_broken_blob_is_told_with_its_feature(case: str, tmp_path: Path) -> None:
    blob, words = BROKEN_BLOBS[case]
    FIELDS.to_file(tmp_path / "a.gpkg")
    rewrite(tmp_path / "a.gpkg", "UPDATE a SET geom = ? WHERE fid = 2", blob)
    told(lambda: read_regions(tmp_path / "a.gpkg"), "a.gpkg: 1 of 3 features", "feature 2", words)


def test_a_geopackage_says_what_it_is_in(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        FIELDS.set_crs(None, allow_override=True).to_file(tmp_path / "a.gpkg")
    told(lambda: read_regions(tmp_path / "a.gpkg"), "unknown CRS", "crs=")
    assert len(read_regions(tmp_path / "a.gpkg", crs=4326)) == 3
    FIELDS.assign(ok=[True, False, True]).to_file(tmp_path / "b.gpkg")
    assert read_regions(tmp_path / "b.gpkg").table["ok"] == (True, False, True)
    assert read_regions(tmp_path / "b.gpkg", id="fid").ids == (1, 2, 3)
    FIELDS.assign(id=["x", "y", "z"]).to_file(tmp_path / "c.gpkg")
    assert read_regions(tmp_path / "c.gpkg").ids == ("x", "y", "z")


POINTS = "id,lon,lat,year\n"
FAULTS: dict[str, tuple[str, str | bytes, dict[str, Any], tuple[str, ...]]] = {
    "empty": ("a.csv", "", {}, ("a.csv", "empty")),
    "blank": ("a.geojson", " \n", {}, ("a.geojson", "empty")),
    "a header alone": ("a.csv", POINTS, {}, ("a.csv", "empty")),
    "no features": ("a.json", '{"type":"FeatureCollection","features":[]}', {}, ("a.json", "empty")),
    "no such column": ("a.csv", POINTS + "1,2,3,4\n", {"id": "ID"}, ("a.csv", "'ID'", "id=", "id, lon, lat, year")),
    "no such time": ("a.csv", POINTS + "1,2,3,4\n", {"time": "t"}, ("'t'", "time=", "id, lon, lat, year")),
    "no such lon": ("a.csv", POINTS + "1,2,3,4\n", {"lon": "e", "lat": "n"}, ("'e'", "lon=", "id, lon, lat, year")),
    "lon alone": ("a.csv", POINTS + "1,2,3,4\n", {"lon": "lon"}, ("both or neither",)),
    "no place": ("a.csv", "a,b\n1,2\n", {}, ("lon=", "lat=", "there are: a, b")),
    "ids twice": (
        "a.csv",
        POINTS + "x,2,3,4\nx,2,3,4\ny,1,1,1\n",
        {},
        ("a.csv", "duplicate ids: 'x' (2 times)", "id="),
    ),
    "ids missing": ("a.csv", POINTS + "1,2,3,4\n,2,3,4\n", {}, ("line 3", "no id")),
    "words": (
        "a.csv",
        POINTS + "1,east,3,4\n2,2,,4\n",
        {},
        ("line 2", "'east' is not a number", "line 3", "lat is empty"),
    ),
    "decimal commas": ("a.csv", "lon;lat\n10,5;48,1\n", {}, ("'10,5'", "decimal point")),
    "swapped": ("a.csv", POINTS + "1,48,110,4\n", {}, ("line 2", "not a latitude", "swapped")),
    "no date": ("a.csv", POINTS + "1,2,3,\n2,2,3,2020\n", {"time": "year"}, ("line 2", "'year'", "no date")),
    "no such date": ("a.csv", POINTS + "1,2,3,June\n", {"time": "year"}, ("line 2", "'June'")),
    "reversed": ("a.csv", POINTS + "1,2,3,2020-02-01/2020-01-01\n", {"time": "year"}, ("line 2", "before end")),
    "a long line": ("a.csv", "lon,lat\n1,2,3\n", {}, ("2 columns (lon, lat)", "line 2 has 3", "quotes")),
    "two of a name": ("a.csv", "lon,lat,lat\n1,2,3\n", {}, ("two columns called 'lat'",)),
    "a column without name": ("a.csv", "lon,lat,\n1,2,3\n", {}, ("without a name",)),
    "Latin 1": ("a.csv", "lon,lat,süd\n1,2,3\n".encode("latin-1"), {}, ("a.csv", "UTF-8")),
    "bad WKT": ("a.csv", "wkt\nPOLYGO((0 0))\n", {}, ("line 2", "neither WKT, WKB")),
    "mixed SRID": ("a.csv", "geom\nSRID=4326;POINT(0 0)\nSRID=3857;POINT(0 0)\n", {}, ("line 3", "mixed CRS")),
    "a line": ("a.csv", 'wkt\n"LINESTRING(0 0, 1 1)"\n', {"buffer_m": None}, ("line 2", "LineString", "buffer it")),
    "a buffer of polygons": (
        "a.csv",
        f'wkt\n"{box(0, 0, 1, 1).wkt}"\n',
        {},
        ("buffer_m=50", "polygons", "leave it out"),
    ),
    "no buffer": ("a.csv", POINTS + "1,2,3,4\n", {"buffer_m": None}, ("line 2", "is a point", "buffer_m")),
    "a buffer below 0": ("a.csv", POINTS + "1,2,3,4\n", {"buffer_m": -1}, ("buffer_m=-1",)),
    "no CRS": ("a.csv", POINTS + "1,2,3,4\n", {"crs": "EPSG:0"}, ("EPSG:0", "PROJ")),
    "no JSON": ("a.geojson", "{", {}, ("a.geojson", "not JSON")),
    "a broken line": ("a.ndjson", '{"type":"Point","coordinates":[1,2]}\n{\n', {}, ("line 2", "not JSON")),
    "no GeoJSON": ("a.json", '{"type":"Topology"}', {}, ("'Topology'", "FeatureCollection")),
    "odd properties": ("a.json", '{"type":"Feature","properties":[1],"geometry":null}', {}, ("properties", "list")),
    "CSV as JSON": ("a.geojson", POINTS, {}, ("not GeoJSON", "delimited text", "rename")),
    "JSON as CSV": ("a.csv", '{"type":"Point","coordinates":[1,2]}', {}, ("not delimited text", "GeoJSON")),
    "CSV as a GeoPackage": ("a.gpkg", POINTS, {}, ("not GeoPackage", "delimited text")),
    "CSV as Parquet": ("a.parquet", POINTS, {}, ("not Parquet", "delimited text")),
    "a damaged database": ("a.gpkg", b"SQLite format 3\0" + b"x" * 200, {}, ("a.gpkg", "GeoPackage")),
    "a damaged archive": ("a.zip", b"PK\x03\x04xxxx", {}, ("a.zip", "cannot be read")),
    "no shapefile": ("a.shp", POINTS, {}, ("a.shp", "cannot be read")),
    "no such suffix": ("a.xls", POINTS, {}, ("'.xls'", ".csv", ".gpkg", ".parquet")),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_are_told(case: str, tmp_path: Path) -> None:
    name, content, options, words = FAULTS[case]
    file = written(tmp_path / name, content)
    told(lambda: read_regions(file, **{"buffer_m": 50, **options}), *words)


def test_other_sources_that_are_none(tmp_path: Path) -> None:
    told(lambda: read_regions(tmp_path / "a.csv"), "a.csv", "no such file")
    told(lambda: read_regions(tmp_path), "folder")
    told(lambda: read_regions(3), "int", "path")
    with sqlite3.connect(tmp_path / "a.gpkg") as database:
        database.execute("CREATE TABLE t (a)")
    database.close()
    told(lambda: read_regions(tmp_path / "a.gpkg"), "a.gpkg", "GeoPackage", "gpkg_contents")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    told(lambda: read_regions(tmp_path / "a.zip"), "a.zip")


def test_all_faulty_rows_are_told_at_once(tmp_path: Path) -> None:
    rows = "".join(f"{i},{200 if i % 10 == 3 else 10},{48 if i % 10 != 5 else ''},2020\n" for i in range(1000))
    text = told(
        lambda: read_regions(written(tmp_path / "a.csv", POINTS + rows), buffer_m=5), "a.csv: 200 of 1000 lines"
    )
    assert "lines 5, 15, 25, 35, 45 and 95 more: PointBuffer.lon=200.0" in text
    assert "lines 7, 17, 27, 37, 47 and 95 more: lat is empty" in text and len(text) < 400


def test_vector_files_need_their_extra(tmp_path: Path) -> None:
    FIELDS.to_file(tmp_path / "a.fgb")
    code = (
        "import sys; sys.modules['pyogrio'] = None\n"
        "from rs_embed import MissingExtraError, read_regions\n"
        "try:\n    read_regions('a.fgb')\nexcept MissingExtraError as error:\n    print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert 'pip install "rs-embed[vector]"' in ran.stdout and "a.fgb" in ran.stdout


COORDINATES = st.tuples(st.floats(-179, 170), st.floats(-80, 70), st.floats(0.001, 9), st.floats(0.001, 9))


@given(st.lists(COORDINATES, min_size=1, max_size=5))
def test_boxes_come_back_from_geojson(boxes: list[tuple[float, float, float, float]]) -> None:
    shapes = [box(x, y, x + w, y + h) for x, y, w, h in boxes]
    frame = geopandas.GeoDataFrame({"n": np.arange(len(shapes))}, geometry=shapes, crs=4326)
    regions = read_regions(io.BytesIO(frame.to_json().encode()))
    assert isinstance(regions, Regions) and regions.table["n"] == tuple(range(len(shapes)))
    for found, shape in zip(regions, shapes, strict=True):
        assert isinstance(found, PolygonSpec) and found.shape.normalize().equals_exact(
            PolygonSpec(shape).shape.normalize()
        )


def test_heights_are_dropped(tmp_path: Path) -> None:
    high = Polygon([(10, 48, 500), (10.01, 48, 501), (10.01, 48.01, 502)])
    frame = geopandas.GeoDataFrame(geometry=[high], crs=4326)
    flat = PolygonSpec(shapely.force_2d(high))
    for name in ("a.gpkg", "a.geojson", "a.fgb"):
        frame.to_file(tmp_path / name)
        found = read_regions(tmp_path / name)[0]
        assert isinstance(found, PolygonSpec) and found.shape.normalize().equals_exact(flat.shape.normalize(), 1e-9)
