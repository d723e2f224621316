"""SatMAE's two nets against what the authors' code computed, SatMAE++'s grouped net too."""

from __future__ import annotations

from typing import Any

import golden_rule
import pytest
import torch
from golden_rule import Case
from torch import Tensor

from rs_embed.nets.layers import frequencies, sincos, sincos_grid
from rs_embed.nets.satmae import GroupedViT
from rs_embed.nets.vit import PatchEmbed, ViT, as_grid, encoder_state

CASES = {f"{model}/{name}": case for model in ("satmae", "satmaepp") for name, case in golden_rule.cases(model).items()}
PUBLISHED = golden_rule.spec("satmae")["published"]
FOREIGN = {"class", "spatial_mask"}


def built(config: dict[str, Any]) -> ViT | GroupedViT:
    own = {k: v for k, v in config.items() if k not in FOREIGN and not k.startswith("decoder_")}
    return GroupedViT(**own) if "channel_groups" in own else ViT(**own)


def loaded(case: Case) -> ViT | GroupedViT:
    net = built(case.config).eval()
    net.load_state_dict(encoder_state(case.state()), strict=True)
    return net


def outputs(net: ViT | GroupedViT, image: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        before, after = net.encode(image), net(image)
    return {
        "tokens": after,
        "cls": after[:, 0],
        "mean": net.patch_features(after).mean(dim=1),
        "tokens_before_norm": before,
        "mean_before_norm": net.patch_features(before).mean(dim=1),
    }


def small(**more: Any) -> ViT:
    torch.manual_seed(0)
    return ViT(**{"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2} | more).eval()


def grouped(**more: Any) -> GroupedViT:
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 8, "in_chans": 10, "embed_dim": 32, "channel_embed": 8, "depth": 1}
    return GroupedViT(**sizes | {"num_heads": 2} | more).eval()


@pytest.mark.parametrize("name", CASES)
def test_equals_the_authors(name: str) -> None:
    case = CASES[name]
    got, wanted = outputs(loaded(case), case.inputs()["image"]), case.expected()
    golden_rule.assert_equal({output: got[output] for output in wanted}, wanted, 2e-6)


@pytest.mark.parametrize("name", CASES)
def test_tables_equal_the_authors(name: str) -> None:
    own, fixed = built(CASES[name].config).state_dict(), CASES[name].fixed()
    for table in {"pos_embed", "channel_embed"} & set(fixed):
        assert float((own[table] - fixed[table]).abs().max()) <= golden_rule.TABLE_TOLERANCE


@pytest.mark.parametrize("variant", PUBLISHED)
def test_has_the_published_parameters(variant: str) -> None:
    with torch.device("meta"):
        net = built(PUBLISHED[variant]["config"])
    assert golden_rule.shapes(net) == PUBLISHED[variant]["parameters"]


@pytest.mark.parametrize("name", ["satmae/rgb", "satmae/group_channels"])
def test_alone_as_in_the_batch(name: str) -> None:
    net, image = loaded(CASES[name]), CASES[name].inputs()["image"]
    together = outputs(net, image)
    for i in range(len(image)):
        golden_rule.assert_equal(outputs(net, image[i : i + 1]), {k: v[i : i + 1] for k, v in together.items()}, 2e-6)


def test_the_code_of_a_grid_counts_columns_first() -> None:
    table = sincos_grid(2, 3, 8).reshape(2, 3, 8)
    axis = sincos(torch.arange(3.0), frequencies(4))
    for row in range(2):
        for column in range(3):
            assert torch.allclose(table[row, column], torch.cat((axis[column], axis[row])), atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        sincos_grid(2, 2, 6)


def test_a_patch_stays_in_its_place() -> None:
    """Without blocks a token is its own patch: row-major in the sequence, and in the grid."""
    net = small(depth=0)
    image = torch.zeros(1, 3, 32, 32)
    changed = image.clone()
    changed[..., 8:16, 24:32] = 1
    with torch.inference_mode():
        moved = net.patch_features(net(changed) - net(image)).abs().sum(dim=2)
    assert moved.nonzero().tolist() == [[0, 1 * 4 + 3]]
    assert as_grid(moved[..., None], 4, 4)[0, 0].nonzero().tolist() == [[1, 3]]


def test_a_group_sees_its_own_bands_only() -> None:
    net = grouped(depth=0)
    image = torch.zeros(1, 10, 16, 16)
    for group, bands in enumerate(net.channel_groups):
        changed = image.clone()
        changed[:, list(bands), :8, 8:] = 1
        with torch.inference_mode():
            moved = (net(changed) - net(image))[0, 1:].abs().sum(dim=1)
        assert moved.nonzero().flatten().tolist() == [group * 4 + 1]


def test_a_cell_is_the_mean_of_its_groups() -> None:
    net = grouped()
    with torch.inference_mode():
        tokens = net(torch.randn(2, 10, 16, 16))
    cells = net.patch_features(tokens)
    assert cells.shape == (2, 4, 32)
    assert torch.allclose(cells[:, 2], (tokens[:, 3] + tokens[:, 7] + tokens[:, 11]) / 3, atol=1e-6)
    assert torch.allclose(cells.mean(dim=1), tokens[:, 1:].mean(dim=1), atol=1e-6)


def test_an_image_need_not_be_square() -> None:
    net = small(img_size=(16, 32), patch_size=[8])
    assert net.grid == (2, 4) and net.pos_embed is not None
    assert torch.equal(net.pos_embed[0, 1:], sincos_grid(2, 4, 32))
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, 16, 32)).shape == (1, 9, 32)


def test_heads_ratio_bias_and_eps_are_what_is_asked_for() -> None:
    net = small(mlp_ratio=2.5, qkv_bias=False, norm_eps=1e-3)
    assert net.blocks[0].mlp.fc1.out_features == 80 and net.blocks[0].attn.qkv.bias is None
    assert {net.norm.eps, net.blocks[0].norm1.eps, net.blocks[0].norm2.eps} == {1e-3}
    with pytest.raises(ValueError, match="heads must divide the width 32, got 5"):
        small(num_heads=5)


def test_half_precision_stays_close() -> None:
    for net, channels, side in ((small(depth=2), 3, 32), (grouped(depth=2), 10, 16)):
        image = torch.randn(2, channels, side, side)
        with torch.inference_mode():
            wanted = net(image)
            got = net.bfloat16()(image.bfloat16())
        assert got.dtype == torch.bfloat16 and golden_rule.error(got, wanted) <= 0.05


def test_the_decoder_is_left_out() -> None:
    names = ("cls_token", "mask_token", "decoder_embed.weight", "decoder_pos_embed", "norm.weight")
    assert list(encoder_state({name: torch.zeros(1) for name in names})) == ["cls_token", "norm.weight"]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"image must be \(N, 3, H, W\), got \(1, 4, 32, 32\)"):
        small()(torch.zeros(1, 4, 32, 32))
    with pytest.raises(ValueError, match=r"of \(32, 32\) pixels, got \(40, 32\)"):
        small()(torch.zeros(1, 3, 40, 32))
    with pytest.raises(ValueError, match=r"whole patches of \(8, 8\) pixels, got \(36, 32\)"):
        small(stored_positions=False)(torch.zeros(1, 3, 36, 32), torch.zeros(1, 16, 32))
    with pytest.raises(ValueError, match="no position code"):
        small(stored_positions=False)(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"image must be \(N, 10, 16, 16\), got \(1, 10, 16, 24\)"):
        grouped()(torch.zeros(1, 10, 16, 24))
    for groups in (((0, 10),), ((0,), ()), ()):
        with pytest.raises(ValueError, match="channel_groups must index the 10 bands"):
            grouped(channel_groups=groups)
    assert PatchEmbed(2, 8, (4, 2))(torch.zeros(1, 2, 8, 8)).shape == (1, 8, 8)
