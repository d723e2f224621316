"""DOFA as the catalogue declares it: from sensor values to vectors, for any bands."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from rs_embed import PointBuffer, SensorSpec, TemporalSpec, UserData, get_embedding_from_data, reset_runtime
from rs_embed.core import registry
from rs_embed.core.encoding import Batch, Features, InputBatch
from rs_embed.core.errors import CheckpointError, ModelError
from rs_embed.core.model_spec import Build, ModelSpec, Source
from rs_embed.core.sensors import SENSORS
from rs_embed.inference.golden import GoldenFile
from rs_embed.inference.setup import resolve
from rs_embed.inference.weights import differences, load_weights
from rs_embed.models.dofa import (
    AMPLITUDE,
    BANDS,
    MODELS,
    NORMALIZE,
    STRETCH,
    WAVELENGTHS,
    Amplitude8bit,
    DofaBands,
    foreign_grey,
    foreign_reflectance,
)
from rs_embed.nets.dofa import DofaV1, DofaV2
from rs_embed.providers.arrays import ArrayProvider
from rs_embed.providers.synthetic import SyntheticProvider

(SPEC,) = MODELS
GOLDEN = GoldenFile.open(Path(__file__).parents[1] / "golden" / "dofa.json")
PUBLISHED = {"base": "v1_vit_base", "large": "v1_vit_large", "v2_base": "v2_vit_base", "v2_large": "v2_vit_large"}
PLACE, SPAN = PointBuffer(11.5, 48.1, 300), TemporalSpec.range("2022-06-01", "2022-08-01")
WIDTH, SMALL = 48, {"embed_dim": 48, "depth": 2, "num_heads": 3}


def pixels(bands: int, side: int = 224, high: float = 3000) -> NDArray[np.float32]:
    values = np.random.default_rng(bands).uniform(100, high, (bands, side, side))
    return values.astype(np.float32)


def through(source: Source, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """All steps of a source on one frame ``(C, H, W)``."""
    frames = values[None]
    for step in source.steps:
        frames = step(frames)
    return frames[0]


def build(variant: str, **options: Any) -> Build:
    return Build(SPEC.adapt(SPEC.variants[variant], {"block": None} | options), options, {}, {})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """The model with narrow variants, and a file of random weights for each at its checkpoint's name."""
    folder = tmp_path_factory.mktemp("dofa")
    variants = {}
    for number, (name, variant) in enumerate(SPEC.variants.items()):
        width = WIDTH if number % 2 == 0 else 2 * WIDTH
        config = {**variant.config, **SMALL, "embed_dim": width}
        cut = dataclasses.replace(variant, config=config, dims={"pooled": width, "grid": width})
        torch.manual_seed(number)
        net = SPEC.encoder(Build(cut, {}, {}, {})).net
        torch.save(net.state_dict(), folder / f"{name}.pt")
        assert cut.checkpoint is not None
        file = dataclasses.replace(cut.checkpoint, file=str(folder / f"{name}.pt"))
        variants[name] = dataclasses.replace(cut, checkpoint=file)
    return dataclasses.replace(SPEC, variants=variants)


def file_of(spec: ModelSpec, variant: str) -> Path:
    found = spec.variants[variant].checkpoint
    assert found is not None
    return Path(found.file)


@pytest.fixture
def embed(small: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Embed data of one's own with the narrow net."""
    monkeypatch.setitem(registry._registered, "dofa", small)
    reset_runtime()

    def run(data: UserData, variant: str = "base", **more: Any) -> Any:
        call = {"variant": variant, "checkpoint": str(file_of(small, variant))}
        return get_embedding_from_data("dofa", data, **call, **more)

    yield run
    reset_runtime()


def test_digital_numbers_become_the_authors_grey_levels() -> None:
    (source, other) = SPEC.inputs["s2"].sources
    assert source.steps == other.steps and source.trained_on and not other.trained_on
    numbers = np.random.default_rng(0).integers(0, 12_000, (9, 224, 224))
    visible, others = numbers[:3] * 255 // 3558, numbers[3:] // 32  # Satlas: true colour, and clip(DN // 32, 0, 255)
    levels = np.clip(np.concatenate((visible, others)), 0, 255)
    golden = GOLDEN.described["normalization"]
    for band, got in enumerate(through(source, numbers.astype(np.float32))):
        wanted = (levels[band] - golden["mean"]["s2"][band]) / golden["std"]["s2"][band]
        assert np.abs(got - wanted).max() <= 1e-5, BANDS["s2"][band]


def test_reflectances_end_at_the_authors_normalised_values() -> None:
    levels = GOLDEN.normalization_inputs("s2")["s2"].astype(np.int64)  # (9, 12, 10)
    numbers = levels * 32
    numbers[:3] = -(-levels[:3] * 3558 // 255)  # the smallest that give the level
    wanted = GOLDEN.arrays["norm/s2"]
    frame = np.zeros((9, 224, 224), np.float32)
    frame[:, :12, :10] = numbers
    got = through(SPEC.inputs["s2"].sources[0], frame)[:, :12, :10]
    assert (np.abs(got - wanted) <= 1e-5 + 1e-5 * np.abs(wanted)).all()


def test_decibels_become_amplitudes_cut_at_255() -> None:
    decibels = np.linspace(-40, 10, 224 * 224 * 2).astype(np.float32).reshape(2, 224, 224)
    levels = np.floor(np.minimum(AMPLITUDE * 10 ** (decibels.astype(np.float64) / 20), 255))
    got = Amplitude8bit()(decibels[None])[0]
    assert (got == levels).mean() > 0.999 and np.abs(got - levels).max() <= 1, "but for the last digit of a power"
    mean, std = (np.array(each)[:, None, None] for each in (NORMALIZE["s1"].mean, NORMALIZE["s1"].std))
    assert np.abs(through(SPEC.inputs["s1"].sources[0], decibels) - (got - mean) / std).max() <= 1e-5


def test_real_scenes_look_as_the_training_data_did(test_data: Path) -> None:
    order = [f"B{i}" for i in range(1, 9)] + ["B8A", "B9", "B10", "B11", "B12"]
    optical, radar = [], []
    for path in sorted((test_data / "terramind_scenes" / "S2L1C").glob("*.tif")):
        offset = 1000 if path.name[:4] in ("282D", "433D", "609U") else 0
        with rasterio.open(path) as file:
            values = file.read().astype(np.float32)[[order.index(band) for band in BANDS["s2"]]] - offset
        optical.append(STRETCH(values[None])[0].reshape(9, -1))
    for path in sorted((test_data / "terramind_scenes" / "S1RTC").glob("*.tif")):
        with rasterio.open(path) as file:
            radar.append(Amplitude8bit()(file.read().astype(np.float32)[None])[0].reshape(2, -1))
    for name, scenes in {"s2": optical, "s1": radar}.items():
        levels = np.concatenate(scenes, axis=1)
        z = (np.nanmean(levels, axis=1) - NORMALIZE[name].mean) / NORMALIZE[name].std
        assert np.abs(z).max() < 0.5, (name, z)
        ratio = np.nanstd(levels, axis=1) / NORMALIZE[name].std
        assert (ratio > 0.6).all() and (ratio < 1.2).all(), (name, ratio)


@pytest.mark.parametrize("name", ["s2", "s1", "naip"])
def test_what_is_filled_in_is_the_mean_of_the_training(name: str) -> None:
    item = SPEC.inputs[name]
    frame = np.broadcast_to(np.array(item.fill, np.float32)[:, None, None], (len(item.bands), 224, 224))
    grey = np.abs(through(item.sources[0], frame) * np.array(NORMALIZE[name].std)[:, None, None])
    assert grey.max() <= 1.0, "less than one grey level from it"


def test_the_resize_averages_grey_levels() -> None:
    frame = np.zeros((9, 448, 448), np.float32)
    frame[:, :, ::2] = 30_000  # every second column white
    got = through(SPEC.inputs["s2"].sources[0], frame)[:, 50:-50, 50:-50]
    middle = (127.5 - np.array(NORMALIZE["s2"].mean)) / np.array(NORMALIZE["s2"].std)
    assert np.abs(got - middle[:, None, None]).max() < 0.05


def test_some_bands_in_any_order_keep_their_own_statistics() -> None:
    wanted = SensorSpec("s2", ("B12", "B4"))
    (item,) = resolve(SPEC, SyntheticProvider(), sensor=wanted).inputs.values()
    assert item.bands == ("B12", "B4") and item.wavelengths == (2.19, 0.665)
    values = pixels(9)
    got = through(item.source, values[[8, 0]])
    assert np.array_equal(got, through(SPEC.inputs["s2"].sources[0], values)[[8, 0]])
    assert item.fill == (SPEC.inputs["s2"].fill[8], SPEC.inputs["s2"].fill[0])


@pytest.mark.parametrize("name", WAVELENGTHS)
def test_the_net_is_told_the_authors_wavelengths(name: str) -> None:
    item = SPEC.inputs[name]
    assert all(source.wavelengths == WAVELENGTHS[name] for source in item.sources)
    assert len(item.bands) == len(WAVELENGTHS[name]) == len(item.fill)


def test_bands_of_another_sensor_are_taken_by_wavelength() -> None:
    source = foreign_reflectance(SENSORS["landsat-c2-l2"], ("SR_B5", "SR_B1", "SR_B7"))
    assert not source.trained_on and source.wavelengths == (0.865, 0.443, 2.2005)
    assert source.steps[0].describe()["of"] == {"SR_B5": "B8", "SR_B1": "B2", "SR_B7": "B12"}
    values, own = pixels(3), SPEC.inputs["s2"]
    whole = np.zeros((9, 224, 224), np.float32)
    indices = [BANDS["s2"].index(band) for band in ("B8", "B2", "B12")]
    whole[indices] = values
    assert np.array_equal(through(source, values), through(own.sources[0], whole)[indices])


def test_further_bands_of_sentinel_2_leave_the_others_as_they_were() -> None:
    source = foreign_reflectance(SENSORS["sentinel-2-l1c"], ("B8A", "B4"))
    assert source.trained_on and source.wavelengths == (0.8647, 0.665)


def test_naip_with_its_fourth_band() -> None:
    source = foreign_grey(SENSORS["naip"], ("R", "G", "B", "N"))
    assert source.wavelengths == (0.665, 0.56, 0.49, 0.842)
    levels = pixels(4, high=255)
    got, own = through(source, levels), through(SPEC.inputs["naip"].sources[0], levels[:3])
    assert np.array_equal(got[:3], own)
    assert np.allclose(got[3], (levels[3] - 123.675) / 58.395, atol=1e-5), "as red, the nearest"


@pytest.mark.parametrize(
    ("sensor", "bands", "said"),
    [
        ("sentinel-2-l2a", ("B4", "SCL"), r"band 'SCL' of sentinel-2-l2a is not known.*wavelengths="),
        ("sentinel-1", ("VV",), r"in reflectance \* 10000, and sentinel-1 is in dB"),
        ("dem", ("elevation",), "dem is in m; degrees"),
    ],
)
def test_a_band_without_a_known_wavelength_is_named(sensor: str, bands: tuple[str, ...], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        foreign_reflectance(SENSORS[sensor], bands)


@pytest.mark.parametrize("wave", [10.9, float("nan")])
def test_ones_own_band_outside_sunlight_is_named(embed: Any, wave: float) -> None:
    data = UserData(pixels(2), "mine", bands=["red", "tir"], wavelengths=[0.66, wave], scale_m=10)
    with pytest.raises(ModelError, match=r"'tir'.*" + ("10.9 µm" if wave == wave else "not known")):
        embed(data)


def test_an_unknown_sensor_at_its_own_pixel_size(embed: Any) -> None:
    waves = [0.443, 0.49, 0.531, 0.565, 0.61, 0.665, 0.705, 0.865]
    names = [f"b{i}" for i in range(8)]
    data = UserData(pixels(8, side=250), "PlanetScope", bands=names, wavelengths=waves, scale_m=3)
    found = embed(data)
    assert found.data.shape == (WIDTH,) and np.isfinite(found.data).all()
    assert found.meta["conditioning"] == {"wavelengths": {"s2": waves}}
    assert 3 < found.meta["effective_gsd"] < 3.5
    steps = found.meta["normalization"]["s2"]
    assert steps[0]["of"]["b0"] == "B2" and steps[0]["of"]["b7"] == "B8" and steps[0]["sensor"] == "sentinel-2-l1c"
    assert "trained on sentinel-2-l1c" in found.meta["warnings"][0]


def test_wavelengths_of_ones_own_come_before_the_authors(embed: Any) -> None:
    values = pixels(3)
    one = embed(UserData(values, "s2", bands=["B4", "B3", "B2"], scale_m=10))
    other = embed(UserData(values, "s2", bands=["B4", "B3", "B2"], wavelengths=[0.7, 0.5598, 0.4924], scale_m=10))
    assert one.meta["conditioning"] == {"wavelengths": {"s2": [0.665, 0.56, 0.49]}}
    assert other.meta["conditioning"] == {"wavelengths": {"s2": [0.7, 0.56, 0.49]}}
    assert not np.allclose(one.data, other.data, rtol=1e-3)


@pytest.mark.parametrize(
    ("collection", "bands", "modality"),
    [("s1", ["VV", "VH"], "s1"), ("s1", ["VH"], "s1"), ("USDA/NAIP/DOQQ", ["R", "G", "B"], "naip")],
)
def test_the_collection_says_which_input_is_meant(embed: Any, collection: str, bands: list[str], modality: str) -> None:
    values = pixels(len(bands), high=255) if modality == "naip" else pixels(len(bands)) / 100 - 30
    found = embed(UserData(values, collection, bands=bands, scale_m=10 if modality == "s1" else 1))
    assert found.meta["modality"] == modality and np.isfinite(found.data).all()


def test_a_missing_band_leaves_the_others(embed: Any) -> None:
    order = ["B3", "B8", "B4", "B12"]
    values = pixels(4)
    found = embed(UserData(values, "s2", bands=order, scale_m=10))
    assert found.meta["inputs"]["s2"]["bands"] == ["B4", "B3", "B8", "B12"]
    turned = embed(UserData(values[::-1].copy(), "s2", bands=order[::-1], scale_m=10))
    assert np.array_equal(found.data, turned.data)


def test_an_array_below_a_patch_is_refused(embed: Any) -> None:
    with pytest.raises(ModelError, match=r"15 x 15 pixels.*16 x 16"):
        embed(UserData(pixels(9, side=15), "s2", bands=list(BANDS["s2"]), scale_m=10))


def batch(values: NDArray[np.float32], waves: Any = WAVELENGTHS["s2"]) -> Batch:
    count, bands = len(values), values.shape[1]
    given = InputBatch(
        pixels=torch.from_numpy(values[:, None]),
        valid=torch.ones(count, 1, 224, 224, dtype=torch.bool),
        times=np.full((count, 1), "NaT", "datetime64[s]"),
        bands=tuple(f"b{i}" for i in range(bands)),
        missing_bands=(),
        wavelengths=np.array(waves),
        bandwidths=np.full(bands, np.nan),
        gsd=np.full(count, 10.0),
    )
    return Batch({"s2": given}, np.ones((count, 14, 14), np.float32), np.full((count, 2), np.nan))


def run(encoder: DofaBands, values: NDArray[np.float32]) -> Features:
    with torch.inference_mode():
        return encoder(batch(values))


def narrow(version: int, block: int | None = None) -> DofaBands:
    torch.manual_seed(0)
    net = (DofaV1 if version == 1 else DofaV2)(patch_size=16 if version == 1 else 14, **SMALL).eval()
    if version == 1:
        torch.nn.init.normal_(net.fc_norm.weight)
        torch.nn.init.normal_(net.fc_norm.bias)
    return DofaBands(net, version=version, block=block)


def normal(count: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((count, 9, 224, 224)).astype(np.float32)


def test_the_mean_of_the_cells_is_the_authors_feature_of_version_1() -> None:
    encoder, values = narrow(1), normal()
    found = run(encoder, values)
    with torch.inference_mode():
        wanted = encoder.net(torch.from_numpy(values), torch.tensor(WAVELENGTHS["s2"]))[0].numpy()
    assert found.pooled is None and found.grid.shape == (1, WIDTH, 14, 14)
    got = encoder.head(found.grid.mean((2, 3)).numpy())
    assert got.dtype == np.float32 and np.abs(got - wanted).max() <= 2e-6 * np.abs(wanted).max()


def test_cells_of_version_2_are_after_the_norm() -> None:
    encoder, values = narrow(2), normal()
    found = run(encoder, values)
    with torch.inference_mode():
        tokens = encoder.net(torch.from_numpy(values), torch.tensor(WAVELENGTHS["s2"]))
    assert found.grid.shape == (1, WIDTH, 16, 16)
    assert torch.equal(found.grid.flatten(2).mT, tokens[:, 1:])
    assert encoder.head(np.ones((2, 3), np.float32)).tolist() == [[1, 1, 1]] * 2


def test_a_block_of_version_2_is_the_authors_map() -> None:
    values = normal()
    encoder = narrow(2, block=0)
    with torch.inference_mode():
        (wanted,) = encoder.net.maps(torch.from_numpy(values), torch.tensor(WAVELENGTHS["s2"]), [0])
    assert torch.equal(run(encoder, values).grid, wanted)


@pytest.mark.parametrize("version", [1, 2])
def test_a_sample_is_the_same_alone(version: int) -> None:
    encoder, values = narrow(version), normal(2)
    together, alone = run(encoder, values).grid, run(encoder, values[1:]).grid
    assert float((together[1:] - alone).abs().max() / alone.abs().max()) <= 2e-6


def test_the_option_block_is_version_2s() -> None:
    assert build("v2_base", block=11).variant.config["block"] == 11
    with pytest.raises(ModelError, match=r"block=3.*v2_base"):
        build("base", block=3)
    with pytest.raises(ModelError, match="block=12 must be from 0 to 11"):
        build("v2_base", block=12)


@pytest.mark.parametrize("variant", SPEC.variants)
def test_a_published_file_fits_the_net_that_is_built(variant: str) -> None:
    spec = SPEC.variants[variant]
    with torch.device("meta"):
        net = SPEC.encoder(build(variant)).net
    assert sum(each.numel() for each in net.parameters()) == spec.parameters
    assert set(spec.dims.values()) == {net.token_dim} and net.side == 224 // spec.window.patch
    shapes = GOLDEN.described["published"][PUBLISHED[variant]]["parameters"]
    assert spec.checkpoint is not None and spec.checkpoint.convert is not None
    state = spec.checkpoint.convert({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    got, wanted = ({n: tuple(v.shape) for n, v in each.items()} for each in (state, net.state_dict()))
    assert not differences(got, wanted, spec.checkpoint.may_miss)


def test_a_training_file_without_the_norm_of_the_mean_loads(small: ModelSpec, tmp_path: Path) -> None:
    state = torch.load(file_of(small, "base"), weights_only=True)
    kept = {name: value for name, value in state.items() if not name.startswith("fc_norm.")}
    extra = {name: torch.ones(WIDTH) for name in ("mask_token", "norm.weight", "norm.bias", "projector.weight")}
    torch.save(kept | extra, tmp_path / "official.pth")
    made = Build(small.variants["base"], {}, {}, {})
    encoder = small.encoder(made)
    load_weights(encoder, small, "base", made, checkpoint=tmp_path / "official.pth")
    assert torch.equal(encoder.net.fc_norm.weight, torch.ones(WIDTH))
    assert torch.equal(encoder.net.cls_token, state["cls_token"])


@pytest.mark.parametrize(("variant", "file"), [("base", "large"), ("large", "base"), ("base", "v2_base")])
def test_weights_of_another_variant_are_named(small: ModelSpec, variant: str, file: str) -> None:
    made = Build(small.variants[variant], {}, {}, {})
    with pytest.raises(CheckpointError, match=f"it fits the variant '{file}'"):
        load_weights(small.encoder(made), small, variant, made, checkpoint=file_of(small, file))


def test_the_same_bands_from_a_provider_of_arrays() -> None:
    data = UserData(pixels(4, high=255), "USDA/NAIP/DOQQ", bands=["R", "G", "B", "N"], scale_m=1)
    wanted = SensorSpec("USDA/NAIP/DOQQ", ("R", "G", "B", "N"), scale_m=1)
    setup = resolve(SPEC, ArrayProvider(data), sensor=wanted)
    assert setup.modality == "naip" and setup.inputs["naip"].wavelengths == (0.665, 0.56, 0.49, 0.842)
