"""Presto's encoder against what the authors' code computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import golden_rule
import numpy as np
import pytest
import torch
from golden_rule import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rs_embed.nets import presto
from rs_embed.nets.presto import BANDS, GROUPS, NO_CLASS, PrestoEncoder, encoder_state

CASES = golden_rule.cases("presto")
PUBLISHED = golden_rule.spec("presto")["published"]
RULED = [name for name, case in CASES.items() if "state_dict" in case.spec]
REAL = [name for name in CASES if name not in RULED]
SENTINEL = [i for i, band in enumerate(BANDS) if band not in ("VV", "VH", *BANDS[12:16])]


def ours(config: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix("encoder_"): v for k, v in config.items() if not k.startswith("decoder_")}


def loaded(case: Case, state: dict[str, Tensor]) -> PrestoEncoder:
    net = PrestoEncoder(**ours(case.config)).eval()
    net.load_state_dict(encoder_state(state), strict=True)
    return net


def compare(net: PrestoEncoder, case: Case) -> None:
    given = case.inputs()
    if not given["month"].ndim:
        given["month"] = int(given["month"])  # type: ignore[assignment]
    with torch.inference_mode():
        tokens, kept = net.tokens(**given)
        got = {"pooled": net(**given), "tokens": tokens, "kept_indices": kept.float()}
    golden_rule.assert_equal(got, case.expected())


def small(**more: Any) -> PrestoEncoder:
    torch.manual_seed(0)
    return PrestoEncoder(**({"embedding_size": 32, "depth": 2, "num_heads": 4} | more)).eval()


def example(samples: int = 3, steps: int = 5, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, steps, len(BANDS), generator=generator)
    return {"x": x, "latlons": 80 * torch.rand(samples, 2, generator=generator), "mask": torch.zeros_like(x)}


@pytest.mark.parametrize("name", RULED)
def test_equals_the_authors(name: str) -> None:
    compare(loaded(CASES[name], CASES[name].state()), CASES[name])


@pytest.mark.parametrize("name", REAL)
def test_equals_the_authors_on_the_published_weights(name: str, shared: Path) -> None:
    state = torch.load(shared / CASES[name].spec["weights"], map_location="cpu", weights_only=True)
    compare(loaded(CASES[name], state), CASES[name])


def test_equals_the_authors_on_pixels(shared: Path) -> None:
    folder = shared / "weights" / "presto"
    net = PrestoEncoder().eval()
    net.load_state_dict(encoder_state(torch.load(folder / "default_model.pt", map_location="cpu", weights_only=True)))
    with np.load(folder / "golden_official.npz") as stored:
        dn, latlon, month, pooled = (torch.from_numpy(stored[name]) for name in ("s2_dn", "latlon", "month", "pooled"))
    x, mask = torch.zeros(*dn.shape[:2], len(BANDS)), torch.ones(*dn.shape[:2], len(BANDS))
    x[..., 2:12] = dn / 1e4
    x[..., 16] = presto.ndvi(x[..., 8], x[..., 4])
    mask[..., SENTINEL] = 0
    with torch.inference_mode():
        got = net(x, latlon, mask=mask, month=month)
    assert golden_rule.error(got, pooled) <= golden_rule.TOLERANCE


@pytest.mark.parametrize("name", RULED)
def test_tables_equal_the_authors(name: str) -> None:
    own, fixed = PrestoEncoder(**ours(CASES[name].config)).state_dict(), CASES[name].fixed()
    for table in ("pos_embed", "month_embed.weight"):
        assert float((own[table] - fixed[f"encoder.{table}"]).abs().max()) <= golden_rule.TABLE_TOLERANCE


def test_tables_equal_the_published_ones(shared: Path) -> None:
    state = torch.load(shared / "weights/presto/default_model.pt", map_location="cpu", weights_only=True)
    own, published = PrestoEncoder().state_dict(), encoder_state(state)
    for table in ("pos_embed", "month_embed.weight"):
        assert float((own[table] - published[table]).abs().max()) <= golden_rule.TABLE_TOLERANCE


@pytest.mark.parametrize("variant", PUBLISHED)
def test_has_the_published_parameters(variant: str) -> None:
    with torch.device("meta"):
        net = PrestoEncoder(**ours(PUBLISHED[variant]["config"]))
    shapes = {f"encoder.{name}": shape for name, shape in golden_rule.shapes(net).items()}
    assert shapes == PUBLISHED[variant]["parameters"]


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 6), hidden=st.floats(0, 1))
def test_alone_as_in_any_batch(seed: int, steps: int, hidden: float) -> None:
    net, given_ = small(), example(4, steps, seed)
    generator = torch.Generator().manual_seed(seed)
    given_["mask"] = (torch.rand(given_["x"].shape, generator=generator) < hidden).float()
    classes = torch.randint(0, NO_CLASS + 1, (4, steps), generator=generator)
    month = torch.randint(0, 12, (4, steps), generator=generator)
    with torch.inference_mode():
        together = net(**given_, month=month, dynamic_world=classes)
        for i in range(4):
            one = {name: value[i : i + 1] for name, value in given_.items()}
            alone = net(**one, month=month[i : i + 1], dynamic_world=classes[i : i + 1])
            assert golden_rule.error(together[i : i + 1], alone) <= 2e-6


def test_what_is_hidden_is_never_read() -> None:
    net, given_ = small(), example()
    given_["mask"][0, 1, 3] = 1  # B3: the token of blue, green and red
    given_["mask"][1, 2, 16] = 1
    with torch.inference_mode():
        clean = net(**given_)
        x = given_["x"].clone()
        x[0, 1, 2:5], x[1, 2, 16], x[:, 1:, 14:16] = torch.nan, torch.nan, torch.nan
        assert torch.equal(net(**(given_ | {"x": x})), clean)
        x[0, 1, 5] = torch.nan
        assert net(**(given_ | {"x": x})).isnan().any(dim=1).tolist() == [True, False, False]


def test_a_hidden_band_drops_its_group_and_no_other() -> None:
    net, given_ = small(), example(1, 4)
    given_["mask"][0, 2, 7] = 1
    given_["mask"][0, 1:, 14:16] = 1  # relief counts at the first step alone
    kept = net.tokens(**given_)[1][0].tolist()
    red_edge = 4 * list(GROUPS).index("S2_Red_Edge")
    assert sorted(set(range(4 * 8 + 1)) - set(kept)) == [red_edge + 2]
    given_["mask"][0, 0, 15] = 1
    assert sorted(set(range(4 * 8 + 1)) - set(net.tokens(**given_)[1][0].tolist())) == [red_edge + 2, 4 * 7]


def test_without_a_token_the_place_is_left() -> None:
    net, given_ = small(), example(2)
    given_["mask"][:] = 1
    with torch.inference_mode():
        found = net(**given_)
        tokens, kept = net.tokens(**given_)
        given_["mask"][1] = 0
        mixed = net(**given_)
    assert tokens.shape == (2, 1, 32) and kept.shape == (2, 0)
    assert torch.allclose(tokens[:, 0], found) and not torch.allclose(found[0], found[1])
    assert torch.allclose(mixed[0], found[0], atol=1e-6) and not torch.allclose(mixed[1], found[1])


def test_missing_classes_are_as_none_at_all() -> None:
    net, given_ = small(), example()
    with torch.inference_mode():
        none = net(**given_)
        assert torch.equal(net(**given_, dynamic_world=torch.full((3, 5), NO_CLASS)), none)
        some = torch.full((3, 5), NO_CLASS)
        some[1, 2] = 4
        changed = (net(**given_, dynamic_world=some) - none).abs().amax(dim=1)
    assert changed[1] > 1e-3 and float(changed[[0, 2]].max()) <= 2e-6


def test_months_in_every_form() -> None:
    net, given_ = small(), example(2, 4)
    every = torch.tensor([[10, 11, 0, 1]] * 2)
    with torch.inference_mode():
        wanted = net(**given_, month=every)
        assert torch.equal(net(**given_, month=10), wanted)
        assert torch.equal(net(**given_, month=torch.tensor([10, 10])), wanted)
        assert not torch.allclose(net(**given_, month=9), wanted)


def test_ndvi() -> None:
    nir, red = torch.tensor([0.4, 0.0, -0.2, 0.1]), torch.tensor([0.1, 0.0, 0.1, -0.1])
    assert torch.allclose(presto.ndvi(nir, red), torch.tensor([0.6, 0.0, 0.0, 0.0]))


def test_unit_vectors() -> None:
    found = presto.unit_vectors(torch.tensor([[0.0, 0.0], [0.0, 90.0], [90.0, 12.0], [0.0, 180.0], [0.0, -180.0]]))
    assert torch.allclose(found, torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [-1, 0, 0]]), atol=1e-6)


def test_half_precision_stays_close() -> None:
    net, given_ = small(), example()
    given_["mask"][0, :, 2] = 1
    with torch.inference_mode():
        wanted = net(**given_)
        got = net.bfloat16()(**(given_ | {"x": given_["x"].bfloat16()}))
    assert got.dtype == torch.bfloat16 and golden_rule.error(got, wanted) <= 0.05


def test_the_decoder_is_left_out() -> None:
    one = torch.zeros(1)
    assert encoder_state({"encoder.norm.bias": one, "decoder.norm.bias": one}) == {"norm.bias": one}
    assert encoder_state({"norm.bias": one}) == {"norm.bias": one}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": torch.zeros(3, 5, 16)}, r"x must be \(B, T, 17\)"),
        ({"x": torch.zeros(3, 25, 17), "mask": None}, "1 to 24 time steps, got 25"),
        ({"x": torch.zeros(3, 0, 17), "mask": None}, "got 0"),
        ({"latlons": torch.zeros(2, 2)}, r"latlons must be \(3, 2\)"),
        ({"mask": torch.zeros(3, 5, 9)}, "mask must be"),
        ({"month": 12}, r"from 0 \(January\) to 11, got \[12\]"),
        ({"month": torch.tensor([0.5])}, "whole numbers"),
        ({"month": torch.tensor([1, 2])}, "month must be one number"),
        ({"month": torch.zeros(3, 4, dtype=torch.int64)}, "month must be one number"),
        ({"dynamic_world": torch.zeros(3, 4, dtype=torch.int64)}, "dynamic_world must be"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small()(**(example() | change))


@pytest.mark.parametrize(
    "sizes", [{"embedding_size": 40, "num_heads": 3}, {"month_embed_ratio": 0.8}, {"month_embed_ratio": 5 / 32}]
)
def test_bad_sizes_are_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"the width 40|cannot be split"):
        small(**sizes)


def test_samples_of_different_lengths_have_no_common_tokens() -> None:
    given_ = example()
    given_["mask"][0, 0, 0] = 1
    with pytest.raises(ValueError, match=r"different numbers of tokens: \[40, 41\]"):
        small().tokens(**given_)
