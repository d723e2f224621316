"""TerraFM as the catalogue declares it: from reflectance and decibels to vectors."""

from __future__ import annotations

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
    describe_model,
    get_embedding,
    get_embedding_from_data,
    reset_runtime,
)
from rs_embed.core.encoding import Batch, Features, InputBatch
from rs_embed.core.model_spec import Build
from rs_embed.inference.golden import GoldenFile
from rs_embed.models.terrafm import MODELS, UNVERIFIED, TerraFMImage
from rs_embed.nets.terrafm import TerraFMEncoder
from rs_embed.preprocess.fill import fill_invalid

(SPEC,) = MODELS
GOLDEN = GoldenFile.open(Path(__file__).parents[1] / "golden" / "terrafm.json")
SPAN = TemporalSpec.range("2022-06-01", "2022-08-01")
SMALL = {"img_size": (32,), "embed_dim": 32, "depth": 1, "num_heads": 2, "qkv_bias": True}

Pixels = NDArray[np.float32]


def prepared(name: str, raw: Pixels) -> Pixels:
    for step in SPEC.inputs[name].sources[0].steps:
        raw = step(raw)
    return raw


def batch(name: str, x: Pixels) -> Batch:
    count, _, bands, height, width = x.shape
    given = InputBatch(
        pixels=torch.from_numpy(x),
        valid=torch.ones(count, 1, height, width, dtype=torch.bool),
        times=np.full((count, 1), "2022-07-01", "datetime64[s]"),
        bands=SPEC.inputs[name].bands,
        missing_bands=(),
        wavelengths=np.full(bands, np.nan),
        bandwidths=np.full(bands, np.nan),
        gsd=np.full(count, 10.0),
    )
    cells = np.ones((count, height // 16, width // 16), np.float32)
    return Batch({name: given}, cells, np.zeros((count, 2)))


def run(encoder: TerraFMImage, given: Batch) -> Features:
    with torch.inference_mode():
        return encoder(given)


def drawn() -> TerraFMImage:
    torch.manual_seed(0)
    return TerraFMImage(TerraFMEncoder(**SMALL).eval())


def noise(bands: int, count: int = 1) -> Pixels:
    return np.random.default_rng(bands).standard_normal((count, 1, bands, 32, 48)).astype(np.float32)


@pytest.mark.parametrize("name", ["s2_l2a", "s2_l1c"])
def test_digital_numbers_become_reflectance(name: str) -> None:
    raw = np.array([-5, 0, 1234, 10_000, 16_000], np.float32).reshape(1, 1, 1, 5).repeat(12, axis=1)
    assert prepared(name, raw)[0, 0, 0].tolist() == pytest.approx([0, 0, 0.1234, 1, 1], abs=1e-7)


def test_decibels_become_linear_power() -> None:
    raw = np.array([-30, -10, -3.0103, 0, 12], np.float32).reshape(1, 1, 1, 5).repeat(2, axis=1)
    assert prepared("s1", raw)[0, 1, 0].tolist() == pytest.approx([0.001, 0.1, 0.5, 1, 1], rel=1e-5)


def test_what_is_not_seen_is_next_to_nothing() -> None:
    for name, item in SPEC.inputs.items():
        raw = np.full((1, len(item.bands), 2, 2), 700.0, np.float32)
        filled = fill_invalid(raw, np.zeros((1, 2, 2), bool), (), item.fill)
        assert prepared(name, filled).max() <= 0.0011


def test_bands_are_those_of_the_training_data_in_ascending_order() -> None:
    numbers = [band.removeprefix("B") for band in SPEC.inputs["s2_l2a"].bands]
    assert numbers == ["1", "2", "3", "4", "5", "6", "7", "8", "8A", "9", "11", "12"]
    assert SPEC.inputs["s2_l1c"].bands == SPEC.inputs["s2_l2a"].bands
    assert SPEC.inputs["s1"].bands == ("VV", "VH")


def test_it_is_said_that_the_normalisation_is_a_guess() -> None:
    described = describe_model("terrafm")
    for item in described["inputs"].values():
        assert item["preprocessing"] and all(step["note"] == UNVERIFIED for step in item["preprocessing"])
    assert "unverified" in UNVERIFIED and "Normalisation unverified" in described["notes"]


@pytest.mark.parametrize(
    ("case", "name"), [("l2a", "s2_l2a"), ("l1c", "s2_l1c"), ("s1", "s1"), ("l2a_96x160", "s2_l2a")]
)
def test_an_input_goes_through_its_own_stem_to_the_authors_vectors(case: str, name: str) -> None:
    golden = GOLDEN.case(case)
    net = TerraFMEncoder(**golden.config).eval()
    net.load_state_dict({key: torch.from_numpy(value) for key, value in golden.state.items()})
    found = run(TerraFMImage(net), batch(name, golden.inputs["image"][:, None]))
    for got, output in ((found.pooled, "pooled"), (found.grid, "grid")):
        wanted = torch.from_numpy(GOLDEN.arrays[f"{case}/out/{output}"])
        assert got.shape == wanted.shape
        assert float((got - wanted).abs().max() / wanted.abs().max()) <= 2e-5


def test_a_sample_is_the_same_alone_and_beside_others() -> None:
    encoder, x = drawn(), noise(12, count=2)
    together = run(encoder, batch("s2_l2a", x))
    for i in range(2):
        alone = run(encoder, batch("s2_l2a", x[i : i + 1]))
        for one, both in ((alone.grid, together.grid), (alone.pooled, together.pooled)):
            assert float((one - both[i : i + 1]).abs().max() / both.abs().max()) <= 2e-6


def test_half_precision_runs() -> None:
    encoder, given = drawn(), batch("s1", noise(2))
    wanted = run(encoder, given).pooled
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run(encoder, given).pooled.float()
    assert float((got - wanted).abs().max() / wanted.abs().max()) <= 0.05


def test_the_variant_is_as_declared() -> None:
    declared = SPEC.variants["base"]
    with torch.device("meta"):
        net = SPEC.encoder(Build(declared, {}, {}, {})).net
    assert sum(each.numel() for each in net.parameters()) == declared.parameters
    assert set(declared.dims.values()) == {net.norm.normalized_shape[0]}
    assert net.side * net.patch_size == declared.window.max == 224


@pytest.fixture(scope="module")
def embed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Embed with drawn weights: an array, or a region of the painted landscape."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("terrafm") / "base.pth"
    torch.save(SPEC.encoder(Build(SPEC.variants["base"], {}, {}, {})).net.state_dict(), file)

    def run(data: Any = None, **more: Any) -> Embedding:
        chosen = {"checkpoint": str(file)} | more
        if data is not None:
            return get_embedding_from_data("terrafm", data, **chosen)
        place = PointBuffer(11.5, 48.1, 150)
        return get_embedding("terrafm", spatial=place, temporal=SPAN, backend="synthetic", **chosen)

    yield run
    reset_runtime()


Embed = Callable[..., Embedding]


def reflectance(bands: int, *sides: int) -> Pixels:
    return np.random.default_rng(3).uniform(100, 3000, (bands, *sides)).astype(np.float32)


def test_a_modality_is_a_product(embed: Embed) -> None:
    found = {name: embed(modality=name) for name in ("s2_l2a", "s2_l1c", "s1")}
    sensors = {name: each.meta["inputs"][name]["sensor"] for name, each in found.items()}
    assert sensors == {"s2_l2a": "sentinel-2-l2a", "s2_l1c": "sentinel-2-l2a", "s1": "sentinel-1"}
    assert np.array_equal(embed().data, found["s2_l2a"].data), "the default"
    assert not np.allclose(found["s2_l2a"].data, found["s2_l1c"].data, atol=1e-3), "another stem"
    assert not found["s2_l1c"].meta["inputs"]["s2_l1c"]["trained_on"]
    for name, each in found.items():
        assert each.meta["input_prep"]["window_px"] == [96, 96] and each.meta["effective_gsd"] == 10
        assert all(step["note"] == UNVERIFIED for step in each.meta["normalization"][name])


def test_an_array_goes_to_the_stem_of_its_product(embed: Embed) -> None:
    pixels, grid = reflectance(12, 48, 32), OutputSpec.grid()
    l2a, l1c = (
        embed(UserData(pixels, name, bands=SPEC.inputs["s2_l2a"].bands, scale_m=10), output=grid)
        for name in ("s2_l2a", "s2_l1c")
    )
    assert l2a.meta["modality"] == "s2_l2a" and l1c.meta["modality"] == "s2_l1c"
    assert l2a.shape == l1c.shape == (768, 3, 2)
    decibels = UserData(reflectance(2, 16, 16) / -150, "s1", bands=["VH", "VV"], scale_m=10)
    assert embed(decibels).meta["modality"] == "s1"


def test_what_cannot_be_taken_is_told(embed: Embed) -> None:
    with pytest.raises(ModelError, match=r"below one patch of 16 x 16"):
        embed(UserData(reflectance(12, 40, 12), "s2_l2a", scale_m=10))
    with pytest.raises(ModelError, match=r"have no B12"):
        embed(UserData(reflectance(11, 32, 32), "s2_l2a", bands=SPEC.inputs["s2_l2a"].bands[:11], scale_m=10))
    with pytest.raises(ModelError, match=r"no modality 's2'.*'s2_l2a', 's2_l1c', 's1'"):
        embed(modality="s2")
