from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rs_embed.core.encoding import Batch, Features, InputBatch
from rs_embed.core.errors import ModelError
from rs_embed.core.model_spec import Build, GoldenCase
from rs_embed.models import _filters
from rs_embed.models._filters import draw_patches, pooled_features, responses, whitened_filters
from rs_embed.models.rcf import MODELS, RandomFeatures, reference_filters

sys.path.insert(0, str(Path(__file__).parents[1] / "nets"))
import golden_rule

(SPEC,) = MODELS
BANDS = SPEC.inputs["s2"].bands
GENERATOR = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def certificate(config: Mapping[str, Any], inputs: dict[str, np.ndarray], *outputs: str) -> dict[str, np.ndarray]:
    assert SPEC.certificate is not None
    return SPEC.certificate().run(GoldenCase(config, inputs, dict.fromkeys(outputs, ()), None))


@pytest.mark.parametrize("case", golden_rule.cases("rcf").values(), ids=lambda case: case.name)
def test_certificate(case: golden_rule.Case) -> None:
    inputs = {name: value.numpy() for name, value in case.inputs().items()}
    wanted = case.expected()
    got = {name: torch.from_numpy(v) for name, v in certificate(case.config, inputs, *wanted).items()}
    golden_rule.assert_equal(got, wanted, tolerance=2e-6)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("bias", [0.0, 0.7])
@pytest.mark.parametrize(("pool", "stride", "together"), [(256, 256, 1024), (5, 3, 7), (6, 6, 4), (4, 9, 300)])
def test_certificate_of_cases_never_seen(k: int, bias: float, pool: int, stride: int, together: int) -> None:
    image, patches = normal(3, 4, 23, 31), GENERATOR.integers(0, 256, (26, 4, k, k)).astype(np.uint8)
    config = {"patch_size": k, "bias": bias, "pool_size": pool, "pool_stride": stride, "filter_batch_size": together}
    got = certificate(config, {"image": image, "patches": patches}, "filters", "features", "features_torchgeo")
    maps = [
        F.avg_pool2d(F.relu(sign * y - bias), pool, stride, ceil_mode=True)
        for part in torch.from_numpy(got["filters"]).split(together)
        for y in [F.conv2d(torch.from_numpy(image), part)]
        for sign in (1, -1)
    ]
    wanted = torch.cat(maps, dim=1)
    assert golden_rule.error(torch.from_numpy(got["features"]), wanted) < 5e-6
    y = F.conv2d(torch.from_numpy(image), torch.from_numpy(got["filters"])) - bias
    whole = torch.cat([F.relu(y).mean((2, 3)), F.relu(-y).mean((2, 3))], dim=1)
    assert golden_rule.error(torch.from_numpy(got["features_torchgeo"]), whole) < 5e-6


def test_whitening_whitens() -> None:
    patches = GENERATOR.random((4000, 3, 3, 3)) * np.linspace(0.1, 1, 27).reshape(3, 3, 3)
    flat = whitened_filters(patches, zca_bias=1e-9).reshape(4000, -1).astype(np.float64)
    plain = patches.reshape(4000, -1)
    plain = plain - plain.mean(1, keepdims=True)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    # P Z Z' against P is the projection on the patches' own space: Z Z' is the inverse of their second moments.
    together = flat.T @ plain / 4000
    values = np.sort(np.linalg.eigvalsh((together + together.T) / 2))
    np.testing.assert_allclose(values[1:], 1, atol=1e-3)


def test_a_constant_patch_makes_no_filter() -> None:
    patches = GENERATOR.random((30, 2, 3, 3))
    patches[7] = 0.5
    filters = whitened_filters(patches)
    assert np.isfinite(filters).all() and not filters[7].any()


def test_responses_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    image, filters = normal(3, 40, 37), normal(5, 3, 4, 4)
    whole = responses(image, filters, 0.3)
    monkeypatch.setattr(_filters, "_COLUMNS_BYTES", 4 * 48 * 34 * 3)
    np.testing.assert_allclose(responses(image, filters, 0.3), whole, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="do not fit"):
        responses(image[:, :3], filters)


def test_a_pooling_window_that_fits_nowhere() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pooled_features(normal(1, 1, 8, 8), normal(2, 1, 3, 3), 0.0, 100, 10, 8)


def test_patches_are_drawn_from_every_image_to_the_last_row() -> None:
    images = [np.arange(20, dtype=np.uint8).reshape(1, 4, 5) + 40 * i for i in range(3)]
    np.random.seed(1)
    patches = draw_patches(images, 3, 500, seed=0)
    after = np.random.random()
    np.random.seed(1)
    assert after == np.random.random()
    corners = patches[:, 0, 0, 0]
    assert patches.dtype == np.uint8 and set(corners) == {
        40 * i + 5 * r + c for i in range(3) for r in (0, 1) for c in (0, 1, 2)
    }
    np.testing.assert_array_equal(patches[:, 0, 1] - patches[:, 0, 0], 5)
    np.testing.assert_array_equal(patches, draw_patches(images, 3, 500, seed=0))
    assert (patches != draw_patches(images, 3, 500, seed=1)).any()


def options(**given: Any) -> dict[str, Any]:
    return {name: option.default for name, option in SPEC.options.items()} | given


def build(bands: tuple[str, ...] = BANDS, sensor: str = "sentinel-2-l2a", **given: Any) -> RandomFeatures:
    values = options(**given)
    variant = SPEC.adapt(SPEC.variants["default"], values)
    made = SPEC.encoder(Build(variant, values, {"s2": bands}, {"s2": sensor}))
    assert isinstance(made, RandomFeatures)
    return made


def encode(encoder: RandomFeatures, pixels: np.ndarray, valid: np.ndarray | None = None) -> Features:
    N, _, C, H, W = pixels.shape
    images = InputBatch(
        pixels=pixels,
        valid=np.ones((N, 1, H, W), bool) if valid is None else valid,
        times=np.full((N, 1), "NaT", "datetime64[s]"),
        bands=("x",) * C,
        missing_bands=(),
        wavelengths=np.full(C, np.nan),
        bandwidths=np.full(C, np.nan),
        gsd=np.full(N, 10.0),
    )
    return encoder(Batch({"s2": images}, np.ones((N, 1, 1), np.float32), np.zeros((N, 2))))


@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_a_pixel_with_its_halo_is_a_cell(kernel: int, bias: float) -> None:
    halo = SPEC.adapt(SPEC.variants["default"], options(kernel=kernel)).window.halo
    encoder = build(kernel=kernel, features=32, bias=bias)
    pixels = GENERATOR.random((2, 1, 10, 19 + 2 * halo, 14 + 2 * halo), dtype=np.float32)
    grid = encode(encoder, pixels).grid
    y = F.conv2d(torch.from_numpy(pixels[:, 0]), torch.from_numpy(encoder.filters.copy()))[:, :, :19, :14]
    wanted = torch.cat([F.relu(y - bias), F.relu(-y - bias)], dim=1)
    assert golden_rule.error(torch.from_numpy(grid), wanted) < 2e-6


@pytest.mark.parametrize("kernel", [3, 4])
def test_a_shift_by_a_pixel_shifts_the_grid(kernel: int) -> None:
    encoder = build(kernel=kernel, features=64)
    pixels = GENERATOR.random((1, 1, 10, 30, 32), dtype=np.float32)
    whole, moved = encode(encoder, pixels).grid, encode(encoder, pixels[..., 1:, 2:]).grid
    np.testing.assert_allclose(moved, whole[..., 1:, 2:], rtol=0, atol=1e-5 * whole.max())


def test_missing_pixels_count_as_the_mean_of_what_the_filter_sees() -> None:
    encoder = build(features=16, bias=0.5)
    pixels = GENERATOR.random((1, 1, 10, 9, 8), dtype=np.float32)
    valid = np.ones((1, 1, 9, 8), bool)
    valid[..., 4, 3] = valid[..., :3, :3] = False
    broken = np.where(valid[:, :, None], pixels, np.float32(np.nan))
    got = encode(encoder, np.where(valid[:, :, None], pixels, 0), valid)
    clear = encode(encoder, pixels)
    assert np.isfinite(got.grid).all()
    seen = np.lib.stride_tricks.sliding_window_view(valid[0, 0], (3, 3))
    np.testing.assert_allclose(got.weight[0], seen.mean((2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(got.grid[..., seen.all((2, 3))], clear.grid[..., seen.all((2, 3))])
    patch = broken[0, 0, :, 3:6, 2:5]
    patch = np.where(np.isnan(patch), np.nanmean(patch, axis=(1, 2), keepdims=True), patch)
    y = (encoder.filters * patch).sum((1, 2, 3))
    wanted = np.concatenate([np.maximum(y - 0.5, 0), np.maximum(-y - 0.5, 0)])
    np.testing.assert_allclose(got.grid[0, :, 3, 2], wanted, atol=1e-4)
    assert got.weight[0, 0, 0] == 0


def test_filters_are_fixed_by_their_arguments_alone() -> None:
    filters = reference_filters("sentinel-2-l2a", BANDS, 3, 256, 0)
    assert filters.shape == (256, 10, 3, 3) and filters.dtype == np.float32 and not filters.flags.writeable
    reference_filters.cache_clear()
    np.testing.assert_array_equal(reference_filters("sentinel-2-l2a", BANDS, 3, 256, 0), filters)
    np.testing.assert_array_equal(reference_filters("sentinel-2-l2a", BANDS, 3, 100, 0), filters[:100])
    assert (reference_filters("sentinel-2-l2a", BANDS, 3, 256, 1) != filters).any()


def test_other_optical_sensors_get_the_bands_nearest_in_wavelength() -> None:
    own = reference_filters("sentinel-2-l2a", ("B2", "B4", "B8A"), 3, 8, 0)
    np.testing.assert_array_equal(reference_filters("landsat-c2-l2", ("SR_B2", "SR_B4", "SR_B5"), 3, 8, 0), own)


def test_radar_has_no_reference_but_gaussian_filters() -> None:
    with pytest.raises(ModelError, match="gaussian"):
        build(("VV", "VH"), "sentinel-1")
    assert build(("VV", "VH"), "sentinel-1", filters="gaussian").filters.shape == (256, 2, 3, 3)


def test_options_change_halo_and_dimensions() -> None:
    variant = SPEC.adapt(SPEC.variants["default"], options(features=64, kernel=6))
    assert variant.window.halo == 3 and variant.dims == {"pooled": 64, "grid": 64}
    with pytest.raises(ModelError, match="features=33"):
        SPEC.adapt(SPEC.variants["default"], options(features=33))
