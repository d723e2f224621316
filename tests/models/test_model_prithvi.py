"""Prithvi as the catalogue declares it: from digital numbers, dates and places to cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rs_embed import (
    Embedding,
    ModelError,
    OutputSpec,
    PointBuffer,
    TemporalSpec,
    UserData,
    get_embedding,
    get_embedding_from_data,
    reset_runtime,
)
from rs_embed.core.encoding import Batch, Encoder, Features, InputBatch
from rs_embed.core.errors import CheckpointError
from rs_embed.core.model_spec import Build, Variant
from rs_embed.core.sensors import SENSORS, canonical_bands
from rs_embed.inference.golden import GoldenFile
from rs_embed.inference.weights import load_weights
from rs_embed.models.prithvi import MODELS, STATISTICS, PrithviFrames
from rs_embed.nets.prithvi import PrithviEncoder, encoder_state
from rs_embed.preprocess.fill import fill_invalid

(SPEC,) = MODELS
GOLDEN = GoldenFile.open(Path(__file__).parents[1] / "golden" / "prithvi.json")
INPUTS = {"v1": SPEC.inputs["hls_v1"], "v2": SPEC.inputs["hls"]}
COMMON = ("BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2")
SPAN = TemporalSpec.range("2022-06-01", "2022-08-01")
PLACE = PointBuffer(11.5, 48.1, 300)
SMALL = {"img_size": 32, "patch_size": 16, "num_frames": 2, "in_chans": 6, "embed_dim": 32, "depth": 1, "num_heads": 2}

Pixels = NDArray[np.float32]


def adapted(variant: str = "v2_tiny_tl", **options: Any) -> Variant:
    values = {name: option.default for name, option in SPEC.options.items()} | options
    return SPEC.adapt(SPEC.variants[variant], values)


def drawn(**config: Any) -> PrithviFrames:
    torch.manual_seed(0)
    encoder = PrithviFrames(PrithviEncoder(**(SMALL | {"coords_encoding": ("time", "location")} | config)))
    encoder.net.eval()
    return encoder


def prepared(raw: Pixels, valid: NDArray[np.bool_] | None = None, version: str = "v2") -> Pixels:
    """Frames ``(T, C, H, W)`` of digital numbers as the road prepares them."""
    item = INPUTS[version]
    seen = np.ones((len(raw), *raw.shape[2:]), bool) if valid is None else valid
    raw = fill_invalid(raw, seen, (), item.fill)
    for step in item.sources[0].steps:
        raw = step(raw)
    return raw


def batch(x: Pixels, times: Any = None, lonlat: Any = ((11.5, 48.1),)) -> Batch:
    count, frames, bands, side, _ = x.shape
    if times is None:
        times = [["2022-03-01", "2022-07-01", "2022-12-31"][:frames]] * count
    given = InputBatch(
        pixels=torch.from_numpy(x),
        valid=torch.ones(count, frames, side, side, dtype=torch.bool),
        times=np.array(times, "datetime64[s]"),
        bands=INPUTS["v2"].bands,
        missing_bands=(),
        wavelengths=np.full(bands, np.nan),
        bandwidths=np.full(bands, np.nan),
        gsd=np.full(count, 30.0),
    )
    cells = np.ones((count, side // 16, side // 16), np.float32)
    return Batch({"hls": given}, cells, np.broadcast_to(np.array(lonlat, np.float64), (count, 2)))


def run(encoder: Encoder, given: Batch) -> Features:
    with torch.inference_mode():
        return encoder(given)


def noise(count: int = 1, frames: int = 2, side: int = 32) -> Pixels:
    return np.random.default_rng(5).standard_normal((count, frames, 6, side, side)).astype(np.float32)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_digital_numbers_become_the_authors_values(version: str) -> None:
    raw = GOLDEN.normalization_inputs(version)[version]
    got = prepared(raw[None].astype(np.float32), (raw != -9999).all(axis=0)[None], version)[0]
    wanted = GOLDEN.arrays[f"norm/{version}"]
    for band, authors in zip(got, wanted, strict=True):
        assert np.abs(band - authors).max() <= 1e-6
    assert np.abs(got[:, 0, 0] - 1e-4).max() <= 6e-8, "no data"


def test_known_digital_numbers() -> None:
    """The examples of what goes wrong where they are only divided by 10 000."""
    raw = np.zeros((1, 6, 1, 1), np.float32)
    raw[0, :, 0, 0] = (1087, 1342, 1433, 4000, 1958, 1363)
    assert prepared(raw)[0, :, 0, 0].tolist() == pytest.approx([0, 0, 0, 0.684, 0, 0], abs=1e-3)


@pytest.mark.parametrize("name", INPUTS)
def test_every_sensor_gives_the_same_six_bands(name: str) -> None:
    item = INPUTS[name]
    assert [source.sensor for source in item.sources if source.trained_on] == ["hls-s30", "hls-l30"]
    for source in item.sources:
        assert canonical_bands(SENSORS[source.sensor], COMMON) == (source.bands or item.bands)
        assert SENSORS[source.sensor].units == "reflectance * 10000"


@pytest.mark.parametrize("case", ["tl_t3", "v1_t3", "tl_t1"])
def test_raw_values_dates_and_places_give_the_authors_vectors(case: str) -> None:
    golden = GOLDEN.case(case)
    net = PrithviEncoder(**{name: value for name, value in golden.config.items() if name != "class"}).eval()
    net.load_state_dict(encoder_state({name: torch.from_numpy(value) for name, value in golden.state.items()}))
    version = case[:2] if case.startswith("v") else "v2"
    mean, std = (np.array(each)[:, None, None] for each in STATISTICS[version])
    raw = golden.inputs["pixel_values"].swapaxes(1, 2) * std + mean  # (N, C, T, H, W) -> (N, T, C, H, W)
    x = np.stack([prepared(each.astype(np.float32), version=version) for each in raw])
    given = batch(x)
    if "temporal_coords" in golden.inputs:
        year, day = np.moveaxis(golden.inputs["temporal_coords"], -1, 0).astype(np.int64)
        times = (year - 1970).astype("datetime64[Y]").astype("datetime64[D]") + (day - 1)
        given = batch(x, times.astype("datetime64[s]"), golden.inputs["location_coords"][:, ::-1])
    found = run(PrithviFrames(net), given)
    tokens = torch.from_numpy(GOLDEN.arrays[f"{case}/out/tokens"])[:, 1:]
    frames, side = x.shape[1], int((tokens.shape[1] // x.shape[1]) ** 0.5)
    wanted = tokens.reshape(len(x), frames, side, side, -1).mean(dim=1).permute(0, 3, 1, 2)
    assert found.grid.shape == wanted.shape
    assert float((found.grid - wanted).abs().max() / wanted.abs().max()) <= 2e-5
    pooled = torch.from_numpy(GOLDEN.arrays[f"{case}/out/mean"])
    assert float((found.grid.mean((2, 3)) - pooled).abs().max() / pooled.abs().max()) <= 2e-5


def test_the_net_is_told_year_day_latitude_and_longitude() -> None:
    encoder, x = drawn(), noise()
    found = run(encoder, batch(x, [["2020-12-31T23:00", "2021-01-01"]], [(-70.25, 12.5)]))
    when = torch.tensor([[[2020.0, 366.0], [2021.0, 1.0]]])
    with torch.inference_mode():
        tokens = encoder.net(torch.from_numpy(x).transpose(1, 2), when, torch.tensor([[12.5, -70.25]]))
    assert torch.equal(found.grid, tokens[:, 1:].reshape(1, 2, 2, 2, -1).mean(1).permute(0, 3, 1, 2))


def test_what_is_unknown_is_not_told() -> None:
    encoder, x = drawn(), noise()
    nowhere, never = [(np.nan, np.nan)], [["NaT", "2021-01-01"]]

    def alone(when: torch.Tensor | None, where: torch.Tensor | None) -> torch.Tensor:
        with torch.inference_mode():
            tokens = encoder.net(torch.from_numpy(x).transpose(1, 2), when, where)[:, 1:]
        return tokens.reshape(1, 2, 2, 2, -1).mean(1).permute(0, 3, 1, 2)

    assert torch.equal(run(encoder, batch(x, never, nowhere)).grid, alone(None, None))
    where = torch.tensor([[48.1, 11.5]])
    assert torch.equal(run(encoder, batch(x, never)).grid, alone(None, where))
    assert not torch.equal(run(encoder, batch(x)).grid, alone(None, where))


def test_variants_without_coordinates_are_not_told_them() -> None:
    encoder, x = drawn(coords_encoding=None), noise()
    here, there = batch(x), batch(x, [["1999-01-01", "1999-05-05"]], [(-3.0, 60.0)])
    assert torch.equal(run(encoder, here).grid, run(encoder, there).grid)
    told = {name: variant.conditions for name, variant in SPEC.variants.items()}
    assert {name for name, each in told.items() if each == ("place", "time")} == {n for n in told if n.endswith("_tl")}
    assert all(told[name] == () for name in ("v1_100", "v2_300", "v2_600"))


def test_a_sample_is_the_same_alone_and_beside_others() -> None:
    encoder, x = drawn(), noise(count=2)
    times, places = [["2020-01-01", "2020-02-01"], ["2023-06-01", "2023-07-01"]], [(11.5, 48.1), (-60.0, -20.0)]
    together = run(encoder, batch(x, times, places)).grid
    for i in range(2):
        alone = run(encoder, batch(x[i : i + 1], times[i : i + 1], places[i : i + 1])).grid
        assert float((alone - together[i : i + 1]).abs().max() / together.abs().max()) <= 2e-6


def test_half_precision_runs() -> None:
    encoder, given = drawn(), batch(noise())
    wanted = run(encoder, given).grid
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run(encoder, given).grid.float()
    assert float((got - wanted).abs().max() / wanted.abs().max()) <= 0.05


@pytest.mark.parametrize("variant", SPEC.variants)
def test_a_variant_is_as_declared(variant: str) -> None:
    declared = SPEC.variants[variant]
    with torch.device("meta"):
        net = SPEC.encoder(Build(declared, {}, {}, {})).net
    assert sum(each.numel() for each in net.parameters()) == declared.parameters
    assert set(declared.dims.values()) == {net.embed_dim}
    window = declared.window
    assert net.patch == (1, window.patch, window.patch) and net.native == (224 // window.patch,) * 2
    assert (window.min, window.multiple, window.max, window.context) == (window.patch, window.patch, 224, 224)
    assert declared.checkpoint is not None and declared.checkpoint.repository is not None
    name = declared.checkpoint.file
    described = GOLDEN.described["published"][variant]["file"]
    assert described == f"{declared.checkpoint.repository} (HF): {name}"


def test_options_make_the_frames() -> None:
    def of(variant: str = "v2_300", **options: Any) -> tuple[Any, int]:
        frames = adapted(variant, **options).frames
        assert frames is not None and frames.missing == "drop" and frames.min == 1
        return frames.step, frames.max

    assert of() == ("whole", 12), "one composite; an array's own frames as they are"
    assert of(temporal_mode="single") == of(temporal_mode="single", n_frames=1) == ("whole", 1)
    assert of(temporal_mode="multi") == of("v2_tiny_tl", temporal_mode="multi") == (4, 12)
    assert of("v1_100", temporal_mode="multi") == (3, 12)
    assert of(n_frames=6) == of(temporal_mode="multi", n_frames=6) == (6, 12)
    with pytest.raises(ModelError, match="n_frames=5"):
        of(temporal_mode="single", n_frames=5)


def test_weights_of_another_variant_are_named(tmp_path: Path) -> None:
    with torch.device("meta"):
        net = SPEC.encoder(Build(SPEC.variants["v2_tiny_tl"], {}, {}, {})).net
        other = SPEC.encoder(Build(SPEC.variants["v2_100_tl"], {}, {}, {}))
    state = {f"encoder.{name}": torch.zeros(value.shape) for name, value in net.state_dict().items()}
    torch.save(state, tmp_path / "tiny.pt")
    build = Build(SPEC.variants["v2_100_tl"], {}, {}, {})
    with pytest.raises(CheckpointError, match=r"cls_token.*fits the variant 'v2_tiny_tl'"):
        load_weights(other, SPEC, "v2_100_tl", build, checkpoint=tmp_path / "tiny.pt")


@pytest.fixture(scope="module")
def embed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Embed with the smallest variant and drawn weights: an array, or a region of the painted landscape."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("prithvi") / "tiny.pt"
    torch.save(SPEC.encoder(Build(adapted(), {}, {}, {})).net.state_dict(), file)

    def run(data: Any = None, **more: Any) -> Embedding:
        chosen = {"variant": "v2_tiny_tl", "checkpoint": str(file)} | more
        if data is not None:
            return get_embedding_from_data("prithvi", data, **chosen)
        return get_embedding("prithvi", spatial=PLACE, temporal=SPAN, backend="synthetic", **chosen)

    yield run
    reset_runtime()


Embed = Callable[..., Embedding]


def reflectance(*shape: int) -> Pixels:
    return np.random.default_rng(3).uniform(100, 3000, shape).astype(np.float32)


def hls(pixels: Pixels, **more: Any) -> UserData:
    return UserData(pixels, "hls-s30", bands=COMMON, **({"scale_m": 30} | more))


def test_a_small_region_is_seen_with_what_is_around_it(embed: Embed) -> None:
    found = embed(output=OutputSpec.grid())
    assert found.meta["input_prep"]["window_px"] == [224, 224] and found.meta["effective_gsd"] == 30
    assert found.shape[0] == 192 and max(found.shape[1:]) <= 3, "600 m in cells of 480 m"
    assert found.meta["inputs"]["hls"]["bands"] == ["B2", "B3", "B4", "B8A", "B11", "B12"]
    assert any("fed with sentinel-2-l2a, trained on hls-s30, hls-l30" in note for note in found.meta["warnings"])
    told = found.meta["conditioning"]
    assert told["place"] == pytest.approx([11.5, 48.1], abs=1e-6) and told["time"]["hls"][0].startswith("2022-0")


def test_parts_of_the_span_are_frames(embed: Embed) -> None:
    one, three = embed(), embed(n_frames=3)
    assert one.meta["frames"]["requested"] == 1 and three.meta["frames"]["requested"] == 3
    assert len(three.meta["frames"]["times"]["hls"]) == 3
    assert not np.allclose(one.data, three.data, atol=1e-3)


def test_an_array_smaller_than_a_window_is_taken_as_it_is(embed: Embed) -> None:
    found = embed(hls(reflectance(6, 48, 32)), output=OutputSpec.grid())
    assert found.shape == (192, 3, 2) and found.meta["valid_fraction"] == 1
    assert found.meta["input_prep"]["window_px"] == [48, 32]
    assert found.meta["conditioning"] == {"place": None, "time": {"hls": [None]}}


def test_a_frame_of_cloud_is_left_out(embed: Embed) -> None:
    pixels = reflectance(3, 6, 32, 32)
    spans = [TemporalSpec.range(f"2022-0{month}-01", f"2022-0{month + 1}-01") for month in (3, 5, 7)]
    pixels[1] = np.nan
    cloudy = embed(hls(pixels, temporal=spans))
    clear = embed(hls(pixels[[0, 2]], temporal=[spans[0], spans[2]]))
    assert np.allclose(cloudy.data, clear.data, atol=1e-6)
    single = embed(hls(pixels, temporal=spans), temporal_mode="single")
    assert not np.allclose(single.data, clear.data, atol=1e-3), "the median of the frames"


def test_landsat_has_other_names_of_the_same_bands(embed: Embed) -> None:
    pixels = reflectance(6, 32, 32)
    landsat = UserData(pixels, "landsat-c2-l2", bands=COMMON, scale_m=30)
    assert np.allclose(embed(landsat).data, embed(hls(pixels)).data, atol=1e-6)


def test_what_cannot_be_taken_is_told(embed: Embed) -> None:
    with pytest.raises(ModelError, match=r"below one patch of 16 x 16"):
        embed(hls(reflectance(6, 40, 12)))
    with pytest.raises(ModelError, match=r"at most 12 frames, the array has 13"):
        embed(hls(reflectance(13, 6, 16, 16)))
    with pytest.raises(ModelError, match=r"needs the bands B02.*have no B12"):
        embed(UserData(reflectance(5, 32, 32), "hls-s30", bands=COMMON[:5], scale_m=30))
    with pytest.raises(ModelError, match=r"n_frames=13 must be from 1 to 12"):
        embed(n_frames=13)


def test_version_1_has_its_own_statistics() -> None:
    assert SPEC.variants["v1_100"].modalities == ("hls_v1",)
    assert all(each.modalities == ("hls",) for name, each in SPEC.variants.items() if name != "v1_100")
    with pytest.raises(ModelError, match=r"variant 'v1_100' takes 'hls_v1', not modality='hls'"):
        get_embedding("prithvi", spatial=PLACE, temporal=SPAN, backend="synthetic", variant="v1_100", modality="hls")
    steps = {version: item.sources[0].steps for version, item in INPUTS.items()}
    assert all(source.steps == steps[version] for version, item in INPUTS.items() for source in item.sources)
    assert dataclasses.asdict(steps["v1"][0])["mean"] == STATISTICS["v1"][0]
