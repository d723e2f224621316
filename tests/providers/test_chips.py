"""Products of chips: tables painted as Major TOM, Clay and Earth Index write them, here and over loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from chip_files import (
    REPOSITORIES,
    Painted,
    fragment,
    fragments,
    geo_footer,
    list_hub,
    paint_clay,
    paint_earth_index,
    paint_majortom,
    vectors,
    wkb,
    write,
)
from commands import Caller
from pyproj import CRS, Geod, Transformer
from range_server import PAGE, RangeServer
from servers import Front

from rs_embed import (
    BatchError,
    BBox,
    FetchSpec,
    MissingExtraError,
    Model,
    ModelError,
    NoImageryError,
    OutputSpec,
    PointBuffer,
    Polygon,
    ProviderError,
    SpecError,
    TemporalSpec,
    describe_model,
    estimate,
    get_embedding,
    get_embeddings_batch,
    iter_embeddings,
    list_models,
    load,
    read_chips,
    save,
)
from rs_embed.core import registry
from rs_embed.plugin import chip_product, register
from rs_embed.providers.products.chip_archive import ChipArchive
from rs_embed.providers.products.chip_files import ChipFile
from rs_embed.providers.products.chip_folders import open_folder
from rs_embed.providers.products.memory import MEMORY

GEOD = Geod(ellps="WGS84")
LON, LAT = 11.0, 48.0
PLACE = PointBuffer(LON + 0.04, LAT - 0.02, 1500)
HUB = "https://huggingface.co/datasets/Major-TOM"
S2 = "Major-TOM/Core-S2L1C-SSL4EO"


@pytest.fixture(autouse=True)
def nothing_in_memory() -> None:
    MEMORY.clear()


def ground(shape: Any) -> float:
    """Square metres of a geometry of degrees, by geodesics."""
    return abs(GEOD.geometry_area_perimeter(shapely.segmentize(shape, 0.0005))[0])


def outline(place: PointBuffer) -> Any:
    return fragment(place.lon, place.lat, 2 * place.buffer_m, corners_only=False)


def mean_of(painted: Painted, region: Any) -> Any:
    """The mean of vectors by shared ground, written apart from the library."""
    parts = [ground(shape.intersection(region)) if shape.intersects(region) else 0.0 for shape in painted.shapes]
    return np.array(parts) @ painted.vectors.astype(np.float64) / sum(parts)


def close(found: Any, wanted: Any, tolerance: float = 1e-5) -> bool:
    return bool(np.abs(np.asarray(found) - wanted).max() <= tolerance * np.abs(wanted).max())


@dataclass
class Hub:
    """Two parts of Major TOM's tables on a server that answers as the hub does."""

    root: Path
    server: RangeServer
    near: Painted
    far: Painted
    files: dict[str, Path]

    def asked(self, name: str = "") -> list[Any]:
        return [request for request in self.server.requests if name in request.path]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = tmp_path / "datasets" / S2 / "resolve" / "main" / "embeddings"
    files = {"near": folder / "part_00001-00050.parquet", "far": folder / "part_00051-00100.parquet"}
    near = paint_majortom(files["near"], fragments(LON, LAT, 8), group=8)
    far = paint_majortom(files["far"], fragments(31.0, -20.0, 4), seed=1, group=8)
    list_hub(tmp_path, S2, [f"embeddings/{path.name}" for path in files.values()])
    with RangeServer(tmp_path) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.root)
        yield Hub(tmp_path, server, near, far, files)


@pytest.fixture
def copy(tmp_path: Path) -> tuple[Path, Painted]:
    """A folder that holds a copy of the default data set."""
    folder = tmp_path / "copy" / "Core-S2L1C-SSL4EO" / "embeddings"
    return tmp_path / "copy", paint_majortom(folder / "part_00001-00050.parquet", fragments(LON, LAT, 5))


# Major TOM -------------------------------------------------------------------------------------------------------


def test_a_region_gets_the_mean_of_its_fragments(hub: Hub) -> None:
    for backend in ("auto", "gee"):
        found = get_embedding("majortom", spatial=PLACE, backend=backend)
        assert close(found.data, mean_of(hub.near, outline(PLACE))) and found.data.shape == (2048,)
    meta = found.meta
    assert json.loads(json.dumps(meta, allow_nan=False)) == meta
    assert meta["type"] == "precomputed" and meta["model"] == "majortom" and meta["temporal"] is None
    assert meta["license"]["weights"].startswith("CC-BY-SA-4.0") and "CC-BY-SA-4.0" in meta["attribution"][0]
    assert meta["space"] == "majortom/ssl4eo-s2l1c/mean" and meta["backend"] == "huggingface"
    assert meta["product"]["collection"] == S2 and S2 in meta["source"]
    content = hub.files["near"].read_bytes()
    version = f"{hashlib.sha256(content).hexdigest()}|{len(content)}"
    assert meta["product"]["files"] == [{"name": f"embeddings/{hub.files['near'].name}", "version": version}]
    shares = {chip["id"]: chip["share"] for chip in meta["chips"]}
    used = [i for i, shape in enumerate(hub.near.shapes) if shape.intersects(outline(PLACE))]
    assert set(shares) == {hub.near.ids[i] for i in used} and sum(shares.values()) == pytest.approx(1, abs=1e-4)
    assert {chip["date"][:10] for chip in meta["chips"]} == {hub.near.dates[i] for i in used}
    assert not meta["region_exact"] and meta["valid_fraction"] == 1.0
    west, south, east, north = shapely.total_bounds([hub.near.shapes[i] for i in used])
    assert np.allclose(meta["footprint"], [west, south, east, north], atol=1e-6)


def test_only_row_groups_that_may_touch_the_region_travel(hub: Hub) -> None:
    get_embedding("majortom", spatial=PLACE)
    used = {hub.near.groups[i] for i, s in enumerate(hub.near.shapes) if s.intersects(outline(PLACE))}
    assert len(used) < 8  # of eight
    table = ChipFile(open_folder(str(hub.files["near"])).files[0].open(), _named()).table
    vectors_of_used = sum(table.size(group, ["embedding"]) for group in used)
    ends = 2**16 + 2**10  # the beginning and the end of each file are fetched first
    assert hub.server.sent <= 2 * ends + 1.05 * vectors_of_used + 40_000
    assert hub.server.sent < 0.5 * sum(path.stat().st_size for path in hub.files.values())
    assert {request.start for request in hub.asked("part_00051")} == {0, hub.files["far"].stat().st_size - 2**16}
    assert len(hub.asked("part_00051")) == 2


def _named() -> Any:
    from rs_embed.providers.products.chip_columns import Named

    return Named()


def test_the_index_is_learnt_once_and_kept(hub: Hub) -> None:
    first = get_embedding("majortom", spatial=PLACE)
    hub.server.reset()
    again = ChipArchive(open_folder(f"{HUB}/Core-S2L1C-SSL4EO/embeddings"))
    assert len(again.index()) == 10 and [request.path for request in hub.server.requests] == [
        f"api/datasets/{S2}/tree/main/embeddings"
    ]
    repainted = paint_majortom(hub.files["near"], fragments(LON, LAT, 8), group=8, seed=9)
    list_hub(hub.root, S2, [f"embeddings/{path.name}" for path in hub.files.values()])
    hub.server.reset()
    newer = ChipArchive(open_folder(f"{HUB}/Core-S2L1C-SSL4EO/embeddings"))
    assert len(newer.index()) == 10 and not hub.asked("part_00051") and hub.asked("part_00001")
    (kept,) = (Path(os.environ["RS_EMBED_CACHE_DIR"]) / "products" / "chips").glob("*.json")
    assert len(json.loads(kept.read_text())) == 2
    kept.write_text("no json")
    assert len(ChipArchive(open_folder(f"{HUB}/Core-S2L1C-SSL4EO/embeddings")).index()) == 10
    assert not np.array_equal(first.data, mean_of(repainted, outline(PLACE)))


def test_a_thousand_points_read_each_row_group_once(hub: Hub) -> None:
    rng = np.random.default_rng(0)
    places = [PointBuffer(LON + x, LAT - y, 60) for x, y in rng.uniform(0.0, 0.12, (1000, 2))]
    found = get_embeddings_batch("majortom", spatials=places)
    counted = Counter((request.path, request.start) for request in hub.server.requests)
    assert max(counted.values()) == 1
    size = sum(path.stat().st_size for path in hub.files.values())
    assert hub.server.sent < 1.3 * size and len(hub.server.requests) < 60
    hub.server.reset()
    get_embedding("majortom", spatial=places[0])
    assert not hub.server.requests  # decoded row groups are kept for later calls
    for i in range(0, 1000, 97):
        assert close(found[i].data, mean_of(hub.near, outline(places[i])))


def test_polygons_boxes_and_many_ways_to_ask(copy: tuple[Path, Painted]) -> None:
    root, painted = copy
    shape = shapely.Polygon([(LON, LAT), (LON + 0.09, LAT - 0.02), (LON + 0.03, LAT - 0.06)])
    found = get_embedding("majortom", spatial=Polygon(shape), backend=str(root))
    assert close(found.data, mean_of(painted, shape)) and found.meta["backend"] == "store"
    box = BBox(LON, LAT - 0.05, LON + 0.06, LAT - 0.01)
    region = shapely.box(LON, LAT - 0.05, LON + 0.06, LAT - 0.01)
    model = Model("major_tom", backend=str(root))
    for vector in (
        model.get_embedding(box).data,
        get_embeddings_batch("majortom", spatials=[box, Polygon(shape)], backend=str(root))[0].data,
        next(iter(iter_embeddings("majortom", spatials=[box], backend=str(root)))).data,
    ):
        assert close(vector, mean_of(painted, region))
    stats = get_embedding("majortom", spatial=box, backend=str(root), output=OutputSpec.pooled("stats"))
    assert stats.shape == (4 * 2048,) and stats.meta["space"].endswith("/stats")


def test_a_batch_gives_what_each_region_gives_alone(copy: tuple[Path, Painted]) -> None:
    root, _ = copy
    places = [PointBuffer(LON + 0.02 * i, LAT - 0.01 * i, 700) for i in range(4)]
    together = get_embeddings_batch("majortom", spatials=places, backend=str(root))
    for place, found in zip(places, together, strict=True):
        assert np.array_equal(found.data, get_embedding("majortom", spatial=place, backend=str(root)).data)
        assert np.allclose(found.data, read_chips("majortom", backend=str(root)).pool(place).data, atol=1e-6)


def test_blocks_of_regions_follow_each_other(copy: tuple[Path, Painted], monkeypatch: pytest.MonkeyPatch) -> None:
    from rs_embed.inference import chips

    places = [PointBuffer(LON + 0.01 * i, LAT - 0.01 * (i % 3), 300) for i in range(7)]
    wanted = get_embeddings_batch("majortom", spatials=places, backend=str(copy[0]))
    monkeypatch.setattr(chips, "_TOGETHER", 3)
    parts = get_embeddings_batch("majortom", spatials=places, backend=str(copy[0]))
    one_by_one = iter_embeddings("majortom", spatials=places, backend=str(copy[0]))
    for a, b, c in zip(wanted, parts, one_by_one, strict=True):
        assert np.array_equal(a.data, b.data) and np.array_equal(a.data, c.data)


def test_fragments_across_the_antimeridian(tmp_path: Path) -> None:
    """The authors' centres of torn ones lie near Greenwich, where there are others too."""
    places = [(179.99, 10.0), (-179.99, 10.0), (179.95, 10.0), (0.0, 10.0), (0.003, 10.1)]
    shapes = [fragment(*place) for place in places]
    assert [abs(shape.centroid.x) < 1 for shape in shapes] == [True, True, False, True, True]
    painted = paint_majortom(tmp_path / "part.parquet", shapes, group=5)
    paint_majortom(tmp_path / "other.parquet", [fragment(0.2, 10.0), fragment(20.0, 10.0)], seed=1, group=1)
    greenwich = get_embedding("majortom", spatial=PointBuffer(0.0, 10.0, 300), backend=str(tmp_path))
    assert np.array_equal(greenwich.data, painted.vectors[3])
    found = get_embedding("majortom", spatial=PointBuffer(179.999, 10.0, 300), backend=str(tmp_path))
    assert {chip["id"] for chip in found.meta["chips"]} <= set(painted.ids[:2])
    region = BBox(179.995, 9.995, -179.995, 10.005)
    both = get_embedding("majortom", spatial=region, backend=str(tmp_path))
    assert {chip["id"] for chip in both.meta["chips"]} == set(painted.ids[:2])
    assert close(both.data, painted.vectors[:2].mean(0), 2e-2)
    chips = read_chips("majortom", spatial=region, backend=str(tmp_path))
    assert np.array_equal(chips.pool(region).data, both.data)


def test_the_newest_of_each_cell_within_the_span(tmp_path: Path) -> None:
    shapes = fragments(LON, LAT, 2)
    days = ["2019-05-01", "2021-05-01T10:00:00Z", "2020-05-01 10:00:00", "2018-05-01T10:00:00+02:00"]
    for i, day in enumerate(days):
        paint_majortom(tmp_path / f"part_{i}.parquet", shapes, seed=i, dates=[day] * 4)
    every = [vectors(i, 4, 2048) for i in range(4)]
    call: dict[str, Any] = {"spatial": PointBuffer(LON, LAT, 400), "backend": str(tmp_path)}
    with pytest.warns(UserWarning, match=r"some cells have chips of several dates: the newest of each were taken"):
        newest = get_embedding("majortom", **call)
    assert (
        np.array_equal(newest.data, every[1][0]) and "3 left out; temporal chooses others" in newest.meta["warnings"][0]
    )
    with pytest.warns(UserWarning, match="several dates"):
        span = get_embedding("majortom", temporal=TemporalSpec.range("2018-01-01", "2020-01-01"), **call)
    assert np.array_equal(span.data, every[0][0]) and span.meta["temporal"]["end"] == "2020-01-01"
    only = get_embedding("majortom", temporal=TemporalSpec.year(2018), **call)  # warnings are errors
    assert np.array_equal(only.data, every[3][0]) and only.meta["chips"][0]["date"] == "2018-05-01T08:00:00"
    spans = [TemporalSpec.year(2020), TemporalSpec.year(2018)]
    each = get_embeddings_batch("majortom", spatials=[call["spatial"]] * 2, temporal=spans, backend=str(tmp_path))
    assert np.array_equal(each[0].data, every[2][0]) and np.array_equal(each[1].data, every[3][0])
    with pytest.raises(NoImageryError, match=r"no chip of 2022-01-01/2023-01-01 .* some of 2018-05-01, 2019-05-01"):
        get_embedding("majortom", temporal=TemporalSpec.year(2022), **call)


def test_a_file_that_lies_there_twice_counts_once(tmp_path: Path) -> None:
    for name in ("part_1.parquet", "part_1 (copy).parquet"):
        painted = paint_majortom(tmp_path / name, fragments(LON, LAT, 2))
    found = get_embedding("majortom", spatial=PointBuffer(LON, LAT, 400), backend=str(tmp_path))
    assert np.array_equal(found.data, painted.vectors[0]) and found.meta["chip_count"] == 1
    assert found.meta["warnings"] == ["1 chips of the footprint and date of another were left out"]


@pytest.mark.parametrize("variant", REPOSITORIES)
def test_each_variant_reads_its_own_data_set(variant: str, tmp_path: Path) -> None:
    for i, (repository, dims) in enumerate(REPOSITORIES.values()):
        side = 3840.0 if "SigLIP" in repository else 2240.0
        folder = tmp_path / repository / "embeddings"
        paint_majortom(folder / "part_00001-00050.parquet", [fragment(LON, LAT, side)], dims=dims, seed=i)
    repository, dims = REPOSITORIES[variant]
    found = get_embedding("majortom", spatial=PointBuffer(LON, LAT, 500), variant=variant, backend=str(tmp_path))
    seed = list(REPOSITORIES).index(variant)
    assert np.array_equal(found.data, vectors(seed, 1, dims)[0]) and found.meta["space"] == f"majortom/{variant}/mean"
    assert found.meta["product"]["collection"] == f"Major-TOM/{repository}"
    assert describe_model("majortom")["variants"][variant]["dims"] == {"pooled": dims}


def test_another_data_set_is_never_taken_for_it(copy: tuple[Path, Painted], tmp_path: Path) -> None:
    root, _ = copy
    with pytest.raises(ProviderError, match=r"neither itself nor in 'Core-S1RTC-SSL4EO/embeddings'"):
        get_embedding("majortom", spatial=PLACE, variant="ssl4eo-s1rtc", backend=str(root))
    flat = tmp_path / "flat"
    paint_majortom(flat / "part.parquet", fragments(LON, LAT, 4), dims=768)
    with pytest.raises(ProviderError, match=r"part\.parquet: its vectors are of 768 numbers, not of 2048"):
        get_embedding("majortom", spatial=PLACE, backend=str(flat))


def test_what_cannot_be_meant_is_told_before_any_work(tmp_path: Path) -> None:
    call: dict[str, Any] = {"spatial": PLACE, "backend": str(tmp_path)}
    with pytest.raises(ModelError, match=r"there is no grid; ask for OutputSpec\.pooled\(\).*read_chips\('majortom'"):
        get_embedding("majortom", output=OutputSpec.grid(), **call)
    with pytest.raises(ModelError, match="leave sensor and fetch out"):
        get_embedding("majortom", fetch=FetchSpec(scale_m=20), **call)
    with pytest.raises(ModelError, match=r"variant='dino' is not known; accepted: 'ssl4eo-s2l1c'"):
        get_embedding("majortom", variant="dino", **call)
    with pytest.raises(ProviderError, match="reads its own store, no imagery"):
        get_embedding("majortom", spatial=PLACE, backend="synthetic")
    with pytest.raises(ProviderError, match=r"holds no \.parquet"):
        get_embedding("majortom", **call)
    with pytest.raises(ProviderError, match="neither the URL of a store of embeddings nor a file or folder"):
        get_embedding("majortom", spatial=PLACE, backend=str(tmp_path / "nowhere"))


def test_where_there_is_nothing_the_nearest_is_named(hub: Hub) -> None:
    lon, lat = LON - 1, LAT + 0.5
    far = [
        GEOD.inv(lon, lat, *shapely.ops.nearest_points(shapely.Point(lon, lat), s)[1].coords[0])[2]
        for s in hub.near.shapes
    ]
    nearest, metres = hub.near.ids[int(np.argmin(far))], min(far)
    with pytest.raises(NoImageryError, match=rf"is {metres / 1000:.1f} km from its middle: {nearest} of 2021"):
        get_embedding("majortom", spatial=PointBuffer(lon, lat, 500))
    with pytest.raises(BatchError, match="1 of 2 regions failed") as caught:
        get_embeddings_batch("majortom", spatials=[PLACE, PointBuffer(0, 0, 500)])
    assert caught.value.results[0].ok and isinstance(caught.value.errors[1], NoImageryError)
    found = get_embeddings_batch("majortom", spatials=[PointBuffer(0, 0, 500), PLACE], on_error="return")
    assert [each.ok for each in found] == [False, True] and found[0].shape == (2048,)
    assert np.isnan(found[0].data).all() and "km from its middle" in found[0].meta["error"]


def test_a_broken_table_fails_its_own_regions_only(tmp_path: Path) -> None:
    near = paint_majortom(tmp_path / "near.parquet", fragments(LON, LAT, 3))
    paint_majortom(tmp_path / "far.parquet", fragments(31.0, -20.0, 3), seed=1)
    places = [PointBuffer(LON, LAT, 500), PointBuffer(31.0, -20.0, 500)]
    assert all(each.ok for each in get_embeddings_batch("majortom", spatials=places, backend=str(tmp_path)))
    content = bytearray((tmp_path / "far.parquet").read_bytes())
    at = ChipFile(open_folder(str(tmp_path / "far.parquet")).files[0].open(), _named())
    start = at.table._footer.row_group(0).column(1).data_page_offset
    content[start : start + 30_000] = bytes(30_000)
    (tmp_path / "far.parquet").write_bytes(content)
    MEMORY.clear()
    found = get_embeddings_batch("majortom", spatials=places, backend=str(tmp_path), on_error="return")
    assert np.array_equal(found[0].data, near.vectors[0])
    assert not found[1].ok and "far.parquet: its row group 0 cannot be read" in found[1].meta["error"]


# The hub, and other listings -------------------------------------------------------------------------------------


def test_the_list_of_the_hub_or_what_is_wrong_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with Front() as front:
        monkeypatch.setenv("HF_ENDPOINT", front.url)
        tree = f"/api/datasets/{S2}/tree/main/embeddings"
        front.answers = {tree: [{"type": "file", "path": "embeddings/a.parquet", "oid": "1", "size": 9}]}
        found = open_folder(f"{HUB}/Core-S2L1C-SSL4EO/embeddings")
        assert [listed.name for listed in found.files] == ["embeddings/a.parquet"] and found.files[0].tag == "1|9"
        assert found.source == f"{HUB}/Core-S2L1C-SSL4EO/embeddings"
        front.answers = {tree: {"error": "no"}}
        with pytest.raises(ProviderError, match=r"the list of files of .* is none; check HF_ENDPOINT"):
            open_folder(f"{HUB}/Core-S2L1C-SSL4EO/embeddings")
        front.answers = {tree: [{"type": "file", "path": "README.md"}]}
        with pytest.raises(ProviderError, match=r"on Hugging Face has no \.parquet"):
            open_folder(f"{HUB}/Core-S2L1C-SSL4EO/embeddings")
        front.answers, front.status = {}, 404
        with pytest.raises(ProviderError, match=r"was not found \(404\)"):
            open_folder(f"{HUB}/Core-S2L1C-SSL4EO/embeddings")


class _Pages(Front):
    """Lists two files on two pages, as the hub does with long lists."""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        number = 2 if "cursor=two" in path else 1
        entry = {"type": "file", "path": f"embeddings/part_{number}.parquet", "oid": str(number), "size": 9}
        tail = {"Link": f'<{self.url}{path}&cursor=two>; rel="next"'} if number == 1 else {}
        return 200, json.dumps([entry]).encode(), tail


def test_long_lists_of_the_hub_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with _Pages() as front:
        monkeypatch.setenv("HF_ENDPOINT", front.url)
        found = open_folder(f"{HUB}/Core-S2L1C-SSL4EO/resolve/abc/embeddings")
    assert [listed.name for listed in found.files] == ["embeddings/part_1.parquet", "embeddings/part_2.parquet"]


def test_a_folder_behind_a_url_is_listed_by_its_links(tmp_path: Path) -> None:
    painted = paint_clay(tmp_path / "clay" / "32UPU_20220610_20220610_v001.gpq", fragments(LON, LAT, 2), "2022-06-10")
    page = tmp_path / "clay" / "index.html"
    page.write_text('<a href="../">..</a><A HREF="32UPU_20220610_20220610_v001.gpq">t</A><a href="x.txt">x</a>')

    def resolve(path: str) -> Path:
        return tmp_path / path / "index.html" if path.endswith("/") else tmp_path / path

    with RangeServer(tmp_path, resolve=resolve) as server:
        chips = read_chips(server.url("clay"), spatial=PointBuffer(LON, LAT, 300))
        assert np.array_equal(chips.vectors, painted.vectors[:1]) and chips.facts["source"] == server.url("clay")
        with pytest.raises(ProviderError, match=r"gives no list of \.parquet .* name a file in it"):
            read_chips(server.url("nothing"), spatial=PLACE)


# Anybody's files -------------------------------------------------------------------------------------------------


def test_clay(tmp_path: Path) -> None:
    shapes = fragments(LON, LAT, 3, step=2240)
    files = {day: tmp_path / f"32UPU_{day.replace('-', '')}_v001.gpq" for day in ("2022-06-10", "2022-07-20")}
    painted = {day: paint_clay(file, shapes, day, seed=i, group=3) for i, (day, file) in enumerate(files.items())}
    place = PointBuffer(LON, LAT, 1500)
    chips = read_chips(tmp_path, spatial=place)
    assert len(chips) == 8 and chips.dim == 768
    assert {str(day) for day in chips.dates.astype("datetime64[D]")} == {"2022-06-10", "2022-07-20"}
    assert set(chips.table) == {"index", "source_url", "overlap_m2"} and chips.ids[0] == "32UPU_20220610_v001:0"
    assert close(chips.newest().pool(place).data, mean_of(painted["2022-07-20"], outline(place)))
    june = read_chips(tmp_path, spatial=place, temporal=TemporalSpec.parse("2022-06"), columns=[])
    assert len(june) == 4 and set(june.table) == {"overlap_m2"}
    assert np.array_equal(june.vectors, painted["2022-06-10"].vectors[[0, 1, 3, 4]])
    one = files["2022-06-10"]
    with RangeServer(tmp_path) as server:
        for address in (str(one), server.url(one.name)):
            found = get_embedding(address, spatial=place)
            assert close(found.data, mean_of(painted["2022-06-10"], outline(place)))
            assert found.meta["model"] == one.stem and found.meta["space"] == f"{one.stem}/default/mean"
            assert describe_model(address)["dims"] == {"pooled": 768}
            assert str(tmp_path) not in json.dumps(found.meta)


def test_earth_index_holds_points(tmp_path: Path) -> None:
    points = [shapely.Point(LON + 0.004 * i, LAT) for i in range(20)]
    painted = paint_earth_index(tmp_path / "21MNT.parquet", points, group=5)
    file = str(tmp_path / "21MNT.parquet")
    place = BBox(LON - 0.001, LAT - 0.001, LON + 0.0105, LAT + 0.001)
    found = get_embedding(file, spatial=place)
    assert close(found.data, painted.vectors[:3].mean(0)) and found.meta["weights"] == "equal"
    save([found], tmp_path / "again.parquet")
    assert np.array_equal(load(tmp_path / "again.parquet")[0].data, found.data)
    chips = read_chips(file, spatial=place)
    assert chips.ids == ["21MNT_0000", "21MNT_0001", "21MNT_0002"] and chips.facts["model"] == "dinov2_vits14_softcon"
    assert chips.facts["license"] == "CC-BY-4.0" and str(chips.dates[0]) == "2023-01-01T00:00:00"
    assert len(read_chips(file, spatial=place, temporal=TemporalSpec.year(2023))) == 3
    near = read_chips(file, spatial=PointBuffer(LON + 0.0201, LAT, 1), nearest=3)
    assert near.ids == ["21MNT_0005", "21MNT_0006", "21MNT_0004"]
    wanted = GEOD.inv(LON + 0.0201, LAT, LON + 0.02, LAT)[2]
    assert near.table["distance_m"][0] == pytest.approx(wanted, abs=0.01)
    with pytest.raises(NoImageryError, match=r"21MNT\.parquet has no chip of 2024.*there are some of 2023-01-01"):
        read_chips(file, spatial=place, temporal=TemporalSpec.year(2024))
    with pytest.raises(NoImageryError, match=r"the nearest is 7\.\d km .* 21MNT_0000 of 2023-01-01 \(read_chips"):
        get_embedding(file, spatial=PointBuffer(LON - 0.1, LAT, 100))


def test_centres_without_footprints_are_points(tmp_path: Path) -> None:
    lon, lat = LON + 0.01 * np.arange(4), np.full(4, LAT)
    columns = {
        "centre_lon": lon,
        "centre_lat": lat,
        "timestamp": pa.array(["2020-01-01", None, "2021", "2022-06"]),
        "embedding": pa.array([[1, 2], [3, 4], [5, 6], [7, 8]], pa.list_(pa.int8(), 2)),
    }
    write(tmp_path / "satclip.parquet", columns)
    chips = read_chips(tmp_path / "satclip.parquet")
    assert chips.vectors.dtype == np.float32 and chips.vectors.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    dates = np.array(["2020-01-01", "NaT", "2021-01-01", "2022-06-01"], "datetime64[s]")
    assert np.array_equal(chips.dates, dates, equal_nan=True) and chips.ids[3] == "satclip:3"
    later = read_chips(tmp_path / "satclip.parquet", temporal=TemporalSpec.range("2021-01-01", "2023-01-01"))
    assert later.vectors.tolist() == [[5, 6], [7, 8]]
    with pytest.raises(NoImageryError, match=r"no chip of 2022.*those there have no date"):
        read_chips(
            tmp_path / "satclip.parquet", spatial=PointBuffer(LON + 0.01, LAT, 9), temporal=TemporalSpec.year(2022)
        )


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("fixed", [True, False])
def test_numbers_of_every_kind(kind: Any, fixed: bool, tmp_path: Path) -> None:
    numbers = np.array([[0.5, 1.5, -2.0], [3.0, 0.25, 1.0]], np.float16)
    flat = pa.array(numbers.ravel().astype(kind.to_pandas_dtype()))
    column = pa.FixedSizeListArray.from_arrays(flat, 3) if fixed else pa.ListArray.from_arrays([0, 3, 6], flat)
    write(tmp_path / "t.parquet", {"embedding": column, "lon": [LON, LON], "lat": [LAT, LAT + 1]})
    assert np.array_equal(read_chips(tmp_path / "t.parquet").vectors, numbers.astype(np.float32))
    assert describe_model(str(tmp_path / "t.parquet"))["dims"]["pooled"] == 3


def test_what_we_saved_is_a_product(tmp_path: Path) -> None:
    places = [PointBuffer(11.45 + 0.01 * i, 47.43, 300) for i in range(3)]
    time = TemporalSpec.parse("2022-07")
    made = get_embeddings_batch("imagestats", spatials=places, temporal=time, backend="synthetic")
    save(made, tmp_path / "mine.parquet")
    found = get_embedding(str(tmp_path / "mine.parquet"), spatial=places[1])
    assert close(found.data, made[1].data) and found.meta["region_exact"]
    assert found.meta["space"] == made[1].meta["space"] and found.meta["attribution"]
    chips = read_chips(tmp_path / "mine.parquet")
    assert (
        np.array_equal(chips.vectors, np.stack([each.data for each in made])) and chips.facts["model"] == "imagestats"
    )
    assert chips.ids == ["mine:0", "mine:1", "mine:2"]
    assert str(chips.dates[0]) == "2022-07-01T00:00:00" and set(chips.table) == {"end_datetime"}
    assert np.array_equal(load(tmp_path / "mine.parquet")[0].data, made[0].data)
    save([found], tmp_path / "again.parquet")
    assert np.array_equal(load(tmp_path / "again.parquet")[0].data, found.data)


def test_a_folder_is_registered_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    shapes = fragments(LON, LAT, 3)
    for i in range(2):
        paint_clay(tmp_path / f"32UPU_2022061{i}_2022061{i}_v001.gpq", shapes[i::2], f"2022-06-1{i}", seed=i)
    register(chip_product("clay_v0", str(tmp_path), citation="@misc{clay}", attribution="Clay", space="clay/v0"))
    place = PointBuffer(LON, LAT, 1500)
    found = get_embedding("clay_v0", spatial=place)
    assert found.meta["citation"][0] == "@misc{clay}" and found.meta["attribution"] == ["Clay"]
    assert found.meta["space"] == "clay/v0/mean" and found.meta["chip_count"] == 4
    parts = [read_chips(tmp_path, spatial=place)]
    assert np.allclose(found.data, parts[0].pool(place).data, atol=1e-6)
    assert "clay_v0" in list_models() and describe_model("clay_v0")["dims"] == {"pooled": 768}
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProviderError, match="the folder 'empty' holds no"):
        chip_product("nothing", str(tmp_path / "empty"))


def test_a_covering_of_boxes_is_used(tmp_path: Path) -> None:
    shapes = fragments(LON, LAT, 6)
    boxes = [dict(zip(("xmin", "ymin", "xmax", "ymax"), shape.bounds, strict=True)) for shape in shapes]
    numbers = vectors(0, 36, 2048)
    columns = {"geometry": wkb(shapes), "bbox": boxes, "embedding": pa.array(list(numbers), pa.list_(pa.float32()))}
    write(tmp_path / "covered.parquet", columns, group=6, footer={"geo": geo_footer(covering=True)})
    place = PointBuffer(LON, LAT, 300)
    with RangeServer(tmp_path) as server:
        chips = read_chips(server.url("covered.parquet"), spatial=place)
        assert np.array_equal(chips.vectors, numbers[:1])
        table = ChipFile(open_folder(str(tmp_path / "covered.parquet")).files[0].open(), _named()).table
        others = sum(table.size(group, ["embedding"]) for group in range(1, 6))
        assert server.sent < (tmp_path / "covered.parquet").stat().st_size - 0.7 * others


def test_a_covering_across_the_antimeridian(tmp_path: Path) -> None:
    shapes = [
        shapely.box(170, 0, 171, 1),
        shapely.MultiPolygon([shapely.box(179.9, 0, 180, 1), shapely.box(-180, 0, -179.9, 1)]),
    ]
    boxes = [
        {"xmin": 170.0, "ymin": 0.0, "xmax": 171.0, "ymax": 1.0},
        {"xmin": 179.9, "ymin": 0.0, "xmax": -179.9, "ymax": 1.0},
    ]
    columns = {"geometry": wkb(shapes), "bbox": boxes, "embedding": [[1.0, 2.0], [3.0, 4.0]]}
    write(tmp_path / "torn.parquet", columns, footer={"geo": geo_footer(covering=True)})
    for lon in (179.95, -179.95):
        found = read_chips(tmp_path / "torn.parquet", spatial=PointBuffer(lon, 0.5, 100))
        assert found.vectors.tolist() == [[3.0, 4.0]]
    assert read_chips(tmp_path / "torn.parquet", spatial=PointBuffer(170.5, 0.5, 100)).vectors.tolist() == [[1.0, 2.0]]


def test_geometries_in_another_crs_and_as_text(tmp_path: Path) -> None:
    there = Transformer.from_crs(4326, 32632, always_xy=True).transform
    shapes = fragments(LON, LAT, 2)
    flat = [shapely.transform(shape, lambda p: np.column_stack(there(*p.T))) for shape in shapes]
    numbers = [[float(i)] * 3 for i in range(4)]
    crs = CRS("EPSG:32632").to_json_dict()
    write(tmp_path / "utm.parquet", {"geometry": wkb(flat), "embedding": numbers}, footer={"geo": geo_footer(crs=crs)})
    write(tmp_path / "text.parquet", {"geometry": [shapely.to_wkt(s, 12) for s in shapes], "embedding": numbers})
    place = PointBuffer(LON, LAT, 1500)
    one, two = (read_chips(tmp_path / f"{name}.parquet", spatial=place) for name in ("utm", "text"))
    assert len(one) == len(two) == 4 and np.allclose(one.table["overlap_m2"], two.table["overlap_m2"], rtol=1e-6)
    write(tmp_path / "bare.parquet", {"geometry": wkb(flat), "embedding": numbers})
    with pytest.raises(ProviderError, match="no longitudes and latitudes, and its footer names no CRS"):
        read_chips(tmp_path / "bare.parquet", spatial=place)


def test_rows_without_a_place_or_a_vector_are_left_out(tmp_path: Path) -> None:
    shapes = [*fragments(LON, LAT, 2)[:3], None]
    numbers = [[1.0, 2.0], None, [float("nan"), 1.0], [5.0, 6.0]]
    columns = {"geometry": wkb(shapes), "embedding": pa.array(numbers, pa.list_(pa.float32()))}
    write(tmp_path / "gaps.parquet", columns, footer={"geo": geo_footer()})
    file = str(tmp_path / "gaps.parquet")
    place = PointBuffer(LON, LAT, 1500)
    found = get_embedding(file, spatial=place)
    assert found.data.tolist() == [1.0, 2.0] and found.meta["chip_count"] == 1
    assert found.meta["warnings"][-1] == "2 chips without numbers (NaN) were left out"
    assert len(read_chips(file)) == 4 and len(read_chips(file, spatial=place)) == 3
    assert read_chips(file, spatial=place, nearest=9).ids == ["gaps:0", "gaps:2", "gaps:1"]
    south = fragments(LON, LAT, 2)[2].centroid
    with pytest.raises(NoImageryError, match=r"the 1 chips of .* hold no numbers"):
        get_embedding(file, spatial=PointBuffer(south.x, south.y, 10))


# Bad input -------------------------------------------------------------------------------------------------------


def test_a_table_without_vectors_places_or_rows(tmp_path: Path) -> None:
    shapes = wkb(fragments(LON, LAT, 1))
    write(tmp_path / "a.parquet", {"geometry": shapes, "features": [[1.0, 2.0]]})
    with pytest.raises(
        ProviderError, match=r"a\.parquet has no column 'embedding' or 'embeddings', but geometry, features"
    ):
        get_embedding(str(tmp_path / "a.parquet"), spatial=PLACE)
    assert read_chips(tmp_path / "a.parquet", vector="features").vectors.tolist() == [[1.0, 2.0]]
    with pytest.raises(ProviderError, match=r"no column vector='feature', but geometry, features"):
        read_chips(tmp_path / "a.parquet", vector="feature")
    write(tmp_path / "b.parquet", {"embedding": [[1.0]], "name": ["x"]})
    with pytest.raises(
        ProviderError, match=r"neither a column of geometries nor centre_lon and centre_lat, but embedding, name"
    ):
        read_chips(tmp_path / "b.parquet")
    write(tmp_path / "c.parquet", {"embedding": ["1, 2"], "geometry": shapes})
    with pytest.raises(ProviderError, match="of type string, and vectors are lists of numbers"):
        read_chips(tmp_path / "c.parquet")
    write(tmp_path / "d.parquet", {"embedding": [["a"]], "geometry": shapes})
    with pytest.raises(ProviderError, match="lists of string, not of numbers"):
        read_chips(tmp_path / "d.parquet")
    columns = {"embedding": pa.array([], pa.list_(pa.float32(), 384)), "geometry": pa.array([], pa.binary())}
    write(tmp_path / "21MNT.parquet", columns)
    for act in (
        lambda: read_chips(tmp_path / "21MNT.parquet"),
        lambda: get_embedding(str(tmp_path / "21MNT.parquet"), spatial=PLACE),
    ):
        with pytest.raises(NoImageryError, match=r"21MNT\.parquet holds no chips: its tables have no row"):
            act()


def test_vectors_of_several_lengths(tmp_path: Path) -> None:
    shapes = wkb(fragments(LON, LAT, 2))
    columns = {"geometry": shapes, "embedding": [[1.0, 2.0], [1.0], [1.0, 2.0], [3.0, 4.0]]}
    write(tmp_path / "one.parquet", columns)
    with pytest.raises(ProviderError, match="not of one length but of 1, 2"):
        read_chips(tmp_path / "one.parquet")
    write(tmp_path / "two" / "a.parquet", {"geometry": shapes, "embedding": [[1.0, 2.0]] * 4})
    write(tmp_path / "two" / "b.parquet", {"geometry": shapes, "embedding": [[1.0, 2.0, 3.0]] * 4})
    with pytest.raises(ProviderError, match="of 2 and of 3 numbers: its files are of several models"):
        read_chips(tmp_path / "two")


def test_values_that_are_no_dates_or_geometries(tmp_path: Path) -> None:
    shapes = wkb(fragments(LON, LAT, 1))
    write(tmp_path / "a.parquet", {"geometry": shapes, "embedding": [[1.0]], "date": ["yesterday"], "taken": [2021]})
    with pytest.raises(ProviderError, match=r"'yesterday' is no date; name the column of dates \(date=\.\.\.\)"):
        read_chips(tmp_path / "a.parquet")
    found = read_chips(tmp_path / "a.parquet", date="taken", id="date")
    assert str(found.dates[0]) == "2021-01-01T00:00:00" and found.ids == ["yesterday"]
    write(tmp_path / "b.parquet", {"geometry": pa.array([b"nonsense"]), "embedding": [[1.0]]})
    with pytest.raises(ProviderError, match="neither WKB nor WKT"):
        read_chips(tmp_path / "b.parquet", spatial=PLACE)
    write(
        tmp_path / "c.parquet",
        {"geometry": shapes, "embedding": [[1.0]]},
        footer={"geo": geo_footer(encoding="polygon")},
    )
    with pytest.raises(ProviderError, match="encoded as 'polygon', which is not read; write them as WKB"):
        read_chips(tmp_path / "c.parquet")


def test_files_that_are_half_copied_or_something_else(tmp_path: Path) -> None:
    file = tmp_path / "part.parquet"
    paint_majortom(file, fragments(LON, LAT, 5))
    whole = file.read_bytes()
    call: dict[str, Any] = {"spatial": PLACE, "backend": str(file)}
    file.write_bytes(whole[:-5000])
    with pytest.raises(ProviderError, match=r"part\.parquet: it is no Parquet, or cut off .*copy it again"):
        get_embedding("majortom", **call)
    file.write_bytes(PAGE)
    with pytest.raises(ProviderError, match=r"part\.parquet: it is no Parquet"):
        get_embedding("majortom", **call)
    file.write_bytes(b"")
    with pytest.raises(ProviderError, match=r"part\.parquet is empty \(0 bytes\)"):
        get_embedding("majortom", **call)
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    file.write_bytes(whole[:1000] + whole[-footer:])  # as an interrupted transfer that went on from its end
    with pytest.raises(ProviderError, match=r"part\.parquet ends at byte \d+, before a column that its footer"):
        get_embedding("majortom", **call)
    with pytest.raises(ProviderError, match=r"gone\.parquet does not exist"):
        get_embedding(str(tmp_path / "gone.parquet"), spatial=PLACE)


def test_signed_urls_are_files_too(tmp_path: Path) -> None:
    painted = paint_majortom(tmp_path / "part.parquet", fragments(LON, LAT, 4))
    with RangeServer(tmp_path, signature="secret") as server:
        found = get_embedding(server.url("part.parquet", sig="secret"), spatial=PLACE)
        assert close(found.data, mean_of(painted, outline(PLACE))) and "secret" not in json.dumps(found.meta)
        with pytest.raises(ProviderError, match="access is refused") as caught:
            get_embedding(server.url("part.parquet", sig="secrets"), spatial=PLACE)
        assert "secret" not in str(caught.value)


def test_pictures_are_no_plain_columns(tmp_path: Path) -> None:
    columns = {
        "geometry": wkb(fragments(LON, LAT, 1)),
        "embedding": [[1.0, 2.0]],
        "thumbnail": pa.array([b"png"], pa.large_binary()),
        "hash": pa.array([b"12"], pa.binary(2)),
        "cloud": [3],
    }
    write(tmp_path / "t.parquet", columns)
    assert read_chips(tmp_path / "t.parquet").table == {"cloud": [3]}
    assert read_chips(tmp_path / "t.parquet", columns=["thumbnail"]).table == {"thumbnail": [b"png"]}


def test_servers_that_fail(tmp_path: Path) -> None:
    file = tmp_path / "part.parquet"
    painted = paint_majortom(file, fragments(LON, LAT, 8), group=8)
    with RangeServer(tmp_path) as server:
        with pytest.raises(ProviderError, match=r"gone\.parquet does not exist \(HTTP 404\)"):
            get_embedding(server.url("gone.parquet"), spatial=PLACE)
        server.break_("html")
        with pytest.raises(ProviderError, match="a web page came in place of the file"):
            get_embedding(server.url("part.parquet"), spatial=PLACE)
        server.mend()
        server.break_("status", status=403, from_byte=100_000)
        with pytest.raises(ProviderError, match="access is refused"):
            read_chips(server.url("part.parquet"), spatial=PLACE)
        server.mend()
        server.break_("cut", times=2)
        found = get_embedding(server.url("part.parquet"), spatial=PLACE)
        assert close(found.data, mean_of(painted, outline(PLACE)))


def test_calls_of_read_chips_that_cannot_be_meant(copy: tuple[Path, Painted]) -> None:
    root, _ = copy
    with pytest.raises(SpecError, match="nearest=2 needs spatial"):
        read_chips(root, nearest=2)
    with pytest.raises(SpecError, match="nearest=0 must be a whole number above 0"):
        read_chips(root, spatial=PLACE, nearest=0)
    with pytest.raises(SpecError, match=r"columns='grid_cell' must be a list of names"):
        read_chips(root, columns="grid_cell")
    with pytest.raises(SpecError, match="temporal='2021' must be a TemporalSpec"):
        read_chips(root, temporal="2021")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="variant and backend belong to a model's name"):
        read_chips(root, variant="dinov2-s2rgb")
    with pytest.raises(SpecError, match="name columns of files of your own"):
        read_chips("majortom", vector="x", backend=str(root))
    with pytest.raises(ModelError, match="copernicus is no product of chips"):
        read_chips("copernicus")
    with pytest.raises(ModelError, match="Unknown model 'majrtom'; did you mean 'majortom'"):
        read_chips("majrtom")
    with pytest.raises(ProviderError, match=r"no column 'cell', but unique_id, embedding"):
        read_chips(root, columns=["cell"])
    assert set(read_chips(root, columns=["grid_cell"]).table) == {"grid_cell"}


def test_all_of_a_large_store_is_not_read(copy: tuple[Path, Painted], monkeypatch: pytest.MonkeyPatch) -> None:
    from rs_embed.inference import chip_sets

    monkeypatch.setattr(chip_sets, "_MOST", 1000)
    with pytest.raises(SpecError, match=r"majortom holds 25 chips, 0 GB of vectors: say which with spatial"):
        read_chips("majortom", backend=str(copy[0]))
    assert len(read_chips("majortom", backend=str(copy[0]), spatial=PLACE)) > 0


def test_large_row_groups_are_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rs_embed.providers.products import parquet

    file = tmp_path / "part.parquet"
    painted = paint_majortom(file, fragments(LON, LAT, 12), group=144)
    wanted = mean_of(painted, outline(PLACE))
    monkeypatch.setattr(parquet, "_SMALL", 2**16)
    monkeypatch.setattr(parquet, "_BUFFER", 2**17)
    monkeypatch.setattr(parquet, "_DECODED", 2**18)
    with RangeServer(tmp_path) as server:
        found = get_embedding(server.url("part.parquet"), spatial=PLACE)
        assert close(found.data, wanted)
        whole = ChipFile(open_folder(str(file)).files[0].open(), _named()).table.size(0, ["embedding"])
        largest = max(request.sent for request in server.requests)  # the dictionary of the numbers
        assert largest < 0.8 * whole and len(server.requests) > 5


def test_what_a_call_would_read_is_estimated(hub: Hub) -> None:
    places = [PLACE, PointBuffer(0, 0, 100), PointBuffer(LON, LAT, 100)]
    found = estimate("majortom", spatials=places)
    groups = {hub.near.groups[i] for i, s in enumerate(hub.near.shapes) for p in places if s.intersects(outline(p))}
    table = ChipFile(open_folder(str(hub.files["near"])).files[0].open(), _named()).table
    assert found.read_bytes == sum(table.size(group, ["embedding"]) for group in groups)
    assert found.regions == 3 and [each.index for each in found.no_imagery] == [1] and not found.failed
    assert found.output_shape == (2048,) and found.output_bytes == 2 * 2048 * 4 and found.weights_bytes == 0
    sent = hub.server.sent
    hub.server.reset()
    get_embeddings_batch("majortom", spatials=[PLACE, places[2]])
    assert found.read_bytes <= hub.server.sent < found.read_bytes + 30_000 and sent < 300_000
    assert json.loads(json.dumps(found.to_dict()))["seconds"]["encode"] == 0


def test_very_large_row_groups_behind_a_url_are_told_of(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from rs_embed.providers.products import chip_archive

    monkeypatch.setattr(chip_archive, "_MUCH", 10_000)
    with pytest.warns(UserWarning, match=r"fetching 0\.\d GB of .* its row groups are large, and are read whole"):
        get_embedding("majortom", spatial=PLACE)
    get_embedding(str(hub.files["near"]), spatial=PLACE)  # one that lies here fetches nothing


# The catalogue and the command line ------------------------------------------------------------------------------


def test_it_stands_in_the_catalogue() -> None:
    facts = describe_model("major_tom")
    assert facts["model"] == "majortom" and "majortom" in list_models() and facts["type"] == "precomputed"
    assert facts["output"] == ["pooled"] and facts["temporal"] == "acquisitions"
    assert facts["license"] == {"code": "Apache-2.0", "weights": "CC-BY-SA-4.0 (the embeddings)"}
    dims = {name: variant["dims"]["pooled"] for name, variant in facts["variants"].items()}
    assert dims == {"ssl4eo-s2l1c": 2048, "ssl4eo-s1rtc": 2048, "dinov2-s2rgb": 768, "siglip-s2rgb": 1152}


def test_nothing_heavy_is_loaded_to_describe_it() -> None:
    code = """
        import sys
        import rs_embed
        assert rs_embed.ChipSet and rs_embed.describe_model("majortom")
        print(sorted({"pyarrow", "shapely", "pyproj", "odc"} & set(sys.modules)))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_extra_is_named_where_it_is_missing(copy: tuple[Path, Painted], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for act in (
        lambda: get_embedding("majortom", spatial=PLACE, backend=str(copy[0])),
        lambda: read_chips("majortom", spatial=PLACE, backend=str(copy[0])),
        lambda: get_embedding(str(next(copy[0].rglob("*.parquet"))), spatial=PLACE),
    ):
        with pytest.raises(MissingExtraError, match=r'pip install "rs-embed\[parquet\]"'):
            act()


def test_the_command_line(copy: tuple[Path, Painted], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, painted = copy
    command = Caller(capsys)
    place = ("--point", str(PLACE.lon), str(PLACE.lat), "--buffer", "1500", "--backend", str(root))
    said = command("embed", "majortom", *place)
    assert said.code == 0, said.err
    assert close(json.loads(said.out)["embedding"], mean_of(painted, outline(PLACE)))
    said = command("embed", "majortom", *place, "-o", str(tmp_path / "out.parquet"))
    assert said.code == 0 and load(tmp_path / "out.parquet")[0].meta["model"] == "majortom"
    said = command("embed", "majortom", *place, "--grid")
    assert said.code == 1 and "there is no grid" in said.err
    assert "majortom" in command("models").out and "CC-BY-SA-4.0" in command("describe", "majortom").out


def test_no_warning_escapes(copy: tuple[Path, Painted]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_embedding("majortom", spatial=PLACE, backend=str(copy[0]))._repr_html_()
