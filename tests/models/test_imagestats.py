from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from rs_embed.core.encoding import Batch, InputBatch
from rs_embed.core.model_spec import Build, GoldenCase
from rs_embed.models.imagestats import MODELS, image_statistics

sys.path.insert(0, str(Path(__file__).parents[1] / "nets"))
import golden_rule

(SPEC,) = MODELS


@pytest.mark.parametrize("case", golden_rule.cases("imagestats").values(), ids=lambda case: case.name)
def test_certificate(case: golden_rule.Case) -> None:
    assert SPEC.certificate is not None
    inputs = {name: value.numpy() for name, value in case.inputs().items()}
    wanted = {name: value.numpy() for name, value in case.expected().items()}
    got = SPEC.certificate().run(GoldenCase(case.config, inputs, {n: v.shape for n, v in wanted.items()}, None))
    assert set(got) == set(wanted)
    channels = len(inputs["image"][0])
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-6, atol=1e-6, err_msg=f"{name}, {channels} bands")


def test_one_pixel_has_no_deviation_and_nan_is_left_out() -> None:
    np.testing.assert_array_equal(image_statistics(np.full((2, 1, 1), 3.0, np.float32)), [3, 3, 0, 0, 3, 3, 3, 3])
    image = np.array([[[1, np.nan, 3]], [[np.nan] * 3]], np.float32)
    np.testing.assert_allclose(image_statistics(image)[::2], [2, np.sqrt(2), 3, 1], rtol=1e-6)
    assert np.isnan(image_statistics(image)[1::2]).all()


def test_every_pixel_is_a_cell() -> None:
    pixels = np.random.default_rng(0).random((2, 1, 3, 5, 4), dtype=np.float32)
    images = InputBatch(
        pixels=pixels,
        valid=np.ones((2, 1, 5, 4), bool),
        times=np.full((2, 1), "NaT", "datetime64[s]"),
        bands=("a", "b", "c"),
        missing_bands=(),
        wavelengths=np.full(3, np.nan),
        bandwidths=np.full(3, np.nan),
        gsd=np.full(2, 10.0),
    )
    batch = Batch({"s2": images}, np.ones((2, 5, 4), np.float32), np.zeros((2, 2)))
    build = Build(SPEC.variants["default"], {}, {"s2": ("a", "b", "c")}, {"s2": "sentinel-2-l2a"})
    np.testing.assert_array_equal(SPEC.encoder(build)(batch).grid, pixels[:, 0])


def test_declaration() -> None:
    assert SPEC.statistics == ("mean", "sample_std", "max", "min")
    assert SPEC.variants["default"].dims == {"pooled": 48, "grid": 12}
    assert SPEC.locality == "pixel" and SPEC.inputs["s2"].any_bands
