"""Products read in place: stores painted to the real layout and names, over loopback, against numbers cut by hand."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from product_stores import (
    AefTile,
    TesseraTile,
    codes,
    index_aef,
    paint_aef,
    paint_copernicus,
    paint_tessera,
    register_tessera,
    values,
    write_tessera,
)
from pyproj import Transformer
from range_server import RangeServer

from rs_embed import (
    BatchError,
    BBox,
    FetchSpec,
    ModelError,
    NoImageryError,
    OutputSpec,
    PointBuffer,
    Polygon,
    ProviderError,
    SensorSpec,
    TemporalSpec,
    UserData,
    describe_model,
    get_embedding,
    get_embeddings_batch,
    iter_embeddings,
    list_models,
    list_models_for_data,
    save,
)
from rs_embed.core import registry
from rs_embed.core.geometry import locate_in
from rs_embed.plugin import raster_product, register
from rs_embed.providers.products.memory import MEMORY

GRID = OutputSpec.grid()
Y2024 = TemporalSpec.year(2024)
LEFT, TOP = 686080, 5335040
UTM = "EPSG:32632"


@pytest.fixture(autouse=True)
def nothing_in_memory() -> None:
    MEMORY.clear()


def box(left: float, top: float, height: int, width: int, pixel: float = 10.0, crs: str = UTM) -> BBox:
    """The region of whole pixels."""
    return BBox(left, top - height * pixel, left + width * pixel, top, crs=crs)


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


def close(a: Any, b: Any, tolerance: float = 2e-6) -> bool:
    return bool(np.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True))


# AlphaEarth -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aef(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, AefTile]]:
    """Two tiles side by side and one of the next zone, in 2024; one also in 2019. The first has a hole."""
    root = tmp_path_factory.mktemp("aef")
    west = codes(1, 64, 512, 512)
    west[:, 100:103, 100:105] = -128
    west[7, 110, 110] = -128
    tiles = {
        "west": paint_aef(root, west, year=2024, epsg=32632, left=LEFT, top=TOP),
        "east": paint_aef(root, codes(2, 64, 512, 512), year=2024, epsg=32632, left=LEFT + 5120, top=TOP),
        "old": paint_aef(root, codes(3, 64, 512, 512), year=2019, epsg=32632, left=LEFT, top=TOP),
        # the border of the zones 32 and 33, at 12° E
        "border": paint_aef(root, codes(4, 64, 512, 512), year=2024, epsg=32632, left=717_900, top=TOP, name="xa"),
        "beyond": paint_aef(root, codes(5, 64, 512, 512), year=2024, epsg=32633, left=276_000, top=TOP, name="xb"),
        "south": paint_aef(
            root, codes(6, 64, 256, 256), year=2024, epsg=32756, left=300_000, top=6_250_000, bottom_up=False
        ),
    }
    index_aef(root, list(tiles.values()))
    return root, tiles


@pytest.fixture(scope="module")
def served(aef: tuple[Path, dict[str, AefTile]]) -> Iterator[RangeServer]:
    with RangeServer(aef[0]) as server:
        yield server


@pytest.fixture
def store(served: RangeServer) -> Iterator[str]:
    served.reset()
    yield served.root
    served.mend()


def test_pixels_are_taken_as_they_are_stored(aef: Any, store: str) -> None:
    tile = aef[1]["west"]
    found = get_embedding("gse", spatial=box(LEFT + 900, TOP - 900, 40, 50), temporal=Y2024, output=GRID, backend=store)
    wanted = values(tile.window(LEFT + 900, TOP - 900, 40, 50))
    assert np.array_equal(found.values(), wanted.astype(np.float32), equal_nan=True)
    assert np.isnan(found.values()[:, 10:13, 10:15]).all() and np.isnan(found.values()[:, 20, 20]).all()
    assert found.meta["geobox"] == {"crs": UTM, "transform": [10, 0, LEFT + 900, 0, -10, TOP - 900], "shape": [40, 50]}
    assert found.meta["type"] == "precomputed" and found.meta["warnings"] == []
    assert found.meta["product"] == {"id": "gse", "collection": "gse/v1", "version": "v1", "grid": "own"}
    assert found.meta["temporal"]["year"] == 2024 and found.meta["effective_gsd"] == 10
    assert json.loads(json.dumps(found.meta, allow_nan=False)) == found.meta
    assert "127.0.0.1" in found.meta["source"] and found.meta["attribution"][0].startswith("The AlphaEarth")


@pytest.mark.parametrize("where", ["folder", "csv", "pixel-interleaved", "north up"])
def test_every_layout_gives_the_same(aef: Any, tmp_path: Path, where: str) -> None:
    tile, backend = aef[1]["west"], str(aef[0])
    if where != "folder":
        like = {
            "interleave": "pixel" if where == "pixel-interleaved" else "band",
            "bottom_up": where != "north up",
            "block": 128,
        }
        painted = paint_aef(tmp_path, tile.code, year=2024, epsg=32632, left=LEFT, top=TOP, **like)
        index_aef(tmp_path, [painted], kind="csv" if where == "csv" else "parquet", prefix="gs://x/v1/annual/")
        backend = str(tmp_path)
    found = get_embedding("gse", spatial=box(LEFT, TOP, 130, 131), temporal=Y2024, output=GRID, backend=backend)
    assert np.array_equal(found.values(), values(tile.window(LEFT, TOP, 130, 131)).astype(np.float32), equal_nan=True)


def test_the_pooled_vector_has_length_one_and_leaves_nodata_out(aef: Any, store: str) -> None:
    tile = aef[1]["west"]
    found = get_embedding("gse", spatial=box(LEFT + 900, TOP - 900, 40, 50), temporal=Y2024, backend=store)
    cells = values(tile.window(LEFT + 900, TOP - 900, 40, 50)).reshape(64, -1)
    assert close(found.data, unit(np.nanmean(cells, axis=1)))
    assert found.meta["valid_fraction"] == pytest.approx(1 - 16 / 2000, abs=1e-6)
    other = get_embedding(
        "gse",
        spatial=box(LEFT + 900, TOP - 900, 40, 50),
        temporal=Y2024,
        backend=store,
        output=OutputSpec.pooled("max"),
    )
    assert close(other.data, np.nanmax(cells, axis=1))


def test_a_polygon_weighs_pixels_by_their_share(aef: Any, store: str) -> None:
    tile = aef[1]["west"]
    corners = [(LEFT + 2005, TOP - 2005), (LEFT + 2095, TOP - 2005), (LEFT + 2050, TOP - 2093)]
    found = get_embedding("gse", spatial=Polygon(shapely.Polygon(corners), crs=UTM), temporal=Y2024, backend=store)
    share = np.zeros((10, 10))
    for row, col in np.ndindex(10, 10):
        x, y = LEFT + 2000 + 10 * col, TOP - 2000 - 10 * row
        share[row, col] = shapely.Polygon(corners).intersection(shapely.box(x, y - 10, x + 10, y)).area
    wanted = (values(tile.window(LEFT + 2000, TOP - 2000, 10, 10)) * share).sum((1, 2))
    assert close(found.data, unit(wanted))


def test_a_region_over_two_tiles_has_no_seam(aef: Any, store: str) -> None:
    west, east = aef[1]["west"], aef[1]["east"]
    found = get_embedding(
        "gse", spatial=box(LEFT + 5000, TOP - 300, 30, 40), temporal=Y2024, output=GRID, backend=store
    )
    parts = west.window(LEFT + 5000, TOP - 300, 30, 12), east.window(LEFT + 5120, TOP - 300, 30, 28)
    assert np.array_equal(found.values(), values(np.concatenate(parts, axis=2)).astype(np.float32))
    assert len(found.meta["scenes"]["product"]) == 2 and found.meta["warnings"] == []


def test_a_region_over_two_zones_lies_on_the_grid_of_its_centres(aef: Any, store: str) -> None:
    border, beyond = aef[1]["border"], aef[1]["beyond"]
    right = border.left + 5120
    region = box(right - 2000, TOP - 1000, 60, 240)  # the last 40 columns lie in the tile of zone 33 only
    found = get_embedding("gse", spatial=region, temporal=Y2024, output=GRID, backend=store)
    lon, _ = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True).transform(right - 800, TOP - 1300)
    assert found.crs == (UTM if lon < 12 else "EPSG:32633")
    assert found.crs == UTM, "the painted region is meant to have its centre in zone 32"
    grid = found.values()
    assert np.array_equal(grid[:, :, :200], values(border.window(right - 2000, TOP - 1000, 60, 200)).astype(np.float32))
    x, y = np.meshgrid(right + 10 * np.arange(40) + 5, TOP - 1000 - 10 * np.arange(60) - 5)
    there = Transformer.from_crs(UTM, "EPSG:32633", always_xy=True).transform(x, y)
    cols = np.floor((np.asarray(there[0]) - beyond.left) / 10).astype(int)
    rows = np.floor((beyond.top - np.asarray(there[1])) / 10).astype(int)
    inside = (cols >= 0) & (cols < 512) & (rows >= 0) & (rows < 512)
    assert inside.all()
    nearest = values(beyond.code)[:, rows, cols]
    assert np.mean(np.all(grid[:, :, 200:] == nearest.astype(np.float32), axis=0)) > 0.999  # but for ties
    assert found.meta["warnings"] == ["pixels stored in EPSG:32633 were resampled to EPSG:32632 (nearest)"]


def test_the_southern_hemisphere_and_files_with_north_up(aef: Any, store: str) -> None:
    tile = aef[1]["south"]
    region = box(300_400, 6_249_500, 12, 9, crs="EPSG:32756")
    found = get_embedding("gse", spatial=region, temporal=Y2024, output=GRID, backend=store)
    assert np.array_equal(found.values(), values(tile.window(300_400, 6_249_500, 12, 9)).astype(np.float32))


def test_degrees_and_points_lie_on_the_same_grid(aef: Any, store: str) -> None:
    move = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    lon, lat = move.transform(LEFT + 3005, TOP - 3005)
    found = get_embedding("gse", spatial=PointBuffer(lon, lat, 25), temporal=Y2024, output=GRID, backend=store)
    tile = aef[1]["west"]
    assert np.array_equal(found.values(), values(tile.window(LEFT + 2980, TOP - 2980, 5, 5)).astype(np.float32))
    small = get_embedding(
        "gse", spatial=BBox(lon, lat, lon + 1e-6, lat + 1e-6), temporal=Y2024, output=GRID, backend=store
    )
    assert small.shape == (64, 1, 1)
    assert np.array_equal(
        small.values()[:, 0, 0], values(tile.window(LEFT + 3000, TOP - 3000, 1, 1))[:, 0, 0].astype(np.float32)
    )


@pytest.mark.parametrize("scale", [30.0, 25.0, 5.0])
def test_another_resolution_is_resampled_told_and_of_length_one(aef: Any, store: str, scale: float) -> None:
    region = box(LEFT + 2000, TOP - 2000, 30, 30)
    found = get_embedding(
        "gse", spatial=region, temporal=Y2024, output=GRID, backend=store, fetch=FetchSpec(scale_m=scale)
    )
    grid = found.values()
    assert found.meta["effective_gsd"] == scale and found.meta["product"]["grid"] == f"resampled to {scale:g} m"
    assert any("resampled" in note for note in found.meta["warnings"])
    assert np.abs(np.linalg.norm(grid.astype(np.float64), axis=0) - 1).max() < 1e-6
    if scale == 30:
        a = found.meta["geobox"]["transform"]
        row, col = round((TOP - a[5]) / 10), round((a[2] - LEFT) / 10)
        cells = values(aef[1]["west"].code)[:, row : row + 3, col : col + 3].mean((1, 2))
        assert close(grid[:, 0, 0], unit(cells))


def test_the_native_resolution_said_aloud_changes_nothing(aef: Any, store: str) -> None:
    region = box(LEFT + 2000, TOP - 2000, 8, 8)
    plain = get_embedding("gse", spatial=region, temporal=Y2024, output=GRID, backend=store)
    bands = tuple(f"A{i:02d}" for i in range(64))
    sensor = SensorSpec("GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL", bands, scale_m=10)
    for more in ({"fetch": FetchSpec(scale_m=10)}, {"sensor": sensor}):
        said = get_embedding("gse", spatial=region, temporal=Y2024, output=GRID, backend=store, **more)
        assert np.array_equal(said.values(), plain.values()) and said.meta["product"]["grid"] == "own"


WRONG: dict[str, Any] = {
    "clouds": {"fetch": FetchSpec(cloudy_pct=10)},
    "composite": {"fetch": FetchSpec(composite="mean")},
    "another sensor": {"sensor": SensorSpec("COPERNICUS/S2_SR_HARMONIZED", ("B4", "B3", "B2"))},
    "some bands": {"sensor": SensorSpec("gse", ("A00", "A01"))},
    "an option": {"product_version": 2},
    "years": {"temporal": TemporalSpec.range("2022-05-01", "2024-05-01")},
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_meant_is_refused(store: str, case: str) -> None:
    call: dict[str, Any] = {"spatial": box(LEFT, TOP, 5, 5), "temporal": Y2024, "backend": store}
    with pytest.raises(ModelError):
        get_embedding("gse", **(call | WRONG[case]))


def test_a_span_within_a_year_means_that_year(aef: Any, store: str) -> None:
    call: dict[str, Any] = {"spatial": box(LEFT, TOP, 5, 5), "backend": store}
    span = TemporalSpec.range("2019-06-01", "2019-09-01")
    one = get_embedding("gse", temporal=span, **call)
    assert np.array_equal(one.data, get_embedding("gse", temporal=TemporalSpec.year(2019), **call).data)
    assert one.meta["temporal"]["year"] == 2019
    whole = TemporalSpec.range("2019-01-01", "2020-01-01")
    assert np.array_equal(one.data, get_embedding("gse", temporal=whole, **call).data)


def test_without_a_time_the_newest_year_counts_and_is_warned_of(store: str) -> None:
    with pytest.warns(UserWarning, match="newest year that gse has") as told:
        found = get_embedding("gse", spatial=box(LEFT, TOP, 5, 5), backend=store)
    assert found.meta["temporal"]["year"] == 2024 and len(told) == 1


def test_what_does_not_exist_is_told_with_what_does(store: str) -> None:
    with pytest.raises(NoImageryError, match=r"no embedding of 2021 at .*; there are 2019, 2024: say TemporalSpec"):
        get_embedding("gse", spatial=box(LEFT, TOP, 5, 5), temporal=TemporalSpec.year(2021), backend=store)
    with pytest.raises(NoImageryError, match="of any year: the place is not covered"):
        get_embedding("gse", spatial=PointBuffer(0, 0, 100), temporal=Y2024, backend=store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(NoImageryError, match="of any year"):
            get_embedding("gse", spatial=PointBuffer(0, 0, 100), backend=store)
    hole = box(LEFT + 1000, TOP - 1000, 3, 5)
    with pytest.raises(NoImageryError, match=r"has data: it is sea, or was not produced of 2024 there"):
        get_embedding("gse", spatial=hole, temporal=Y2024, backend=store)


def test_a_store_that_is_none_says_so(tmp_path: Path, served: RangeServer, store: str) -> None:
    call: dict[str, Any] = {"spatial": box(LEFT, TOP, 5, 5), "temporal": Y2024}
    with pytest.raises(ProviderError, match=r"no aef_index\.parquet or aef_index\.csv: it is no copy"):
        get_embedding("gse", backend=str(tmp_path), **call)
    with pytest.raises(ProviderError, match="neither the URL of a product's store nor a folder"):
        get_embedding("gse", backend=str(tmp_path / "nowhere"), **call)
    for imagery in ("synthetic", "earth-search", "planetary-computer"):
        with pytest.raises(ProviderError, match="reads its own store, no imagery"):
            get_embedding("gse", backend=imagery, **call)
    for nothing in ("", "  ", 7, None):
        with pytest.raises(ProviderError, match=r"backend=.* must be 'auto', 'gee', the URL or folder"):
            get_embedding("gse", backend=nothing, **call)
    (tmp_path / "aef_index.csv").write_text("name,year\nx,2024\n")
    with pytest.raises(ProviderError, match=r"no index of AlphaEarth's tiles: it has no column 'path'"):
        get_embedding("gse", backend=str(tmp_path), **call)
    served.break_("status", status=404, path="tiff$")
    with pytest.raises(ProviderError, match=r"tiff does not exist \(HTTP 404\)"):
        get_embedding("gse", backend=store, **call)


def test_a_tile_of_another_product_or_half_of_one_is_refused(tmp_path: Path) -> None:
    call: dict[str, Any] = {"spatial": box(LEFT, TOP, 5, 5), "temporal": Y2024, "backend": str(tmp_path)}
    tile = paint_aef(tmp_path, codes(1, 32, 256, 256), year=2024, epsg=32632, left=LEFT, top=TOP)
    index_aef(tmp_path, [tile])
    with pytest.raises(ProviderError, match="32 bands, the product has 64 dimensions: it is of another product"):
        get_embedding("gse", **call)
    tile = paint_aef(tmp_path, codes(1, 64, 256, 256), year=2024, epsg=32632, left=LEFT, top=TOP)
    file = tmp_path / tile.path
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    with pytest.raises(ProviderError, match="half-copied"):
        get_embedding("gse", **(call | {"spatial": box(LEFT, TOP, 250, 250)}))


# Many regions ----------------------------------------------------------------------------------------------------


def scattered(count: int, seed: int = 0) -> list[BBox]:
    """Regions of three by three pixels all over the two tiles, in no order."""
    rng = np.random.default_rng(seed)
    at = rng.integers(0, [509, 1021], (count, 2))
    return [box(LEFT + 10 * col, TOP - 10 * row, 3, 3) for row, col in at.tolist()]


@pytest.mark.full
def test_a_thousand_points_read_each_block_once(aef: Any, served: RangeServer, store: str) -> None:
    places = scattered(1000)
    found = get_embeddings_batch("gse", spatials=places, temporal=Y2024, backend=store)
    both = np.concatenate([values(aef[1]["west"].code), values(aef[1]["east"].code)], axis=2)
    for place, one in list(zip(places, found, strict=True))[::37]:
        row, col = round((TOP - place.maxlat) / 10), round((place.minlon - LEFT) / 10)
        assert close(one.data, unit(np.nanmean(both[:, row : row + 3, col : col + 3], axis=(1, 2))))
    tiles = [r for r in served.requests if r.path.endswith("tiff") and r.start]
    assert len(tiles) == len({(r.path, r.start) for r in tiles}), "no range is fetched twice"
    stored = sum((aef[0] / aef[1][name].path).stat().st_size for name in ("west", "east"))
    assert sum(r.sent for r in served.requests if r.path.endswith("tiff")) < 1.3 * stored


def test_regions_alone_and_in_a_batch_are_the_same(store: str) -> None:
    places = scattered(6, seed=5)
    batch = get_embeddings_batch("gse", spatials=places, temporal=Y2024, backend=store)
    streamed = list(iter_embeddings("gse", spatials=places, temporal=Y2024, backend=store))
    for place, one, other in zip(places, batch, streamed, strict=True):
        alone = get_embedding("gse", spatial=place, temporal=Y2024, backend=store)
        assert np.array_equal(alone.data, one.data) and np.array_equal(alone.data, other.data)


def test_a_region_without_coverage_fails_alone(store: str) -> None:
    places = [*scattered(2), PointBuffer(0, 0, 50)]
    with pytest.raises(BatchError) as caught:
        get_embeddings_batch("gse", spatials=places, temporal=Y2024, backend=store)
    assert list(caught.value.errors) == [2] and isinstance(caught.value.errors[2], NoImageryError)
    found = get_embeddings_batch("gse", spatials=places, temporal=Y2024, backend=store, on_error="return")
    assert [each.ok for each in found] == [True, True, False] and found[2].shape == (64,)


def test_coarser_cells_of_a_grid_have_length_one(aef: Any, store: str) -> None:
    region = box(LEFT + 2000, TOP - 2000, 8, 8)
    found = get_embedding("gse", spatial=region, temporal=Y2024, output=GRID, backend=store, cell=4)
    cells = values(aef[1]["west"].window(LEFT + 2000, TOP - 2000, 4, 4)).mean((1, 2))
    assert found.shape == (64, 2, 2) and close(found.values()[:, 0, 0], unit(cells))


def test_the_published_store_is_opened_once(
    aef: Any, served: RangeServer, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    spec = registry.get_spec("gse")
    assert spec.product is not None
    register(replace(spec, name="gse-here", aliases=(), product=replace(spec.product, store=store)))
    call: dict[str, Any] = {"temporal": Y2024, "backend": "auto"}
    first = get_embedding("gse-here", spatial=box(LEFT, TOP, 5, 5), **call)
    served.reset()
    again = get_embedding("gse-here", spatial=box(LEFT + 300, TOP, 5, 5), **call)
    assert served.requests == [], "index, header and block are known"
    copy = get_embedding("gse-here", spatial=box(LEFT, TOP, 5, 5), temporal=Y2024, backend=str(aef[0]))
    assert again.ok and np.array_equal(first.data, copy.data)


# TESSERA ---------------------------------------------------------------------------------------------------------

LON, LAT = 11.55, 48.15


@pytest.fixture
def tessera(tmp_path: Path) -> tuple[Path, TesseraTile]:
    """One tile of 100 m pixels with water, nodata and a landmask."""
    tile = paint_tessera(tmp_path, LON, LAT, pixel=100.0, seed=3)
    tile.scales[50, 30] = np.nan  # water
    tile.scales[50, 31] = np.inf  # not produced
    tile.scales[50, 32] = 1e6  # nodata of older tiles
    tile.scales[50, 33] = 0
    tile.land[52, 30:34] = 0
    write_tessera(tmp_path, tile)
    register_tessera(tmp_path, [tile])
    return tmp_path, tile


def tile_box(tile: TesseraTile, row: int, col: int, height: int, width: int) -> BBox:
    a = tile.affine
    return box(a.c + col * a.a, a.f + row * a.e, height, width, pixel=a.a, crs=f"EPSG:{tile.epsg}")


def test_a_tile_of_tessera_is_what_its_files_say(tessera: tuple[Path, TesseraTile]) -> None:
    root, tile = tessera
    with RangeServer(root) as server:
        for backend in (str(root), server.root):
            found = get_embedding(
                "tessera", spatial=tile_box(tile, 45, 25, 12, 14), temporal=Y2024, output=GRID, backend=backend
            )
            wanted = tile.values()[:, 45:57, 25:39]
            assert close(found.values(), wanted, 1e-6) and int(np.isnan(wanted[0]).sum()) == 8
            assert found.meta["geobox"]["transform"][:3] == [100, 0, tile.affine.c + 2500]
            (scene,) = found.meta["scenes"]["product"]
            assert scene["id"] == f"v1/2024/{tile.name}" and scene["checked"] == "sha256"
            assert found.meta["product"]["version"] == "v1" and found.meta["space"].startswith("tessera/v1/")
            pooled = get_embedding("tessera", spatial=tile_box(tile, 45, 25, 12, 14), temporal=Y2024, backend=backend)
            assert close(pooled.data, np.nanmean(wanted.reshape(128, -1), axis=1))


def test_older_tiles_have_a_scale_for_each_band(tmp_path: Path) -> None:
    tile = paint_tessera(tmp_path, LON, LAT, pixel=200.0, wide_scales=True)
    found = get_embedding(
        "tessera", spatial=tile_box(tile, 5, 5, 6, 7), temporal=Y2024, output=GRID, backend=str(tmp_path)
    )
    assert close(found.values(), tile.values()[:, 5:11, 5:12], 1e-6)


def test_tiles_of_tessera_side_by_side_and_off_by_a_part_of_a_pixel(tmp_path: Path) -> None:
    one = paint_tessera(tmp_path, LON, LAT, pixel=100.0, seed=1)
    two = paint_tessera(tmp_path, LON + 0.1, LAT, pixel=100.0, seed=2, shift=(30.0, -20.0))
    edge = Transformer.from_crs("EPSG:4326", UTM, always_xy=True).transform(LON + 0.05, LAT)
    top, left = one.affine.f - 5000, round((edge[0] - one.affine.c) / 100) * 100 + one.affine.c - 1500
    region = box(left, top, 10, 28, pixel=100.0)
    found = get_embedding("tessera", spatial=region, temporal=Y2024, output=GRID, backend=str(tmp_path))
    a = found.meta["geobox"]["transform"]
    assert a[2] % 100 == one.affine.c % 100 or a[2] % 100 == two.affine.c % 100  # that of the centre's tile
    assert np.isfinite(found.values()).all() and len(found.meta["scenes"]["product"]) == 2
    assert any("moved by less than half a pixel" in note for note in found.meta["warnings"])


def test_a_half_copied_tile_is_told_by_its_checksum(tessera: tuple[Path, TesseraTile]) -> None:
    root, tile = tessera
    call: dict[str, Any] = {"spatial": tile_box(tile, 5, 5, 3, 3), "temporal": Y2024}
    file = tile.folder / f"{tile.name}.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProviderError, match=r"half-copied, so its checksum"):
        get_embedding("tessera", backend=str(root), **call)
    file.write_bytes(whole[:-1000] + bytes(1000))
    with pytest.raises(ProviderError, match=rf"{tile.name}\.npy: its checksum .* is not the registry's"):
        get_embedding("tessera", backend=str(root), **call)
    with RangeServer(root) as server, pytest.raises(ProviderError, match="is not the registry's"):
        get_embedding("tessera", backend=server.root, **call)
    file.write_bytes(b"<html>")
    with pytest.raises(ProviderError, match="no npy file"):
        get_embedding("tessera", backend=str(root), **call)


def test_versions_are_spaces_of_their_own(tmp_path: Path) -> None:
    first = paint_tessera(tmp_path, LON, LAT, pixel=200.0, seed=1)
    cam = paint_tessera(tmp_path, LON, LAT, pixel=200.0, seed=2, version="v1.1-cam", year=2023)
    call: dict[str, Any] = {"spatial": tile_box(first, 5, 5, 2, 2), "backend": str(tmp_path), "output": GRID}
    one = get_embedding("tessera", temporal=Y2024, **call)
    two = get_embedding("tessera", temporal=TemporalSpec.year(2023), variant="v1.1-cam", **call)
    assert close(one.values(), first.values()[:, 5:7, 5:7], 1e-6)
    assert close(two.values(), cam.values()[:, 5:7, 5:7], 1e-6)
    assert one.meta["space"] != two.meta["space"] and two.meta["product"]["version"] == "v1.1-cam"
    with pytest.raises(
        NoImageryError, match=r"tessera v1 has no embedding of 2023 .*; there are 2024.*'v1\.1-cam' has"
    ):
        get_embedding("tessera", temporal=TemporalSpec.year(2023), **call)
    with pytest.raises(ModelError, match=r"'v3'.*accepted"):
        get_embedding("tessera", temporal=Y2024, variant="v3", **call)


def test_files_of_two_versions_do_not_go_together(tessera: tuple[Path, TesseraTile]) -> None:
    root, tile = tessera
    (root / "registry_2024.txt").unlink()
    np.save(tile.folder / f"{tile.name}_scales.npy", tile.scales[:-1])
    call: dict[str, Any] = {"spatial": tile_box(tile, 5, 5, 3, 3), "temporal": Y2024, "backend": str(root)}
    with pytest.raises(ProviderError, match="not of one size: they are of different versions"):
        get_embedding("tessera", **call)
    np.save(tile.folder / f"{tile.name}.npy", tile.code[..., :64])
    with pytest.raises(ProviderError, match=r"int8 \(H, W, 128\): it is of another product or version"):
        get_embedding("tessera", **call)


def test_the_newest_year_of_tessera_at_a_place(tmp_path: Path) -> None:
    for year in (2019, 2022):
        tile = paint_tessera(tmp_path, LON, LAT, pixel=200.0, year=year, seed=year)
    with RangeServer(tmp_path) as server, pytest.warns(UserWarning, match="newest year that tessera has"):
        found = get_embedding("tessera", spatial=tile_box(tile, 5, 5, 3, 3), backend=server.root)
    assert found.meta["temporal"]["year"] == 2022


def test_a_small_region_of_a_large_tile_reads_little_of_it(tmp_path: Path) -> None:
    tile = paint_tessera(tmp_path, LON, LAT, side=(400, 700))
    with RangeServer(tmp_path) as server:
        found = get_embedding(
            "tessera", spatial=tile_box(tile, 100, 300, 60, 80), temporal=Y2024, output=GRID, backend=server.root
        )
        assert close(found.values(), tile.values()[:, 100:160, 300:380], 1e-6)
        needed = 60 * 80 * 132
        assert sum(r.sent for r in server.requests if r.path.endswith(".npy") and r.start) < 1.5 * needed
        server.reset()
        places = [tile_box(tile, r, c, 2, 2) for r, c in np.random.default_rng(0).integers(100, 380, (300, 2)).tolist()]
        get_embeddings_batch("tessera", spatials=places, temporal=Y2024, backend=server.root)
        assert len(server.requests) < 150


def test_the_real_registry_is_understood(test_data: Path, tmp_path: Path) -> None:
    from rs_embed.providers.products.files import Store
    from rs_embed.providers.products.tessera import Tessera

    (tmp_path / "registry_2022.txt").write_bytes((test_data / "tessera_registry" / "registry_2022.txt").read_bytes())
    archive = Tessera(Store(str(tmp_path)))
    registry_2022 = archive.registry("v1", 2022)
    assert registry_2022 is not None and len(registry_2022) == 8440
    assert registry_2022["grid_-0.05_50.75/grid_-0.05_50.75.npy"].startswith("15cabd98")
    from odc.geo.crs import CRS

    place = locate_in(PointBuffer(-0.05, 50.75, 100), CRS("EPSG:4326"))
    assert archive.years("tessera/v1", place) == [2022]


# Copernicus-Embed ------------------------------------------------------------------------------------------------


FIRST = 150
"""Row of the whole map that the painted part begins with."""


@pytest.fixture(scope="module")
def cells() -> np.ndarray[Any, Any]:
    """Rows 150 to 189 of the map: eight of land from row 164 on, at all longitudes, and zeros in the sea."""
    world = np.zeros((768, 40, 1440), np.float32)
    row = np.random.default_rng(0).standard_normal((768, 8, 90)).astype(np.float32)
    world[:, 14:22] = np.tile(row, (1, 1, 16)) * np.linspace(0.5, 1.5, 1440, dtype=np.float32)
    return world


@pytest.fixture(scope="module")
def copernicus(cells: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copernicus")
    paint_copernicus(root / "embed_map_310k.tif", cells, first=FIRST, block=64)
    return root


def cell_box(row: float, col: float, height: float, width: float) -> BBox:
    west, north = -180 + 0.25 * col, 90.125 - 0.25 * row
    east = west + 0.25 * width
    return BBox(west, north - 0.25 * height, east if east <= 180 else east - 360, north)


def test_cells_weigh_by_their_area_and_oceans_nothing(copernicus: Path, cells: Any) -> None:
    region = cell_box(162, 761.5, 6, 3)  # two rows of sea, then land; half cells to the left and right
    found = get_embedding("copernicus", spatial=region, temporal=None, backend=str(copernicus))
    lat = 90 - 0.25 * np.arange(164, 168)
    weight = np.cos(np.deg2rad(lat))[:, None] * np.array([0.5, 1, 1, 0.5])
    wanted = (cells[:, 14:18, 761:765] * weight).sum((1, 2)) / weight.sum()
    assert close(found.data, wanted) and found.meta["temporal"] is None
    assert 0 < found.meta["valid_fraction"] < 1 and found.meta["effective_gsd"] == pytest.approx(27_799, abs=1)


def test_a_copy_of_cells_in_degrees_weighs_them_alike(copernicus: Path, tmp_path: Path) -> None:
    region = cell_box(162, 761.5, 6, 3)
    found = get_embedding("copernicus", spatial=region, backend=str(copernicus))
    grid = get_embedding("copernicus", spatial=region, output=GRID, backend=str(copernicus))
    assert close(grid.pool("cells").data, found.data)
    save(grid, tmp_path / "mine.tif")
    assert close(get_embedding(str(tmp_path / "mine.tif"), spatial=region).data, found.data)


def test_a_region_in_one_cell_gets_that_cell(copernicus: Path, cells: Any) -> None:
    with RangeServer(copernicus) as server:
        lon, lat = -180 + 0.25 * 765.5, 90.125 - 0.25 * 167.5
        for backend in (server.root, server.url("embed_map_310k.tif"), str(copernicus)):
            found = get_embedding("copernicus", spatial=PointBuffer(lon, lat, 1000), temporal=Y2024, backend=backend)
            assert np.array_equal(found.data, cells[:, 17, 765])
        assert server.sent < 0.25 * (copernicus / "embed_map_310k.tif").stat().st_size


def test_a_region_across_the_antimeridian(copernicus: Path, cells: Any) -> None:
    region = cell_box(165, 1437, 2, 5)
    assert region.crosses_antimeridian
    found = get_embedding("copernicus", spatial=region, output=GRID, backend=str(copernicus))
    wanted = np.concatenate([cells[:, 15:17, 1437:], cells[:, 15:17, :2]], axis=2)
    assert np.array_equal(found.values(), wanted)


def test_the_sea_is_no_embedding(copernicus: Path) -> None:
    with pytest.raises(NoImageryError, match="it is sea, or was not produced"):
        get_embedding("copernicus_embed", spatial=PointBuffer(-30, 52, 1000), backend=str(copernicus))


# Ones own --------------------------------------------------------------------------------------------------------


def test_a_saved_grid_is_a_product(aef: Any, store: str, tmp_path: Path) -> None:
    whole, part = box(LEFT + 1000, TOP - 500, 30, 40), box(LEFT + 1055, TOP - 555, 11, 13)
    grid = get_embedding("gse", spatial=whole, temporal=Y2024, output=GRID, backend=store)
    save(grid, tmp_path / "mine.tif")
    direct = get_embedding("gse", spatial=part, temporal=Y2024, backend=store)
    with RangeServer(tmp_path) as server:
        for address in (str(tmp_path / "mine.tif"), server.url("mine.tif")):
            found = get_embedding(address, spatial=part)
            assert np.array_equal(found.data, direct.data)
            assert found.meta["space"] == direct.meta["space"] and found.meta["model"] == "mine"
            assert str(tmp_path) not in json.dumps(found.meta) and found.meta["type"] == "precomputed"
            assert describe_model(address)["dims"] == {"pooled": 64, "grid": 64}
    with pytest.raises(NoImageryError, match=r"mine has no embedding .* it lies between"):
        get_embedding(str(tmp_path / "mine.tif"), spatial=PointBuffer(0, 0, 50))


def test_a_raster_that_says_nothing_of_embeddings_is_none(aef: Any, tmp_path: Path) -> None:
    file = str(aef[0] / aef[1]["south"].path)
    with pytest.raises(ModelError, match=r"no tag geoemb.*UserData\.from_raster.*raster_product"):
        get_embedding(file, spatial=PointBuffer(0, 0, 50))
    with pytest.raises(ProviderError, match=r"nothing\.tif does not exist"):
        get_embedding(str(tmp_path / "nothing.tif"), spatial=PointBuffer(0, 0, 50))
    (tmp_path / "broken.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(ProviderError, match=r"broken\.tif: it cannot be read"):
        get_embedding(str(tmp_path / "broken.tif"), spatial=PointBuffer(0, 0, 50))


def test_a_product_is_registered_in_a_line(aef: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    tile = aef[1]["south"]
    register(raster_product("farms", str(aef[0] / tile.path), citation="@misc{farms}", unit=True))
    assert "farms" in list_models() and describe_model("farms")["type"] == "precomputed"
    region = box(300_100, 6_249_900, 4, 4, crs="EPSG:32756")
    found = get_embedding("farms", spatial=region)
    assert close(found.data, unit(tile.window(300_100, 6_249_900, 4, 4).astype(float).mean((1, 2))))
    assert found.meta["citation"][0] == "@misc{farms}"


# The catalogue ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dimensions"), [("gse", 64), ("tessera", 128), ("copernicus", 768)])
def test_products_stand_in_the_catalogue(name: str, dimensions: int) -> None:
    facts = describe_model(name)
    assert name in list_models() and facts["type"] == "precomputed" and facts["dims"]["pooled"] == dimensions
    assert facts["temporal"] == ("static" if name == "copernicus" else "annual")
    data = UserData(np.full((3, 16, 16), 900, np.float32), "s2", bands=["B4", "B3", "B2"], scale_m=10)
    row = next(row for row in list_models_for_data(data) if row["model"] == name)
    assert not row["compatible"] and "precomputed" in row["reason"]


def test_aliases_and_the_default_backend() -> None:
    assert describe_model("gse_annual")["model"] == "gse"
    assert describe_model("copernicus_embed")["model"] == "copernicus"
    from rs_embed.core.registry import get_spec
    from rs_embed.inference.products import open_backend

    for name in ("auto", "gee", "GEE"):
        provider = open_backend(get_spec("tessera"), name)
        assert provider.source == "https://data.source.coop/tessera/tessera" and provider.name == "source.coop"
