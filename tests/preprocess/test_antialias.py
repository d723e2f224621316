"""Resampling in float32 against torch's own, which torchvision calls for tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from rs_embed.preprocess.antialias import Method, resample, resize_crop
from rs_embed.preprocess.steps import Resize

SIDES = st.integers(1, 90)
METHODS = st.sampled_from(["bicubic", "bilinear"])


def image(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((1, 2, height, width)).astype(np.float32)


def torch_resample(pixels: NDArray[np.float32], rows: int, columns: int, method: str) -> NDArray[np.float32]:
    out = F.interpolate(torch.from_numpy(pixels), (rows, columns), mode=method, antialias=True, align_corners=False)
    return np.asarray(out.numpy())


@given(SIDES, SIDES, SIDES, SIDES, METHODS)
def test_it_is_torch_s_antialiased_resize(height: int, width: int, rows: int, columns: int, method: Method) -> None:
    pixels = image(height, width)
    got = resample(pixels, rows, columns, method)
    assert got.dtype == np.float32 and got.shape == (1, 2, rows, columns)
    assert float(np.abs(got - torch_resample(pixels, rows, columns, method)).max()) <= 1e-5


@given(SIDES, SIDES, METHODS, st.floats(-100, 100, width=32))
def test_a_level_field_stays_level(side: int, target: int, method: Method, level: float) -> None:
    out = resample(np.full((1, side, side), level, np.float32), target, target, method)
    assert np.allclose(out, level, rtol=2e-6, atol=1e-6)


def test_nothing_is_clamped() -> None:
    edge = np.zeros((1, 1, 8, 8), np.float32)
    edge[..., 4:] = 1
    out = Resize(20, "bicubic", "float32")(edge)
    assert out.min() < -0.02 and out.max() > 1.02


def test_the_step_is_the_function_and_leaves_the_right_size_alone() -> None:
    pixels = image(30, 30)
    step = Resize(12, "bilinear", "float32")
    assert np.array_equal(step(pixels), resample(pixels, 12, 12, "bilinear"))
    assert step(pixels[..., :12, :12]).shape == (1, 2, 12, 12)
    assert resample(pixels, 30, 30, "bicubic") is pixels
    assert step.describe() == {"step": "resize", "size": 12, "method": "bilinear", "arithmetic": "float32"}


def test_a_frame_does_not_depend_on_its_neighbours() -> None:
    pixels = np.random.default_rng(1).standard_normal((3, 4, 50, 50)).astype(np.float32)
    whole = Resize(21, "bicubic", "float32")(pixels)
    for t in range(3):
        assert np.array_equal(Resize(21, "bicubic", "float32")(pixels[t : t + 1]), whole[t : t + 1])


@pytest.mark.parametrize(("height", "width"), [(40, 71), (71, 40), (33, 33)])
def test_the_crop_is_central_after_the_shorter_side_is_resized(height: int, width: int) -> None:
    pixels = image(height, width)
    rows, columns = (29, int(29 * width / height)) if height <= width else (int(29 * height / width), 29)
    whole = resample(pixels, rows, columns, "bicubic")
    top, left = round((rows - 24) / 2), round((columns - 24) / 2)
    assert np.array_equal(resize_crop(pixels, 29, 24), whole[..., top : top + 24, left : left + 24])


def test_a_cut_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="a square of 30 pixels cannot be cut from a side of 24"):
        resize_crop(image(50, 50), 24, 30)
