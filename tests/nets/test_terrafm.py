"""TerraFM's encoder against what the authors' code computed."""

from __future__ import annotations

from typing import Any

import golden_rule
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rs_embed.nets.terrafm import STEMS, TerraFMEncoder

CASES = golden_rule.cases("terrafm")
PUBLISHED = golden_rule.spec("terrafm")["published"]


def loaded(name: str) -> TerraFMEncoder:
    net = TerraFMEncoder(**CASES[name].config).eval()
    net.load_state_dict(CASES[name].state(), strict=True)
    return net


def given_to(name: str) -> tuple[Tensor, str]:
    inputs = CASES[name].inputs()
    image = inputs["image"]
    return image, "s1" if image.shape[1] == 2 else "s2_l2a" if inputs["is_l2a"] else "s2_l1c"


def cells(net: TerraFMEncoder, x: Tensor, tokens: Tensor) -> Tensor:
    return tokens[:, 1:].mT.reshape(len(x), -1, *net.grid(x))


def small(**config: Any) -> TerraFMEncoder:
    torch.manual_seed(0)
    return TerraFMEncoder(**({"img_size": [16], "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2} | config))


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CASES)
def test_equals_the_authors(name: str) -> None:
    net = loaded(name)
    x, stem = given_to(name)
    with torch.inference_mode():
        tokens = net(x, stem)
        first = net.norm(net.blocks[0](net.tokens(x, stem)))
    found = {"pooled": tokens[:, 0], "grid": cells(net, x, tokens), "grid_first_block": cells(net, x, first)}
    wanted = CASES[name].expected()
    golden_rule.assert_equal({key: found[key] for key in wanted}, wanted)


def test_has_the_published_parameters() -> None:
    with torch.device("meta"):
        net = TerraFMEncoder(**PUBLISHED["base"]["config"])
    assert golden_rule.shapes(net) == PUBLISHED["base"]["parameters"]


@pytest.mark.parametrize("name", ["l2a", "s1"])
def test_alone_as_in_the_batch(name: str) -> None:
    net = loaded(name)
    x, stem = given_to(name)
    with torch.inference_mode():
        together = net(x, stem)
        for i in range(len(x)):
            assert golden_rule.error(net(x[i : i + 1], stem), together[i : i + 1]) <= 2e-6


def test_each_product_has_its_own_stem() -> None:
    net, x = small(), image(1, 12, 16, 16)
    with torch.inference_mode():
        assert not torch.allclose(net(x, "s2_l2a"), net(x, "s2_l1c"), atol=1e-3)
        before = net(x, "s2_l2a")
        net.patch_embed.s2_l1c_embed += 1
        assert torch.equal(net(x, "s2_l2a"), before)


def test_the_table_is_taken_as_it_stands_only_for_square_images_of_as_many_patches() -> None:
    net = small()
    for side in (16, 17, 19):
        assert net.positions(side, side) is net.pos_embed
    for height, width in ((16, 18), (8, 32), (32, 8)):
        resized = net.positions(height, width)
        assert resized.shape == net.pos_embed.shape and not torch.allclose(resized, net.pos_embed, atol=1e-4)
        assert torch.equal(resized[:, 0], net.pos_embed[:, 0])


@given(height=st.integers(16, 700), width=st.integers(16, 700), side=st.integers(1, 16))
def test_the_table_has_a_row_for_every_patch(height: int, width: int, side: int) -> None:
    net = small(img_size=[16 * side], patch_size=16, embed_dim=2, depth=0, num_heads=1)
    assert net.positions(height, width).shape == (1, 1 + (height // 16) * (width // 16), 2)


def test_only_the_first_number_of_the_image_size_counts() -> None:
    assert small(img_size=[16, 32]).pos_embed.shape == small(img_size=16).pos_embed.shape == (1, 17, 16)


def test_the_far_edges_that_are_no_patch_are_left_out() -> None:
    net, x = small(), image(1, 2, 22, 11)
    with torch.inference_mode():
        assert torch.equal(net(x, "s1"), net(x[..., :20, :8], "s1"))


def test_queries_have_a_bias_only_where_asked() -> None:
    assert "blocks.0.attn.qkv.bias" not in small().state_dict()
    assert "blocks.0.attn.qkv.bias" in small(qkv_bias=True).state_dict()


def test_half_precision_stays_close() -> None:
    net, x = small(), image(1, 12, 24, 20)
    with torch.inference_mode():
        wanted = net(x, "s2_l2a")
        got = net.bfloat16()(x.bfloat16(), "s2_l2a")
    assert got.dtype == torch.bfloat16
    assert golden_rule.error(got, wanted) <= 0.05


@pytest.mark.parametrize("stem", STEMS)
def test_bad_inputs_are_named(stem: str) -> None:
    net = small()
    with pytest.raises(ValueError, match=rf"the stem {stem} takes \(N, {STEMS[stem]}, H, W\), got \(1, 3, 16, 16\)"):
        net(image(1, 3, 16, 16), stem)
    with pytest.raises(ValueError, match=r"\(3, 16\) pixels is below one patch of 4"):
        net(image(1, STEMS[stem], 3, 16), stem)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"stem='l2a' is none of 's2_l2a', 's2_l1c', 's1'"):
        small()(image(1, 12, 16, 16), "l2a")
    with pytest.raises(ValueError, match=r"img_size=\[3\] is below one patch of 4 pixels"):
        small(img_size=[3])
