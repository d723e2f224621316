"""GeoParquet as DuckDB, geopandas and plain Arrow read it, and the writer behind it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import numpy as np
import pytest
import shapely

from rs_embed import BBox, Embedding, SpecError, StoreError, load, read_regions, save, to_geodataframe
from rs_embed.core.footprints import outline_of, read_region
from rs_embed.store.parquet import TableWriter


def ask(path: Path, columns: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        return connection.execute(f"SELECT {columns} FROM '{path}'").fetchall()


def footer(path: Path, key: str) -> dict[str, Any]:
    with duckdb.connect() as connection:
        pairs = connection.execute(f"SELECT decode(key), decode(value) FROM parquet_kv_metadata('{path}')").fetchall()
    return dict(json.loads(dict(pairs)[key]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.parquet"


def test_duckdb_reads_every_column(vectors: list[Embedding], path: Path) -> None:
    save(vectors, path)
    rows = ask(path, "id, start_datetime, end_datetime, embedding, meta, error")
    for row, each in zip(rows, vectors, strict=True):
        assert row[0] == (None if each.id is None else str(each.id))
        assert np.array_equal(np.array(row[3], np.float32), each.values(), equal_nan=True)
        assert json.loads(row[4]) == each.meta
        assert row[5] == each.meta.get("error")
    assert rows[0][1:3] == (datetime(2022, 7, 1, tzinfo=UTC), datetime(2022, 8, 1, tzinfo=UTC))
    assert rows[3][1:3] == (None, None)


def test_label_columns_keep_their_types_and_stay_out_of_our_way(vectors: list[Embedding], path: Path) -> None:
    save(vectors, path)
    kinds = ask(path, 'typeof(crop), typeof("count"), typeof(yield), typeof(irrigated), typeof(label_id), typeof(late)')
    assert kinds[0] == ("VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "BIGINT", "VARCHAR")
    assert ask(path, 'crop, "count", yield, irrigated, label_id, late') == [
        ("wheat", 3, 2.5, True, 9, None),
        (None, None, 4.0, False, None, None),
        ("Grünland", -1, None, None, 1, "only here"),
        (None,) * 6,
    ]


@pytest.mark.parametrize(
    ("values", "kind", "written"),
    [
        ([None, 1], "BIGINT", [None, 1]),
        ([1, 2.5], "DOUBLE", [1.0, 2.5]),
        ([1, True], "VARCHAR", ["1", "true"]),
        (["a", 1], "VARCHAR", ["a", "1"]),
        ([2**70, 1], "VARCHAR", [str(2**70), "1"]),
        ([None, None], "VARCHAR", [None, None]),
        ([[1], {"a": 2}], "VARCHAR", ["[1]", '{"a": 2}']),
    ],
)
def test_a_label_column_is_as_narrow_as_all_its_rows_allow(
    values: list[Any], kind: str, written: list[Any], path: Path
) -> None:
    save([Embedding(np.zeros(2, np.float32), {"labels": {"v": v}}) for v in values], path)
    assert [row[0] for row in ask(path, "v")] == written
    assert ask(path, "typeof(v)")[0] == (kind,)


def test_the_geo_footer_describes_the_geometries(vectors: list[Embedding], path: Path) -> None:
    save(vectors, path)
    geo = footer(path, "geo")
    column = geo["columns"][geo["primary_column"]]
    assert (geo["version"], column["encoding"]) == ("1.1.0", "WKB")
    shapes = [None if b is None else shapely.from_wkb(bytes(b)) for (b,) in ask(path, "geometry::BLOB")]
    assert shapes[3] is None
    assert column["geometry_types"] == sorted({s.geom_type for s in shapes[:3]})
    assert column["bbox"] == shapely.total_bounds(np.array(shapes[:3], object)).tolist()
    assert ask(path, "typeof(geometry)")[0] == ("GEOMETRY('OGC:CRS84')",)
    boxes = ask(path, "bbox.xmin, bbox.ymin, bbox.xmax, bbox.ymax")
    assert boxes[:3] == [s.bounds for s in shapes[:3]] and boxes[3] == (None,) * 4
    assert column["covering"]["bbox"]["ymax"] == ["bbox", "ymax"]
    for shape, each in zip(shapes, vectors[:3], strict=False):
        assert shape.equals(outline_of(read_region(each.meta["region"])))
    assert shapes[1].equals(shapely.Polygon(each_ring(vectors[1])))


def each_ring(embedding: Embedding) -> Any:
    return embedding.meta["region"]["geometry"]["coordinates"][0][0]


def test_the_footer_follows_the_convention_of_embeddings(vectors: list[Embedding], path: Path) -> None:
    save(vectors, path)
    found = footer(path, "geoemb")
    assert found["geoemb:type"] == "chip" and found["geoemb:data_type"] == "float32"
    assert found["geoemb:dimensions"] == vectors[0].dim
    assert found["geoemb:model"] == vectors[0].meta["model_source"]
    assert found["geoemb:gsd"] == 10.0
    assert found["geoemb:chip_layout"]["chip_size"] == vectors[0].meta["input_prep"]["window_px"]


def test_its_regions_can_be_embedded_again(vectors: list[Embedding], path: Path) -> None:
    save(vectors[:2], path)
    found = read_regions(path)
    assert found.ids == ("7", "Feld ü")
    for spatial, each in zip(found.spatials, vectors, strict=False):
        assert outline_of(spatial).equals(outline_of(read_region(each.meta["region"])))


def test_the_frame_of_geopandas_has_the_same_rows(vectors: list[Embedding]) -> None:
    frame = to_geodataframe(vectors)
    assert isinstance(frame, geopandas.GeoDataFrame) and frame.crs == "EPSG:4326"
    assert list(frame.index) == [7, "Feld ü", None, "lost"] and frame.index.name == "id"
    assert np.array_equal(np.stack(frame["embedding"]), np.stack([e.values() for e in vectors]), equal_nan=True)
    assert frame["crop"].iloc[0] == "wheat" and frame["count"].iloc[2] == -1 and frame["yield"].iloc[1] == 4.0
    assert frame["irrigated"].iloc[0] and frame["irrigated"].isna().tolist() == [False, False, True, True]
    assert frame.geometry.iloc[3] is None and frame.geometry.iloc[0].area > 0
    assert frame["start_datetime"].iloc[0] == datetime(2022, 7, 1, tzinfo=UTC)
    assert frame["error"].tolist()[3] == "NoImageryError: nothing there"
    alone = to_geodataframe(vectors[0])
    assert alone["count"].dtype == "int64" and alone["irrigated"].dtype == bool


def many(count: int, dim: int) -> Iterator[Embedding]:
    for i in range(count):
        region = {"type": "BBox", "minlon": i / 1e5, "minlat": 0.0, "maxlon": 1.0, "maxlat": 1.0, "crs": "EPSG:4326"}
        meta = {"model": "m", "id": i, "region": region, "labels": {"n": i if i > 4000 else None}}
        yield Embedding(np.full(dim, i, np.float32), meta)


def peak(count: int, path: Path) -> int:
    tracemalloc.start()
    save(many(count, 1000), path, overwrite=True)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.full
def test_a_generator_is_written_with_flat_memory(path: Path) -> None:
    small = peak(4000, path)
    assert peak(8000, path) < 1.1 * small < 2e7  # 16 and 32 MB of numbers
    assert ask(path, "count(*), sum(embedding[1000]), count(n)") == [(8000, 8000 * 7999 / 2, 3999)]


def test_large_tables_have_several_row_groups(path: Path) -> None:
    save(many(1100, 40_000), path)
    with duckdb.connect() as connection:
        sql = f"SELECT DISTINCT row_group_num_rows FROM parquet_metadata('{path}')"
        assert sorted(connection.execute(sql).fetchall()) == [(100,), (500,)]
    assert [e.id for e in load(path)] == list(range(1100))  # type: ignore[union-attr]


def test_a_block_that_fails_writes_nothing(vectors: list[Embedding], path: Path) -> None:
    def stopped() -> None:
        with TableWriter(path) as table:
            table.write(vectors[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(path.parent.iterdir()) == []


def test_a_row_that_does_not_fit_is_told_and_the_rest_can_still_be_written(
    vectors: list[Embedding], path: Path
) -> None:
    with TableWriter(path) as table:
        table.write(vectors[3])  # a failed row first: its space is not known
        table.write(vectors[0])
        other = Embedding(vectors[0].values(), vectors[0].meta | {"space": "imagestats/other/mean"})
        with pytest.raises(SpecError, match="spaces"):
            table.write(other)
        table.write(vectors[1])
    assert [e.id for e in load(path)] == ["lost", 7, "Feld ü"]  # type: ignore[union-attr]


def test_a_region_across_the_antimeridian_has_two_parts(path: Path) -> None:
    box = BBox(179.9, -17, -179.9, -16.9)
    meta = {"region": {"type": "BBox", **vars(box)}}
    save(Embedding(np.zeros(2, np.float32), meta), path)
    assert footer(path, "geo")["columns"]["geometry"]["geometry_types"] == ["MultiPolygon"]
    assert footer(path, "geo")["columns"]["geometry"]["bbox"] == pytest.approx([-180, -17, 180, -16.9])


def test_foreign_tables_are_told_what_they_lack(path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS a, [1.0, 2.0] AS embedding) TO '{path}' (FORMAT parquet)")
    with pytest.raises(StoreError, match=r"no column meta \(but a, embedding\)"):
        load(path)
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 'x' AS meta, [1.0, 2.0] AS embedding) TO '{path}' (FORMAT parquet)")
    with pytest.raises(StoreError, match="footer 'rs_embed'"):
        load(path)
