"""RemoteCLIP as the catalogue declares it: from reflectance to vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from rs_embed.core.encoding import Batch, Encoder, InputBatch
from rs_embed.core.model_spec import Build
from rs_embed.models.remoteclip import MEAN, MODELS, STD

(SPEC,) = MODELS
INPUT = SPEC.inputs["rgb"]
STEPS = INPUT.sources[0].steps


def prepare(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    for step in STEPS:
        pixels = step(pixels)
    return pixels


def built(variant: str) -> Encoder:
    torch.manual_seed(0)
    encoder = SPEC.encoder(Build(SPEC.variants[variant], {}, {"rgb": INPUT.bands}, {"rgb": "sentinel-2-l2a"}))
    encoder.net.eval()
    return encoder


def batch(pixels: NDArray[np.float32]) -> Batch:
    count = len(pixels)
    given = InputBatch(
        pixels=torch.from_numpy(pixels),
        valid=torch.ones(count, 1, 224, 224, dtype=torch.bool),
        times=np.full((count, 1), "2022-07-01", "datetime64[s]"),
        bands=INPUT.bands,
        missing_bands=(),
        wavelengths=np.array([0.66, 0.56, 0.49]),
        bandwidths=np.array([0.03, 0.04, 0.07]),
        gsd=np.full(count, 10.0),
    )
    return Batch({"rgb": given}, np.ones((count, 7, 7), np.float32), np.zeros((count, 2)))


@pytest.mark.parametrize("variant", SPEC.variants)
def test_a_variant_is_as_large_as_declared(variant: str) -> None:
    declared = SPEC.variants[variant]
    with torch.device("meta"):
        net = built(variant).net
    assert sum(each.numel() for each in net.parameters()) == declared.parameters
    assert {"pooled": net.embed_dim, "grid": net.token_dim} == dict(declared.dims)
    assert net.grid == (224 // declared.window.patch,) * 2


@pytest.mark.parametrize("variant", ["ViT-B-32", "RN50"])
def test_vectors_and_grid_have_the_declared_shapes(variant: str) -> None:
    encoder, dims = built(variant), SPEC.variants[variant].dims
    pixels = np.stack([prepare(np.full((1, 3, 224, 224), dn, np.float32)) for dn in (300, 2000)])
    with torch.inference_mode():
        found = encoder(batch(pixels))
    assert found.pooled.shape == (2, dims["pooled"])
    assert found.grid.shape == (2, dims["grid"], 7, 7)
    assert bool(found.pooled.isfinite().all()) and not torch.equal(found.pooled[0], found.pooled[1])
    vectors = found.pooled.numpy()
    assert encoder.head(vectors) is vectors


def test_reflectance_becomes_the_grey_level_of_a_true_colour_image() -> None:
    """0.3 is white, 0 is black: a forest of 0.03 is dark and not black, as in a photograph."""
    levels = STEPS[0](np.array([0, 300, 1500, 3000, 8000], np.float32).reshape(1, 1, 1, 5))
    assert levels.ravel().tolist() == [0, 26, 128, 255, 255]


def test_preprocessing_is_the_authors_after_the_stretch() -> None:
    dn = np.random.default_rng(0).integers(0, 4000, (1, 3, 300, 300)).astype(np.float32)
    grey = np.rint(np.clip(dn / 3000 * 255, 0, 255)).astype(np.uint8)
    image = Image.fromarray(np.moveaxis(grey[0], 0, -1)).resize((224, 224), Image.Resampling.BICUBIC)
    wanted = (np.asarray(image).astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    got = prepare(dn)
    assert got.shape == (1, 3, 224, 224)
    # a product that ends in a half is rounded either way: a grey level where the order of operations decides
    assert float(np.abs(np.moveaxis(got[0], 0, -1) - wanted).max()) < 0.016


def test_what_is_filled_is_the_mean_of_the_training_images() -> None:
    filled = np.broadcast_to(np.float32(INPUT.fill)[:, None, None], (1, 3, 224, 224))
    assert float(np.abs(prepare(filled)).max()) < 0.5 / 255 / min(STD) + 1e-6


def test_the_sensor_is_not_what_the_authors_trained_on() -> None:
    assert not any(source.trained_on for source in INPUT.sources)
    assert INPUT.any_bands and INPUT.bands == ("B4", "B3", "B2")
