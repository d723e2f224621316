"""SatMAE as the catalogue declares it: from digital numbers to features, of both nets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeProvider
from numpy.typing import NDArray
from torch.nn import functional as F

from rs_embed import ModelError, OutputSpec, PointBuffer, SensorSpec, TemporalSpec, UserData
from rs_embed.core.encoding import Batch, Encoder, InputBatch
from rs_embed.core.model_spec import Build, ModelSpec
from rs_embed.inference.random_weights import with_random_weights
from rs_embed.inference.setup import Setup, resolve
from rs_embed.inference.weights import load_weights
from rs_embed.models._fmow import RGB_MEAN, RGB_STD, S2_BANDS, S2_MEAN, S2_STD, SentinelNormalize
from rs_embed.models.satmae import MODELS
from rs_embed.providers.arrays import ArrayProvider
from rs_embed.providers.synthetic import SyntheticProvider
from rs_embed.testing.trial import Trial

(SPEC,) = MODELS
RGB, S2 = SPEC.inputs["rgb"], SPEC.inputs["s2"]
SIDES = {"rgb": 224, "s2": 96}
POOLED, GRID = OutputSpec.pooled(), OutputSpec.grid()


def shallow(variant: str) -> ModelSpec:
    """One variant alone, of full width and one block, with random weights."""
    whole = SPEC.variants[variant]
    one = replace(whole, config={**whole.config, "depth": 1})
    return with_random_weights(replace(SPEC, variants={variant: one}))


def trial(variant: str, **options: Any) -> Trial:
    place, time = PointBuffer(11.5, 48.1, 165), TemporalSpec.range("2022-06-01", "2022-08-01")
    return Trial(shallow(variant), SyntheticProvider(), options, place, time)


def build(variant: str) -> Build:
    (name,) = SPEC.variants[variant].modalities
    item = SPEC.inputs[name]
    return Build(SPEC.variants[variant], {}, {name: item.bands}, {name: item.sources[0].sensor})


def prepare(steps: Any, pixels: NDArray[Any]) -> NDArray[np.float32]:
    for step in steps:
        pixels = step(pixels)
    return pixels


def resized(pixels: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    given = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))
    return np.asarray(F.interpolate(given, (side, side), mode="bicubic", antialias=True))


def chosen(provider: Any = None, **said: Any) -> Setup:
    return resolve(SPEC, provider or FakeProvider(), **said)


@pytest.mark.parametrize("variant", SPEC.variants)
def test_a_variant_is_as_large_as_declared(variant: str) -> None:
    declared = SPEC.variants[variant]
    with torch.device("meta"):
        net = SPEC.encoder(build(variant)).net
    assert sum(each.numel() for each in net.parameters()) == declared.parameters
    assert dict(declared.dims) == {"pooled": net.embed_dim, "grid": net.embed_dim}
    assert net.grid == (SIDES[declared.modalities[0]] // declared.window.patch,) * 2


def test_photographs_are_normalised_before_they_are_resized() -> None:
    """Reflectance, grey level, ToTensor, Normalize, and only then the resize of the tensor, not clamped."""
    dn = np.random.default_rng(0).integers(0, 4000, (1, 3, 150, 150)).astype(np.float32)
    grey = np.rint(np.clip(dn / 3000 * 255, 0, 255))
    mean, std = (np.float32(values)[:, None, None] for values in (RGB_MEAN, RGB_STD))
    wanted = resized((grey / 255 - mean) / std, 224)
    got = prepare(RGB.sources[0].steps, dn)
    assert got.shape == (1, 3, 224, 224)
    # a product that ends in a half is rounded either way: a grey level where the order of operations decides
    assert float(np.abs(got - wanted).max()) < 0.016 and float(np.abs(got - wanted).mean()) < 1e-4
    assert got.max() > ((1 - mean) / std).max()


def test_ten_bands_become_whole_levels_before_they_are_resized() -> None:
    dn = np.random.default_rng(1).uniform(0, 6000, (1, 10, 60, 60)).astype(np.float32)
    mean, std = (np.array(values)[:, None, None] for values in (S2_MEAN, S2_STD))
    levels = np.clip((dn - (mean - 2 * std)) / (4 * std) * 255, 0, 255).astype(np.uint8)
    wanted = resized(levels.astype(np.float32) / 255, 96)
    got = prepare(S2.sources[0].steps, dn)
    assert got.shape == (1, 10, 96, 96)
    assert float(np.abs(got - wanted).max()) < 2e-6


def test_levels_are_cut_not_rounded() -> None:
    step = SentinelNormalize((1000.0,), (255.0 / 4,))  # a level for each unit from 872.5 on
    dn = np.array([0, 872.5, 873.4, 873.6, 1127.4, 1127.6, 9000], np.float32).reshape(1, 1, 1, 7)
    assert step(dn).ravel().tolist() == [0, 0, 0, 1, 254, 255, 255]


def test_a_step_for_some_bands_is_the_step_of_these_bands() -> None:
    dn = np.random.default_rng(2).uniform(0, 6000, (2, 10, 4, 4)).astype(np.float32)
    step, some = SentinelNormalize(), [8, 0, 3]
    assert np.array_equal(step.pick(some)(dn[:, some]), step(dn)[:, some])
    assert step.describe()["mean"] == list(S2_MEAN)


def test_what_is_filled_is_the_mean_of_the_training_data() -> None:
    for source, fill in ((RGB.sources[0], RGB.fill), (RGB.sources[2], RGB.sources[2].fill)):
        filled = np.broadcast_to(np.float32(fill)[:, None, None], (1, 3, 224, 224))  # type: ignore[arg-type]
        assert float(np.abs(prepare(source.steps, filled)).max()) < 0.5 / 255 / min(RGB_STD) + 1e-5
    filled = np.broadcast_to(np.float32(S2.fill)[:, None, None], (1, 10, 96, 96))
    assert np.allclose(prepare(S2.sources[0].steps, filled), 127 / 255, atol=1e-6)


def test_the_bands_are_those_of_the_authors_groups() -> None:
    groups = SPEC.variants["ms_vit_base"].config["channel_groups"]
    assert S2.bands == S2_BANDS
    named = [[S2_BANDS[i] for i in group] for group in groups]
    assert named == [["B2", "B3", "B4", "B8"], ["B5", "B6", "B7", "B8A"], ["B11", "B12"]]


def test_a_variant_has_its_own_input_and_a_modality_its_variant() -> None:
    assert chosen().variant_name == "rgb_vit_large" and list(chosen().inputs) == ["rgb"]
    assert chosen(modality="s2").variant_name == "ms_vit_large"
    small = chosen(options={"variant": "ms_vit_base"})
    assert (small.modality, small.inputs["s2"].sensor.id) == ("s2", "sentinel-2-l1c")
    assert chosen(options={"variant": "ms_vit_base"}, modality="sentinel-2").modality == "s2"
    with pytest.raises(ModelError, match=r"'ms_vit_base' takes 's2', not modality='rgb', which 'rgb_vit_large' takes"):
        chosen(options={"variant": "ms_vit_base"}, modality="rgb")


def test_a_band_that_is_missing_is_named() -> None:
    with pytest.raises(ModelError, match=r"needs the bands B2, .*; the sensor leaves out B5"):
        chosen(modality="s2", sensor=SensorSpec("sentinel-2-l1c", tuple(b for b in S2_BANDS if b != "B5")))
    with pytest.raises(ModelError, match="takes 3 bands like B4, B3, B2, got 2"):
        chosen(sensor=SensorSpec("sentinel-2-l2a", ("B4", "B3")))


def test_surface_reflectance_is_taken_and_said_to_be_another() -> None:
    other = chosen(modality="s2", sensor=SensorSpec("sentinel-2-l2a", S2_BANDS)).inputs["s2"].source
    assert not other.trained_on and other.steps == S2.sources[0].steps
    assert S2.sources[0].trained_on and not any(source.trained_on for source in RGB.sources)


def test_aerial_photographs_are_grey_levels_already() -> None:
    data = UserData(np.full((3, 8, 8), 128, np.float32), "naip", bands=("R", "G", "B"), scale_m=1.0)
    setup = chosen(ArrayProvider(data), sensor=SensorSpec("naip", ("R", "G", "B"), scale_m=1.0))
    levels = prepare(setup.inputs["rgb"].source.steps, np.full((1, 3, 8, 8), 128, np.float32))
    assert np.allclose(levels[0, :, 100, 100], (128 / 255 - np.array(RGB_MEAN)) / np.array(RGB_STD), atol=1e-5)


@pytest.mark.parametrize(("variant", "cells", "size"), [("rgb_vit_large", 14, 1024), ("ms_vit_base", 12, 768)])
def test_the_frozen_feature_is_the_mean_of_the_patch_tokens(variant: str, cells: int, size: int) -> None:
    spec = shallow(variant)
    encoder = built(spec, variant)
    (name,) = SPEC.variants[variant].modalities
    pixels = torch.randn(2, 1, len(SPEC.inputs[name].bands), SIDES[name], SIDES[name])
    with torch.inference_mode():
        found, tokens = encoder(batch(name, pixels)), encoder.net(pixels[:, 0])
    assert found.pooled is None and found.grid.shape == (2, size, cells, cells)
    assert torch.allclose(found.grid.mean(dim=(2, 3)), tokens[:, 1:].mean(dim=1), atol=1e-5)
    vectors = found.grid[:, :, 0, 0].numpy()
    assert encoder.head(vectors) is vectors


def built(spec: ModelSpec, variant: str) -> Encoder:
    return spec.encoder(replace(build(variant), variant=spec.variants[variant]))


def batch(name: str, pixels: torch.Tensor) -> Batch:
    count, side, bands = len(pixels), SIDES[name], SPEC.inputs[name].bands
    given = InputBatch(
        pixels=pixels,
        valid=torch.ones(count, 1, side, side, dtype=torch.bool),
        times=np.full((count, 1), "2022-07-01", "datetime64[s]"),
        bands=bands,
        missing_bands=(),
        wavelengths=np.full(len(bands), 0.5),
        bandwidths=np.full(len(bands), 0.05),
        gsd=np.full(count, 10.0),
    )
    return Batch({name: given}, np.ones((count, 1, 1), np.float32), np.zeros((count, 2)))


@pytest.mark.parametrize("variant", ["rgb_vit_large", "ms_vit_base"])
def test_it_runs_from_a_place_and_a_time(variant: str) -> None:
    tried = trial(variant)
    vector, grid = tried.embed(POOLED), tried.embed(GRID)
    assert vector.shape == (SPEC.variants[variant].dims["pooled"],) and grid.shape[0] == vector.shape[0]
    assert np.isfinite(vector.values()).all() and vector.values().std() > 0
    (steps,) = vector.meta["normalization"].values()
    assert steps[-1] == {
        "step": "resize",
        "size": SIDES[SPEC.variants[variant].modalities[0]],
        "method": "bicubic",
        "arithmetic": "float32",
    }
    (given,) = tried.setup.inputs.values()
    said = any(note.startswith("fed with sentinel-2") for note in vector.meta["warnings"])
    assert said is not given.source.trained_on


def test_a_training_checkpoint_loads_and_another_variants_is_named(tmp_path: Any) -> None:
    """The published files hold the decoder, and the state dict lies under ``model``."""
    spec = shallow("ms_vit_base")
    state = built(spec, "ms_vit_base").net.state_dict()
    decoder = {name: torch.zeros(2) for name in ("mask_token", "decoder_embed.weight", "decoder_pos_embed")}
    file = tmp_path / "pretrain.pth"
    torch.save({"model": {**state, **decoder}, "epoch": 199}, file)
    both = replace(
        SPEC,
        variants={
            name: replace(variant, config={**variant.config, "depth": 1})
            for name, variant in SPEC.variants.items()
            if name != "ms_vit_large"
        },
    )
    own = replace(build("ms_vit_base"), variant=both.variants["ms_vit_base"])
    encoder = both.encoder(own)
    load_weights(encoder, both, "ms_vit_base", own, checkpoint=file)
    assert all(torch.equal(value, state[name]) for name, value in encoder.net.state_dict().items())
    other = replace(build("rgb_vit_large"), variant=both.variants["rgb_vit_large"])
    with pytest.raises(
        ModelError, match=r"not a checkpoint of satmae rgb_vit_large.*it fits the variant 'ms_vit_base'"
    ):
        load_weights(both.encoder(other), both, "rgb_vit_large", other, checkpoint=file)
