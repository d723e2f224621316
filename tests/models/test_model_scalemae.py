"""Scale-MAE as the catalogue declares it: from reflectance to vectors, told the size of a pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeProvider
from numpy.typing import NDArray
from PIL import Image

from rs_embed import BBox, ModelError, OutputSpec, PointBuffer, TemporalSpec
from rs_embed.core.encoding import Batch, Encoder, Features, InputBatch
from rs_embed.core.model_spec import Build, ModelSpec
from rs_embed.inference.random_weights import random_encoder, with_random_weights
from rs_embed.inference.setup import resolve
from rs_embed.inference.weights import load_weights
from rs_embed.models.scalemae import MEAN, MODELS, STD
from rs_embed.providers.synthetic import SyntheticProvider
from rs_embed.testing.trial import Trial

(SPEC,) = MODELS
INPUT = SPEC.inputs["rgb"]
STEPS = INPUT.sources[0].steps
VARIANT = SPEC.variants["vit_large"]
POOLED, GRID = OutputSpec.pooled(), OutputSpec.grid()
TIME = TemporalSpec.range("2022-06-01", "2022-08-01")


def shallow() -> ModelSpec:
    """The model with one block."""
    return replace(SPEC, variants={"vit_large": replace(VARIANT, config={**VARIANT.config, "depth": 1})})


def built(input_res: float | None = None) -> Encoder:
    spec = shallow()
    given = Build(spec.variants["vit_large"], {"input_res": input_res}, {"rgb": INPUT.bands}, {"rgb": "sentinel-2-l2a"})
    return random_encoder(spec, given)


def trial(**options: Any) -> Trial:
    return Trial(with_random_weights(shallow()), SyntheticProvider(), options, PointBuffer(11.5, 48.1, 165), TIME)


def batch(pixels: torch.Tensor, gsd: Any) -> Batch:
    count = len(pixels)
    given = InputBatch(
        pixels=pixels,
        valid=torch.ones(count, 1, 224, 224, dtype=torch.bool),
        times=np.full((count, 1), "2022-07-01", "datetime64[s]"),
        bands=INPUT.bands,
        missing_bands=(),
        wavelengths=np.array([0.66, 0.56, 0.49]),
        bandwidths=np.array([0.03, 0.04, 0.07]),
        gsd=np.broadcast_to(np.asarray(gsd, np.float64), count),
    )
    return Batch({"rgb": given}, np.ones((count, 14, 14), np.float32), np.zeros((count, 2)))


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def run(encoder: Encoder, given: Batch) -> Features:
    with torch.inference_mode():
        return encoder(given)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def prepare(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    for step in STEPS:
        pixels = step(pixels)
    return pixels


def test_the_variant_is_as_large_as_declared() -> None:
    with torch.device("meta"):
        net = SPEC.encoder(Build(VARIANT, {"input_res": None}, {}, {})).net
    assert sum(each.numel() for each in net.parameters()) == VARIANT.parameters
    assert net.grid == (14, 14) and net.embed_dim == VARIANT.dims["pooled"] == VARIANT.dims["grid"]


def test_preprocessing_is_the_authors_after_the_stretch() -> None:
    """The 8-bit photograph is resized first, bilinearly, and normalised by ImageNet's numbers then."""
    dn = np.random.default_rng(0).integers(0, 4000, (1, 3, 300, 300)).astype(np.float32)
    grey = np.rint(np.clip(dn / 3000 * 255, 0, 255)).astype(np.uint8)
    image = Image.fromarray(np.moveaxis(grey[0], 0, -1)).resize((224, 224), Image.Resampling.BILINEAR)
    wanted = (np.asarray(image).astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    got = prepare(dn)
    assert got.shape == (1, 3, 224, 224)
    # a product that ends in a half is rounded either way: a grey level where the order of operations decides
    assert float(np.abs(np.moveaxis(got[0], 0, -1) - wanted).max()) < 0.018


def test_what_is_filled_is_the_mean_of_the_normalisation() -> None:
    for source, fill in ((INPUT.sources[0], INPUT.fill), (INPUT.sources[2], INPUT.sources[2].fill)):
        pixels = np.broadcast_to(np.float32(fill)[:, None, None], (1, 3, 224, 224))  # type: ignore[arg-type]
        for step in source.steps:
            pixels = step(pixels)
        assert float(np.abs(pixels).max()) < 0.5 / 255 / min(STD) + 1e-5


def test_the_vector_is_the_class_token_and_the_grid_the_patches() -> None:
    from rs_embed.nets.scalemae import ground_code

    encoder, pixels = built(), images(2)
    found = run(encoder, batch(pixels, 3.0))
    with torch.inference_mode():
        tokens = encoder.net(pixels[:, 0], ground_code(14, 14, 1024, torch.tensor([3.0, 3.0])))
    assert torch.equal(found.pooled, tokens[:, 0])
    assert found.grid.shape == (2, 1024, 14, 14) and torch.equal(found.grid[:, :, 2, 5], tokens[:, 1 + 2 * 14 + 5])
    vectors = found.pooled.numpy()
    assert encoder.head(vectors) is vectors


def test_each_sample_has_the_code_of_its_own_pixels() -> None:
    encoder, pixels = built(), images(3)
    together = run(encoder, batch(pixels, [10.0, 0.3, 2.5])).pooled
    for i, gsd in enumerate((10.0, 0.3, 2.5)):
        assert apart(run(encoder, batch(pixels[i : i + 1], gsd)).pooled[0], together[i]) <= 1e-5
    assert apart(run(encoder, batch(pixels[:1], 2.5)).pooled[0], together[0]) > 1e-3


def test_the_option_stands_for_all_windows() -> None:
    pixels = images(2)
    fixed = run(built(2.5), batch(pixels, [10.0, 0.3])).pooled
    assert apart(fixed, run(built(), batch(pixels, 2.5)).pooled) <= 1e-6


def test_a_region_of_another_size_has_pixels_of_another_size() -> None:
    """330 m in 224 pixels are 1.5 m each, and meta says what the net was told."""
    tried = trial()
    vector = tried.embed(POOLED)
    gsd = vector.meta["effective_gsd"]
    assert 1 < gsd < 2.5 and vector.meta["conditioning"] == {"gsd": {"rgb": pytest.approx(gsd)}}
    told = trial(input_res=gsd)
    assert np.allclose(told.embed(POOLED).values(), vector.values(), rtol=1e-4, atol=1e-5)
    other = trial(input_res=1.0).embed(POOLED)
    assert not np.allclose(other.values(), vector.values(), rtol=1e-2, atol=1e-3)
    assert other.meta["options"]["input_res"] == 1.0 and other.meta["conditioning"] == {}


def test_regions_of_several_sizes_share_a_batch() -> None:
    tried = trial()
    places = [PointBuffer(11.5, 48.1, 165), BBox(11.50, 48.10, 11.512, 48.108)]
    for place, found in zip(places, tried.batch(places, POOLED), strict=True):
        alone = tried.batch([place], POOLED)[0].values()
        assert np.linalg.norm(found.values() - alone) <= 1e-5 * np.linalg.norm(alone)
    sizes = {found.meta["effective_gsd"] for found in tried.batch(places, POOLED)}
    assert len(sizes) == 2


def test_a_wrong_resolution_is_refused() -> None:
    for value in (0.0, -1.0, 1e6, "ten"):
        with pytest.raises(ModelError, match="input_res"):
            resolve(SPEC, FakeProvider(), options={"input_res": value})
    assert resolve(SPEC, FakeProvider(), options={"input_res": 1}).options["input_res"] == 1.0


@pytest.mark.parametrize("prefix", ["", "model."])
def test_every_published_layout_loads(prefix: str, tmp_path: Path) -> None:
    """The authors' training file under ``model``, torchgeo's flat one, and rshf's with its prefix."""
    encoder, spec = built(), shallow()
    state = {prefix + name: value for name, value in encoder.net.state_dict().items()}
    rest = {} if prefix else {name: torch.zeros(1) for name in ("pos_embed", "mask_token_decoder", "fpn.a", "fcn.b")}
    given = Build(spec.variants["vit_large"], {"input_res": None}, {}, {})
    for name, saved in (("flat.pth", {**state, **rest}), ("training.pth", {"model": {**state, **rest}, "epoch": 800})):
        torch.save(saved, tmp_path / name)
        loaded = spec.encoder(given)
        load_weights(loaded, spec, "vit_large", given, checkpoint=tmp_path / name)
        assert all(torch.equal(value, encoder.net.state_dict()[key]) for key, value in loaded.net.state_dict().items())


def test_half_precision_runs() -> None:
    encoder, given = built(), batch(images(1), 10.0)
    wanted = run(encoder, given).pooled
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        got = encoder(given).pooled
    assert apart(got.float(), wanted) <= 0.05
