"""Clay as the catalogue declares it: from sensor values to vectors, told pixel size, place and time."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rs_embed import (
    OutputSpec,
    PointBuffer,
    SensorSpec,
    TemporalSpec,
    UserData,
    get_embedding,
    get_embedding_from_data,
    reset_runtime,
)
from rs_embed.core import registry
from rs_embed.core.encoding import Batch, Features, InputBatch
from rs_embed.core.errors import ModelError, SpecError
from rs_embed.core.model_spec import Build, Source
from rs_embed.core.sensors import SENSORS
from rs_embed.inference.golden import GoldenFile
from rs_embed.inference.setup import resolve
from rs_embed.models.clay import COLLECTIONS, MODELS, ClaySensors, foreign, latlon_code, time_code
from rs_embed.nets.clay import ClayEncoder
from rs_embed.providers.synthetic import SyntheticProvider

(SPEC,) = MODELS
GOLDEN = GoldenFile.open(Path(__file__).parents[1] / "golden" / "clay.json")
STATED = GOLDEN.described["normalization"]
FILE_OF = {
    "s2": "sentinel-2-l2a",
    "s1": "sentinel-1-rtc",
    "landsat": "landsat-c2l2-sr",
    "naip": "naip",
    "modis": "modis",
}
OTHERS = sorted(set(COLLECTIONS) - set(FILE_OF.values()))
PLACE, SPAN = PointBuffer(11.5, 48.1, 150), TemporalSpec.range("2022-06-01", "2022-08-01")
SMALL = {"patch_size": 8, "dim": 48, "depth": 2, "heads": 2, "dim_head": 16, "mlp_ratio": 2}
MORNING = TemporalSpec.range("2022-06-08T10:00:30", "2022-06-08T10:20:30")


def through(source: Source, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """All steps of a source on one frame ``(C, H, W)``."""
    frames = values[None]
    for step in source.steps:
        frames = step(frames)
    return frames[0]


def assert_normalised(got: NDArray[Any], wanted: NDArray[Any], bands: tuple[str, ...]) -> None:
    """Each band by itself, so that none hides another."""
    assert got.shape == wanted.shape
    for name, ours, theirs in zip(bands, got, wanted, strict=True):
        assert (np.abs(ours - theirs) <= 1e-5 + 1e-5 * np.abs(theirs)).all(), name


@pytest.fixture
def embed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Embed data of one's own, or a place of the painted landscape, with a narrow net."""
    variant = dataclasses.replace(SPEC.variants["v1.5"], config=SMALL, dims={"pooled": 48, "grid": 48})
    spec = dataclasses.replace(SPEC, variants={"v1.5": variant})
    torch.manual_seed(0)
    file = tmp_path / "clay.ckpt"
    state = SPEC.encoder(Build(variant, {}, {}, {})).net.state_dict()
    teacher = {"model.teacher.norm.weight": torch.ones(3)}
    torch.save({"state_dict": {f"model.encoder.{k}": v for k, v in state.items()} | teacher, "epoch": 3}, file)
    monkeypatch.setitem(registry._registered, "clay", spec)
    reset_runtime()

    def run(data: UserData | None = None, **more: Any) -> Any:
        if data is not None:
            return get_embedding_from_data("clay", data, checkpoint=str(file), **more)
        call = {"spatial": PLACE, "temporal": SPAN, "backend": "synthetic", "checkpoint": str(file)} | more
        return get_embedding("clay", **call)

    yield run
    reset_runtime()


def own(side: int = 64, bands: tuple[str, ...] | None = None, **more: Any) -> UserData:
    names = bands or SPEC.inputs["s2"].bands
    values = np.random.default_rng(2).uniform(100, 4000, (len(names), side, side)).astype(np.float32)
    return UserData(values, "s2", bands=list(names), scale_m=10, **more)


@pytest.mark.parametrize("name", FILE_OF)
def test_raw_values_end_at_the_authors_normalised_ones(name: str) -> None:
    collection = FILE_OF[name]
    raw = GOLDEN.normalization_inputs(collection)[collection]
    if name == "landsat":  # digital numbers, which providers turn into reflectance * 10 000
        raw = ((raw.astype(np.float64) * 2.75e-5 - 0.2) * 10_000).astype(np.float32)
    (source,) = SPEC.inputs[name].sources
    assert_normalised(through(source, raw), GOLDEN.arrays[f"norm/{collection}"], SPEC.inputs[name].bands)


@pytest.mark.parametrize("collection", OTHERS)
def test_data_of_ones_own_by_the_authors_collection(collection: str) -> None:
    raw = GOLDEN.normalization_inputs(collection)[collection]
    names = STATED["bands"][collection]
    data = UserData(raw, collection.upper(), bands=names, wavelengths=STATED["wavelength"][collection], scale_m=1)
    order = tuple(reversed(names))
    source = foreign(data.sensor, order)
    wanted = GOLDEN.arrays[f"norm/{collection}"][::-1]
    assert_normalised(through(source, raw[::-1]), wanted, order)
    assert source.trained_on is (collection in ("linz", "landsat-c2l1"))
    with pytest.raises(ModelError, match=rf"no band 'thermal' of {collection.lower()}; its bands are {names[0]}"):
        foreign(data.sensor, (names[0], "thermal"))


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_the_table_is_the_authors(collection: str) -> None:
    ours = COLLECTIONS[collection]
    assert list(ours.bands) == STATED["bands"][collection] and ours.gsd == STATED["gsd"][collection]
    assert list(ours.mean) == STATED["mean"][collection]
    assert list(ours.normalize.std) == STATED["std"][collection]
    assert list(ours.wavelengths) == STATED["wavelength"][collection]


@pytest.mark.parametrize("name", FILE_OF)
def test_bands_are_in_the_authors_order_and_filled_with_their_means(name: str) -> None:
    item = SPEC.inputs[name]
    (source,) = item.sources
    sensor = SENSORS[source.sensor]
    told = dict(zip(item.bands, source.wavelengths, strict=True))
    assert source.wavelengths == COLLECTIONS[FILE_OF[name]].wavelengths and item.gsd == COLLECTIONS[FILE_OF[name]].gsd
    if name != "s1":
        assert all(abs(sensor.band(band).wavelength - told[band]) < 0.02 for band in item.bands)
    filled = np.array(item.fill, np.float32)[:, None, None]
    assert np.abs(through(source, filled)).max() < 1e-3


def test_some_bands_in_any_order_keep_their_own_statistics() -> None:
    (item,) = resolve(SPEC, SyntheticProvider(), sensor=SensorSpec("s2", ("B12", "B2"))).inputs.values()
    assert item.wavelengths == (2.19, 0.493) and item.fill == (1835.0, 1105.0)
    raw = GOLDEN.normalization_inputs("sentinel-2-l2a")["sentinel-2-l2a"]
    assert_normalised(through(item.source, raw[[9, 0]]), GOLDEN.arrays["norm/sentinel-2-l2a"][[9, 0]], item.bands)


def test_other_reflectances_are_normalised_as_the_nearest_band() -> None:
    source = foreign(SENSORS["hls-l30"], ("B05", "B02"))
    assert not source.trained_on and source.fill == (2785.0, 1105.0)
    assert source.steps[0].describe()["of"] == {"B05": "B8A", "B02": "B2"}
    assert np.allclose(through(source, np.array([4000, 2000], np.float32)[:, None, None])[:, 0, 0], (0.73726, 0.49475))


def test_further_bands_of_sentinel_2_leave_the_others_as_they_were(embed: Any) -> None:
    found = embed(sensor=SensorSpec("s2", ("B8A", "B1")))
    assert found.meta["conditioning"]["wavelengths"] == {"s2": [0.865, 0.4427]}
    assert found.meta["normalization"]["s2"][0]["of"] == {"B8A": "B8A", "B1": "B2"}
    assert found.meta["inputs"]["s2"]["trained_on"]


@pytest.mark.parametrize(
    ("sensor", "band", "said"),
    [("sentinel-2-l2a", "SCL", "'SCL'.*not known"), ("naip", "R", "is in grey level"), ("dem", "slope", "m; degrees")],
)
def test_bands_that_it_cannot_take_are_named(sensor: str, band: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        foreign(SENSORS[sensor], (band,))


def test_the_time_is_the_authors() -> None:
    told = GOLDEN.case("s2").inputs["time"]
    times = np.array(["2022-06-08T10:20", "2022-12-07T15:59:59"], "datetime64[s]")
    assert np.abs(time_code(times, np.zeros(2), None) - told).max() <= 1e-6


def test_the_place_is_the_authors() -> None:
    told = GOLDEN.case("s2").inputs["latlon"]
    assert np.abs(latlon_code(np.array([[11.6, 48.1], [-70.6, -33.4]])) - told).max() <= 1e-6


def test_what_is_unknown_is_zero() -> None:
    nothing = np.array([math.nan])
    assert not time_code(np.array(["NaT"], "datetime64[s]"), nothing, 10.5).any()
    assert not latlon_code(np.full((1, 2), math.nan)).any()


@pytest.mark.parametrize(("longitude", "hour"), [(0.0, 10), (11.5, 9), (-120.0, 18), (170.0, 23), (-179.0, 22)])
@pytest.mark.parametrize("middle", ["2022-07-16T00:00:00", "2022-07-16T12:00:00"])
def test_a_composites_hour_follows_from_the_orbit(longitude: float, hour: int, middle: str) -> None:
    code = time_code(np.array([middle], "datetime64[s]"), np.array([longitude]), 10.5)[0]
    angle = 2 * np.pi * hour / 24
    assert np.abs(code[2:] - (np.sin(angle), np.cos(angle))).max() <= 1e-6
    assert np.abs(code[:2] - (np.sin(2 * np.pi * 28 / 52), np.cos(2 * np.pi * 28 / 52))).max() <= 1e-6


@pytest.mark.parametrize(("longitude", "local"), [(11.5, None), (math.nan, 10.5)])
def test_without_orbit_or_place_a_composites_hour_is_unknown(longitude: float, local: float | None) -> None:
    code = time_code(np.array(["2022-07-16"], "datetime64[s]"), np.array([longitude]), local)[0]
    assert code[:2].any() and not code[2:].any()


def batch(values: NDArray[np.float32], times: Any, lonlat: Any, gsd: Any) -> Batch:
    count, bands, side, _ = values.shape
    given = InputBatch(
        pixels=torch.from_numpy(values[:, None]),
        valid=torch.ones(count, 1, side, side, dtype=torch.bool),
        times=np.array(times, "datetime64[s]")[:, None],
        bands=tuple(f"b{i}" for i in range(bands)),
        missing_bands=(),
        wavelengths=np.linspace(0.5, 2.2, bands),
        bandwidths=np.full(bands, np.nan),
        gsd=np.array(gsd, np.float64),
    )
    return Batch({"s2": given}, np.ones((count, side // 8, side // 8), np.float32), np.array(lonlat, np.float64))


def encode(given: Batch) -> Features:
    torch.manual_seed(0)
    encoder = ClaySensors(ClayEncoder(**SMALL).eval(), "sentinel-2-l2a")
    with torch.inference_mode():
        return encoder(given)


def test_each_sample_has_its_own_pixel_size_place_and_time() -> None:
    values = np.random.default_rng(0).standard_normal((3, 4, 32, 32)).astype(np.float32)
    values[1:] = values[0]
    told = (["2022-06-08T10:20", "2022-12-07T15:00", "NaT"], [(11.6, 48.1), (-70.6, -33.4), (math.nan, math.nan)])
    sizes = [10, 500, 0.5]
    together = encode(batch(values, *told, sizes))
    for i in range(3):
        alone = encode(batch(values[i : i + 1], told[0][i : i + 1], told[1][i : i + 1], sizes[i : i + 1]))
        for got, wanted in ((together.pooled[i : i + 1], alone.pooled), (together.grid[i : i + 1], alone.grid)):
            assert float((got - wanted).abs().max() / wanted.abs().max()) <= 5e-6
    assert float((together.pooled[0] - together.pooled[1]).abs().max()) > 1e-3
    assert together.grid.shape == (3, 48, 4, 4) and together.pooled.shape == (3, 48)


def test_the_vector_is_the_class_token() -> None:
    values = np.random.default_rng(0).standard_normal((1, 4, 32, 32)).astype(np.float32)
    found = encode(batch(values, ["2022-06-08T10:20"], [(11.6, 48.1)], [10]))
    torch.manual_seed(0)
    net = ClayEncoder(**SMALL).eval()
    time = time_code(np.array(["2022-06-08T10:20"], "datetime64[s]"), np.array([11.6]), None)
    told = {"time": torch.from_numpy(time), "latlon": torch.from_numpy(latlon_code(np.array([[11.6, 48.1]])))}
    with torch.inference_mode():
        patches = net.embed(
            torch.from_numpy(values), gsd=torch.tensor([10.0]), waves=torch.linspace(0.5, 2.2, 4), **told
        )
        tokens = net.encode(patches.flatten(1, 2))
    assert float((found.pooled - tokens[:, 0]).abs().max()) <= 1e-6
    assert float((found.grid.flatten(2).mT - tokens[:, 1:]).abs().max()) <= 1e-6


def test_place_time_and_pixel_size_reach_the_net_and_the_metadata(embed: Any) -> None:
    vectors = {}
    for name, more in {
        "nothing": {},
        "place": {"spatial": PLACE},
        "other place": {"spatial": PointBuffer(-70.6, -33.4, 150)},
        "time": {"temporal": MORNING},
        "both": {"spatial": PLACE, "temporal": MORNING},
    }.items():
        found = embed(own(**more))
        vectors[name] = found.data
        told = found.meta["conditioning"]
        assert (told["place"] is None) is ("place" not in name and name != "both")
        assert (told["time"]["s2"] == [None]) is (name not in ("time", "both"))
        assert told["gsd"] == {"s2": 10.0}
    names = list(vectors)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not np.allclose(vectors[one], vectors[other], rtol=1e-4, atol=1e-4), (one, other)


def test_the_size_of_a_pixel_is_told(embed: Any) -> None:
    values = own().data
    one, other = (embed(UserData(values, "s2", bands=list(SPEC.inputs["s2"].bands), scale_m=m)) for m in (10, 20))
    assert other.meta["conditioning"]["gsd"] == {"s2": 20.0}
    assert not np.allclose(one.data, other.data, rtol=1e-3)


@pytest.mark.parametrize(("side", "window", "grid"), [(8, 8, 1), (20, 24, 3), (64, 64, 8), (100, 104, 13)])
def test_an_array_is_taken_as_it_is_up_to_whole_patches(embed: Any, side: int, window: int, grid: int) -> None:
    found = embed(own(side), output=OutputSpec.grid())
    assert found.meta["image_size"] == window and found.shape == (48, grid, grid)


def test_a_small_region_grows_over_the_imagery_around_it(embed: Any) -> None:
    found = embed(output=OutputSpec.grid())
    assert found.meta["image_size"] == 64 and 4 <= found.shape[1] <= 6, "cells of the region only"
    assert found.meta["effective_gsd"] == 10.0


@pytest.mark.filterwarnings("ignore:the effective ground sample:UserWarning")
def test_a_large_region_is_one_window_of_256_with_larger_pixels(embed: Any) -> None:
    found = embed(spatial=PointBuffer(11.5, 48.1, 3000))
    assert found.meta["image_size"] == 256
    assert found.meta["conditioning"]["gsd"]["s2"] == found.meta["effective_gsd"] > 20


def test_an_array_below_a_patch_is_refused(embed: Any) -> None:
    with pytest.raises(ModelError, match=r"7 x 7 pixels.*8 x 8"):
        embed(own(7))


def test_missing_bands_leave_the_others(embed: Any) -> None:
    found = embed(own(bands=("B8", "B4", "B3")))
    assert found.meta["inputs"]["s2"]["bands"] == ["B3", "B4", "B8"]
    with pytest.raises((ModelError, SpecError), match="B99"):
        embed(own(bands=("B8", "B99")))


def test_planetscope_by_its_collection(embed: Any) -> None:
    values = np.random.default_rng(1).uniform(500, 4000, (4, 96, 96)).astype(np.float32)
    names, waves = ["blue", "green", "red", "nir"], [0.49, 0.565, 0.665, 0.865]
    data = UserData(values, "planetscope-sr", bands=names, wavelengths=waves, scale_m=3)
    found = embed(data)
    assert found.meta["conditioning"]["gsd"] == {"s2": 3.0}
    assert found.meta["conditioning"]["wavelengths"] == {"s2": waves}
    (step,) = found.meta["normalization"]["s2"]
    assert step["mean"] == [1715.0, 2088.0, 2290.0, 3970.0]


@pytest.mark.parametrize(
    ("collection", "bands", "scale", "modality"),
    [
        ("sentinel-1-rtc", ["VV", "VH"], 10, "s1"),
        ("landsat-c2l2-sr", [f"SR_B{i}" for i in (2, 3, 4, 5, 6, 7)], 30, "landsat"),
        ("USDA/NAIP/DOQQ", ["R", "G", "B", "N"], 1, "naip"),
        ("MODIS/061/MOD09GA", [f"sur_refl_b0{i}" for i in range(1, 8)], 500, "modis"),
    ],
)
def test_the_collection_says_which_input_is_meant(
    embed: Any, collection: str, bands: list[str], scale: float, modality: str
) -> None:
    low, high = {"s1": (-25, 0), "naip": (0, 255)}.get(modality, (100, 4000))
    values = np.random.default_rng(4).uniform(low, high, (len(bands), 64, 64)).astype(np.float32)
    found = embed(UserData(values, collection, bands=bands, scale_m=scale))
    assert found.meta["modality"] == modality and found.meta["effective_gsd"] == scale
    assert np.isfinite(found.data).all() and not found.meta["warnings"]


def test_the_declared_size_is_the_nets() -> None:
    variant = SPEC.variants["v1.5"]
    with torch.device("meta"):
        net = SPEC.encoder(Build(variant, {}, {}, {})).net
    assert sum(each.numel() for each in net.parameters()) == variant.parameters
    assert set(variant.dims.values()) == {net.token_dim} and net.patch_size == variant.window.patch
    assert variant.window.max is not None and variant.window.max % variant.window.multiple == 0


def test_the_other_librarys_option_means_the_only_size(embed: Any) -> None:
    assert np.array_equal(embed(own(), model_size="large").data, embed(own()).data)
    with pytest.raises(ModelError, match=r"model_size='base'.*'large'"):
        embed(own(), model_size="base")
