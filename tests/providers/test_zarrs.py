"""Zarr stores of embeddings, painted to the real layouts, here and over loopback, against numbers and other roads."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from product_stores import codes, index_aef, paint_aef, paint_tessera, values, write_tessera
from pyproj import Transformer
from range_server import RangeServer
from zarr_stores import (
    AEF,
    Zone,
    consolidate,
    empty_zone,
    full_zone,
    lay,
    paint_mosaic,
    paint_zones,
    place,
    write_lines,
)

from rs_embed import (
    BBox,
    FetchSpec,
    MissingExtraError,
    ModelError,
    NoImageryError,
    OutputSpec,
    PointBuffer,
    ProviderError,
    TemporalSpec,
    describe_model,
    get_embedding,
    get_embeddings_batch,
    save,
)
from rs_embed.providers.products.files import Store
from rs_embed.providers.products.memory import MEMORY
from rs_embed.providers.products.zarr_nodes import Hierarchy
from rs_embed.providers.products.zarrs import ZarrArray

GRID = OutputSpec.grid()
Y2024 = TemporalSpec.year(2024)
UTM = "EPSG:32632"
LEFT, TOP = 686080.0, 5335040.0


@pytest.fixture(autouse=True)
def nothing_in_memory() -> None:
    MEMORY.clear()


def box(left: float, top: float, height: int, width: int, pixel: float = 10.0, crs: str = UTM) -> BBox:
    """The region of whole pixels."""
    return BBox(left, top - height * pixel, left + width * pixel, top, crs=crs)


def close(a: Any, b: Any, tolerance: float = 1e-6) -> bool:
    return bool(np.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True))


# TESSERA ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Zone]:
    """A store of zone 32 with two years; of the first only the upper half, and water and holes in the second."""
    root = tmp_path_factory.mktemp("stores") / "v1.1-dclimate"
    painted = full_zone(32, LEFT, TOP, (160, 192), seed=1)
    painted.scales[0, 80:] = np.inf
    painted.code[0, :, 80:] = 0
    painted.scales[1, 20, 20] = np.nan
    painted.scales[1, 20, 21] = np.inf
    painted.scales[1, 20, 22] = 1e6
    painted.scales[1, 20, 23] = 0
    paint_zones(root, [painted], model="1.1")
    return root, painted


@pytest.fixture(scope="module")
def served(zone: tuple[Path, Zone]) -> Iterator[RangeServer]:
    with RangeServer(zone[0].parent) as server:
        yield server


@pytest.fixture
def store(served: RangeServer) -> Iterator[str]:
    served.reset()
    yield served.url("v1.1-dclimate")
    served.mend()


def dclimate(spatial: Any, backend: str, **more: Any) -> Any:
    more = {"temporal": Y2024, "output": GRID, "variant": "v1.1-dclimate"} | more
    return get_embedding("tessera", spatial=spatial, backend=backend, **more)


def test_a_zone_is_what_its_arrays_say(zone: tuple[Path, Zone], store: str) -> None:
    root, painted = zone
    wanted = painted.values(2024)[:, 10:45, 5:70]
    assert int(np.isnan(wanted[0]).sum()) == 4
    for backend in (str(root), store):
        found = dclimate(box(LEFT + 50, TOP - 100, 35, 65), backend)
        assert close(found.values(), wanted)
        assert found.meta["geobox"] == {
            "crs": UTM,
            "transform": [10, 0, LEFT + 50, 0, -10, TOP - 100],
            "shape": [35, 65],
        }
        assert found.meta["product"]["version"] == "v1.1-dclimate" and found.meta["warnings"] == []
        assert found.meta["space"].startswith("tessera/v1.1-dclimate/")
        (scene,) = found.meta["scenes"]["product"]
        assert scene["id"] == "zarr/v1.1-dclimate/2024/utm32"
        assert json.loads(json.dumps(found.meta, allow_nan=False)) == found.meta
        pooled = dclimate(box(LEFT + 50, TOP - 100, 35, 65), backend, output=OutputSpec.pooled())
        assert close(pooled.data, np.nanmean(wanted.reshape(128, -1), axis=1))


def test_only_chunks_that_are_needed_and_indexes_are_read(
    zone: tuple[Path, Zone], served: RangeServer, store: str
) -> None:
    root = zone[0]
    shards = [f"{name}/c/{index}/0/1" for name, index in (("embeddings", "1/0"), ("scales", "1"))]
    dclimate(box(LEFT + 650, TOP - 170, 14, 30), store)  # two chunks of one shard
    read = [r for r in served.requests if r.path.rpartition("utm32/")[2] in shards]
    bytes_of = np.frombuffer((root / "utm32" / shards[0]).read_bytes()[-260:-4], "<u8").reshape(4, 4, 2)
    needed = int(bytes_of[1, :2, 1].sum()) + 2 * 260 + 2 * 16 * 16 * 4
    sent = sum(r.sent for r in read)
    assert needed <= sent <= 1.5 * needed
    assert sent < 0.25 * sum((root / "utm32" / shard).stat().st_size for shard in shards)
    assert {r.path.rpartition("utm32/")[2] for r in served.requests if "/c/" in r.path} >= set(shards)
    assert not [r for r in served.requests if "/x/c" in r.path or "/y/c" in r.path], "coordinates are not needed"


def test_points_read_each_inner_chunk_once(zone: tuple[Path, Zone], served: RangeServer, store: str) -> None:
    painted = zone[1]
    rng = np.random.default_rng(0)
    at = rng.integers(0, [157, 189], (200, 2)).tolist()
    places = [box(LEFT + 10 * col, TOP - 10 * row, 3, 3) for row, col in at]
    found = get_embeddings_batch("tessera", spatials=places, temporal=Y2024, backend=store, variant="v1.1-dclimate")
    wanted = painted.values(2024)
    for (row, col), one in list(zip(at, found, strict=True))[::7]:
        assert close(one.data, np.nanmean(wanted[:, row : row + 3, col : col + 3].reshape(128, -1), axis=1))
    chunks = [r for r in served.requests if "embeddings/c/" in r.path]
    pieces = [(r.path, piece) for r in chunks for piece in range((r.start or 0) // 64, (r.end or 0) // 64)]
    assert len(pieces) == len(set(pieces)), "nothing is fetched twice"
    assert served.most_flying <= 48
    stored = sum(f.stat().st_size for f in (zone[0] / "utm32").rglob("c/1/**/*") if f.is_file())
    assert sum(r.sent for r in served.requests if "/c/1/" in r.path) < 1.1 * stored


@pytest.mark.parametrize("where", ["folder", "http"])
def test_pixels_are_equal_by_both_roads(tmp_path: Path, where: str) -> None:
    tile = paint_tessera(tmp_path, 11.55, 48.15, pixel=200.0, seed=3)
    tile.land[7, 8:11] = 0
    tile.scales[9, 9] = np.nan
    write_tessera(tmp_path, tile)
    painted = empty_zone(32, tile.affine.c - 1000, tile.affine.f + 600, (80, 64), pixel=200.0)
    lay(painted, tile, 2024)
    paint_zones(tmp_path / "zarr" / "v1", [painted])
    region = box(tile.affine.c + 600, tile.affine.f - 800, 12, 17, pixel=200.0)
    call: dict[str, Any] = {"spatial": region, "temporal": Y2024, "output": GRID}
    with RangeServer(tmp_path) as server:
        root = str(tmp_path) if where == "folder" else server.root
        tiles = get_embedding("tessera", backend=root, **call)
        zarrs = get_embedding("tessera", backend=f"{root}/zarr/v1", **call)
    assert (
        np.array_equal(tiles.values(), zarrs.values(), equal_nan=True) and int(np.isnan(tiles.values()[0]).sum()) == 4
    )
    assert tiles.meta["geobox"] == zarrs.meta["geobox"] and tiles.meta["space"] == zarrs.meta["space"]
    ids = [found.meta["scenes"]["product"][0]["id"] for found in (tiles, zarrs)]
    assert ids == [f"v1/2024/{tile.name}", "zarr/v1/2024/utm32"]


def test_a_copy_that_has_only_zarr_is_read_by_zarr(tmp_path: Path) -> None:
    painted = full_zone(32, LEFT, TOP, (32, 32))
    for version, model in (("v1", "1.0"), ("v1.1-dclimate", "1.1")):
        paint_zones(tmp_path / "zarr" / version, [painted], model=model, consolidated=version == "v1")
    region = box(LEFT + 30, TOP - 30, 4, 4)
    for version in ("v1", "v1.1-dclimate"):
        found = dclimate(region, str(tmp_path), variant=version)
        assert close(found.values(), painted.values(2024)[:, 3:7, 3:7])
        assert found.meta["scenes"]["product"][0]["id"] == f"zarr/{version}/2024/utm32"
    with RangeServer(tmp_path) as server:
        for backend in (server.root, server.url("zarr"), str(tmp_path / "zarr")):
            assert np.array_equal(dclimate(region, backend).values(), found.values())
    with pytest.raises(ProviderError, match=r"no folder zarr/v1\.1, and there are no npy tiles of v1\.1"):
        dclimate(region, str(tmp_path), variant="v1.1")


@pytest.mark.parametrize("lat", [-0.08, -0.004, 0.004, 0.08])
def test_both_sides_of_the_equator(tmp_path: Path, lat: float) -> None:
    north = paint_tessera(tmp_path, 10.05, 0.05, pixel=100.0, seed=1)
    south = paint_tessera(tmp_path, 10.05, -0.05, pixel=100.0, seed=2)
    assert (north.epsg, south.epsg) == (32632, 32732)
    painted = empty_zone(32, north.affine.c - 500, north.affine.f + 500, (240, 128), pixel=100.0)
    for tile in (south, north):
        lay(painted, tile, 2024)
    paint_zones(tmp_path / "zarr" / "v1", [painted])
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True).transform(10.05, lat)
    left, top = round(x / 100) * 100 - 700, round(y / 100) * 100 + 800
    whole = painted.values(2024)
    row, col = round((painted.top - top) / 100), round((left - painted.left) / 100)
    for shift, crs in ((0, "EPSG:32632"), (10_000_000, "EPSG:32732")):
        region = box(left, top + shift, 16, 14, pixel=100.0, crs=crs)
        found = get_embedding(
            "tessera", spatial=region, temporal=Y2024, output=GRID, backend=str(tmp_path / "zarr" / "v1")
        )
        assert found.crs == ("EPSG:32732" if lat < 0 else "EPSG:32632")
        assert found.meta["geobox"]["transform"] == [100, 0, left, 0, -100, top + (10_000_000 if lat < 0 else 0)]
        assert close(found.values(), whole[:, row : row + 16, col : col + 14]) and not np.isnan(found.values()).any()
        assert found.meta["warnings"] == []
        if abs(lat) > 0.01:
            tiles = get_embedding("tessera", spatial=region, temporal=Y2024, output=GRID, backend=str(tmp_path))
            assert np.array_equal(tiles.values(), found.values()) and tiles.meta["geobox"] == found.meta["geobox"]


def test_a_region_over_two_zones(tmp_path: Path) -> None:
    west = paint_tessera(tmp_path, 11.95, 48.15, pixel=100.0, seed=1)
    east = paint_tessera(tmp_path, 12.05, 48.15, pixel=100.0, seed=2)
    zones = []
    for tile in (west, east):
        painted = empty_zone(tile.epsg - 32600, tile.affine.c - 300, tile.affine.f + 300, (128, 96), pixel=100.0)
        lay(painted, tile, 2024)
        zones.append(painted)
    paint_zones(tmp_path / "zarr" / "v1", zones)
    for lon in (11.985, 12.015):
        call: dict[str, Any] = {"spatial": PointBuffer(lon, 48.15, 1500), "temporal": Y2024, "output": GRID}
        tiles = get_embedding("tessera", backend=str(tmp_path), **call)
        zarrs = get_embedding("tessera", backend=str(tmp_path / "zarr" / "v1"), **call)
        assert len(zarrs.meta["scenes"]["product"]) == 2 and zarrs.crs == f"EPSG:{32632 if lon < 12 else 32633}"
        assert np.array_equal(tiles.values(), zarrs.values(), equal_nan=True)
        assert tiles.meta["geobox"] == zarrs.meta["geobox"] and tiles.meta["warnings"] == zarrs.meta["warnings"]


def test_prefixes_of_the_second_model_are_left_alone(tmp_path: Path) -> None:
    painted = full_zone(32, LEFT, TOP, (40, 48))
    root = tmp_path / "v2-2B-L~beta1"
    paint_zones(root, [painted], model="2.0", depths=(4, 16))
    found = dclimate(box(LEFT + 30, TOP - 30, 9, 9), str(root), variant="v2-2B-L~beta1")
    assert close(found.values(), painted.values(2024)[:, 3:12, 3:12])


def test_years_are_those_that_were_written_at_the_place(zone: tuple[Path, Zone], store: str) -> None:
    painted = zone[1]
    upper, lower = box(LEFT + 100, TOP - 100, 4, 4), box(LEFT + 100, TOP - 1000, 4, 4)
    old = dclimate(upper, store, temporal=TemporalSpec.year(2023))
    assert close(old.values(), painted.values(2023)[:, 10:14, 10:14])
    with pytest.raises(NoImageryError, match=r"v1\.1-dclimate has no embedding of 2023 at .*; there are 2024: say"):
        dclimate(lower, store, temporal=TemporalSpec.year(2023))
    with pytest.raises(NoImageryError, match=r"no embedding of 2019 at .*; there are 2023, 2024: say"):
        dclimate(upper, store, temporal=TemporalSpec.year(2019))
    with pytest.raises(NoImageryError, match="of any year: the place is not covered"):
        dclimate(PointBuffer(40, -10, 50), store)
    with pytest.warns(UserWarning, match="newest year that tessera has"):
        newest = dclimate(lower, store, temporal=None)
    assert newest.meta["temporal"]["year"] == 2024
    with pytest.raises(NoImageryError, match="it is sea, or was not produced of 2024 there"):
        dclimate(box(LEFT + 200, TOP - 200, 1, 4), store)


def test_a_store_of_another_version_or_product_is_refused(zone: tuple[Path, Zone], tmp_path: Path) -> None:
    region = box(LEFT + 100, TOP - 100, 4, 4)
    with pytest.raises(ProviderError, match=r"holds TESSERA v1\.1-dclimate, asked for is v1: .*='v1\.1-dclimate'"):
        dclimate(region, str(zone[0]), variant="v1")
    paint_zones(tmp_path / "mine", [full_zone(32, LEFT, TOP, (32, 32))], model="2.0")
    with pytest.raises(ProviderError, match=r"mine holds TESSERA v2-2B-L~beta1 or .*, asked for is v1\.1-dc.*='v2-2B"):
        dclimate(region, str(tmp_path / "mine"))
    assert dclimate(region, str(tmp_path / "mine"), variant="v2-2B-L~beta1").shape == (128, 4, 4)
    paint_mosaic(tmp_path / "aef", codes(1, 64, 32, 32)[None], years=(2024,), left=LEFT, top=TOP, pixel=10.0, crs=UTM)
    with pytest.raises(ProviderError, match=r"vectors of 64 numbers laid out as .*, TESSERA's have 128"):
        dclimate(region, str(tmp_path / "aef"))


# What goes wrong -------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path) -> tuple[Path, Zone]:
    """A store of one year whose chunks have checksums."""
    root, painted = tmp_path / "copy", full_zone(32, LEFT, TOP, (64, 64), seed=2, years=(2024,))
    paint_zones(root, [painted], checked=True, model="1.1")
    return root, painted


WHOLE = box(LEFT, TOP, 64, 64)


@pytest.mark.parametrize("where", ["folder", "http"])
def test_a_damaged_or_half_copied_shard_is_an_error(copied: tuple[Path, Zone], where: str) -> None:
    root, _ = copied
    shard = root / "utm32" / "embeddings" / "c" / "0" / "0" / "0" / "0"
    content = shard.read_bytes()
    broken = {
        "its index": (content[:-100] + b"\xff" + content[-99:], r"cannot be decoded .*half-copied or damaged"),
        "its end": (content[: len(content) // 2], r"cannot be decoded .*half-copied or damaged"),
        "nearly all of it": (content[:100], r"has 100 bytes: it is half-copied"),
        "a chunk": (content[:5000] + b"\0" * 64 + content[5064:], r"chunk 0/0/\d/\d cannot be decoded .*damaged"),
    }
    with RangeServer(root.parent) as server:
        backend = str(root) if where == "folder" else server.url("copy")
        for what, (bytes_, message) in broken.items():
            shard.write_bytes(bytes_)
            with pytest.raises(ProviderError, match=message):
                dclimate(WHOLE, backend)
            assert what
        shard.write_bytes(content)
        assert not np.isnan(dclimate(WHOLE, backend).values()).any()


def test_chunks_that_are_not_there_have_no_data_and_faults_are_no_data_of_theirs(copied: tuple[Path, Zone]) -> None:
    root, painted = copied
    with RangeServer(root.parent) as server:
        backend = server.url("copy")
        fault = server.break_("status", status=503, times=2, path="embeddings/c/", headers={"Retry-After": "0"})
        assert close(dclimate(WHOLE, backend).values(), painted.values(2024))
        assert fault.times == 0, "it was asked again"
        for status, message in ((403, r"embeddings/c/0/0/0/0: access is refused \(HTTP 403\)"), (400, "HTTP 400")):
            MEMORY.clear()
            server.mend()
            server.break_("status", status=status, path="embeddings/c/")
            with pytest.raises(ProviderError, match=message):
                dclimate(WHOLE, backend)
        MEMORY.clear()
        server.mend()
        server.break_("status", status=404, path="embeddings/c/")
        found = dclimate(WHOLE, backend)
        assert not found.values().any(), "what was never written has the fill value, as scales say it is there"
        server.mend()
        server.break_("lying", path="embeddings/c/", from_byte=1)
        with pytest.raises(ProviderError, match="cannot be decoded"):
            dclimate(WHOLE, backend)
    (root / "zarr.json").write_text('{"zarr_format": 3,')
    with pytest.raises(ProviderError, match=r"zarr\.json is no JSON .*half-copied or damaged"):
        dclimate(WHOLE, str(root))


def test_without_zarr_the_extra_is_named(
    zone: tuple[Path, Zone], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingExtraError, match=r'pip install "rs-embed\[zarr\]"'):
        dclimate(box(LEFT, TOP, 4, 4), str(zone[0]))
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(MissingExtraError, match=r'x\.zarr is a Zarr store, which needs zarr: pip install "rs-embed\[z'):
        get_embedding(str(tmp_path / "x.zarr"), spatial=PointBuffer(0, 0, 50))


# Arrays ----------------------------------------------------------------------------------------------------------


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """An array's shape, chunks and shards, and a window of it."""
    shape = tuple(draw(st.integers(1, most)) for most in (2, 5, 30, 30))
    chunks = tuple(draw(st.integers(1, n)) for n in shape)
    found: dict[str, Any] = {"shape": shape, "chunks": chunks, "zarr_format": draw(st.sampled_from((2, 3)))}
    if found["zarr_format"] == 3 and draw(st.booleans()):
        shards = tuple(n * draw(st.integers(1, 3)) for n in chunks)
        found["shards"] = {"shape": shards, "index_location": draw(st.sampled_from(("start", "end")))}
    edges = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    return found | {
        "window": tuple(slice(*each) for each in edges),
        "dtype": draw(st.sampled_from(("int8", "<f4", ">i2"))),
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layout=layouts(), seed=st.integers(0, 9))
def test_a_window_of_an_array_is_what_zarr_reads(tmp_path: Path, layout: dict[str, Any], seed: int) -> None:
    MEMORY.clear()
    window, rng = layout["window"], np.random.default_rng(seed)
    like = {key: value for key, value in layout.items() if key != "window"}
    array = zarr.create_array(tmp_path / "a", overwrite=True, fill_value=7, **like)
    written = tuple(slice(0, rng.integers(0, n + 1)) for n in array.shape)
    array[written] = rng.integers(-100, 100, array.shape).astype(array.dtype)[written]
    tree = Hierarchy(Store(str(tmp_path / "a")))
    ours = ZarrArray(tree.store, tree.node())
    found = ours.read(window)
    assert found.dtype == np.dtype(array.dtype).newbyteorder("=") and np.array_equal(found, array[window])
    assert np.array_equal(ours.whole(), array[...])
    assert ours.has(window) or (found == 7).all()


# AlphaEarth's mosaic ---------------------------------------------------------------------------------------------


def test_a_mosaic_has_the_values_of_the_files(tmp_path: Path) -> None:
    code = codes(1, 64, 128, 192)
    code[:, 40:43, 50:55] = -128
    code[7, 60, 60] = -128
    tile = paint_aef(tmp_path / "files", code, year=2024, epsg=32632, left=LEFT, top=TOP)
    index_aef(tmp_path / "files", [tile])
    paint_mosaic(
        tmp_path / "aef-mosaic",
        np.stack([codes(2, 64, 128, 192), code]),
        years=(2023, 2024),
        left=LEFT,
        top=TOP,
        pixel=10.0,
        crs=UTM,
    )
    call: dict[str, Any] = {"spatial": box(LEFT + 300, TOP - 300, 50, 60), "temporal": Y2024, "output": GRID}
    files = get_embedding("gse", backend=str(tmp_path / "files"), **call)
    with RangeServer(tmp_path) as server:
        for backend in (str(tmp_path / "aef-mosaic"), server.url("aef-mosaic")):
            mosaic = get_embedding("gse", backend=backend, **call)
            assert np.array_equal(files.values(), mosaic.values(), equal_nan=True)
            assert np.array_equal(mosaic.values(), values(code[:, 30:80, 30:90]).astype(np.float32), equal_nan=True)
            assert files.meta["geobox"] == mosaic.meta["geobox"] and files.meta["space"] == mosaic.meta["space"]
            pooled = get_embedding("gse", backend=backend, **(call | {"output": OutputSpec.pooled()}))
            assert np.linalg.norm(pooled.data) == pytest.approx(1, abs=1e-6)
        with pytest.raises(NoImageryError, match=r"gse has no embedding of 2020 at .*; there are 2023, 2024"):
            get_embedding("gse", backend=server.url("aef-mosaic"), **(call | {"temporal": TemporalSpec.year(2020)}))
        with pytest.raises(NoImageryError, match=r"the place is not covered.*it lies between"):
            get_embedding("gse", backend=server.url("aef-mosaic"), **(call | {"spatial": PointBuffer(0, 0, 100)}))


def test_a_mosaic_in_degrees_gives_its_own_pixels(tmp_path: Path) -> None:
    pixel, code = 0.00008983111749910169, codes(3, 64, 96, 128)
    left, top = -180 + 2137000 * pixel, 83.68570533713473 - 390000 * pixel
    paint_mosaic(tmp_path / "m.zarr", code[None], years=(2024,), left=left, top=top, pixel=pixel)
    region = BBox(left + 10 * pixel, top - 40 * pixel, left + 42 * pixel, top - 15 * pixel)
    found = get_embedding("gse", spatial=region, temporal=Y2024, output=GRID, backend=str(tmp_path / "m.zarr"))
    assert found.crs == "EPSG:4326" and found.meta["product"]["grid"] == "own" and found.meta["warnings"] == []
    assert np.array_equal(found.values(), values(code[:, 15:40, 10:42]).astype(np.float32))
    assert found.meta["effective_gsd"] == pytest.approx(10, abs=0.05)
    metres = get_embedding(
        "gse",
        spatial=region,
        temporal=Y2024,
        output=GRID,
        backend=str(tmp_path / "m.zarr"),
        fetch=FetchSpec(scale_m=10),
    )
    assert metres.crs == "EPSG:32632" and metres.meta["product"]["grid"] == "resampled to 10 m"
    assert metres.meta["warnings"] == [
        "pixels stored in EPSG:4326 were resampled to EPSG:32632 (bilinear, or means where coarser)"
    ]
    length = np.linalg.norm(metres.values().astype(np.float64), axis=0)
    assert np.abs(length[np.isfinite(length)] - 1).max() < 1e-6
    point = PointBuffer(left + 30.5 * pixel, top - 30.5 * pixel, 2)
    one = get_embedding("gse", spatial=point, temporal=Y2024, output=GRID, backend=str(tmp_path / "m.zarr"))
    assert np.array_equal(one.values()[:, 0, 0], values(code[:, 30:31, 30:31])[:, 0, 0].astype(np.float32))


def test_a_mosaic_of_something_else_is_refused(tmp_path: Path) -> None:
    call: dict[str, Any] = {"spatial": box(LEFT, TOP, 4, 4), "temporal": Y2024}
    like: dict[str, Any] = {"years": (2024,), "left": LEFT, "top": TOP, "pixel": 10.0, "crs": UTM}
    paint_mosaic(tmp_path / "a.zarr", codes(1, 32, 32, 32)[None], **like)
    with pytest.raises(ProviderError, match=r"int8 \(1, 32, 32, 32\) quantised by signed_square, AlphaEarth's mosaic"):
        get_embedding("gse", backend=str(tmp_path / "a.zarr"), **call)
    linear = {"geoemb:quantization": {"method": "linear", "original_dtype": "float32"}}
    paint_mosaic(tmp_path / "b.zarr", codes(1, 64, 32, 32)[None], attrs=linear, **like)
    with pytest.raises(ProviderError, match="quantised by linear"):
        get_embedding("gse", backend=str(tmp_path / "b.zarr"), **call)


# Ones own --------------------------------------------------------------------------------------------------------


GEOEMB = {"geoemb:type": "pixel", "geoemb:dimensions": 6, "geoemb:model": "https://example.org/model"}


def numbers(dtype: str = "float32", seed: int = 0, steps: int = 1) -> np.ndarray[Any, Any]:
    """``(T, 6, 40, 50)``."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal((steps, 6, 40, 50)).astype(dtype)
    return rng.integers(-120, 120, (steps, 6, 40, 50)).astype(dtype)


def paint_own(
    root: Path,
    stored: np.ndarray[Any, Any],
    dims: tuple[str, ...] = ("embedding", "y", "x"),
    *,
    name: str = "embeddings",
    version: int = 3,
    located: str = "transform",
    attrs: dict[str, Any] | None = None,
    array_attrs: dict[str, Any] | None = None,
    lines: dict[str, Any] | None = None,
    up: bool = True,
    **layout: Any,
) -> None:
    """Write an array in one of the ways people do."""
    told = GEOEMB | (attrs or {})
    height, width = stored.shape[dims.index("y")], stored.shape[dims.index("x")]
    if located == "transform":
        told |= place(UTM, LEFT, TOP, 10.0, (height, width), up=up)
    group = zarr.open_group(root, mode="w", zarr_format=version, attributes=told)
    extra = {"dimension_names": dims} if version == 3 else {}
    array = group.create_array(name, shape=stored.shape, dtype=stored.dtype, **extra, **layout)
    array[...] = stored
    of_array = dict(array_attrs or {}) | ({"_ARRAY_DIMENSIONS": list(dims)} if version == 2 else {})
    x, y = LEFT + 5 + 10 * np.arange(width), TOP - 5 - 10 * np.arange(height)
    coordinates = {"x": x, "y": y if up else y[::-1]}
    if located in ("coordinates", "geotransform"):
        reference = group.create_array("spatial_ref", shape=(), dtype="int64")
        gdal = {"GeoTransform": f"{LEFT} 10 0 {TOP} 0 -10"} if located == "geotransform" else {}
        reference.attrs.update({"crs_wkt": __import__("pyproj").CRS(UTM).to_wkt(), **gdal})
        of_array["grid_mapping"] = "spatial_ref"
    every = (coordinates if located in ("coordinates", "crs lacking") else {}) | (lines or {})
    for key, values_ in every.items():
        line = group.create_array(key, shape=np.shape(values_), dtype=np.asarray(values_).dtype)
        line[...] = values_
    array.attrs.update(of_array)


REGION, CUT = box(LEFT + 100, TOP - 50, 20, 25), (slice(None), slice(5, 25), slice(10, 35))

LAYOUTS: dict[str, Any] = {
    "plain": {},
    "in shards": {"chunks": (6, 8, 8), "shards": (6, 16, 16)},
    "chunked by band": {"chunks": (2, 16, 16)},
    "gzip and odd chunks": {"chunks": (6, 7, 9), "compressors": zarr.codecs.GzipCodec()},
    "vectors last": {"dims": ("y", "x", "embedding"), "chunks": (16, 16, 6)},
    "x before y": {"dims": ("x", "embedding", "y")},
    "another name": {"name": "clay"},
    "south up": {"up": False},
    "version 2": {"version": 2, "chunks": (6, 16, 16)},
    "version 2 in one file": {"version": 2, "chunks": (3, 40, 50), "order": "F"},
    "coordinates": {"located": "coordinates"},
    "coordinates, south up": {"located": "coordinates", "up": False},
    "geotransform": {"located": "geotransform"},
    "version 2, geotransform": {"located": "geotransform", "version": 2},
}


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("case", LAYOUTS)
def test_an_own_store_is_a_product_in_every_layout(tmp_path: Path, case: str, consolidated: bool) -> None:
    like = dict(LAYOUTS[case])
    dims = like.pop("dims", ("embedding", "y", "x"))
    pixels = numbers()[0]
    turned = pixels[:, ::-1] if not like.get("up", True) else pixels
    stored = np.transpose(turned, [("embedding", "y", "x").index(dim) for dim in dims])
    paint_own(tmp_path / "mine.zarr", np.ascontiguousarray(stored), dims, **like)
    if consolidated:
        consolidate(tmp_path, "mine.zarr")
    with RangeServer(tmp_path) as server:
        addresses = [str(tmp_path / "mine.zarr"), server.url("mine.zarr")]
        if like.get("name") == "clay" and not consolidated:
            addresses[1] += "/clay"  # a server does not list what it holds
        for address in addresses:
            found = get_embedding(address, spatial=REGION, output=GRID)
            assert np.array_equal(found.values(), pixels[CUT])
            assert found.meta["type"] == "precomputed" and str(tmp_path) not in json.dumps(found.meta)
            assert found.meta["geobox"]["transform"] == [10, 0, LEFT + 100, 0, -10, TOP - 50]
            assert found.meta["temporal"] is None
            assert describe_model(address)["dims"] == {"pooled": 6, "grid": 6}
            pooled = get_embedding(address, spatial=REGION)
            assert close(pooled.data, pixels[CUT].mean((1, 2)), 2e-6)


PACKED: dict[str, Any] = {
    "half floats": ("float16", {}, {}, lambda v: v.astype(np.float32)),
    "scale and offset": (
        "int8",
        {},
        {"scale_factor": 0.25, "add_offset": 3.0, "_FillValue": -128},
        lambda v: v * 0.25 + 3,
    ),
    "a scale of the convention": (
        "int8",
        {
            "geoemb:quantization": {
                "method": "linear",
                "original_dtype": "float32",
                "scale": {"type": "scalar", "scale": 0.0078125, "offset": 0.5},
                "nodata": -128,
            }
        },
        {},
        lambda v: v * 0.0078125 + 0.5,
    ),
    "AlphaEarth's": (
        "int8",
        {"geoemb:quantization": AEF["geoemb:quantization"]},
        {},
        lambda v: np.sign(v) * (v / 127.5) ** 2,
    ),
}


def test_coordinates_in_degrees_need_no_crs(tmp_path: Path) -> None:
    pixels = numbers()[0]
    group = zarr.open_group(tmp_path / "mine.zarr", mode="w", attributes=GEOEMB)
    names = ["embedding", "lat", "lon"]
    group.create_array("emb", shape=pixels.shape, dtype="float32", dimension_names=names)[...] = pixels[:, ::-1]
    write_lines(group, {"lon": 10 + 0.01 * (np.arange(50) + 0.5), "lat": 50 - 0.01 * (np.arange(40)[::-1] + 0.5)})
    found = get_embedding(str(tmp_path / "mine.zarr"), spatial=BBox(10.1, 49.75, 10.35, 49.95), output=GRID)
    assert found.crs == "EPSG:4326" and np.array_equal(found.values(), pixels[CUT])


@pytest.mark.parametrize("case", PACKED)
def test_numbers_are_unpacked_as_the_metadata_say(tmp_path: Path, case: str) -> None:
    dtype, attrs, array_attrs, unpack = PACKED[case]
    stored = numbers(dtype)[0]
    stored[2, 6, 12] = np.nan if dtype == "float16" else -128
    paint_own(tmp_path / "mine.zarr", stored, attrs=attrs, array_attrs=array_attrs)
    found = get_embedding(str(tmp_path / "mine.zarr"), spatial=REGION, output=GRID)
    wanted = unpack(stored.astype(np.float64))[CUT]
    wanted[:, 1, 2] = np.nan
    assert close(found.values(), wanted)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("sharded", [True, False])
def test_chunks_that_were_never_written_have_no_data(tmp_path: Path, dtype: str, sharded: bool) -> None:
    stored = numbers(dtype)[0]
    stored[3] = 0  # a zero among other numbers is a value
    told = GEOEMB | place(UTM, LEFT, TOP, 10.0, (40, 50))
    group = zarr.open_group(tmp_path / "mine.zarr", mode="w", attributes=told)
    shards = {"shards": (6, 20, 30)} if sharded else {}
    array = group.create_array(
        "emb", shape=(6, 40, 50), chunks=(6, 10, 10), dtype=dtype, dimension_names=["emb", "y", "x"], **shards
    )
    array[:, :20, :30] = stored[:, :20, :30]
    wanted = np.full((6, 40, 50), np.nan, np.float32)
    wanted[:, :20, :30] = stored[:, :20, :30]
    with RangeServer(tmp_path) as server:
        for address in (str(tmp_path / "mine.zarr"), server.url("mine.zarr")):
            found = get_embedding(address, spatial=REGION, output=GRID)
            assert np.array_equal(found.values(), wanted[CUT], equal_nan=True)
            with pytest.raises(NoImageryError, match=r"mine has no embedding|it is sea, or was not produced"):
                get_embedding(address, spatial=box(LEFT + 300, TOP - 300, 4, 4))


def test_a_scale_for_each_pixel(tmp_path: Path) -> None:
    stored, rng = numbers("int8")[0], np.random.default_rng(5)
    scales = rng.uniform(0.01, 1, (40, 50)).astype(np.float32)
    scales[6, 12], scales[7, 13] = np.inf, np.nan
    quantization = {
        "method": "per_pixel_scale",
        "original_dtype": "float32",
        "scale": {"type": "array", "array_name": "scales", "nodata": "+inf"},
    }
    paint_own(tmp_path / "mine.zarr", stored, attrs={"geoemb:quantization": quantization})
    group = zarr.open_group(tmp_path / "mine.zarr", mode="a")
    group.create_array("scales", shape=(40, 50), dtype="float32", dimension_names=["y", "x"])[...] = scales
    found = get_embedding(str(tmp_path / "mine.zarr"), spatial=REGION, output=GRID)
    wanted = np.where(np.isfinite(scales), stored * np.where(np.isfinite(scales), scales, 0), np.nan)[CUT]
    assert close(found.values(), wanted, 2e-5) and int(np.isnan(found.values()[0]).sum()) == 2


TIMES: dict[str, Any] = {
    "years": (np.array([2021, 2023]), {}),
    "days": (np.array([0, 730]), {"units": "days since 2021-07-01"}),
    "hours": (np.array([0.0, 24 * 800.0]), {"units": "hours since 2021-01-01 00:00:00"}),
    "dates": (np.array(["2021-05-01", "2023-05-01"], "datetime64[ns]"), {}),
    "words": (np.array(["2021-05-01", "2023-05-01"]), {}),
}


@pytest.mark.parametrize("case", TIMES)
@pytest.mark.filterwarnings("ignore:The data type")  # of zarr, that version 3 does not define dates
def test_years_of_an_own_store_are_chosen_by_temporal(tmp_path: Path, case: str) -> None:
    steps, attrs = TIMES[case]
    stored, root = numbers(steps=2), tmp_path / "mine.zarr"
    paint_own(root, stored, ("time", "embedding", "y", "x"), lines={"time": steps})
    zarr.open_array(root / "time", mode="a").attrs.update(attrs)
    for step, year in enumerate((2021, 2023)):
        found = get_embedding(str(root), spatial=REGION, output=GRID, temporal=TemporalSpec.year(year))
        assert np.array_equal(found.values(), stored[step][CUT]) and found.meta["temporal"]["year"] == year
    with pytest.warns(UserWarning, match="newest year that mine has"):
        newest = get_embedding(str(root), spatial=REGION, output=GRID)
    assert np.array_equal(newest.values(), found.values())
    with pytest.raises(NoImageryError, match=r"mine has no embedding of 2022 at .*; there are 2021, 2023: say"):
        get_embedding(str(root), spatial=REGION, temporal=TemporalSpec.year(2022))


def test_our_own_grid_written_by_xarray_is_read_back(tmp_path: Path) -> None:
    tile = paint_aef(tmp_path, codes(1, 64, 128, 128), year=2024, epsg=32632, left=LEFT, top=TOP)
    index_aef(tmp_path, [tile])
    whole, part = box(LEFT, TOP, 60, 70), box(LEFT + 55, TOP - 55, 11, 13)
    grid = get_embedding("gse", spatial=whole, temporal=Y2024, output=GRID, backend=str(tmp_path))
    data = grid.to_xarray().rename("gse")
    assert isinstance(data, xr.DataArray)
    for version in (2, 3):
        data.to_zarr(tmp_path / f"v{version}.zarr", zarr_format=version, consolidated=version == 2)
        found = get_embedding(str(tmp_path / f"v{version}.zarr"), spatial=part)
        direct = get_embedding("gse", spatial=part, temporal=Y2024, backend=str(tmp_path))
        assert np.array_equal(found.data, direct.data) and found.meta["space"] == direct.meta["space"]
        assert found.meta["temporal"]["year"] == 2024


def test_an_own_geotiff_has_the_year_that_its_metadata_say(tmp_path: Path) -> None:
    tile = paint_aef(tmp_path, codes(1, 64, 128, 128), year=2024, epsg=32632, left=LEFT, top=TOP)
    index_aef(tmp_path, [tile])
    grid = get_embedding("gse", spatial=box(LEFT, TOP, 20, 20), temporal=Y2024, output=GRID, backend=str(tmp_path))
    save(grid, tmp_path / "mine.tif")
    call: dict[str, Any] = {"spatial": box(LEFT + 50, TOP - 50, 4, 4)}
    own = get_embedding(str(tmp_path / "mine.tif"), **call)
    said = get_embedding(str(tmp_path / "mine.tif"), temporal=Y2024, **call)
    assert np.array_equal(own.data, said.data) and own.meta["temporal"]["year"] == 2024
    with pytest.raises(NoImageryError, match=r"mine has no embedding of 2023 at .*; there are 2024: say"):
        get_embedding(str(tmp_path / "mine.tif"), temporal=TemporalSpec.year(2023), **call)


def test_what_a_store_does_not_tell_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    call: dict[str, Any] = {"spatial": REGION}
    pixels = numbers()[0]
    root = str(tmp_path / "mine.zarr")
    paint_own(tmp_path / "mine.zarr", pixels, located="nowhere")
    with pytest.raises(ProviderError, match=r"no georeference: no CRS .*rio\.write_crs"):
        get_embedding(root, **call)
    paint_own(tmp_path / "mine.zarr", pixels, located="nowhere", attrs={"proj:code": UTM})
    with pytest.raises(ProviderError, match=r"no georeference: no transform or coordinates"):
        get_embedding(root, **call)
    paint_own(tmp_path / "mine.zarr", pixels, located="crs lacking")
    with pytest.raises(ProviderError, match=r"no georeference: no CRS"):
        get_embedding(root, **call)
    paint_own(tmp_path / "mine.zarr", pixels, array_attrs={"spatial:shape": [40, 40]})
    with pytest.raises(ProviderError, match=r"40 x 50 pixels, its spatial:shape says \[40, 40\]: metadata and array"):
        get_embedding(root, **call)
    paint_own(tmp_path / "mine.zarr", pixels, ("embedding", "y", "x"), name="one")
    group = zarr.open_group(root, mode="a")
    group.create_array("two", shape=pixels.shape, dtype="float32", dimension_names=["embedding", "y", "x"])
    with pytest.raises(ProviderError, match=r"several arrays .*mine\.zarr/one, .*mine\.zarr/two"):
        get_embedding(root, **call)
    assert np.array_equal(get_embedding(root + "/one", spatial=REGION, output=GRID).values(), pixels[CUT])
    paint_own(tmp_path / "mine.zarr", numbers(), ("a", "b", "y", "x"))
    with pytest.raises(ProviderError, match="no array with the dimensions y, x and one of an embedding"):
        get_embedding(root, **call)
    with pytest.raises(ProviderError, match="has the dimensions a, b, y, x: an embedding needs y and x, one"):
        get_embedding(root + "/embeddings", **call)
    paint_own(tmp_path / "mine.zarr", numbers(steps=2), ("time", "embedding", "y", "x"))
    with pytest.raises(ProviderError, match="no array 'time' says the years"):
        get_embedding(root, **call)
    plain = zarr.open_group(tmp_path / "plain.zarr", mode="w", attributes=place(UTM, LEFT, TOP, 10.0, (40, 50)))
    plain.create_array("data", shape=pixels.shape, dtype="float32", dimension_names=["d", "y", "x"])[...] = pixels
    with pytest.raises(ModelError, match=r"plain\.zarr says nothing of embeddings .*raster_product"):
        get_embedding(str(tmp_path / "plain.zarr"), **call)
    with pytest.raises(ProviderError, match=r"nowhere\.zarr' is neither the URL of a product's store nor a folder"):
        get_embedding(str(tmp_path / "nowhere.zarr"), **call)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ProviderError, match=r"has no zarr\.json, \.zarray or \.zgroup: it is no Zarr store"):
        get_embedding(str(tmp_path / "empty.zarr"), **call)
    method = {"geoemb:quantization": {"method": "product_quantization", "original_dtype": "float32"}}
    paint_own(tmp_path / "mine.zarr", pixels, attrs=method)
    with pytest.raises(ProviderError, match="quantised by 'product_quantization', which cannot be undone"):
        get_embedding(root, **call)


def test_points_of_pixels_may_be_told_by_their_centres(tmp_path: Path) -> None:
    pixels, told = numbers()[0], place(UTM, LEFT + 5, TOP - 5, 10.0, (40, 50)) | {"spatial:registration": "node"}
    paint_own(tmp_path / "mine.zarr", pixels, located="nowhere", attrs=told)
    found = get_embedding(str(tmp_path / "mine.zarr"), spatial=REGION, output=GRID)
    assert np.array_equal(found.values(), pixels[CUT])


def test_two_embeddings_of_one_year_are_refused(tmp_path: Path) -> None:
    dims = ("time", "embedding", "y", "x")
    paint_own(tmp_path / "mine.zarr", numbers(steps=2), dims, lines={"time": np.array([2021, 2021])})
    with pytest.raises(ProviderError, match=r"several embeddings of a year \(\(2021, 2021\)\); keep one of each"):
        get_embedding(str(tmp_path / "mine.zarr"), spatial=REGION)
    paint_own(tmp_path / "mine.zarr", numbers(steps=2), dims, lines={"time": np.array([1, 2])})
    with pytest.raises(ProviderError, match=r"time: \[1, 2\] with units '' tell no years"):
        get_embedding(str(tmp_path / "mine.zarr"), spatial=REGION)


def test_a_zone_that_lacks_an_array_says_what_it_has(copied: tuple[Path, Zone]) -> None:
    root, _ = copied
    shutil.rmtree(root / "utm32" / "time")
    consolidate(root)
    with pytest.raises(ProviderError, match="copy has no 'utm32/time'; it has utm32/band, utm32/embeddings, utm32/sc"):
        dclimate(WHOLE, str(root))


def test_coordinates_that_make_no_grid_are_refused(tmp_path: Path) -> None:
    paint_own(tmp_path / "mine.zarr", numbers()[0], located="coordinates")
    line = zarr.open_array(tmp_path / "mine.zarr" / "x", mode="a")
    line[10] = LEFT
    with pytest.raises(ProviderError, match="not evenly spaced, so that its pixels make no grid"):
        get_embedding(str(tmp_path / "mine.zarr"), spatial=REGION)


def test_zones_of_tessera_are_stores_of_ones_own_too(tmp_path: Path) -> None:
    painted = full_zone(32, LEFT, TOP, (48, 48), years=(2024,))
    paint_zones(tmp_path / "t.zarr", [painted])
    with pytest.raises(ProviderError, match=r"a group for each UTM zone: name one, such as .*t\.zarr/utm32"):
        get_embedding(str(tmp_path / "t.zarr"), spatial=box(LEFT, TOP, 4, 4))
    found = get_embedding(str(tmp_path / "t.zarr" / "utm32"), spatial=box(LEFT + 20, TOP - 20, 4, 4), output=GRID)
    assert close(found.values(), painted.values(2024)[:, 2:6, 2:6])


def test_memory_loads_what_is_missing_at_one_go_and_what_failed_again() -> None:
    asked: list[list[Any]] = []

    def load(keys: list[Any]) -> list[np.ndarray[Any, Any]]:
        asked.append(keys)
        if "bad" in keys:
            raise ValueError("bad")
        return [np.array([key]) for key in keys]

    MEMORY.many([1, 2], load)
    found = MEMORY.many([2, 3, 3, 4], load)
    assert {key: int(array[0]) for key, array in found.items()} == {2: 2, 3: 3, 4: 4} and asked == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="bad"):
        MEMORY.many([5, "bad"], load)
    assert int(MEMORY.many([5], load)[5][0]) == 5 and asked[-1] == [5]


def test_lines_are_written_with_their_names(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w")
    write_lines(group, {"x": np.arange(3.0)}, x={"units": "m"})
    assert group["x"].attrs["units"] == "m"
