"""The steps from harmonised pixels to a net, and what fills holes before them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from rs_embed.core.model_spec import Step
from rs_embed.preprocess.fill import fill_invalid
from rs_embed.preprocess.steps import Affine, Clip, Normalize, Resize, Stretch8bit, resize_crop_uint8

STEPS: dict[str, Step] = {
    "affine": Affine((2.0, 0.5, -1.0), (1.0, 0.0, 3.0)),
    "affine, one for all": Affine(1 / 255),
    "clip": Clip(100.0, (200.0, 300.0, 400.0)),
    "normalize": Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    "stretch": Stretch8bit(0.0, 3000.0),
    "stretch, a band": Stretch8bit((0.0, 100.0, 200.0), (1000.0, 2000.0, 3000.0)),
    "shrink": Resize(4, "bicubic", "pillow_uint8"),
    "enlarge": Resize(17, "bilinear"),
    "as it is": Resize(8),
}


def frames(shape: tuple[int, ...] = (2, 3, 8, 8), high: float = 4000.0) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0, high, shape).astype(np.float32)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_leaves_its_argument_alone_and_keeps_float32(name: str) -> None:
    given_pixels = frames(high=255)
    before = given_pixels.copy()
    out = STEPS[name](given_pixels)
    assert np.array_equal(given_pixels, before)
    assert out.dtype == np.float32
    assert out.shape[:2] == (2, 3)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_describes_itself_in_json(name: str) -> None:
    described = STEPS[name].describe()
    assert json.loads(json.dumps(described, allow_nan=False)) == described


@pytest.mark.parametrize("name", STEPS)
def test_a_step_takes_a_crop_as_it_takes_an_array(name: str) -> None:
    whole = frames((2, 3, 12, 12), high=255)
    crop = whole[:, :, 2:10, 3:11]
    assert np.array_equal(STEPS[name](crop), STEPS[name](crop.copy()))


def test_affine_and_normalize_are_what_they_say() -> None:
    pixels = frames()
    scale, offset = np.array([2.0, 0.5, -1.0]), np.array([1.0, 0.0, 3.0])
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4])
    column = (slice(None), None, None)
    assert np.allclose(STEPS["affine"](pixels), pixels * scale[column] + offset[column], rtol=1e-6)
    assert np.allclose(STEPS["normalize"](pixels), (pixels - mean[column]) / std[column], rtol=1e-6)
    assert np.array_equal(Clip(10.0, 20.0)(pixels), pixels.clip(10, 20))


def test_the_stretch_rounds_to_the_nearest_level_and_clips() -> None:
    reflectance = np.array([-50, 0, 5.88, 5.89, 1500, 2994.2, 3000, 9000], np.float32).reshape(1, 1, 1, -1)
    levels = Stretch8bit(0, 3000)(reflectance)
    assert levels.ravel().tolist() == [0, 0, 0, 1, 128, 255, 255, 255]


@pytest.mark.parametrize("white", [8160, 3558, 3000, 255])
def test_rounding_down_is_whole_number_division(white: int) -> None:
    numbers = np.arange(-5, 20_000)
    levels = Stretch8bit(0.0, float(white), rounding="down")(numbers.astype(np.float32)[None, None, None])
    assert np.array_equal(levels[0, 0, 0], np.clip(numbers * 255 // white, 0, 255))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["bicubic", "bilinear"]))
def test_the_8_bit_resize_is_pillows_on_an_rgb_image(side: int, size: int, method: str) -> None:
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    wanted = np.asarray(Image.fromarray(image).resize((size, size), filters[method]))
    pixels = np.moveaxis(image, -1, 0)[None].astype(np.float32)
    got = Resize(size, method, "pillow_uint8")(pixels)  # type: ignore[arg-type]
    assert np.array_equal(np.moveaxis(got[0], 0, -1), wanted)


@given(st.integers(2, 40), st.integers(1, 40), st.floats(-1e4, 1e4, width=32))
def test_the_float_resize_keeps_a_constant(side: int, size: int, value: float) -> None:
    out = Resize(size)(np.full((1, 2, side, side), value, np.float32))
    assert out.shape == (1, 2, size, size)
    assert np.allclose(out, value, rtol=1e-5)


def test_a_frame_of_the_right_size_is_not_copied() -> None:
    pixels = frames()
    assert Resize(8)(pixels) is pixels


def test_only_squares_are_resized() -> None:
    with pytest.raises(ValueError, match="8 x 9"):
        Resize(4)(frames((1, 1, 8, 9)))


@pytest.mark.parametrize("make", [lambda: Resize(0), lambda: Stretch8bit(5, 5), lambda: Normalize(0.0, (1.0, 0.0))])
def test_numbers_that_cannot_be_meant_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("shape", [(150, 203), (203, 150), (97, 96), (96, 203), (40, 61), (31, 31)])
def test_resize_and_crop_as_on_a_pil_image(shape: tuple[int, int]) -> None:
    size = 96
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    short, long = min(shape), max(shape)
    longer = int(size * long / short)
    rows, columns = (size, longer) if shape[0] <= shape[1] else (longer, size)
    resized = Image.fromarray(image).resize((columns, rows), Image.Resampling.BICUBIC)
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    wanted = np.asarray(resized.crop((left, top, left + size, top + size)))
    assert np.array_equal(resize_crop_uint8(image, size), wanted)


def test_an_image_of_the_right_size_is_not_copied() -> None:
    image = np.zeros((96, 96, 3), np.uint8)
    assert resize_crop_uint8(image, 96) is image


def test_nothing_to_fill_is_no_copy() -> None:
    pixels = frames()
    assert fill_invalid(pixels, np.ones((2, 8, 8), bool), (), (1.0, 2.0, 3.0)) is pixels


def test_invalid_pixels_and_missing_bands_are_filled() -> None:
    pixels = frames()
    pixels[1, :, 2, 3] = np.nan
    pixels[:, 2] = np.nan
    before = pixels.copy()
    valid = np.ones((2, 8, 8), bool)
    valid[1, 2, 3] = False
    out = fill_invalid(pixels, valid, (2,), (10.0, 20.0, 30.0))
    assert np.array_equal(pixels, before, equal_nan=True)
    assert out.dtype == np.float32
    assert out[1, :, 2, 3].tolist() == [10, 20, 30]
    assert (out[:, 2] == 30).all()
    untouched = np.broadcast_to(valid[:, None], out.shape) & (np.arange(3) < 2)[:, None, None]
    assert np.array_equal(out[untouched], before[untouched])


def test_a_missing_band_of_a_clear_sky_is_filled_in_a_copy() -> None:
    pixels = frames()
    out = fill_invalid(pixels, np.ones((2, 8, 8), bool), (0,))
    assert not out[:, 0].any() and pixels[:, 0].all()
    assert np.array_equal(out[:, 1:], pixels[:, 1:])


def test_fill_needs_a_number_for_each_band() -> None:
    with pytest.raises(ValueError, match="3 bands"):
        fill_invalid(frames(), np.zeros((2, 8, 8), bool), (), (1.0, 2.0))
