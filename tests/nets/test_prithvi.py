"""Prithvi's encoder against what the authors' code computed."""

from __future__ import annotations

from typing import Any

import golden_rule
import pytest
import torch
from golden_rule import Case
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rs_embed.nets.prithvi import PrithviEncoder, encoder_state, position_table

CASES = golden_rule.cases("prithvi")
PUBLISHED = golden_rule.spec("prithvi")["published"]
TOLD = ("time", "location")


def built(config: dict[str, Any]) -> PrithviEncoder:
    return PrithviEncoder(**{k: v for k, v in config.items() if k != "class" and not k.startswith("decoder")}).eval()


def loaded(case: Case) -> PrithviEncoder:
    net = built(case.config)
    net.load_state_dict(encoder_state(case.state()), strict=True)
    return net


def small(**config: Any) -> PrithviEncoder:
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "in_chans": 2, "embed_dim": 32, "depth": 1, "num_heads": 2}
    return PrithviEncoder(**(sizes | config)).eval()


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def dates(*years: float) -> Tensor:
    return torch.tensor([[[year, 100.0 + i] for i, year in enumerate(years)]])


@pytest.mark.parametrize("name", CASES)
def test_equals_the_authors(name: str) -> None:
    net, inputs = loaded(CASES[name]), CASES[name].inputs()
    x = inputs.pop("pixel_values")
    with torch.inference_mode():
        tokens = net(x, **inputs)
        first = net.blocks[0](net.tokens(x, **inputs))
        first = first if len(net.blocks) > 1 else net.norm(first)
    found = {"tokens": tokens, "cls": tokens[:, 0], "mean": tokens[:, 1:].mean(dim=1), "block0": first}
    golden_rule.assert_equal(found, CASES[name].expected())


@pytest.mark.parametrize("name", CASES)
def test_the_table_equals_the_published_one(name: str) -> None:
    net = built(CASES[name].config)
    (fixed,) = (table for key, table in CASES[name].fixed().items() if key.endswith("pos_embed"))
    table = position_table((net.num_frames, *net.native), net.native, net.embed_dim)
    assert float((table - fixed[0, 1:]).abs().max()) <= golden_rule.TABLE_TOLERANCE
    assert not fixed[0, 0].any(), "nothing is added to the class token"


@pytest.mark.parametrize("variant", PUBLISHED)
def test_has_the_published_parameters(variant: str) -> None:
    with torch.device("meta"):
        net = PrithviEncoder(**PUBLISHED[variant]["config"])
    assert golden_rule.shapes(net) == PUBLISHED[variant]["parameters"]


@pytest.mark.parametrize("name", ["tl_t3", "v1_t3"])
def test_alone_as_in_the_batch(name: str) -> None:
    net, inputs = loaded(CASES[name]), CASES[name].inputs()
    with torch.inference_mode():
        together = net(*inputs.values())
        for i in range(len(together)):
            alone = net(*(value[i : i + 1] for value in inputs.values()))
            assert golden_rule.error(alone, together[i : i + 1]) <= 2e-6


@given(
    t=st.integers(1, 5),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    native=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_a_stretched_table_keeps_its_corners(t: int, size: tuple[int, int], native: tuple[int, int]) -> None:
    own = position_table((t, *native), native, 32).reshape(t, *native, 32)
    table = position_table((t, *size), native, 32).reshape(t, *size, 32)
    assert bool(table.isfinite().all())
    rows, columns = ((0, -1) if n > 1 else (0,) for n in size)
    for row in rows:
        for column in columns:
            assert torch.allclose(table[:, row, column], own[:, row, column], atol=1e-6)


def test_columns_rows_and_frames_have_their_own_share_of_the_width() -> None:
    table = position_table((3, 4, 5), (4, 5), 32).reshape(3, 4, 5, 32)
    column, row, frame = table[..., :12], table[..., 12:24], table[..., 24:]
    assert torch.equal(column, column[:1, :1].expand_as(column))
    assert torch.equal(row, row[:1, :, :1].expand_as(row))
    assert torch.equal(frame, frame[:, :1, :1].expand_as(frame))


def test_the_native_grid_may_have_other_rows_than_columns() -> None:
    net = small(img_size=(32, 48), patch_size=(1, 8, 16))
    assert net.native == (4, 3)
    x = image(1, 2, 1, 32, 48)
    assert net.shape(x) == (1, 4, 3)
    patches = net.tokens(x)[0, 1:] - net.patch_embed(x).flatten(2).mT[0]
    assert torch.allclose(patches, position_table((1, 4, 3), (4, 3), 32), atol=1e-6)


def test_the_far_edges_that_are_no_patch_are_left_out() -> None:
    net, x = small(patch_size=(2, 8, 8), num_frames=4), image(1, 2, 5, 27, 39)
    with torch.inference_mode():
        assert net.shape(x) == (2, 3, 4)
        assert torch.equal(net(x), net(x[:, :, :4, :24, :32]))


@pytest.mark.parametrize("frames", [1, 2, 6])
def test_other_numbers_of_frames_have_their_dates_too(frames: int) -> None:
    """The authors' net of as many frames; theirs of another number fails with coordinates."""
    usual, other = (small(num_frames=n, coords_encoding=TOLD) for n in (4, frames))
    other.load_state_dict(usual.state_dict())
    x, when, where = image(1, 2, frames, 40, 24), dates(*range(2015, 2015 + frames)), torch.tensor([[48.0, -11.5]])
    with torch.inference_mode():
        assert torch.equal(usual(x, when, where), other(x, when, where))


def test_a_date_is_added_to_its_own_frame_alone() -> None:
    net, x = small(num_frames=2, coords_encoding=TOLD, coords_scale_learn=True), image(1, 2, 2, 32, 32)
    with torch.inference_mode():
        one, other = net.tokens(x, dates(2020, 2021)), net.tokens(x, dates(2020, 2022))
        changed = (one != other).any(dim=-1)[0]
    assert not changed[: 1 + 16].any(), "the class token and the first frame"
    assert bool(changed[17:].all())


def test_coordinates_are_halves_of_the_width_in_their_order() -> None:
    net = small(coords_encoding=("location",))
    assert net.location_embed_enc is not None and net.temporal_embed_enc is None
    code = net.location_embed_enc(torch.tensor([[48.0, -11.5], [48.0, 20.0]]))
    assert torch.equal(code[0, :16], code[1, :16]) and not torch.equal(code[0, 16:], code[1, 16:])
    assert float(code[0, 0]) == pytest.approx(float(torch.tensor(48.0).sin()), abs=1e-6)


def test_a_net_without_codes_takes_no_notice_of_coordinates() -> None:
    net, x = small(), image(1, 2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(net(x, dates(2020), torch.tensor([[1.0, 2.0]])), net(x))


def test_factors_that_are_not_learned_are_one() -> None:
    net = small(coords_encoding=TOLD)
    assert net.state_dict()["temporal_embed_enc.scale"].tolist() == [1.0]
    assert "temporal_embed_enc.scale" not in dict(net.named_parameters())


def test_half_precision_stays_close() -> None:
    net, x = small(coords_encoding=TOLD), image(1, 2, 1, 32, 32)
    where = torch.tensor([[48.137, 11.575]])
    with torch.inference_mode():
        wanted = net(x, dates(2021), where)
        net.bfloat16()
        assert net.temporal_embed_enc is not None
        assert net.temporal_embed_enc(dates(2021)).dtype == torch.float32, "years are no bfloat16"
        got = net(x.bfloat16(), dates(2021), where)
    assert got.dtype == torch.bfloat16
    assert golden_rule.error(got, wanted) <= 0.05


def test_tables_made_in_inference_mode_serve_training() -> None:
    position_table.cache_clear()
    net, x = small(), image(1, 2, 1, 40, 24)
    with torch.inference_mode():
        net(x)
    net(x).sum().backward()
    assert net.patch_embed.proj.weight.grad is not None


def test_the_decoder_and_the_table_are_left_out() -> None:
    names = ["encoder.cls_token", "encoder.pos_embed", "encoder.patch_embed.proj.bias", "decoder.mask_token"]
    names += ["decoder.decoder_blocks.0.norm1.bias", "decoder.temporal_embed_dec.scale"]
    assert list(encoder_state({name: torch.zeros(1) for name in names})) == ["cls_token", "patch_embed.proj.bias"]
    old = ["_timm_module.cls_token", "pos_embed", "mask_token", "decoder_pos_embed", "decoder_blocks.0.norm1.bias"]
    assert list(encoder_state({name: torch.zeros(1) for name in old})) == ["cls_token"]
    assert list(encoder_state({"head.weight": torch.zeros(1)})) == ["head.weight"], "a stranger is not hidden"
    with pytest.raises(ValueError, match=r"two tensors are called 'cls_token'"):
        encoder_state({"encoder.cls_token": torch.zeros(1), "cls_token": torch.zeros(1)})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"embed_dim": 40}, "multiple of 16, got 40"),
        ({"num_heads": 3}, "divide the width 32, got 3"),
        ({"img_size": 4}, "below one patch"),
        ({"patch_size": (8, 8)}, r"\(frames, rows, columns\), got \(8, 8\)"),
        ({"coords_encoding": ("place",)}, "'place'; accepted: 'time', 'location'"),
        ({"coords_encoding": ("time",), "patch_size": (2, 8, 8)}, "one frame, got 2"),
    ],
)
def test_bad_sizes_are_named(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(**config)


def test_bad_inputs_are_named() -> None:
    net = small(coords_encoding=TOLD)
    x = image(1, 2, 1, 32, 32)
    with pytest.raises(ValueError, match=r"\(1, 32, 7\).* is below a patch"):
        net(x[..., :7])
    with pytest.raises(ValueError, match=r"temporal_coords must be \(1, 1, 2\), got \(1, 2, 2\)"):
        net(x, dates(2020, 2021))
    with pytest.raises(ValueError, match=r"location_coords must be \(1, 2\), got \(2, 2\)"):
        net(x, None, torch.zeros(2, 2))
