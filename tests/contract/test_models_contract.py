"""What every model of the catalogue keeps to, on painted imagery: the next one is tested by being declared."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from odc.geo.geobox import GeoBox
from shapely.affinity import scale
from small_models import shallow

from rs_embed import (
    BBox,
    CheckpointError,
    Embedding,
    FetchSpec,
    InputPrepSpec,
    Model,
    ModelError,
    NoImageryError,
    OutputSpec,
    PointBuffer,
    Polygon,
    TemporalSpec,
    UserData,
    describe_model,
    get_embedding,
    get_embedding_from_data,
    get_embeddings_batch,
    list_models,
)
from rs_embed.core.geometry import locate
from rs_embed.core.imagery import ImageRequest, ImageStack
from rs_embed.core.model_spec import ModelSpec
from rs_embed.core.registry import get_spec
from rs_embed.inference.plan import Block, Plan
from rs_embed.inference.session import open_session
from rs_embed.inference.setup import modalities_of
from rs_embed.providers.synthetic import SyntheticProvider

SPAN = TemporalSpec.range("2022-06-01", "2022-08-01")
PLACE = PointBuffer(11.5, 48.1, 165)
OTHERS = [PointBuffer(11.52, 48.12, 95), BBox(11.50, 48.10, 11.506, 48.1015), PLACE]
POLYGON = shapely.Polygon([(11.5, 48.1), (11.507, 48.101), (11.503, 48.105)])
GRID, POOLED = OutputSpec.grid(), OutputSpec.pooled()
POOLINGS = {"cells": 1, "max": 1, "std": 1, "stats": 4, "gem": 1}
RELATIVE = 1e-5

Arguments = Callable[[str], dict[str, Any]]

# API.md, part 5
META = """model type backend source sensor temporal image_size pooling grid_hw cls_removed input_prep schema id space
    request crs geobox effective_gsd region_exact scenes clear_fraction valid_fraction frames input_check export
    checkpoint normalization license citation attribution device dtype versions created warnings""".split()  # noqa: SIM905


COMPUTED = [name for name in list_models() if get_spec(name).product is None]
"""Products are tested on their own stores: tests/providers/test_products.py."""


@pytest.fixture(scope="module", params=COMPUTED)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def spec(model: str) -> ModelSpec:
    return get_spec(model)


@pytest.fixture(scope="module")
def options(model: str, arguments_of: Arguments) -> dict[str, Any]:
    return arguments_of(model)


@pytest.fixture(scope="module")
def embed(model: str, options: dict[str, Any]) -> Callable[..., Embedding]:
    known: dict[Any, Embedding] = {}

    def run(spatial: Any = PLACE, *, fresh: bool = False, **more: Any) -> Embedding:
        """Embed, or return what the same call gave before: what repeats is not what these tests are about."""
        call = {"temporal": SPAN, "backend": "synthetic"} | options | more
        key = (spatial, *sorted(call.items(), key=lambda item: item[0]))
        if fresh or key not in known:
            known[key] = get_embedding(model, spatial=spatial, **call)
        return known[key]

    return run


def dims(spec: ModelSpec, options: dict[str, Any]) -> dict[str, int]:
    variant = spec.variants[options.get("variant", spec.default_variant)]
    return dict(spec.adapt(variant, {}).dims)


def gsd_of(spec: ModelSpec) -> float:
    """Metres of a pixel of the first input."""
    return next(iter(spec.inputs.values())).gsd


def close(one: Any, other: Any, relative: float = RELATIVE) -> bool:
    """Whether two vectors or grids differ by at most ``relative`` of their length."""
    a, b = (np.asarray(x, np.float64) for x in (one, other))
    assert a.shape == b.shape and (np.isnan(a) == np.isnan(b)).all()
    known = ~np.isnan(a)
    return bool(np.linalg.norm(a[known] - b[known]) <= relative * max(np.linalg.norm(b[known]), 1e-12))


def same(one: Any, other: Any) -> bool:
    """Whether grids are equal but for the last digits, which a matrix product rounds by its shape."""
    scale = np.nanmax(np.abs(other), axis=(1, 2), keepdims=True) + 1e-12
    return bool(np.allclose(one / scale, other / scale, rtol=0, atol=2e-7, equal_nan=True))


def geobox_of(found: Embedding) -> GeoBox:
    box = found.geobox
    assert box is not None
    return box


def which(wanted: Callable[[ModelSpec], bool]) -> Any:
    """Run a test for the models of one kind only."""
    return pytest.mark.parametrize("model", [m for m in COMPUTED if wanted(get_spec(m))], indirect=True)


pixel_models = which(lambda spec: spec.locality == "pixel")
means_of_cells = which(lambda spec: spec.pooled == "cells" and spec.statistics == ("mean",))
with_weights = which(lambda spec: any(v.checkpoint for v in spec.variants.values()))

pytestmark = pytest.mark.filterwarnings("ignore:the effective ground sample:UserWarning")
quiet = pytest.mark.filterwarnings("ignore:the polygon was pooled:UserWarning", "ignore:less than half:UserWarning")


def test_a_vector_is_as_described(embed: Any, spec: ModelSpec, options: dict[str, Any]) -> None:
    found = embed()
    assert isinstance(found.data, np.ndarray) and found.data.dtype == np.float32
    assert found.shape == (dims(spec, options)["pooled"],)
    assert np.isfinite(found.data).all() and found.data.std() > 0
    assert found.ok and found.meta["valid_fraction"] == 1.0


@pytest.mark.parametrize("pooling", POOLINGS)
def test_other_poolings_pool_the_cells(embed: Any, spec: ModelSpec, options: dict[str, Any], pooling: str) -> None:
    found = embed(output=OutputSpec.pooled(pooling))
    cells = embed(output=GRID).values().reshape(dims(spec, options)["grid"], -1).astype(np.float64)
    assert found.shape == (POOLINGS[pooling] * len(cells),) and found.data.dtype == np.float32
    if pooling == "max":
        assert np.array_equal(found.data, cells[:, np.isfinite(cells[0])].max(1))
    assert np.isfinite(found.data).all()


def test_a_grid_is_georeferenced(embed: Any, spec: ModelSpec, options: dict[str, Any]) -> None:
    found = embed(output=GRID)
    grid = found.data
    assert grid.dims == ("d", "y", "x") and grid.dtype == np.float32
    assert grid.shape[0] == dims(spec, options)["grid"] and np.isfinite(grid.values).all()
    region = locate(PLACE)
    assert found.crs == f"EPSG:{region.crs.epsg}"
    a, _, c, _, e, f = found.meta["geobox"]["transform"]
    assert (a > 0) and (e < 0) and found.meta["geobox"]["shape"] == list(grid.shape[1:])
    assert np.allclose(grid.x, c + a * (np.arange(grid.sizes["x"]) + 0.5))
    assert np.allclose(grid.y, f + e * (np.arange(grid.sizes["y"]) + 0.5))
    left, bottom, right, top = region.shape.bounds
    edge = 1e-3
    assert c <= left + edge and f >= top - edge
    assert c + a * grid.sizes["x"] >= right - edge and f + e * grid.sizes["y"] <= bottom + edge
    assert c + a > left and f + e < top  # and no cell is wholly outside
    reference = grid.coords["spatial_ref"].attrs
    assert reference["GeoTransform"].split()[:2] == [repr(c), repr(a)]
    assert (
        f'"EPSG","{region.crs.epsg}"' in reference["crs_wkt"].replace(", ", ",")
        or "UTM zone 32N" in reference["crs_wkt"]
    )
    assert json.loads(grid.attrs["rs_embed_meta"])["model"] == spec.name


def test_the_mean_of_cells_weighs_them_by_the_regions_share(embed: Any) -> None:
    found, vector = embed(output=GRID), embed(output=OutputSpec.pooled("cells")).data
    grid, coverage = found.values(), locate(PLACE).coverage(geobox_of(found))
    assert (coverage < 1).any()
    assert close(vector, np.average(grid.reshape(len(grid), -1), axis=1, weights=coverage.ravel()))


@means_of_cells
def test_the_frozen_feature_is_the_mean_of_cells(embed: Any) -> None:
    assert close(embed().data, embed(output=OutputSpec.pooled("cells")).data)


@quiet
def test_the_same_plan_gives_the_same_vector(model: str, embed: Any, options: dict[str, Any]) -> None:
    for output in (POOLED, GRID):
        alone = [embed(place, output=output) for place in OTHERS]
        batch = get_embeddings_batch(
            model, spatials=OTHERS, temporal=SPAN, backend="synthetic", output=output, batch_size=2, **options
        )
        loaded = Model(model, backend="synthetic", output=output, **options)
        through = loaded.get_embeddings_batch(OTHERS, temporal=SPAN)
        single = loaded.get_embedding(OTHERS[-1], temporal=SPAN)
        assert len(batch) == len(through) == len(OTHERS)
        for one, two, three in zip(alone, batch, through, strict=True):
            assert close(two.data, one.data) and close(three.data, one.data)
            assert two.meta["request"] == one.meta["request"] == three.meta["request"]
        assert close(single.data, alone[-1].data)


def test_a_box_of_degrees_is_no_polygon(embed: Any) -> None:
    found = embed(BBox(11.50, 48.10, 11.506, 48.1015))  # warnings are errors: its edges curve by millimetres
    assert not [note for note in found.meta["warnings"] if "polygon" in note]


def test_many_shapes_at_once_keep_their_numbers(model: str, embed: Any, options: dict[str, Any]) -> None:
    places = [PointBuffer(11.5 + 0.02 * i, 48.1, 55 + 40 * (i % 3)) for i in range(4)]
    batch = get_embeddings_batch(model, spatials=places, temporal=SPAN, backend="synthetic", **options)
    for place, found in zip(places, batch, strict=True):
        assert close(found.data, embed(place).data)


def whole_plan(model: str, options: dict[str, Any], output: OutputSpec, place: Any = PLACE, **more: Any) -> Plan:
    return open_session(model, SyntheticProvider(), output=output, options=options, **more).plan(place, SPAN)


def as_user_data(plan: Plan, margin: int, **more: Any) -> UserData:
    """The imagery of the plan's own lattice, with a margin, as a user would bring it."""
    ((name, item),) = plan.setup.inputs.items()
    request = plan.requests[name]
    rect = plan.footprint.pad(margin)
    geobox = plan.parts(item, Block(rect, (), 0))
    request = replace(request, geobox=geobox)
    (stack,) = SyntheticProvider().load(request, [geobox])
    pixels = np.where(stack.valid[:, None], stack.pixels, np.nan)
    spans = [TemporalSpec.range(*interval) for interval in request.intervals]
    return UserData(
        pixels if len(spans) > 1 else pixels[0],
        item.wanted.collection,
        bands=item.bands,
        temporal=spans if len(spans) > 1 else spans[0],
        crs=geobox.crs,
        transform=geobox.affine,
        **more,
    )


@pytest.mark.parametrize("mode", ["resize", "tile"])
def test_ones_own_pixels_of_the_window_give_the_same(
    model: str, spec: ModelSpec, embed: Any, options: dict[str, Any], mode: str
) -> None:
    for output in (POOLED, GRID):
        plan = whole_plan(model, options, output, input_prep=mode)
        margin = max(16, spec.variants[spec.default_variant].window.halo + 2)
        data = as_user_data(plan, margin, spatial=PLACE)
        found = get_embedding_from_data(model, data, output=output, input_prep=mode, **options)
        wanted = embed(output=output, input_prep=mode)
        assert close(found.data, wanted.data)
        assert found.meta["backend"] == found.meta["source"] == "user_data"
        assert found.geobox == wanted.geobox and found.meta["effective_gsd"] == wanted.meta["effective_gsd"]


def test_pixels_without_a_place_work_or_say_why(model: str, spec: ModelSpec, options: dict[str, Any]) -> None:
    taken = modalities_of(spec, options.get("variant", spec.default_variant))
    item = spec.inputs[next(iter(taken.values()), tuple(spec.inputs))[0]]
    source = item.sources[-1]
    rng = np.random.default_rng(3)
    pixels = rng.uniform(100, 3000, (len(item.bands), 64, 64)).astype(np.float32)
    data = UserData(pixels, source.sensor, bands=source.bands or item.bands, scale_m=10)
    if spec.requires:
        with pytest.raises(ModelError, match="the data do not say"):
            get_embedding_from_data(model, data, output=GRID, **options)
        return
    found = get_embedding_from_data(model, data, output=GRID, **options)
    assert found.crs is None and found.meta["temporal"] is None and np.isfinite(found.values()).all()
    assert found.meta["geobox"]["shape"] == list(found.shape[1:])


def test_the_metadata_are_whole_and_plain_json(embed: Any, spec: ModelSpec) -> None:
    for output in (POOLED, GRID):
        meta = embed(output=output).meta
        assert json.loads(json.dumps(meta, allow_nan=False)) == meta
        assert not [key for key in META if key not in meta]
        assert meta["model"] == spec.name and meta["type"] == "on_the_fly" and meta["backend"] == "synthetic"
        assert meta["temporal"] == {"mode": "range", "start": "2022-06-01", "end": "2022-08-01"}
        assert meta["pooling"] == ("mean" if output is POOLED else None)
        assert meta["frames"]["requested"] == meta["frames"]["found"] > 0
        scenes = [scene for found in meta["scenes"].values() for scene in found]
        assert scenes and all(s["id"] and s["datetime"].startswith("2022-0") for s in scenes)
        assert spec.citation in meta["citation"] and len(meta["citation"]) >= 2
        assert any("Copernicus Sentinel data 2022" in line for line in meta["attribution"])
        assert {"numpy", "python", "rs-embed"} <= set(meta["versions"])
        if spec.variants[spec.default_variant].checkpoint is not None:
            assert len(meta["checkpoint"]["sha256"]) == 64


def test_the_metadata_name_no_path_user_or_host(embed: Any, options: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(embed().meta)
    private = {
        str(Path.home()),
        str(tmp_path.parent),
        os.getcwd(),
        str(Path(options.get("checkpoint", "/none")).parent),
    }
    private |= {getpass.getuser(), socket.gethostname()} - {"root", "localhost"}
    assert not [word for word in private if len(word) > 3 and word in text]


def test_an_unknown_option_is_told_which_there_are(embed: Any, model: str) -> None:
    accepted = describe_model(model)["model_config"]
    with pytest.raises(ModelError) as caught:
        embed(varient="large")
    assert "'varient'" in str(caught.value)
    assert not [name for name in accepted if name not in str(caught.value)]
    if "variant" in accepted:
        assert "did you mean 'variant'" in str(caught.value)
        with pytest.raises(ModelError, match=r"'huge'.*accepted: ") as caught:
            embed(variant="huge")
        assert not [name for name in accepted["variant"]["choices"] if name not in str(caught.value)]


def test_options_of_the_wrong_kind_are_refused(embed: Any, model: str) -> None:
    for name, option in describe_model(model)["model_config"].items():
        wrong = {"int": "three", "float": "three", "bool": "yes", "str": 3}[option["type"]]
        with pytest.raises(ModelError, match=name):
            embed(**{name: wrong})
        for bound, beyond in (("low", -1), ("high", 1)):
            if bound in option:
                with pytest.raises(ModelError, match=name):
                    embed(**{name: option[bound] + beyond})


@with_weights
def test_a_wrong_checkpoint_is_told_by_its_first_key(embed: Any, options: dict[str, Any], tmp_path: Path) -> None:
    import torch

    with pytest.raises(ModelError, match="not a file"):
        embed(checkpoint=str(tmp_path / "absent.pt"))
    good = torch.load(options["checkpoint"], weights_only=True)
    first, *_, last = good
    half = tmp_path / "half.pt"
    half.write_bytes(Path(options["checkpoint"]).read_bytes()[:100_000])
    cases = {
        "lacking": {k: v for k, v in good.items() if k != last},
        "misshapen": {**good, first: torch.zeros(3, 1, 7)},
    }
    for name, state in cases.items():
        file = tmp_path / f"{name}.pt"
        torch.save(state, file)
        key = (last if name == "lacking" else first).split(".", 1)[-1]
        with pytest.raises(CheckpointError, match=file.name) as caught:
            embed(checkpoint=str(file))
        assert key in str(caught.value), str(caught.value)
        file.unlink()
    with pytest.raises(CheckpointError, match=r"half\.pt.*(truncated|damaged)"):
        embed(checkpoint=str(half))


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    # The side of a block is 256 pixels: to see seams without large regions, and without an option that no user needs.
    return lambda side: monkeypatch.setattr("rs_embed.inference.plan.PIXEL_BLOCK", side)


@pixel_models
def test_a_pixel_model_has_no_seams(embed: Any, tiny_blocks: Callable[[int], None]) -> None:
    whole, vector = embed(output=GRID).values(), embed().data
    for side in (7, 16):
        tiny_blocks(side)
        assert same(embed(output=GRID, fresh=True).values(), whole)
        assert close(embed(fresh=True).data, vector, 1e-6)


@pixel_models
def test_a_pixel_model_ignores_the_input_prep(embed: Any) -> None:
    whole = embed(output=GRID)
    for prep in ("tile", "auto", InputPrepSpec.tile(tile_size=8), None):
        found = embed(output=GRID, input_prep=prep)
        assert np.array_equal(found.values(), whole.values()) and found.geobox == whole.geobox


@pixel_models
def test_a_pixel_models_grid_shifts_with_the_region(embed: Any) -> None:
    x, y = 686_000, 5_330_000
    box = BBox(x, y, x + 200, y + 150, crs="EPSG:32632")
    moved = BBox(x + 10, y - 20, x + 210, y + 130, crs="EPSG:32632")
    one, other = embed(box, output=GRID).values(), embed(moved, output=GRID).values()
    assert same(one[:, 2:, 1:], other[:, :-2, :-1])


@pytest.mark.parametrize("mode", ["resize", "tile", pytest.param("auto", marks=pytest.mark.full)])
def test_every_mode_covers_a_region_larger_than_the_window(embed: Any, spec: ModelSpec, mode: str) -> None:
    window = spec.variants[spec.default_variant].window
    side = int(gsd_of(spec)) * ((window.size or window.max or 40) + 9)
    box = BBox(686_000, 5_330_000, 686_000 + side, 5_330_000 + side // 2, crs="EPSG:32632")
    found = embed(box, output=GRID, input_prep=mode)
    assert found.meta["input_prep"]["requested_mode"] == mode
    left, _, _, top = box.minlon, box.minlat, box.maxlon, box.maxlat
    a, _, c, _, e, f = found.meta["geobox"]["transform"]
    rows, cols = found.meta["geobox"]["shape"]
    assert c <= left + 1e-3 and f >= top - 1e-3
    assert c + a * cols >= box.maxlon - 1e-3 and f + e * rows <= box.minlat + 1e-3
    assert np.isfinite(found.values()).all()
    if spec.locality == "window":
        assert found.meta["input_prep"]["resolved_mode"] == ("resize" if mode == "resize" else "tile")
        assert np.isfinite(embed(box, input_prep=mode).data).all()


class Spoilt(SyntheticProvider):
    """The painted landscape with pixels that no scene shows: NaN in memory, and not valid."""

    def __init__(self, spoil: Callable[[GeoBox], Any]) -> None:
        self.spoil = spoil

    def load(self, request: ImageRequest, parts: Sequence[GeoBox]) -> Any:
        for stack in super().load(request, parts):
            bad = np.broadcast_to(self.spoil(stack.geobox), stack.valid.shape)
            pixels = np.where(bad[:, None], np.float32(np.nan), stack.pixels)
            yield ImageStack(
                pixels,
                stack.valid & ~bad,
                stack.times,
                stack.geobox,
                stack.missing_bands,
                stack.scenes,
                stack.observations,
            )


def first_pixel(geobox: GeoBox) -> Any:
    """Where the pixel of the region's north-western corner is."""
    left, _, _, top = locate(PLACE).shape.bounds
    a, (height, width) = geobox.affine, geobox.shape
    x = a.c + a.a * np.arange(width)[None]
    y = a.f + a.e * np.arange(height)[:, None]
    return (x <= left + 30) & (x + a.a > left + 30) & (y >= top - 30) & (y + a.e < top - 30)


def test_a_nan_pixel_is_masked_and_never_spreads(embed: Any, spec: ModelSpec) -> None:
    clean, spoilt = embed(output=GRID).values(), embed(output=GRID, backend=Spoilt(first_pixel))
    vector = embed(backend=Spoilt(first_pixel))
    assert np.isfinite(vector.data).all()
    assert 0.99 < vector.meta["valid_fraction"] < 1
    grid = spoilt.values()
    gone = ~np.isfinite(grid).all(0)
    if spec.locality == "pixel":
        assert gone.sum() == 1  # the cell itself, and no other
        halo = spec.adapt(spec.variants[spec.default_variant], {}).window.halo
        assert ((grid != clean).any(0)).sum() <= (2 * halo + 1) ** 2
    else:
        assert not gone.any()
    similar = np.sum(vector.data * embed().data) / (np.linalg.norm(vector.data) * np.linalg.norm(embed().data))
    assert similar > 0.9


@quiet
def test_half_a_region_without_data_counts_what_is_left(embed: Any, spec: ModelSpec) -> None:
    east = locate(PLACE).shape.centroid.x + 1.5 * gsd_of(spec)

    def west(geobox: GeoBox) -> Any:
        return (geobox.affine.c + geobox.affine.a * (np.arange(geobox.shape[1]) + 0.5) < east)[None, None]

    found = embed(backend=Spoilt(west))
    assert np.isfinite(found.data).all()
    assert found.meta["valid_fraction"] < 0.5
    assert any("less than half" in note for note in found.meta["warnings"])
    with pytest.warns(UserWarning, match="less than half"):
        embed(backend=Spoilt(west), fresh=True)


def test_a_region_without_a_valid_pixel_is_no_imagery(model: str, embed: Any, options: dict[str, Any]) -> None:
    nothing = Spoilt(lambda geobox: np.ones((1, 1), bool))
    for output in (POOLED, GRID, OutputSpec.pooled("max")):
        with pytest.raises(NoImageryError, match=r"no usable pixel.*2022-06-01/2022-08-01.*clear fraction"):
            embed(output=output, backend=nothing)


def test_a_span_without_scenes_names_the_nearest(embed: Any) -> None:
    with pytest.raises(NoImageryError) as caught:
        embed(temporal=TemporalSpec.range("2022-06-04T00:00", "2022-06-04T12:00"), fetch=FetchSpec(cloudy_pct=0))
    said = str(caught.value)
    assert "2022-06-04" in said and "sentinel" in said and "nearest dates: 2022-" in said


def test_a_failed_region_is_nan_of_the_planned_shape(model: str, spec: ModelSpec, options: dict[str, Any]) -> None:
    empty = TemporalSpec.range("2022-06-04T00:00", "2022-06-04T12:00")
    for output in (POOLED, GRID, OutputSpec.pooled("stats")):
        good, bad = get_embeddings_batch(
            model,
            spatials=[PLACE, PLACE],
            temporal=[SPAN, empty],
            fetch=FetchSpec(cloudy_pct=50),
            backend="synthetic",
            output=output,
            on_error="return",
            **options,
        )
        assert good.ok and not bad.ok and "NoImageryError" in bad.meta["error"]
        assert bad.shape == good.shape and np.isnan(bad.values()).all()
        assert json.loads(json.dumps(bad.meta, allow_nan=False)) == bad.meta
        assert bad.geobox == good.geobox


@quiet
@pytest.mark.parametrize("output", [POOLED, GRID], ids=["pooled", "grid"])
def test_a_polygon_is_its_own_cells_only(embed: Any, spec: ModelSpec, output: OutputSpec) -> None:
    polygon = scale(POLYGON, *[gsd_of(spec) / 10] * 2)  # as many cells of a model with larger pixels
    found = embed(polygon, output=output)
    if output is GRID:
        grid = found.values()
        outside = np.isnan(grid[0])
        assert 0 < outside.mean() < 0.7
        assert (np.isnan(grid) == outside).all()
        coverage = locate(Polygon(polygon)).coverage(geobox_of(found))
        assert ((coverage == 0) == outside).all()
    else:
        assert np.isfinite(found.data).all()
        assert found.meta["region_exact"] is (spec.pooled == "cells")
        if spec.pooled == "window":
            with pytest.warns(UserWarning, match="polygon"):
                embed(polygon, fresh=True)


FAR = {
    "across 180°": BBox(179.9985, 10.0, -179.9985, 10.003),
    "at 180°": PointBuffer(180, -16.5, 165),
    "at the North Pole": PointBuffer(0, 90, 165),
    "at the South Pole": PointBuffer(0, -90, 165),
    "at 78° N": PointBuffer(15.6, 78.2, 165),
}


@quiet
@pytest.mark.parametrize("place", FAR)
def test_it_works_anywhere_on_earth(embed: Any, place: str) -> None:
    span = SPAN if "South" not in place else TemporalSpec.range("2022-01-01", "2022-03-01")
    found = embed(FAR[place], output=GRID, temporal=span, fetch=FetchSpec(cloudy_pct=100))
    grid = found.values()
    assert np.isfinite(grid).any(0).mean() > 0.8
    assert len(np.unique(grid[0][np.isfinite(grid[0])])) > 1 or grid[0].size == 1
    assert found.meta["geobox"]["crs"].startswith("EPSG:32")


@pytest.mark.full
@which(lambda spec: shallow(spec) is not spec)
def test_a_large_net_runs_at_its_own_size(model: str, embed: Any, at_full_size: dict[str, Any]) -> None:
    wanted = dims(get_spec(model), at_full_size)
    for output in (POOLED, GRID):
        found = embed(output=output, fresh=True, **at_full_size)
        assert found.shape[0] == wanted["pooled" if output is POOLED else "grid"]
        assert np.isfinite(found.values()).all()
