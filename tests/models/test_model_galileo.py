"""Galileo as the catalogue declares it: from digital numbers and decibels to cells, on the published weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rs_embed.core.encoding import Batch, Encoder, Features, InputBatch
from rs_embed.core.errors import CheckpointError, ModelError
from rs_embed.core.model_spec import Build
from rs_embed.inference.golden import GoldenFile
from rs_embed.inference.weights import load_weights
from rs_embed.models.galileo import MODELS, S1_STATISTICS, S2_STATISTICS
from rs_embed.nets.galileo import average_tokens, sensor_input

(SPEC,) = MODELS
GOLDEN = GoldenFile.open(Path(__file__).parents[1] / "golden" / "galileo.json")
SIDE = 16
TIMES = np.array([["2022-04-16", "2022-07-16", "2022-10-16"]], "datetime64[s]")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RS_EMBED_CACHE_DIR", str(tmp_path))


@pytest.fixture
def weights(shared: Path) -> Path:
    return shared / "weights" / "galileo_nano" / "encoder.pt"


def build(patch_size: int = 8, variant: str = "nano", **options: Any) -> Build:
    values = {name: option.default for name, option in SPEC.options.items()} | {"patch_size": patch_size} | options
    return Build(SPEC.adapt(SPEC.variants[variant], values), values, {}, {})


def drawn(patch_size: int = 8) -> Encoder:
    torch.manual_seed(0)
    encoder = SPEC.encoder(build(patch_size))
    torch.nn.init.normal_(encoder.net.s_t_channel_embed)  # the net's own is zero until weights are loaded
    encoder.net.eval()
    return encoder


def pixels(name: str, count: int = 1, frames: int = 3, side: int = SIDE) -> NDArray[np.float32]:
    """Raw values of the sensor."""
    mean, std = (np.array(each)[:, None, None] for each in {"s1": S1_STATISTICS, "s2": S2_STATISTICS}[name])
    noise = np.random.default_rng(len(name) + count).standard_normal((count, frames, len(mean), side, side))
    return (mean + std * noise).astype(np.float32)


def prepared(name: str, raw: NDArray[np.float32]) -> torch.Tensor:
    for step in SPEC.inputs[name].sources[0].steps:
        raw = np.stack([step(each) for each in raw])
    return torch.from_numpy(raw)


def batch(raw: Mapping[str, NDArray[np.float32]], times: NDArray[Any] = TIMES, gsd: Any = 10.0, **change: Any) -> Batch:
    inputs = {}
    for name, values in raw.items():
        count, frames, bands, side, _ = values.shape
        inputs[name] = InputBatch(
            pixels=prepared(name, values),
            valid=torch.ones(count, frames, side, side, dtype=torch.bool),
            times=np.broadcast_to(times[:, :frames], (count, frames)),
            bands=SPEC.inputs[name].bands,
            missing_bands=(),
            wavelengths=np.full(bands, np.nan),
            bandwidths=np.full(bands, np.nan),
            gsd=np.broadcast_to(np.float64(gsd), (count,)),
        )
        inputs[name] = dataclasses.replace(inputs[name], **change.get(name, {}))
    return Batch(inputs, np.ones((1, 2, 2), np.float32), np.zeros((1, 2)))


def run(encoder: Encoder, given: Batch) -> Features:
    with torch.inference_mode():
        return encoder(given)


def pool(found: Features) -> torch.Tensor:
    """The mean of cells by how many tokens each had."""
    return (found.grid * found.weight[:, None]).sum((2, 3)) / found.weight.sum((1, 2))[:, None]


def assert_close(got: torch.Tensor, wanted: torch.Tensor, tolerance: float = 2e-6) -> None:
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max() / wanted.abs().max()) <= tolerance


def raw_of(case: str) -> tuple[dict[str, NDArray[np.float32]], NDArray[Any], int]:
    """Digital numbers and decibels that the steps turn into a golden case's inputs, its dates and its patch."""
    inputs = GOLDEN.case(case).inputs
    normal = np.moveaxis(inputs["s_t_x"].astype(np.float64), (3, 4), (1, 2))  # (B, H, W, T, C) -> (B, T, C, H, W)
    visible = inputs["s_t_m"] == 0
    raw = {}
    sensors = {"s1": (S1_STATISTICS, slice(0, 2), 0), "s2": (S2_STATISTICS, slice(2, 12), 1)}
    for name, (statistics, channels, group) in sensors.items():
        if visible[..., group].all():
            mean, std = (np.array(each)[:, None, None] for each in statistics)
            raw[name] = (normal[:, :, channels] * 4 * std + mean - 2 * std).astype(np.float32)
    times = (np.datetime64("2022-01") + inputs["months"]).astype("datetime64[s]")
    return raw, times, int(inputs["patch_size"])


@pytest.mark.parametrize("case", ["real_weights", "real_weights_s2_s1_p8"])
def test_digital_numbers_through_the_published_weights_give_the_authors_vectors(case: str, weights: Path) -> None:
    raw, times, patch_size = raw_of(case)
    assert set(raw) == ({"s1", "s2"} if "s1" in case else {"s2"})
    made = build(patch_size)
    encoder = SPEC.encoder(made)
    provenance = load_weights(encoder, SPEC, "nano", made, checkpoint=weights)
    assert provenance["pinned"] and provenance["file"] == "encoder.pt"
    found = run(encoder, batch(raw, times))
    wanted = {name: torch.from_numpy(GOLDEN.arrays[f"{case}/out/{name}"]) for name in ("pooled", "grid")}
    assert_close(found.grid.permute(0, 2, 3, 1), wanted["grid"], 2e-5)
    assert_close(pool(found), wanted["pooled"], 2e-5)


def test_weights_of_another_variant_are_named(weights: Path) -> None:
    made = build(variant="tiny")
    with pytest.raises(CheckpointError, match="fits the variant 'nano'"):
        load_weights(SPEC.encoder(made), SPEC, "tiny", made, checkpoint=weights)


@pytest.mark.parametrize("names", [("s2",), ("s1",), ("s2", "s1")])
def test_cells_average_to_the_authors_frozen_feature(names: tuple[str, ...]) -> None:
    encoder, raw = drawn(4), {name: pixels(name) for name in names}
    found = run(encoder, batch(raw))
    given = {name: prepared(name, values).permute(0, 3, 4, 1, 2) for name, values in raw.items()}
    with torch.inference_mode():
        tokens = encoder.net(*sensor_input(**given, months=torch.tensor([[3, 6, 9]])), patch_size=4)
    assert_close(pool(found), average_tokens(tokens))
    assert set(found.weight.unique().tolist()) == {3.0 * (5 * ("s2" in names) + ("s1" in names))}


def test_a_patch_is_hidden_only_where_none_of_its_pixels_is_valid() -> None:
    encoder, raw = drawn(8), {"s2": pixels("s2")}
    valid = torch.ones(1, 3, SIDE, SIDE, dtype=torch.bool)
    valid[0, 1, :8, 8:] = False  # a whole patch of the second frame
    valid[0, 2, :7, :7] = False  # all but an edge of another
    found = run(encoder, batch(raw, s2={"valid": valid}))
    assert found.weight[0].tolist() == [[15, 10], [15, 15]]
    raw["s2"][0, 1, :, :8, 8:] = 9999
    again = run(encoder, batch(raw, s2={"valid": valid}))
    assert torch.equal(found.grid, again.grid), "what is hidden is never read"


def test_a_patch_without_any_token_is_zero_and_weighs_nothing() -> None:
    valid = torch.ones(1, 3, SIDE, SIDE, dtype=torch.bool)
    valid[0, :, 8:, :8] = False
    found = run(drawn(8), batch({"s2": pixels("s2")}, s2={"valid": valid}))
    assert found.weight[0].tolist() == [[15, 15], [0, 15]]
    assert bool((found.grid[0, :, 1, 0] == 0).all()) and bool(found.grid.isfinite().all())


def test_a_frame_of_nothing_is_as_if_it_were_not_there() -> None:
    raw = {"s2": pixels("s2", frames=2)}
    valid = torch.ones(1, 2, SIDE, SIDE, dtype=torch.bool)
    valid[:, 1] = False
    encoder = drawn(8)
    hidden = run(encoder, batch(raw, s2={"valid": valid}))
    alone = run(encoder, batch({"s2": raw["s2"][:, :1]}))
    assert_close(hidden.grid, alone.grid)


@pytest.mark.parametrize(("band", "groups"), [("B8A", 4), ("B5", 4), ("B12", 4)])
def test_a_missing_band_hides_its_group(band: str, groups: int) -> None:
    encoder, raw = drawn(8), {"s2": pixels("s2")}
    given = batch(raw, s2={"missing_bands": (band,)})
    found = run(encoder, given)
    assert set(found.weight.unique().tolist()) == {3.0 * groups}
    raw["s2"][:, :, SPEC.inputs["s2"].bands.index(band)] = 5
    assert torch.equal(run(encoder, batch(raw, s2={"missing_bands": (band,)})).grid, found.grid)


def test_months_count_and_an_unknown_one_is_july() -> None:
    encoder, raw = drawn(8), {"s2": pixels("s2", frames=1)}

    def of(date: str) -> torch.Tensor:
        return run(encoder, batch(raw, np.array([[date]], "datetime64[s]"))).grid

    assert torch.equal(of("1999-07-31T23:59:59"), of("NaT"))
    assert not torch.equal(of("1999-07-31T23:59:59"), of("2022-01-01"))


def test_the_date_of_one_sensor_serves_where_the_other_has_none() -> None:
    encoder, raw = drawn(8), {"s2": pixels("s2"), "s1": pixels("s1")}
    whole = run(encoder, batch(raw)).grid
    nothing = np.full((1, 3), "NaT", "datetime64[s]")
    assert torch.equal(run(encoder, batch(raw, s2={"times": nothing})).grid, whole)
    assert not torch.equal(run(encoder, batch(raw, nothing)).grid, whole)


def test_samples_of_other_pixel_sizes_are_encoded_with_their_own() -> None:
    encoder, raw = drawn(8), {"s2": pixels("s2", count=3)}
    together = run(encoder, batch(raw, gsd=[10, 20, 10]))
    for i, gsd in enumerate((10.0, 20.0, 10.0)):
        alone = run(encoder, batch({"s2": raw["s2"][i : i + 1]}, gsd=gsd))
        assert_close(together.grid[i : i + 1], alone.grid)
    assert not torch.allclose(together.grid[1], run(encoder, batch({"s2": raw["s2"][1:2]})).grid[0], atol=1e-3)


def test_a_sample_is_the_same_alone_and_beside_a_cloudy_one() -> None:
    encoder, raw = drawn(4), {"s2": pixels("s2", count=2)}
    valid = torch.ones(2, 3, SIDE, SIDE, dtype=torch.bool)
    valid[1, :, :, 5:] = False
    together = run(encoder, batch(raw, s2={"valid": valid}))
    alone = run(encoder, batch({"s2": raw["s2"][:1]}))
    assert_close(together.grid[:1], alone.grid)


def test_inputs_of_other_shapes_are_refused() -> None:
    with pytest.raises(ModelError, match="one shape"):
        run(drawn(8), batch({"s2": pixels("s2", frames=2), "s1": pixels("s1", frames=3)}))


def test_half_precision_runs() -> None:
    encoder, given = drawn(8), batch({"s2": pixels("s2")})
    wanted = pool(run(encoder, given))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(pool(run(encoder, given)).float(), wanted, 0.05)


@pytest.mark.parametrize("variant", SPEC.variants)
def test_a_variant_is_as_large_as_declared(variant: str) -> None:
    with torch.device("meta"):
        net = SPEC.encoder(build(variant=variant)).net
    assert sum(each.numel() for each in net.parameters()) == SPEC.variants[variant].parameters
    assert set(SPEC.variants[variant].dims.values()) == {net.embedding_size}


@pytest.mark.parametrize("patch_size", [1, 4, 8])
def test_the_window_follows_the_patch(patch_size: int) -> None:
    window = build(patch_size).variant.window
    assert (window.patch, window.multiple, window.min, window.max) == (patch_size,) * 3 + (16 * patch_size,)
    assert window.square and window.size is None


def test_options_make_the_frames() -> None:
    assert build().variant.frames is None, "the input's own: months"
    assert build(temporal_mode="multi").variant.frames is None
    assert build(temporal_mode="single").variant.frames.step == "whole"
    assert build(n_frames=5).variant.frames.step == 5
    with pytest.raises(ModelError, match="n_frames=5"):
        build(temporal_mode="single", n_frames=5)
